"""All cases looked at: what is known is recalled, the rest is read, in several processes where that is sooner."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from medrail.cases.fingerprint import FileHashes
from medrail.cases.look.examine import Facts, keep, look, recall, too_large
from medrail.config import Config
from medrail.crew import Crew, work_through
from medrail.errors import PrepareError
from medrail.machine import processors
from medrail.read import files_of
from medrail.read.dicom.walk import find_files
from medrail.types import Case, Progress

# Work that is done within this time, or that would go on for less than that, is not worth starting processes for.
_ALONE_S = 2.0
_WORTH_PROCESSES_S = 4.0
# A file from here on may need more memory than there is, and is read in a process of its own: its end is not ours.
_LARGE_BYTES = 256 * 2**20
# Voxels, float copies and planes of a byte of file; the crew learns from the first cases what it really is.
_BYTES_PER_INPUT_BYTE = 16
# Jobs of about this long keep the time between processes small beside the work.
_JOB_S = 0.25
_LONGEST_JOB = 500

Look = Callable[[Case, Config], Facts]


@dataclass(frozen=True)
class _Job:
    cases: tuple[Case, ...]
    needs_bytes: int


@dataclass(frozen=True)
class _Found:
    facts: list[tuple[str, Facts | None]]  # None: the process died
    out_of_memory: bool = False  # for the crew; it is a finding of the case


def survey(
    cases: Sequence[Case], config: Config, hashes: FileHashes, progress: Progress | None = None
) -> dict[str, Facts]:
    """Case id -> what is known of it, in the order of the cases; ``hashes`` remembers it for the next time.

    A case whose process the system kills gets the finding "too_much_memory", and the others go on. Interrupted, it
    ends at once and keeps what was found.
    """
    facts: dict[str, Facts] = {}
    keys: dict[str, str] = {}

    def finished(case_id: str, found: Facts) -> None:
        facts[case_id] = found
        if case_id in keys:
            keep(keys[case_id], found, hashes)
        if progress:
            progress(len(facts), len(cases), case_id)

    unknown = []
    for case in cases:
        known = recall(case, config, hashes)
        if isinstance(known, Facts):
            finished(case.id, known)
        else:
            keys[case.id] = known
            unknown.append(case)
    look_at_all(unknown, config, finished)
    return {case.id: facts[case.id] for case in cases}


def look_at_all(
    cases: Sequence[Case],
    config: Config,
    finished: Callable[[str, Facts], None],
    workers: int | None = None,
    look_at: Look | None = None,
) -> None:
    """Read each case and call ``finished`` with its id and facts, in any order.

    workers:
        Processes; 1: none but this one. None: as many as there are processors, once the first cases have shown that it
        is worth it.
    look_at:
        What is done with a case, a function of a module; default: ``medrail.cases.look.examine.look``.
    """
    look_at = look_at or look
    queue = deque(cases)
    large = _largest_bytes(cases) > _LARGE_BYTES if workers is None else workers > 1
    seconds_each = 0.0 if large else _alone(queue, config, finished, look_at, forever=workers == 1)
    if not queue:
        return
    count = workers or min(processors(), len(queue))
    length = max(1, min(_LONGEST_JOB, int(_JOB_S / seconds_each))) if seconds_each else 1
    if large or (count > 1 and len(queue) * seconds_each > _WORTH_PROCESSES_S):
        _in_processes(queue, config, finished, look_at, (count, length))
    _alone(queue, config, finished, look_at, forever=True)


def _alone(
    queue: deque[Case], config: Config, finished: Callable[[str, Facts], None], look_at: Look, *, forever: bool
) -> float:
    """Work in this process, for a while or until the queue is empty; returns the seconds a case took."""
    begin, done = time.perf_counter(), 0
    while queue and (forever or time.perf_counter() - begin < _ALONE_S):
        case = queue.popleft()
        finished(case.id, look_at(case, config))
        done += 1
    return (time.perf_counter() - begin) / done if done else 0.0


def _in_processes(
    queue: deque[Case], config: Config, finished: Callable[[str, Facts], None], look_at: Look, shape: tuple[int, int]
) -> None:
    """Work in ``shape`` = (processes, cases a job) until the queue is empty, or at once back where none can start."""
    count, length = shape
    waiting = {case.id: case for case in queue}
    again: list[Case] = []

    def done(found: _Found) -> None:
        for case_id, facts in found.facts:
            if facts is None and length > 1:
                again.append(waiting[case_id])  # one of several: which one was it?
                continue
            case = waiting.pop(case_id)
            finished(case_id, too_large(case) if facts is None else facts)

    work = partial(_look_at_each, config=config, look_at=look_at)
    try:
        work_through(work, _jobs(queue, length), Crew(count), done, lambda job, _: _killed(job))
    except PrepareError:  # no process can start: a script without the guard that spawned processes need
        queue.clear()
        queue.extend(waiting.values())
        return
    if again:
        _in_processes(deque(again), config, finished, look_at, (count, 1))


def _jobs(queue: deque[Case], length: int) -> Iterator[_Job]:
    needs_bytes = _BYTES_PER_INPUT_BYTE * _largest_bytes(queue)
    while queue:
        yield _Job(tuple(queue.popleft() for _ in range(min(length, len(queue)))), needs_bytes)


def _look_at_each(job: _Job, config: Config, look_at: Look) -> _Found:
    return _Found([(case.id, look_at(case, config)) for case in job.cases])


def _killed(job: _Job) -> _Found:
    return _Found([(case.id, None) for case in job.cases])


def _largest_bytes(cases: Sequence[Case] | deque[Case]) -> int:
    """Size of the files of the largest image; images of one folder share its files, those of one file are small."""
    sharing = Counter(case.paths[0] for case in cases)
    of_many = {case.paths[0] for case in cases if case.item and Path(case.paths[0]).is_file()}
    return max((_bytes_at(Path(path)) // count for path, count in sharing.items() if path not in of_many), default=0)


def _bytes_at(path: Path) -> int:
    files = find_files(path) if path.is_dir() else files_of(path)
    try:
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0
