"""The watch over one piece of work: is it still wanted, and how far is it?"""

from __future__ import annotations

import threading
from collections.abc import Callable

# Decoding is a small part of long work, and so is writing the answer; the network is most of it.
_DECODED, _PREDICTED = 0.1, 0.9


class Unwanted(Exception):
    """Raised inside work that nobody waits for any more; never an answer to anybody."""


class Watch:
    """Asked between the parts of a piece of work, on its thread.

    Parameters
    ----------
    tell:
        Called with the share that is done, 0 to 1.
    unwanted:
        Asked as often; True ends the work as ``stop`` does.
    """

    def __init__(
        self, tell: Callable[[float], None] = lambda share: None, unwanted: Callable[[], bool] = lambda: False
    ) -> None:
        self._stopped = threading.Event()
        self._tell = tell
        self._unwanted = unwanted

    def stop(self) -> None:
        """End the work where it next asks; from any thread."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether the work shall end."""
        return self._stopped.is_set() or self._unwanted()

    def at(self, share: float) -> None:
        """So much is done. Raises Unwanted if nobody wants the rest."""
        if self.stopped:
            raise Unwanted
        self._tell(share)

    def decoded(self) -> None:
        """The image is there. Raises as ``at``."""
        self.at(_DECODED)

    def network(self, done: int, total: int, note: str = "") -> None:
        """As ``Progress``: so many calls of the network are done. Raises as ``at``."""
        self.at(_DECODED + (_PREDICTED - _DECODED) * done / max(total, 1))

    def predicted(self) -> None:
        """The network has answered. Raises as ``at``."""
        self.at(_PREDICTED)

    def part(self, first: float, last: float) -> Watch:
        """A watch over the part of this work from one share to another."""
        return Watch(lambda share: self.at(first + (last - first) * share), lambda: self.stopped)
