"""Workers: a bounded number of requests in work, a bounded number that wait, and a clear no to the rest.

Decoding and preparing run on as many threads as there are cores; the network itself passes a gate that lets in only as
many inferences as the cores can carry with the threads each of them uses, so that the engine's threads never compete.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from medrail.bundle import Backend, Engine
from medrail.bundle.backend import Batch, fetch, outputs_of
from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings

Answer = TypeVar("Answer")
_LONGEST_RETRY_S = 60


def usable_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Gate:
    """Lets at most ``width`` inferences run at a time, and knows how long each thread has waited at it."""

    def __init__(self, width: int) -> None:
        self._places = threading.BoundedSemaphore(width)
        self._waited = threading.local()

    @staticmethod
    def of(settings: Settings) -> Gate:
        """As wide as the cores allow with the threads that one inference uses."""
        cores = usable_cores()
        return Gate(max(1, cores // (settings.threads or cores)))

    def around(self, backend: Backend) -> Engine:
        """The same backend behind the gate."""

        def run(batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
            begin = time.perf_counter()
            with self._places:
                self._waited.ms = self._ms() + (time.perf_counter() - begin) * 1e3
                return fetch(backend, batch, names)

        return Engine(outputs_of(backend), run)

    def take_waited_ms(self) -> float:
        """How long this thread has waited since it was last asked, ms."""
        waited = self._ms()
        self._waited.ms = 0.0
        return waited

    def _ms(self) -> float:
        return float(getattr(self._waited, "ms", 0.0))


class Workers:
    """The threads that do the work, and the count of requests that were let in."""

    def __init__(self, settings: Settings) -> None:
        self._size = settings.workers or usable_cores()
        self._limit = self._size + settings.queue
        self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="medrail-worker")
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
        if self._inside >= self._limit:
            wait_s = min(_LONGEST_RETRY_S, max(1, math.ceil(self._seconds_each * self._inside / self._size)))
            raise Refusal("busy", f"{self._inside} requests are in work or waiting.", retry_after_s=wait_s)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Run ``work`` on a worker thread as soon as one is free; ``cancel()`` helps while it waits."""

        def timed() -> Answer:
            begin = time.perf_counter()
            try:
                return work()
            finally:
                self._seconds_each += 0.2 * (time.perf_counter() - begin - self._seconds_each)

        return self._pool.submit(timed)

    async def close(self) -> None:
        """Let the work at hand finish; forget what waits."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
