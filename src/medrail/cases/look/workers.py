"""Work in several processes that goes on when one of them is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from medrail.errors import PrepareError

Job = TypeVar("Job")
Result = TypeVar("Result")


def each_in_processes(
    work: Callable[[Job], Result],
    jobs: Iterator[Job],
    workers: int,
    finished: Callable[[Result], None],
    killed: Callable[[Job], Result],
) -> None:
    """Do ``work`` on every job in ``workers`` processes and call ``finished`` with each result as it comes.

    Jobs are drawn one by one, when a worker is free. A process that the system kills takes its pool with it; the jobs
    that were in flight, one of which is the reason, are then done again, each alone, and what dies even so gets the
    result ``killed(job)``. The others lose nothing. ``work`` itself must not raise.

    Raises
    ------
    PrepareError
        If processes cannot start at all.
    """
    proved = False
    while suspects := _until_broken(work, jobs, workers, finished):
        if not proved:
            _prove_that_processes_start()
            proved = True
        for job in suspects:
            finished(_alone(work, job, killed))


def _until_broken(
    work: Callable[[Job], Result], jobs: Iterator[Job], workers: int, finished: Callable[[Result], None]
) -> list[Job]:
    """Work until the jobs are used up (then nothing is returned) or a process dies: the jobs that were in flight."""
    suspects: list[Job] = []
    running: dict[Future[Result], Job] = {}
    with _pool(workers) as pool:
        while True:
            # Never more than there are workers: what waits inside a pool would be lost with it.
            while not suspects and len(running) < workers and (job := next(jobs, None)) is not None:
                try:
                    running[pool.submit(work, job)] = job
                except BrokenProcessPool:
                    suspects.append(job)
            if not running:
                return suspects
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    suspects.append(job)
                else:
                    finished(result)


def _alone(work: Callable[[Job], Result], job: Job, killed: Callable[[Job], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(work, job).result()
        except BrokenProcessPool:
            return killed(job)


def _prove_that_processes_start() -> None:
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise PrepareError(
                "worker processes cannot start",
                remedy='In a script, call it below `if __name__ == "__main__":`; or set `prepare.workers: 1`.',
            ) from None


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are ended at once when the work is interrupted; else it waits for what they have begun."""
    # Spawned, not forked: the fork of a process with threads can hang, and Windows has nothing else.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_the_parent)
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
