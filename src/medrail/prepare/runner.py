"""prepare: a case table through the pipeline into the store, in parallel, and never stopped by one bad case."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrail.cases import FileHashes, read_roi, read_target_mask, source_fingerprint
from medrail.config import Config, DataConfig
from medrail.crew import Crew, work_through
from medrail.errors import MedrailError
from medrail.machine import free_memory_bytes, peak_memory_bytes, processors
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.store import Store
from medrail.read import files_of, read
from medrail.read.dicom.walk import find_files
from medrail.types import Case, Progress
from medrail.workspace import Workspace, write_text

# Memory of one worker: the interpreter with its libraries, and for each byte of the case's files (which may be
# compressed) the raw voxels, one float copy and the result.
_WORKER_BYTES = 250_000_000
_BYTES_PER_INPUT_BYTE = 16
# Less input than this is prepared sooner than a second process starts.
_WORTH_A_PROCESS_BYTES = 32_000_000


@dataclass(frozen=True)
class PrepareReport:
    """What one call of ``prepare`` did.

    ``cases`` = ``succeeded`` (made in this call) + failed + ``skipped`` (up to date). ``input_mb_per_s`` counts the
    files of the succeeded cases, 1 MB = 10^6 bytes. ``peak_rss_mb`` is the largest of any one process, or None where
    the system does not say (Windows). ``folder`` is where the store lies.
    """

    cases: int
    succeeded: int
    failed: tuple[tuple[str, str], ...]
    skipped: int
    seconds: float
    input_mb_per_s: float
    peak_rss_mb: float | None
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """The keys of ``medrail prepare --json``."""
        return {
            "cases": self.cases,
            "succeeded": self.succeeded,
            "failed": [{"case": case, "reason": reason} for case, reason in self.failed],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "input_mb_per_s": round(self.input_mb_per_s, 3),
            "peak_rss_mb": None if self.peak_rss_mb is None else round(self.peak_rss_mb, 1),
        }


@dataclass(frozen=True)
class _Job:
    case: Case
    data: DataConfig
    with_mask: bool
    made_from: str
    store: Store
    needs_bytes: int


@dataclass(frozen=True)
class _Done:
    case_id: str
    reason: str = ""
    peak_bytes: int | None = None
    out_of_memory: bool = False


def prepare(
    config: Config, workspace: Workspace, cases: Sequence[Case], progress: Progress | None = None
) -> PrepareReport:
    """Prepare every case into ``workspace.prepared``; cases whose files did not change are skipped.

    A case that fails is recorded in ``failures.csv`` with its reason, and the others go on; if a worker is killed, the
    cases in flight are tried again alone. With ``config.prepare.workers`` = 1 all is done in this process; with more,
    processes are spawned, so a script must call this below ``if __name__ == "__main__":``.

    Raises
    ------
    ConfigError
        If the steps have mistakes.
    PrepareError
        If no worker process can start.
    """
    started = time.perf_counter()
    store = Store(workspace, Pipeline.from_dict(config.prepare.steps))
    store.begin()
    done: list[_Done] = []

    def finished(result: _Done) -> None:
        done.append(result)
        if result.reason:
            store.remove(result.case_id)
        if progress:
            note = f"{result.case_id} failed" if result.reason else result.case_id
            progress(len(cases) - len(todo) + len(done), len(cases), note)

    with FileHashes.of(workspace) as hashes:
        todo = [case for case in cases if not _up_to_date(case, config, store, hashes)]
        if progress and len(todo) < len(cases):
            progress(len(cases) - len(todo), len(cases), "up to date")
        workers = _workers(config.prepare.workers, todo)
        jobs = _jobs(todo, config, store, hashes, finished)
        if workers <= 1:
            for job in jobs:
                finished(_make(job))
        else:
            work_through(_make, jobs, Crew(workers), finished, lambda job, _: _killed(job))
    reasons = {result.case_id: result.reason for result in done if result.reason}
    failed = tuple((case.id, reasons[case.id]) for case in todo if case.id in reasons)
    _write_failures(store.failures_file, failed)
    seconds = time.perf_counter() - started
    input_bytes = _input_bytes(case for case in todo if case.id not in reasons)
    peak_bytes = max((result.peak_bytes for result in done if result.peak_bytes), default=peak_memory_bytes())
    return PrepareReport(
        cases=len(cases),
        succeeded=len(todo) - len(failed),
        failed=failed,
        skipped=len(cases) - len(todo),
        seconds=seconds,
        input_mb_per_s=input_bytes / 1e6 / seconds,
        peak_rss_mb=None if peak_bytes is None else peak_bytes / 1e6,
        folder=store.folder,
    )


def _made_from(case: Case, config: Config, hashes: FileHashes) -> str:
    """The case's own fingerprint, and with a mask also what turns the mask's values into class indices."""
    content = source_fingerprint(case, hashes, config.data.read_options)
    if config.task != "segmentation" or case.target is None:
        return content
    data = config.data
    meaning = [list(data.classes), list(data.mask_values), data.foreground_nonzero]
    return hashlib.sha256(json.dumps([content, meaning]).encode()).hexdigest()


def _up_to_date(case: Case, config: Config, store: Store, hashes: FileHashes) -> bool:
    stored = store.source_fingerprint(case.id)
    if stored is None:
        return False
    try:
        return stored == _made_from(case, config, hashes)
    except MedrailError:
        return False  # the same error comes again when the case's turn comes, and is recorded there


def outdated(config: Config, workspace: Workspace, cases: Sequence[Case]) -> tuple[str, ...]:
    """The ids of the cases that ``prepare`` would make now, so that nothing is trained on arrays of other files.

    A case that ``prepare`` tried and could not make is not among them.
    """
    store = Store(workspace, Pipeline.from_dict(config.prepare.steps))
    failed = _failed_ids(store.failures_file)
    with FileHashes.of(workspace) as hashes:
        return tuple(
            case.id for case in cases if case.id not in failed and not _up_to_date(case, config, store, hashes)
        )


def _failed_ids(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        return {row["case"] for row in csv.DictReader(file) if row.get("case")}


def _jobs(
    cases: Iterable[Case], config: Config, store: Store, hashes: FileHashes, finished: Callable[[_Done], None]
) -> Iterator[_Job]:
    """The jobs, hashed one by one as workers ask for them; a case that cannot be hashed is finished at once."""
    for case in cases:
        try:
            made_from = _made_from(case, config, hashes)
        except MedrailError as error:
            finished(_Done(case.id, str(error)))
            continue
        with_mask = config.task == "segmentation" and case.target is not None
        yield _Job(case, config.data, with_mask, made_from, store, _BYTES_PER_INPUT_BYTE * _input_bytes([case]))


def _make(job: _Job) -> _Done:
    """Prepare one case; every failure becomes a reason."""
    reason = ""
    try:
        _read_prepare_write(job)
    except MedrailError as error:
        reason = str(error)
    except MemoryError:
        reason = "not enough memory for this case. Begin the steps with a crop, or free memory."
    except OSError as error:
        reason = f"{error.strerror or type(error).__name__}: {error.filename or 'a file of the case'}"
    except Exception as error:  # noqa: BLE001  a defect met by one case must not lose the others
        # Not the message: libraries put values out of the file into theirs, which may identify a patient.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        reason = f"unexpected {type(error).__name__} in {place}. Please report it: this is a defect of medrail."
    return _Done(job.case.id, reason, peak_memory_bytes())


def _read_prepare_write(job: _Job) -> None:
    case, pipeline = job.case, job.store.pipeline
    raw = read(case.paths[0], case.item, job.data.read_options)
    prepared = pipeline(raw, read_roi(case, raw) if pipeline.needs_roi else None)
    mask = None
    if job.with_mask:
        mask = pipeline.replay(read_target_mask(case, raw, job.data), prepared.history)
    job.store.write(case.id, prepared, mask, job.made_from)


def _killed(job: _Job) -> _Done:
    needs_gb = _BYTES_PER_INPUT_BYTE * _input_bytes([job.case]) / 1e9
    return _Done(
        job.case.id,
        "the system ended its worker process, also when it ran alone, most often for lack of memory "
        f"(its files suggest up to {needs_gb:.1f} GB). Free memory, or begin the steps with a crop, and repeat.",
    )


def _workers(wanted: int, cases: Sequence[Case]) -> int:
    """As many as asked for; with 0 as many as processors and memory allow, and one where the work is small."""
    if wanted:
        return min(wanted, len(cases))
    if _input_bytes(cases) < _WORTH_A_PROCESS_BYTES:
        return 1
    one_each = {(case.paths, case.target, case.roi): case for case in cases}  # many may lie in one folder
    largest = max(_input_bytes([case]) for case in one_each.values())
    free = free_memory_bytes()
    by_memory = len(cases) if free is None else free // (_WORKER_BYTES + _BYTES_PER_INPUT_BYTE * largest)
    return max(1, min(processors(), len(cases), by_memory))


def _input_bytes(cases: Iterable[Case]) -> int:
    """Size of the files of the cases, each counted once; what is missing counts nothing."""
    paths: set[Path] = set()
    for case in cases:
        for path in map(Path, [*case.paths, *filter(None, (case.roi, case.target))]):
            if path.is_absolute():  # else the target is a class name
                paths.update(find_files(path) if path.is_dir() else files_of(path))
    return sum(path.stat().st_size for path in paths if path.is_file())


def _write_failures(path: Path, failed: Sequence[tuple[str, str]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "reason"])
    table.writerows(failed)
    write_text(path, text.getvalue())
