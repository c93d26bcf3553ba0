"""The same work on a real Dask cluster of two worker processes, with the same faults."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from crew_jobs import Done, Task, tries, work
from medrail.crew import Crew, Loss, cluster, work_through
from medrail.errors import PrepareError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    """Two workers of one thread each, each watched by a nanny that starts it again."""
    made = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    )
    with made:
        yield made


def through(jobs: list[Task], crew: Crew, finished=None) -> tuple[dict[str, Done], dict[str, Loss], dict[str, Loss]]:
    """Results, losses and second tries by name; each job has one result."""
    done: dict[str, Done] = {}
    lost: dict[str, Loss] = {}
    again: dict[str, Loss] = {}

    def take(result: Done) -> None:
        assert result.name not in done, "twice"
        done[result.name] = result
        if finished:
            finished(result)

    def lose(job: Task, loss: Loss) -> Done:
        assert job.name not in lost
        lost[job.name] = loss
        return Done(job.name)

    work_through(work, iter(jobs), crew, take, lose, lambda job, loss: again.update({job.name: loss}))
    assert done.keys() == {job.name for job in jobs}
    return done, lost, again


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_nothing_and_nothing_comes_twice(scheduler, tmp_path):
    killed: list[int] = []

    def kill(result: Done) -> None:
        if not killed:
            killed.append(result.worker)
            os.kill(result.worker, signal.SIGKILL)

    jobs = [Task(f"nap{n}", "sleep", str(tmp_path), amount=0.15) for n in range(30)]
    done, lost, again = through(jobs, Crew(scheduler=scheduler.scheduler_address), kill)
    assert len(done) == 30
    assert not lost
    assert not again
    assert len({result.worker for result in done.values()}) >= 2
    assert sum(tries(tmp_path, job.name) for job in jobs) <= 32, "only what was in flight was done again"


@pytest.mark.slow
def test_a_job_that_keeps_killing_workers_is_lost_alone(scheduler, tmp_path):
    jobs = [Task(f"nap{n}", "sleep", amount=0.05) for n in range(6)]
    jobs.insert(2, Task("bad", "die slowly", str(tmp_path)))
    _, lost, _ = through(jobs, Crew(scheduler=scheduler.scheduler_address))
    assert lost == {"bad": Loss("killed", alone=False)}
    assert tries(tmp_path, "bad") >= 2


@pytest.mark.slow
def test_what_hangs_is_lost_and_the_others_are_done(scheduler):
    jobs = [Task("hang", "hang"), *[Task(f"nap{n}", "sleep", amount=0.05) for n in range(20)]]
    begin = time.monotonic()
    _, lost, _ = through(jobs, Crew(scheduler=scheduler.scheduler_address, timeout_s=1.5))
    assert lost == {"hang": Loss("timeout", alone=False)}
    assert time.monotonic() - begin < 60


@pytest.mark.slow
def test_out_of_memory_gets_a_second_try_at_the_end(scheduler, tmp_path):
    jobs = [
        Task("once", "raise memory once", str(tmp_path)),
        Task("always", "raise memory"),
        *[Task(f"easy{n}") for n in range(4)],
    ]
    _, lost, again = through(jobs, Crew(scheduler=scheduler.scheduler_address))
    assert again == {"once": Loss("memory", alone=False), "always": Loss("memory", alone=False)}
    assert lost == {"always": Loss("memory", alone=True)}


@pytest.mark.slow
def test_what_the_work_raises_comes_out(scheduler):
    with pytest.raises(ValueError, match="bad"):
        through([Task("bad", "raise"), Task("easy")], Crew(scheduler=scheduler.scheduler_address))


def test_no_scheduler_there(monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT_S", 1.0)
    for address in ("tcp://127.0.0.1:9", "what://is.this"):
        begin = time.monotonic()
        with pytest.raises(PrepareError, match="no scheduler answers") as error:
            through([Task("a")], Crew(scheduler=address))
        assert time.monotonic() - begin < 10
        assert error.value.where == address
        assert "dask scheduler" in error.value.remedy


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(PrepareError, match=r"medrail\[cluster\]"):
        through([Task("a")], Crew(scheduler="tcp://127.0.0.1:9"))


@pytest.mark.slow
def test_a_scheduler_that_ends_is_said():
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
    ) as made:

        def end(_: Done) -> None:
            made.close()

        jobs = [Task(f"nap{n}", "sleep", amount=0.2) for n in range(10)]
        with pytest.raises(PrepareError, match="connection to the scheduler was lost"):
            through(jobs, Crew(scheduler=made.scheduler_address), end)
