"""Work in processes with injected faults: each costs its own job at most, and no process is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from crew_jobs import MB, Done, Task, tries, work
from medrail.crew import Crew, Job, Loss, work_through
from medrail.crew.lane import Lane
from medrail.errors import PrepareError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@dataclass
class Record:
    """What was told of the jobs."""

    done: list[Done] = field(default_factory=list)
    lost: dict[str, Loss] = field(default_factory=dict)
    again: dict[str, Loss] = field(default_factory=dict)

    def take(self, job: Task, loss: Loss) -> Done:
        assert job.name not in self.lost
        self.lost[job.name] = loss
        return Done(job.name)

    def second(self, job: Task, loss: Loss) -> None:
        assert job.name not in self.again
        self.again[job.name] = loss

    @property
    def names(self) -> list[str]:
        return sorted(done.name for done in self.done)

    def workers(self) -> set[int]:
        return {done.worker for done in self.done if done.worker}


def through(jobs: list[Task], crew: Crew | None = None) -> Record:
    record = Record()
    work_through(work, iter(jobs), crew or Crew(2), record.done.append, record.take, record.second)
    assert record.names == sorted(job.name for job in jobs), "each once"
    return record


def easy(count: int) -> list[Task]:
    return [Task(f"easy{n}") for n in range(count)]


def test_every_job_is_done_once_and_the_processes_end():
    record = through([Task(f"nap{n}", "sleep", amount=0.1) for n in range(8)])
    assert not record.lost
    assert not record.again
    assert len(record.workers()) == 2
    assert not any(alive(worker) for worker in record.workers())


def test_no_jobs_need_no_process():
    assert through([]).done == []


def test_in_this_process():
    record = through([*easy(3), Task("short", "raise memory")], Crew(here=True))
    assert record.workers() == {os.getpid()}
    assert record.lost == {"short": Loss("memory", alone=True)}


def test_jobs_are_drawn_when_somebody_is_free():
    drawn: list[int] = []
    done: list[Done] = []

    def jobs():
        for n in range(12):
            drawn.append(n)
            assert len(drawn) <= len(done) + 2
            yield Task(str(n), "sleep", amount=0.02)

    work_through(work, jobs(), Crew(2), done.append, lambda job, loss: Done(job.name))
    assert len(done) == len(drawn) == 12


@pytest.mark.parametrize(("what", "name"), [("die", "SIGKILL"), ("crash", "SIGSEGV"), ("exit", "")])
def test_what_always_dies_is_lost_alone_and_nothing_else(tmp_path, what, name):
    record = through([*easy(3), Task("bad", what, str(tmp_path)), *easy(7)[3:]])
    assert tries(tmp_path, "bad") == 2
    assert list(record.again) == list(record.lost) == ["bad"]
    assert not record.again["bad"].alone
    assert (record.lost["bad"].why, record.lost["bad"].alone, record.lost["bad"].signal) == ("killed", True, name)


def test_what_dies_once_is_done_at_the_second_try(tmp_path):
    record = through([Task("bad", "die once", str(tmp_path)), *easy(5)])
    assert record.again["bad"].why == "killed"
    assert not record.lost
    assert record.done[-1].name == "bad", "the others did not wait for it"


@linux
def test_more_memory_than_there_is(tmp_path):
    """In a worker with 1.5 GB of address space; what a killed or refused job was seen to hold is told."""
    small, large = Task("small", "take", str(tmp_path), amount=200 * MB), Task("large", "take", amount=3_000 * MB)
    record = through([small, large, *easy(3)])
    assert record.lost.keys() == record.again.keys() == {"large"}
    assert (record.lost["large"].why, record.lost["large"].alone) == ("memory", True)
    assert record.lost["large"].seen_bytes > 5 * MB


def test_memory_error_gets_a_second_try_alone(tmp_path):
    record = through([Task("bad", "raise memory once", str(tmp_path)), *easy(3)])
    assert (record.again["bad"].why, record.lost) == ("memory", {})


@linux
def test_what_a_killed_job_held_is_known(tmp_path):
    killer = threading.Thread(target=_kill_when_large, args=(tmp_path, 150 * MB))
    killer.start()
    record = through([Task("fat", "take", str(tmp_path), amount=200 * MB), *easy(2)])
    killer.join()
    assert record.again["fat"].seen_bytes > 100 * MB


def _kill_when_large(folder: Path, size_bytes: int) -> None:
    while not (begun := list(folder.glob("fat.*"))):
        time.sleep(0.005)
    process = int(begun[0].name.split(".")[1])
    time.sleep(0.15)  # it holds its memory for 0.2 s
    os.kill(process, signal.SIGKILL)


def test_what_hangs_is_ended_and_not_tried_again(tmp_path):
    record = through([Task("hang", "hang", str(tmp_path)), *easy(5)], Crew(2, timeout_s=1.0))
    assert tries(tmp_path, "hang") == 1
    assert record.lost.keys() == {"hang"}
    assert record.lost["hang"].why == "timeout"


def test_a_single_lane_goes_on_after_a_hang_and_a_death():
    record = through([Task("hang", "hang"), Task("die", "die"), *easy(3)], Crew(1, timeout_s=0.5))
    assert {name: loss.why for name, loss in record.lost.items()} == {"hang": "timeout", "die": "killed"}


def test_jobs_run_side_by_side_only_where_their_memory_is(tmp_path):
    """Three of 400 MB in a budget of 900 MB, with the interpreter: two at once, then one."""
    jobs = [Task(f"j{n}", "sleep", str(tmp_path), 400 * MB, 0.4) for n in range(3)]
    assert len(through(jobs, Crew(3, budget_bytes=900 * MB)).workers()) <= 2
    jobs = [Task(f"k{n}", "sleep", str(tmp_path), 400 * MB, 0.4) for n in range(3)]
    assert len(through(jobs, Crew(3, budget_bytes=100 * MB)).workers()) == 1, "one always runs"


def test_what_the_work_raises_comes_out_and_ends_all():
    record = Record()
    jobs = iter([Task("bad", "raise"), *[Task(f"nap{n}", "sleep", amount=30) for n in range(3)]])
    begin = time.monotonic()
    with pytest.raises(ValueError, match="bad") as error:
        work_through(work, jobs, Crew(2), record.done.append, record.take)
    assert time.monotonic() - begin < 20
    assert "crew_jobs.py" in error.value.__notes__[0]


def test_a_result_that_cannot_be_sent_is_said():
    with pytest.raises(TypeError, match="Done cannot be sent between processes"):
        through([Task("bad", "unsendable")])


@linux
def test_killed_in_the_middle_of_sending_a_result():
    """An executor of the standard library waits for the rest for ever."""
    record = Record()
    killed = threading.Event()

    def kill() -> None:
        before = _received_bytes()
        while not killed.is_set() and _received_bytes() < before + 20 * MB:
            time.sleep(0.0002)
        for process in _children():
            os.kill(process, signal.SIGKILL)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    large = Task("large", "large", amount=150 * MB)
    work_through(work, iter([large]), Crew(1), record.done.append, record.take, record.second)
    killed.set()
    assert record.names == ["large"]
    assert len(record.done[0].note) == 150 * MB


def _received_bytes() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


@linux
@pytest.mark.slow
def test_processes_killed_at_random_lose_nothing():
    jobs = [Task(f"nap{n}", "sleep", amount=0.04) for n in range(120)]
    record, over = Record(), threading.Event()
    chance = random.Random(5)

    def kill() -> None:
        for _ in range(8):
            if over.wait(chance.uniform(0.1, 0.5)):
                return
            if children := _children():
                os.kill(chance.choice(children), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        work_through(work, iter(jobs), Crew(2), record.done.append, record.take, record.second)
    finally:
        over.set()
        killer.join()
    assert Counter(record.names) == Counter(job.name for job in jobs)
    assert record.again.keys() >= record.lost.keys()
    assert len(record.lost) <= 2, "only what was hit at both tries"


def _children() -> list[int]:
    """Worker processes of this one (not the one that keeps count of its semaphores)."""
    import multiprocessing

    return [child.pid for child in multiprocessing.active_children() if child.pid]


def test_a_script_without_a_guard_is_told_so(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from crew_jobs import Task, work\n"
        "from medrail.crew import Crew, work_through\n"
        "work_through(work, iter([Task('a'), Task('b')]), Crew(2), print, lambda job, loss: None)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode != 0
    assert "PrepareError: worker processes cannot start" in done.stderr
    assert 'if __name__ == "__main__"' in done.stderr
    assert done.stdout == ""


def test_processes_that_cannot_start_are_an_error(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(Lane, "__init__", refuse)
    with pytest.raises(PrepareError, match="worker processes cannot start"):
        through(easy(3))


SCRIPT = """
import sys, time
from crew_jobs import Done, Task, work
from medrail.crew import Crew, work_through, worker
{patch}
if __name__ == "__main__":
    jobs = [Task(f"j{{n}}", "hang", sys.argv[1]) for n in range(4)]
    print("go", flush=True)
    work_through(work, iter(jobs), Crew(2), print, lambda job, loss: Done(job.name))
"""


def environment() -> dict[str, str]:
    """Of a script that finds what this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def started(folder: Path, patch: str = "") -> subprocess.Popen[str]:
    """A script with two hanging workers, in a group of its own as in a terminal; it has begun when this returns."""
    script = folder / "script.py"
    script.write_text(SCRIPT.format(patch=patch))
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    return process


def wait_for_work(folder: Path) -> None:
    within(60, lambda: tries(folder, "j0") and tries(folder, "j1"))


def within(seconds: float, condition) -> float:
    """The seconds until it holds; an error if it takes too long."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it takes too long"
        time.sleep(0.01)
    return time.monotonic() - begin


def alive(process: int) -> bool:
    """Whether it runs; one that ended and that nobody asked after does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def group(number: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == number and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


@linux
@pytest.mark.parametrize("patch", ["", "worker._PR_SET_PDEATHSIG = 0"], ids=["by the system", "by a thread"])
def test_workers_do_not_outlive_a_killed_parent(tmp_path, patch):
    process = started(tmp_path, patch)
    wait_for_work(tmp_path)
    assert len(group(process.pid)) >= 3
    process.kill()
    _, errors = process.communicate(timeout=30)
    within(5, lambda: not group(process.pid))
    assert errors == ""


@linux
@pytest.mark.parametrize("at_work", [True, False], ids=["at work", "while they start"])
def test_ctrl_c_ends_all_at_once_and_quietly(tmp_path, at_work):
    process = started(tmp_path)
    if at_work:
        wait_for_work(tmp_path)
    else:
        within(30, lambda: len(group(process.pid)) >= 3)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    _, errors = process.communicate(timeout=30)
    within(5, lambda: not group(process.pid))
    assert time.monotonic() - begin < 5, "one second on a quiet machine"
    assert errors.count("Traceback") == 1, errors  # the script's own
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert len(tries_of_all(tmp_path)) <= 2


def tries_of_all(folder: Path) -> list[Path]:
    return list(folder.glob("j*.*.*"))


def test_a_job_needs_no_more_than_the_protocol():
    job: Job = Task("a")
    assert job.needs_bytes == 1 * MB


@pytest.mark.skipif(sys.platform == "win32", reason="there is no alarm")
def test_what_hangs_in_this_process_is_interrupted(tmp_path):
    losses = []

    def lost(job, loss):
        losses.append((job.name, loss.why))
        return Done(job.name)

    done = []
    jobs = iter([Task("a"), Task("h", "hang"), Task("b")])
    work_through(work, jobs, Crew(here=True, timeout_s=0.5), done.append, lost)
    assert losses == [("h", "timeout")]
    assert [one.name for one in done] == ["a", "h", "b"]
