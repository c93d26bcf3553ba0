"""prepare: a case table through the pipeline into the store, in parallel, and never stopped by one bad case."""

from __future__ import annotations

import csv
import errno
import io
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrail.cases import FileHashes, Unknown
from medrail.config import Config
from medrail.crew import Crew, Loss, work_through
from medrail.errors import MedrailError, PrepareError
from medrail.machine import collecting_seldom, free_memory_bytes, peak_memory_bytes, processors
from medrail.prepare.bases import Bases
from medrail.prepare.keeper import Keeper
from medrail.prepare.making import Base, Batch, Made, MadeBatch, Order, Reading, make_batch
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.report import PrepareReport
from medrail.prepare.sizes import needs_bytes, sizes_of
from medrail.prepare.store import Store
from medrail.types import Case, Progress
from medrail.workspace import Workspace, keep_text

# Less input than this is prepared sooner than a process starts.
_WORTH_A_PROCESS_BYTES = 32_000_000
# Small cases go to a worker together, so that handing them over costs little.
_BATCH_BYTES, _BATCH_CASES = 8_000_000, 32
# So many batches for each worker at least, so that all have work until the end.
_BATCHES_A_WORKER = 4
_LARGE_SHARE = 0.25  # of the memory


def store_of(config: Config, workspace: Workspace) -> Store:
    """Where this configuration's prepared cases lie."""
    return Store(workspace, Pipeline.from_dict(config.prepare.steps), plain=config.prepare.store == "npy")


def prepare(
    config: Config, workspace: Workspace, cases: Sequence[Case], progress: Progress | None = None
) -> PrepareReport:
    """Prepare every case into ``workspace.prepared``; cases whose files did not change are skipped.

    A case that fails is recorded in ``failures.csv`` with its reason, and the others go on. A worker that is killed, or
    runs out of memory, has its case tried again alone; one that hangs longer than ``prepare.timeout_s`` is given up.
    Whatever kills this process, cases that were finished are kept, and the next call goes on. Little work is done in
    this process; for more, processes are spawned, so a script must call this below ``if __name__ == "__main__":``.

    Raises
    ------
    ConfigError
        If the steps have mistakes.
    RunError
        If another process is writing the same store.
    PrepareError
        If no worker process can start, the scheduler cannot be reached, or the disk is full; what is done is kept.
    """
    store = store_of(config, workspace)
    if config.prepare.keep_after:
        _prepare_first_steps(config, workspace, cases, progress)
    started = time.perf_counter()
    with FileHashes.of(workspace) as hashes, ExitStack() as stack:
        reading = Reading.of(config)
        todo = _outdated(cases, reading, store, hashes)
        if progress and len(todo) < len(cases):
            progress(len(cases) - len(todo), len(cases), "up to date")
        keeper = stack.enter_context(Keeper(store, len(todo))) if todo or not store.folder.is_dir() else None
        work = _Work(config, reading, store, hashes, keeper, len(cases), len(todo), progress)
        try:
            work.do(todo)
        finally:
            failed = tuple((case.id, work.reasons[case.id]) for case in todo if case.id in work.reasons)
            if keeper is not None or not todo:
                _write_failures(store.failures_file, failed)
        if work.full:
            raise _full_disk(store, done=len(cases) - len(todo) + work.succeeded, cases=len(cases))
    return work.report(len(cases), failed, time.perf_counter() - started)


def _prepare_first_steps(
    config: Config, workspace: Workspace, cases: Sequence[Case], progress: Progress | None
) -> PrepareReport:
    """``keep_after``: the first steps are a pipeline of their own, from whose store the whole one goes on."""
    kinds = [str(step["kind"]) for step in config.prepare.steps]
    count = kinds.index(config.prepare.keep_after) + 1
    first = {"steps": config.prepare.steps[:count], "keep_after": "", "store": "compact"}
    return prepare(
        config.model_copy(update={"prepare": config.prepare.model_copy(update=first)}), workspace, cases, progress
    )


def outdated(config: Config, workspace: Workspace, cases: Sequence[Case]) -> tuple[str, ...]:
    """The ids of the cases that ``prepare`` would make now, so that nothing is trained on arrays of other files.

    A case that ``prepare`` tried and could not make is not among them.
    """
    store, reading = store_of(config, workspace), Reading.of(config)
    failed = _failed_ids(store.failures_file)
    with FileHashes.of(workspace) as hashes:
        tried = [case for case in cases if case.id not in failed]
        return tuple(case.id for case in _outdated(tried, reading, store, hashes))


def _outdated(cases: Iterable[Case], reading: Reading, store: Store, hashes: FileHashes) -> list[Case]:
    with collecting_seldom():
        made_from = store.sources()
        return [case for case in cases if not _is_current(case, made_from.get(case.id), reading, hashes)]


def _is_current(case: Case, stored: str | None, reading: Reading, hashes: FileHashes) -> bool:
    """Whether what is stored was made from the case's files as they are now."""
    if stored is None:
        return False
    try:
        return stored == reading.made_from(case, hashes)
    except MedrailError:
        return False  # the same error comes again when the case's turn comes, and is recorded there


@dataclass
class _Work:
    """One call of ``prepare``, while it goes on.

    reasons:
        Case -> why it failed.
    full:
        The disk is; nothing more is begun.
    """

    config: Config
    reading: Reading
    store: Store
    hashes: FileHashes
    keeper: Keeper | None
    total: int
    todo: int
    progress: Progress | None
    sizes: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    succeeded: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    peak_bytes: int = 0
    workers: int = 1
    full: bool = False
    started_s: float = field(default_factory=time.perf_counter)
    bases: Bases | None = None
    again: list[Batch] = field(default_factory=list)

    def do(self, cases: Sequence[Case]) -> None:
        """All of the cases, the first by itself where it shows what the others' files will look like."""
        if not cases or self.keeper is None:
            return
        self.bases = Bases(self.store)
        self.sizes = sizes_of(cases)
        everything = sum(self.sizes.values())
        crew = self._crew(cases, everything)
        self.workers = 1 if crew.here else min(len(cases), crew.workers or processors())
        rest = list(cases)
        if self.keeper.wants_example and self.sizes[rest[0].id] < _WORTH_A_PROCESS_BYTES:
            example = self._batch([rest.pop(0)])
            self._finished(make_batch(example))
        small = max(1, min(_BATCH_CASES, len(rest) // (_BATCHES_A_WORKER * self.workers)))
        self._through(self._batches(rest, small), crew)
        # What was lost together is tried one by one, so that only the case at fault fails.
        singles = [replace(batch, orders=(order,)) for batch in self.again for order in batch.orders]
        self.again = []
        self._through(iter(singles), crew)

    def _through(self, batches: Iterator[Batch], crew: Crew) -> None:
        work_through(make_batch, batches, crew, self._finished, self._lost, self._told)

    def _crew(self, cases: Sequence[Case], everything: int) -> Crew:
        settings = self.config.prepare
        here = not settings.scheduler and (len(cases) == 1 or everything < _WORTH_A_PROCESS_BYTES)
        if settings.workers > 1:
            here = False
        return Crew(settings.workers, settings.timeout_s, None, settings.scheduler, here)

    def _batches(self, cases: Sequence[Case], most: int) -> Iterator[Batch]:
        """Drawn one by one as workers ask for them; nothing more once the disk is full."""
        waiting: list[Case] = []
        in_all = 0
        for case in cases:
            if self.full:
                return
            in_all += self.sizes[case.id]
            if waiting and (len(waiting) >= most or in_all > _BATCH_BYTES):
                yield self._batch(waiting)
                waiting, in_all = [], self.sizes[case.id]
            waiting.append(case)
        if waiting and not self.full:
            yield self._batch(waiting)

    def _batch(self, cases: Sequence[Case]) -> Batch:
        assert self.keeper is not None  # noqa: S101  there are cases to be made
        orders = tuple(Order(case, self.keeper.place(case.id), self._base(case)) for case in cases)
        largest = max(needs_bytes(case, self.sizes[case.id]) for case in cases)
        return Batch(orders, self.reading, largest, sum(self.sizes[case.id] for case in cases))

    def _base(self, case: Case) -> Base | None:
        """What others have done of it, where that can be told without reading anything."""
        if self.bases is None or not self.bases.any:
            return None
        try:
            return self.bases.of(case.id, self.reading.made_from(case, self.hashes.known()))
        except (Unknown, MedrailError):
            return None

    def _finished(self, result: MadeBatch) -> None:
        self.peak_bytes = max(self.peak_bytes, result.peak_bytes or 0)
        for made in result.made:
            self._take(made)

    def _take(self, made: Made) -> None:
        assert self.keeper is not None  # noqa: S101  there was something to make
        case = made.order.case
        self.hashes.learn(made.contents)
        for step, seconds in made.seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds
        if made.entry is not None:
            try:
                self.keeper.keep(made.order.place, made.entry)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                made = replace(made, entry=None, disk_full=True, reason="no room is left on the disk")
        if made.entry is None:
            self.keeper.give_back(made.order.place)
            self.full = self.full or made.disk_full
            self.reasons[case.id] = made.reason
        else:
            self.succeeded += 1
            self.input_bytes += self.sizes[case.id]
            self.output_bytes += _stored_bytes(made.entry)
        self._tell(case.id + (" failed" if made.entry is None else ""))

    def _tell(self, note: str) -> None:
        if self.progress is None:
            return
        done, seconds = self.succeeded + len(self.reasons), time.perf_counter() - self.started_s
        rate = f"{done / seconds:.1f} cases/s, {self.input_bytes / 1e6 / seconds:.0f} MB/s, {note}"
        self.progress(self.total - self.todo + done, self.total, rate)

    def _told(self, batch: Batch, loss: Loss) -> None:
        """A batch is tried again alone."""
        names = ", ".join(order.case.id for order in batch.orders[:3]) + (", ..." if len(batch.orders) > 3 else "")
        self.notes.append(f"{names}: {_why(loss)}: retried alone")
        self._tell(self.notes[-1])

    def _lost(self, batch: Batch, loss: Loss) -> MadeBatch:
        if len(batch.orders) > 1:
            self.again.append(batch)
            return MadeBatch(())
        reason = f"{_why(loss)}{', also when it ran alone' if loss.alone else ''}. {_remedy(loss)}"
        return MadeBatch((Made(batch.orders[0], reason=reason),))

    def report(self, cases: int, failed: tuple[tuple[str, str], ...], seconds: float) -> PrepareReport:
        """What this call did."""
        peak = self.peak_bytes or peak_memory_bytes()
        return PrepareReport(
            cases=cases,
            succeeded=self.succeeded,
            failed=failed,
            skipped=cases - self.todo,
            seconds=seconds,
            input_mb_per_s=self.input_bytes / 1e6 / seconds,
            peak_rss_mb=None if peak is None else peak / 1e6,
            folder=self.store.folder,
            output_mb=self.output_bytes / 1e6,
            workers=self.workers,
            seconds_by_step=dict(self.seconds),
            notes=tuple(self.notes),
        )


def _why(loss: Loss) -> str:
    if loss.why == "timeout":
        return "it did not end in time"
    if loss.signal == "SIGSEGV":
        return "a library crashed on it"
    if loss.why == "killed" and loss.signal not in ("", "SIGKILL"):
        return f"its process was ended by {loss.signal}"
    free = free_memory_bytes()
    # What held little beside what is free was ended by somebody, not for its memory.
    if loss.seen_bytes and (free is None or loss.seen_bytes > _LARGE_SHARE * (free + loss.seen_bytes)):
        return f"needs {loss.seen_bytes / 1e9:.1f} GB or more"
    return "the system ended its worker process" if loss.why == "killed" else "needs more memory than there is"


def _remedy(loss: Loss) -> str:
    if loss.why == "timeout":
        return "Look at its files; `prepare.timeout_s` sets how long a case may take."
    if loss.signal == "SIGSEGV":
        return "Its files are probably damaged; leave the case out, and please report it."
    free = free_memory_bytes()
    there = f" ({free / 1e9:.1f} GB are free)" if free else ""
    return f"Free memory{there}, or begin the steps with a crop, and repeat."


def _stored_bytes(entry: dict[str, Any]) -> int:
    total = 0
    for described in (entry["image"], entry["mask"]):
        if described is not None:
            rows = described["bytes"] // (described["row"] + 1) if "row" in described else described["bytes"]
            total += rows
    return total


def _full_disk(store: Store, done: int, cases: int) -> PrepareError:
    return PrepareError(
        "no room is left on the disk",
        where=str(store.folder),
        needed=f"room for {cases - done} more of {cases} cases",
        remedy=f"Free some and repeat: the {done} cases that are done are kept.",
    )


def _failed_ids(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        return {row["case"] for row in csv.DictReader(file) if row.get("case")}


def _write_failures(path: Path, failed: Iterable[tuple[str, str]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["case", "reason"])
    table.writerows(failed)
    try:
        keep_text(path, text.getvalue())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
