"""The same work on a Dask cluster, through the ``Executor`` that ``distributed`` gives: no scheduler of ours.

The cluster itself does the jobs of a worker that dies again elsewhere, and gives up on one that keeps killing workers.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from medrail.crew.terms import Crew, Job, Loss, Result
from medrail.errors import PrepareError

J = TypeVar("J", bound=Job)
R = TypeVar("R", bound=Result)

_CONNECT_S = 10.0
_SAID_AFTER_S = 3.0
_ADDRESS = re.compile(r"[a-z]+://.+")
# They print pages where one sentence is said here.
_LOGGERS = ("distributed", "tornado.application", "asyncio")
_ASK_AGAIN_S = 1.0  # workers come and go
_WORKERS_WITHIN_S = 600.0  # the queue of a computing centre may be slow to give some


def work_on_cluster(
    work: Callable[[J], R],
    jobs: Iterator[J],
    crew: Crew,
    finished: Callable[[R], None],
    lost: Callable[[J, Loss], R],
    again: Callable[[J, Loss], None],
    note: Callable[[str], None],
) -> None:
    """``work_through`` on the workers of ``crew.scheduler``; as many jobs are under way as they have threads.

    A job that takes too long has its worker ended, and the other jobs of that worker are done again. The nanny that
    ``dask worker`` gives it starts it anew; without one, the cluster has a worker less.
    """
    suspects: list[J] = []

    def short(job: J, *, alone: bool) -> None:
        loss = Loss("memory", alone)
        if alone:
            finished(lost(job, loss))
            return
        suspects.append(job)
        again(job, loss)

    with _connected(crew.scheduler) as client:
        batch = _Batch(client, crew, work, finished, lost, short, note)
        batch.work_through(jobs, alone=False)
        batch.work_through(iter(suspects), alone=True)


@dataclass
class _Task(Generic[J]):
    """A job under way: its name on the cluster, and since when it has been seen at work."""

    job: J
    key: str
    seen_s: float | None = None


class _Batch(Generic[J, R]):
    """Jobs on a cluster; ``short`` is told of those that had not enough memory."""

    def __init__(
        self,
        client: Any,
        crew: Crew,
        work: Callable[[J], R],
        finished: Callable[[R], None],
        lost: Callable[[J, Loss], R],
        short: Callable[..., None],
        note: Callable[[str], None],
    ) -> None:
        self._note, self._noted = note, False
        self._client, self._crew, self._work = client, crew, work
        self._finished, self._lost, self._short = finished, lost, short
        self._executor = client.get_executor(pure=False)
        self._running: dict[Future[R], _Task[J]] = {}
        self._asked_s = self._had_workers_s = time.monotonic()
        self._threads = self._ask_threads()

    def work_through(self, jobs: Iterator[J], *, alone: bool) -> None:
        """All jobs; ``alone``: one after the other."""
        try:
            while self._hand_out(jobs, 1 if alone else self._most()):
                done, _ = concurrent.futures.wait(self._running, _ASK_AGAIN_S, FIRST_COMPLETED)
                for future in done:
                    self._take(future, self._running.pop(future).job, alone=alone)
                if self._crew.timeout_s:
                    self._end_the_late(alone=alone)
        except BaseException:
            with suppress(Exception):  # the cluster may be the reason
                self._executor.shutdown(wait=False)
            raise

    def _hand_out(self, jobs: Iterator[J], most: int) -> bool:
        while len(self._running) < most and (job := next(jobs, None)) is not None:
            task = _Task(job, f"medrail-{uuid4()}")
            with _lost_if_it_fails(self._crew.scheduler):
                self._running[self._executor.submit(self._work, job, key=task.key)] = task
        return bool(self._running)

    def _take(self, future: Future[R], job: J, *, alone: bool) -> None:
        from distributed import KilledWorker

        try:
            result = future.result()
        except KilledWorker:
            self._finished(self._lost(job, Loss("killed", alone)))
        except MemoryError:
            self._short(job, alone=alone)
        except concurrent.futures.CancelledError:
            raise _no_more(self._crew.scheduler) from None
        else:
            if result.out_of_memory:
                self._short(job, alone=alone)
            else:
                self._finished(result)

    def _most(self) -> int:
        """As many as there are threads; one even without any, as some clusters grow when there is work."""
        now_s = time.monotonic()
        if now_s - self._asked_s >= _ASK_AGAIN_S:
            self._asked_s, self._threads = now_s, self._ask_threads()
        if self._threads:
            self._had_workers_s = now_s
        elif not self._noted and now_s - self._had_workers_s > _SAID_AFTER_S:
            self._noted = True
            self._note(f"no worker has joined yet; start some with `dask worker {self._crew.scheduler}`")
        elif now_s - self._had_workers_s > _WORKERS_WITHIN_S:
            raise PrepareError(
                f"no worker has come within {_WORKERS_WITHIN_S / 60:.0f} minutes",
                needed="at least one worker",
                where=self._crew.scheduler,
                remedy="Start workers and repeat; what is done is kept.",
            )
        return max(1, self._threads)

    def _ask_threads(self) -> int:
        with _lost_if_it_fails(self._crew.scheduler):
            return sum(self._client.nthreads().values())
        return 0

    def _end_the_late(self, *, alone: bool) -> None:
        """Jobs that have been seen at work for too long are lost, and their workers ended, as a thread cannot be."""
        tasks = {task.key: (future, task) for future, task in self._running.items()}
        now_s = time.monotonic()
        for worker, keys in self._at_work(list(tasks)).items():
            late = False
            for future, task in (tasks[key] for key in keys if key in tasks):
                task.seen_s = task.seen_s or now_s
                if now_s - task.seen_s > self._crew.timeout_s and not future.done():
                    late = True
                    del self._running[future]
                    future.cancel()  # else the cluster does it again elsewhere
                    self._finished(self._lost(task.job, Loss("timeout", alone)))
            if late:
                with suppress(Exception):  # it is gone already
                    self._client.run(_end_this_worker, workers=[worker], wait=False)

    def _at_work(self, keys: list[str]) -> dict[str, list[str]]:
        """Worker -> the keys that its threads are busy with; a worker that is just dying is left out."""
        with suppress(Exception):
            return {worker: list(stacks) for worker, stacks in (self._client.call_stack(keys=keys) or {}).items()}
        return {}


async def _end_this_worker() -> None:
    """At once: asked politely (``restart_workers``), one with a busy thread takes seconds, and may not come back."""
    os._exit(1)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import distributed
    except ImportError:
        raise PrepareError(
            "the package `distributed` is not installed",
            needed="it, for work on a cluster",
            where=f"scheduler {address}",
            remedy="Install it with `pip install 'medrail[cluster]'`, or leave the scheduler out.",
        ) from None
    open_client: Any = distributed.Client
    with _quiet():
        try:
            if not _ADDRESS.match(address):
                raise ValueError
            client = open_client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError):
            raise PrepareError(
                f"no scheduler answers within {_CONNECT_S:.0f} s",
                needed="the address of a running Dask scheduler, as tcp://10.0.0.5:8786",
                where=address,
                remedy="Start one with `dask scheduler` and workers with `dask worker ADDRESS`; "
                "see that no firewall is between, and that versions fit.",
            ) from None
        try:
            yield client
        finally:
            with suppress(Exception):  # all is said and done
                client.close(timeout=1)


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _lost_if_it_fails(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, concurrent.futures.CancelledError):
        raise _no_more(address) from None


def _no_more(address: str) -> PrepareError:
    return PrepareError(
        "the connection to the scheduler was lost",
        where=address,
        remedy="See that the scheduler runs, and repeat; what is done is kept.",
    )
