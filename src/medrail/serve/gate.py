"""Gate: which inferences may run now, so that the engines' threads never compete for the cores.

A request's ticket goes with the thread that works for it: whoever waits at the gate for a client that has gone, or
longer than the service lets anyone wait, is turned away there and computes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from medrail.bundle import Backend, Engine
from medrail.bundle.backend import Batch, fetch, outputs_of
from medrail.machine import processors
from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings


class Forgotten(Exception):
    """Raised in the work for a request whose client has gone: there is nobody to answer."""


class Ticket:
    """A request's right to the network: until its client goes, and at first for ``wait_s`` at most.

    Once its first inference has begun only the client's going ends it: a volume takes many, and as long as it takes.
    """

    def __init__(self, wait_s: float = float("inf")) -> None:
        self._until_s = time.monotonic() + wait_s
        self._cancelled = False

    def cancel(self) -> None:
        """The client has gone."""
        self._cancelled = True

    def begin(self) -> None:
        """Its first inference begins."""
        self._until_s = float("inf")

    @property
    def wrong(self) -> Exception | None:
        """Why nothing should be computed for it any more; None: it is good."""
        if self._cancelled:
            return Forgotten()
        if time.monotonic() > self._until_s:
            return Refusal("too-late", "The network was not free in time.", retry_after_s=RETRY_AFTER_S)
        return None


RETRY_AFTER_S = 5
_LOOK_S = 0.25  # how often one who waits looks whether its client is still there
_NO_TICKET = Ticket()


class Gate:
    """So many places (cores) for inferences, given in the order of asking.

    Parameters
    ----------
    places:
        In all.
    each:
        That an inference takes where its backend was not put behind the gate with another number.
    """

    def __init__(self, places: int, each: int = 1) -> None:
        self.places = places
        self.each = min(each, places)
        self._free = places
        self._line: deque[object] = deque()
        self._changed = threading.Condition()
        self._thread = threading.local()

    @staticmethod
    def of(settings: Settings) -> Gate:
        """A place a core of those that this process has of the service's; an inference takes one a thread."""
        cores = share_of(settings)
        return Gate(cores, settings.threads or cores)

    def around(self, backend: Backend, each: int = 0) -> Engine:
        """The same backend behind the gate; ``each``: the places of an inference, 0: as the gate says."""

        def run(batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
            begin = time.perf_counter()
            with self.entered(each, lambda: self.ticket.wrong is not None) as inside:
                self.add_waited_ms((time.perf_counter() - begin) * 1e3)
                if not inside and (wrong := self.ticket.wrong):
                    raise wrong
                self.ticket.begin()
                return fetch(backend, batch, names)

        return Engine(outputs_of(backend), run)

    @contextmanager
    def entered(self, each: int, given_up: Callable[[], bool]) -> Iterator[bool]:
        """Hold ``each`` places; False, holding none, as soon as ``given_up`` says so (it is asked when anything
        changes, and four times a second)."""
        wanted = min(each or self.each, self.places)
        me = object()
        with self._changed:
            self._line.append(me)
            try:
                while not (out := given_up()) and (self._line[0] is not me or self._free < wanted):
                    self._changed.wait(_LOOK_S)
            finally:
                self._line.remove(me)
                self._changed.notify_all()
            if not out:
                self._free -= wanted
        try:
            yield not out
        finally:
            if not out:
                with self._changed:
                    self._free += wanted
                    self._changed.notify_all()

    @property
    def ticket(self) -> Ticket:
        """Of the request that this thread works for; one that is always good where there is none."""
        return getattr(self._thread, "ticket", _NO_TICKET)

    @contextmanager
    def working_for(self, ticket: Ticket) -> Iterator[None]:
        """Let this thread work for a request."""
        self._thread.ticket = ticket
        self._thread.ms = 0.0
        try:
            yield
        finally:
            self._thread.ticket = _NO_TICKET

    def add_waited_ms(self, waited_ms: float) -> None:
        """Count a wait of this thread."""
        self._thread.ms = self._ms() + waited_ms

    def take_waited_ms(self) -> float:
        """How long this thread has waited since it was last asked, ms."""
        waited = self._ms()
        self._thread.ms = 0.0
        return waited

    def _ms(self) -> float:
        return float(getattr(self._thread, "ms", 0.0))


def share_of(settings: Settings) -> int:
    """The cores that are for one of the service's processes."""
    return max(1, processors() // max(1, settings.processes))
