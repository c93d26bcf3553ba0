"""One call of ``prepare`` while it goes on: cases are handed out in batches, and what comes back is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from medrail.cases import FileHashes, Unknown
from medrail.config import Config
from medrail.crew import Crew, Loss, work_through
from medrail.errors import MedrailError
from medrail.machine import free_memory_bytes, peak_memory_bytes, processors
from medrail.prepare import losses
from medrail.prepare.bases import Bases
from medrail.prepare.failures import Failure
from medrail.prepare.fused import reads_by_slices
from medrail.prepare.keeper import Keeper
from medrail.prepare.making import Base, Batch, Made, MadeBatch, Order, Reading, make_batch
from medrail.prepare.manifest import Entry
from medrail.prepare.report import PrepareReport
from medrail.prepare.sizes import is_plain_series, needs_bytes, sizes_of
from medrail.types import Case, Progress

# Less input than this is prepared sooner than a process starts.
_WORTH_A_PROCESS_BYTES = 32_000_000
# And so much of plain series that are read a slice at a time, in bounded memory.
_QUICK_BYTES = 1_500_000_000
# A single case of no more than this share of the free memory is not worth a process, either.
_SMALL_SHARE = 0.25
# Small cases go to a worker together, so that handing them over costs little.
_BATCH_BYTES, _BATCH_CASES = 8_000_000, 32
# So many batches for each worker at least, so that all have work until the end.
_BATCHES_A_WORKER = 4
# So much input makes up for the loading of the compiled loops, which takes half a second a process.
_WORTH_COMPILED_BYTES = 20_000_000


@dataclass
class Work:
    """One call of ``prepare``, while it goes on.

    total, todo:
        How many cases there are, and how many of them are to be made.
    failures:
        By case.
    full:
        The disk is; nothing more is begun.
    lost_before:
        Whether an earlier call lost one of the cases: killed, out of memory or out of time.
    """

    config: Config
    reading: Reading
    hashes: FileHashes
    keeper: Keeper
    total: int
    todo: int
    progress: Progress | None
    sizes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    succeeded: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    peak_bytes: int = 0
    workers: int = 1
    full: bool = False
    lost_before: bool = False
    started_s: float = field(default_factory=time.perf_counter)
    bases: Bases | None = None
    again: list[Batch] = field(default_factory=list)

    def do(self, cases: Sequence[Case]) -> None:
        """All of the cases."""
        if not cases:
            return
        self.bases = Bases(self.keeper.store)
        self.sizes = sizes_of(cases)
        crew = self._crew(cases)
        self.workers = 1 if crew.here else min(len(cases), crew.workers or processors())
        most = max(1, min(_BATCH_CASES, len(cases) // (_BATCHES_A_WORKER * self.workers)))
        self._through(self._batches(cases, most), crew)
        # What was lost together is tried one by one, so that only the case at fault fails.
        singles = [replace(batch, orders=(order,)) for batch in self.again for order in batch.orders]
        self.again = []
        self._through(iter(singles), crew)

    def report(self, cases: int, seconds: float) -> PrepareReport:
        """What this call did."""
        peak = self.peak_bytes or peak_memory_bytes()
        return PrepareReport(
            cases=cases,
            succeeded=self.succeeded,
            failed=tuple((failure.case, failure.reason) for failure in self.failures.values()),
            skipped=cases - self.todo,
            seconds=seconds,
            input_mb_per_s=self.input_bytes / 1e6 / seconds,
            peak_rss_mb=None if peak is None else peak / 1e6,
            folder=self.keeper.store.folder,
            output_mb=self.output_bytes / 1e6,
            workers=self.workers,
            seconds_by_step=dict(self.seconds),
            notes=tuple(self.notes),
        )

    def _through(self, batches: Iterator[Batch], crew: Crew) -> None:
        work_through(make_batch, batches, crew, self._finished, self._lost, self._told, self._tell)

    def _crew(self, cases: Sequence[Case]) -> Crew:
        """Little work is done in this process, unless what is known of it says that it might not survive that."""
        settings, in_all = self.config.prepare, sum(self.sizes.values())
        little = (
            (len(cases) == 1 and self._is_small(cases[0]))
            or in_all < _WORTH_A_PROCESS_BYTES
            or (
                in_all < _QUICK_BYTES
                and reads_by_slices(self.keeper.store.pipeline.steps)
                and all(map(is_plain_series, cases))
            )
        )
        survived = not self.keeper.after_death and not self.lost_before
        here = little and survived and settings.workers <= 1 and not settings.scheduler
        return Crew(settings.workers, settings.timeout_s, None, settings.scheduler, here)

    def _is_small(self, case: Case) -> bool:
        """Beside what is free: nothing that the system would end this process for."""
        free = free_memory_bytes()
        return free is not None and needs_bytes(case, self.sizes[case.id]) <= _SMALL_SHARE * free

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
        orders = tuple(Order(case, self.keeper.place(case.id), self._base(case)) for case in cases)
        largest = max(needs_bytes(case, self.sizes[case.id]) for case in cases)
        return Batch(orders, self.reading, largest, sum(self.sizes.values()) >= _WORTH_COMPILED_BYTES)

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
        case = made.order.case
        self.hashes.learn(made.contents)
        for step, seconds in made.seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds
        entry = self._kept(made)
        if entry is not None:
            self.succeeded += 1
            self.input_bytes += self.sizes[case.id]
            self.output_bytes += _stored_bytes(entry)
        elif not self.full:
            self.failures[case.id] = self._failure(case, made)
        self._tell(f"{case.id} failed" if entry is None else "")

    def _kept(self, made: Made) -> Entry | None:
        self.full = self.full or made.disk_full
        if made.written is None:
            return None
        begin = time.perf_counter()
        try:
            return self.keeper.keep(made.order.case.id, made.written)
        except OSError as error:
            if error.errno not in losses.FULL:
                raise
            self.full = True
            return None
        finally:
            self.seconds["write"] = self.seconds.get("write", 0.0) + time.perf_counter() - begin

    def _failure(self, case: Case, made: Made) -> Failure:
        """What there is of it from before goes if its files are others now, and stays if they are just not there."""
        try:
            made_from = self.reading.made_from(case, self.hashes)
        except MedrailError:
            return Failure(case.id, made.reason, "", made.lost)
        if self.keeper.made_from(case.id) not in (None, made_from):
            self.keeper.remove(case.id)
        return Failure(case.id, made.reason, made_from, made.lost)

    def _tell(self, note: str) -> None:
        if self.progress is None:
            return
        done, seconds = self.succeeded + len(self.failures), time.perf_counter() - self.started_s
        rate = f"{done / seconds:>5.3g} cases/s {self.input_bytes / 1e6 / seconds:>5.0f} MB/s"
        self.progress(self.total - self.todo + done, self.total, f"{rate} {note}" if done else note)

    def _told(self, batch: Batch, loss: Loss) -> None:
        """A batch is tried again alone."""
        names = ", ".join(order.case.id for order in batch.orders[:3]) + (", ..." if len(batch.orders) > 3 else "")
        self.notes.append(f"{names}: {losses.why(loss)}: retried alone")
        self._tell(self.notes[-1])

    def _lost(self, batch: Batch, loss: Loss) -> MadeBatch:
        if len(batch.orders) > 1:
            self.again.append(batch)
            return MadeBatch(())
        return MadeBatch((Made(batch.orders[0], reason=losses.reason(loss), lost=loss.why),))


def _stored_bytes(entry: Entry) -> int:
    described = [part for part in (entry["image"], entry["mask"]) if part is not None]
    return sum(part["bytes"] // (part["row"] + 1) if "row" in part else part["bytes"] for part in described)
