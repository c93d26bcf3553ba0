"""Workers: a bounded number of requests in work, a bounded number that wait, and a clear no to the rest.

Decoding and preparing run on as many threads as there are cores, and on as many more as a batch holds where what waits
is computed together; the network itself passes the gate (``medrail.serve.gate``).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from medrail.serve.gate import Forgotten, Gate, Ticket, share_of
from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings

__all__ = ["Forgotten", "Gate", "Ticket", "Workers"]

Answer = TypeVar("Answer")
_LONGEST_RETRY_S = 60


class Workers:
    """The threads that do the work, and the count of requests that were let in.

    Parameters
    ----------
    gate:
        That the work passes; None: none.
    largest_batch:
        Tells how many images may be computed together, now: so many more threads may wait at the gate, less one.
    """

    def __init__(
        self, settings: Settings, gate: Gate | None = None, largest_batch: Callable[[], int] = lambda: 1
    ) -> None:
        self._settings = settings
        self._gate = gate or Gate(1)
        self._largest_batch = largest_batch
        self._cores = share_of(settings)
        self._size = 0
        self._pools: list[ThreadPoolExecutor] = []
        self._fit()
        self._inside = 0
        self._seconds_each = 1.0  # moving average, for Retry-After

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places from before the upload until the answer; call it on the event loop.

        Raises
        ------
        Refusal
            "busy", with the seconds after which a place should be free.
        """
        if self._inside >= self._size + self._settings.queue:
            wait_s = min(_LONGEST_RETRY_S, max(1, math.ceil(self._seconds_each * self._inside / self._size)))
            raise Refusal("busy", f"{self._inside} requests are in work or waiting.", retry_after_s=wait_s)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @property
    def inside(self) -> int:
        """Requests that were let in and have no answer yet."""
        return self._inside

    def submit(self, work: Callable[[], Answer], ticket: Ticket | None = None) -> Future[Answer]:
        """Run ``work`` on a worker thread as soon as one is free; ``cancel()`` helps while it waits, and cancelling the
        ticket at the gate, too.

        Raises (the future)
        ------
        Forgotten, Refusal
            If the ticket is not good any more when a thread is free, or at the gate.
        """
        ticket = ticket or Ticket()

        def timed() -> Answer:
            if wrong := ticket.wrong:
                raise wrong
            begin = time.perf_counter()
            try:
                with self._gate.working_for(ticket):
                    return work()
            finally:
                self._seconds_each += 0.2 * (time.perf_counter() - begin - self._seconds_each)

        self._fit()
        return self._pools[-1].submit(timed)

    def _fit(self) -> None:
        """Have as many threads as are useful; a pool that was too small ends with what it was given."""
        size = self._settings.workers or self._cores + self._largest_batch() - 1
        if size <= self._size:
            return
        for pool in self._pools:
            pool.shutdown(wait=False)
        self._size = size
        self._pools.append(ThreadPoolExecutor(size, thread_name_prefix="medrail-worker"))

    async def close(self) -> None:
        """Let the work at hand finish; forget what waits."""
        for pool in self._pools:
            await asyncio.to_thread(pool.shutdown, wait=True, cancel_futures=True)
