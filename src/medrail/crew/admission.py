"""Which job may start now: what the running ones need together must fit into memory. Numbers only, no processes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

# Taken for an idle process where the system does not say.
USUAL_IDLE_BYTES = 250_000_000
# Libraries that are loaded late and an allocator's reserves are of this size, whatever the job: below it, nothing can
# be learned.
_NOISE_BYTES = 32_000_000
# So many jobs are remembered, and with fewer than this the caller's estimate is not lowered.
_REMEMBERED = 64
_ENOUGH = 4
# Nine of ten jobs stay below what is assumed; one that does not is caught by the margin or, if all fails, done alone.
_QUANTILE = 0.9
_MARGIN = 1.1
# Left for everything else of what is free now.
SHARE_OF_FREE = 0.9


class Estimate:
    """What a job really needs: the caller's estimate times what earlier jobs took, measured, of their estimates."""

    def __init__(self) -> None:
        self.idle_bytes = USUAL_IDLE_BYTES
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def factor(self) -> float:
        """What estimates are multiplied with; 1 until something was measured, and lowered only by several jobs."""
        if not self._ratios:
            return 1.0
        ordered = sorted(self._ratios)
        high = ordered[math.ceil(_QUANTILE * len(ordered)) - 1] * _MARGIN
        return max(1.0, high) if len(ordered) < _ENOUGH else high

    def of(self, needs_bytes: int) -> int:
        """Memory of a process with such a job, the interpreter included."""
        return self.idle_bytes + int(self.factor * max(needs_bytes, _NOISE_BYTES))

    def learn(self, needs_bytes: int, peak_bytes: int) -> None:
        """A finished job, estimated at ``needs_bytes``, had a process that held ``peak_bytes`` at most."""
        self._ratios.append(max(0, peak_bytes - self.idle_bytes) / max(needs_bytes, _NOISE_BYTES))

    def learn_least(self, needs_bytes: int, seen_bytes: int) -> None:
        """A job that did not finish held ``seen_bytes``: it needs as much or more, so nothing is lowered by it."""
        if seen_bytes - self.idle_bytes > self.factor * max(needs_bytes, _NOISE_BYTES):
            self.learn(needs_bytes, seen_bytes)


def fits(budget_bytes: int | None, running: Iterable[int], more_bytes: int, idle_bytes: int = 0) -> bool:
    """Whether a process of ``more_bytes`` may run beside the running ones and idle ones of ``idle_bytes`` together.

    One always may, as nothing would ever be done otherwise. No budget (None): all may.
    """
    taken = list(running)
    return not taken or budget_bytes is None or sum(taken) + more_bytes + idle_bytes <= budget_bytes
