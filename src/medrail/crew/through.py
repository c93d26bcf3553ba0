"""Many jobs, worked through by whoever the crew names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from medrail.crew.alarm import TooLate, within
from medrail.crew.cluster import work_on_cluster
from medrail.crew.foreman import Foreman
from medrail.crew.terms import Crew, Job, Loss, Result, Why

J = TypeVar("J", bound=Job)
R = TypeVar("R", bound=Result)


def work_through(
    work: Callable[[J], R],
    jobs: Iterator[J],
    crew: Crew,
    finished: Callable[[R], None],
    lost: Callable[[J, Loss], R],
    again: Callable[[J, Loss], None] | None = None,
    note: Callable[[str], None] | None = None,
) -> None:
    """Do ``work`` on every job and call ``finished`` exactly once for each, in this thread, as the results come.

    A job whose process is killed, or that runs out of memory, is done again at the end, alone; the others are not
    disturbed. If that fails as well, or if it takes too long, its result is ``lost(job, loss)``. Jobs may be worked on
    twice, so what they write must be complete or not there.

    Parameters
    ----------
    work:
        A function of a module (or a ``partial`` of one), as other processes import it. It must not raise: what can
        go wrong is part of its result. What it raises all the same ends everything and comes out of here, except
        MemoryError, which is taken as running out of memory.
    jobs:
        Drawn one by one, when somebody is free.
    again:
        Told of each job that will be done again alone, and why.
    note:
        Told what a waiting person should know, as that a cluster has no workers yet.

    Raises
    ------
    PrepareError
        If no process can start, the scheduler cannot be reached or is lost, or ``distributed`` is not installed. In a
        script, a crew of processes must be called below ``if __name__ == "__main__":``.
    KeyboardInterrupt
        At once; all processes have ended then, and the jobs in flight have no result.
    """
    tell = again or _tell_nobody
    if crew.scheduler:
        work_on_cluster(work, jobs, crew, finished, lost, tell, note or _note_nothing)
    elif crew.here:
        _work_here(work, jobs, crew.timeout_s, finished, lost)
    else:
        Foreman(work, crew, finished, lost, tell).work_through(jobs)


def _work_here(
    work: Callable[[J], R],
    jobs: Iterator[J],
    timeout_s: float,
    finished: Callable[[R], None],
    lost: Callable[[J, Loss], R],
) -> None:
    for job in jobs:
        try:
            with within(timeout_s):
                result = work(job)
            why: Why | None = "memory" if result.out_of_memory else None
        except MemoryError:
            why = "memory"
        except TooLate:
            why = "timeout"
        finished(result if why is None else lost(job, Loss(why, alone=True)))


def _tell_nobody(job: Job, loss: Loss) -> None:
    pass


def _note_nothing(text: str) -> None:
    pass
