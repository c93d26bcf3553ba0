"""One case, from its files into its place in the store: what a worker does. It never raises; failures are reasons.

The digests of the files are found out while they are read, and what was made already by a pipeline with the same first
steps is taken from there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

from medrail.cases import FoundOnTheWay, Hashes, read_roi, read_target_mask, source_fingerprint
from medrail.config import Config, DataConfig
from medrail.errors import CaseError, MedrailError, RunError
from medrail.machine import peak_memory_bytes
from medrail.prepare.keeper import Place, Written, write_case
from medrail.prepare.pipeline import Pipeline, Prepared
from medrail.prepare.sampling import compiled
from medrail.prepare.sizes import states_of
from medrail.prepare.store import Store
from medrail.read import Digests, UnreadImage, open_image
from medrail.read.digests import Content, State
from medrail.read.png import load_compiled
from medrail.types import Case, Image, ReadOptions

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Reading:
    """How the cases of a project are read."""

    data: DataConfig
    options: ReadOptions
    masks: bool

    @staticmethod
    def of(config: Config) -> Reading:
        """As the configuration says."""
        return Reading(config.data, config.read_options, config.task == "segmentation")

    def made_from(self, case: Case, hashes: Hashes) -> str:
        """The case's own fingerprint, and with a mask also what turns the mask's values into class indices.

        Raises
        ------
        CaseError
            If a file cannot be read.
        """
        content = source_fingerprint(case, hashes, self.options)
        if not self.has_mask(case):
            return content
        meaning = [list(self.data.classes), list(self.data.mask_values), self.data.foreground_nonzero]
        return hashlib.sha256(json.dumps([content, meaning]).encode()).hexdigest()

    def has_mask(self, case: Case) -> bool:
        return self.masks and case.target is not None


@dataclass(frozen=True)
class Base:
    """A store that has the result of the first ``steps`` steps for a case."""

    store: Store
    steps: int

    @property
    def whole(self) -> bool:
        """Whether these are all steps of its pipeline; else all but the last, which is a line for the decoder."""
        return self.steps == len(self.store.pipeline.steps)


@dataclass(frozen=True)
class Order:
    """One case to be made. ``base``: where its first steps are done already, and what it was made from is known."""

    case: Case
    place: Place
    base: Base | None = None


@dataclass(frozen=True)
class Batch:
    """Orders that one worker does one after another, and the memory that the largest of them takes.

    compiled:
        There is so much to do in all that the compiled loops are worth their loading.
    """

    orders: tuple[Order, ...]
    reading: Reading
    needs_bytes: int
    compiled: bool = False


@dataclass
class Made:
    """What became of a case.

    written:
        What the keeper takes over; None where it failed, for the ``reason``.
    lost:
        Why there is no result at all, "" otherwise.
    contents:
        Of the files that were read.
    seconds:
        By step; reading and writing are steps, too.
    """

    order: Order
    written: Written | None = None
    reason: str = ""
    lost: str = ""
    out_of_memory: bool = False
    disk_full: bool = False
    contents: dict[State, Content] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeBatch:
    """What became of a batch."""

    made: tuple[Made, ...]
    peak_bytes: int | None = None

    @property
    def out_of_memory(self) -> bool:
        return any(one.out_of_memory for one in self.made)


def make_batch(batch: Batch) -> MadeBatch:
    """Make every case of a batch; after a full disk no more of them."""
    if batch.compiled and compiled() is not None:
        load_compiled()
    made: list[Made] = []
    for order in batch.orders:
        made.append(_make(order, batch.reading))
        if made[-1].disk_full:
            break
    return MadeBatch(tuple(made), peak_memory_bytes())


def _make(order: Order, reading: Reading) -> Made:
    made = Made(order)
    try:
        made.written = _from_base(order, made) or _from_files(order, reading, made)
    except MedrailError as error:
        made.reason = str(error)
    except MemoryError:
        made.reason = "not enough memory for this case. Begin the steps with a crop, or free memory."
        made.out_of_memory = True
    except OSError as error:
        made.disk_full = error.errno in _FULL
        made.reason = f"{error.strerror or type(error).__name__}: {error.filename or 'a file of the case'}"
    except Exception as error:  # noqa: BLE001  a defect met by one case must not lose the others
        # Not the message: libraries put values out of the file into theirs, which may identify a patient.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        made.reason = f"unexpected {type(error).__name__} in {place}. Please report it: this is a defect of medrail."
    return made


def _from_files(order: Order, reading: Reading, made: Made) -> Written:
    case, pipeline, digests = order.case, order.place.store.pipeline, Digests()
    begin = time.perf_counter()
    before = states_of(case)
    raw = open_image(case.paths[0], case.item, reading.options, digests)
    header = raw.stand_in if isinstance(raw, UnreadImage) else raw
    _add(made, "read", time.perf_counter() - begin)
    roi = read_roi(case, header) if pipeline.needs_roi else None
    prepared = pipeline.compact(raw, roi, lambda step, seconds: _add(made, step, seconds))
    begin = time.perf_counter()
    mask = None
    if reading.has_mask(case):
        mask = pipeline.replay(read_target_mask(case, header, reading.data), prepared.image.history)
        _add(made, "mask", time.perf_counter() - begin)
    begin = time.perf_counter()
    made_from = reading.made_from(case, FoundOnTheWay(digests.found))
    if states_of(case) != before:
        raise CaseError(
            "its files were changed while they were read",
            where=case.paths[0],
            remedy="Wait until they are copied or written, and repeat.",
        )
    made.contents = digests.found
    _add(made, "read", time.perf_counter() - begin)
    return _written(order, prepared, mask, made_from, made)


def _from_base(order: Order, made: Made) -> Written | None:
    """None where there is no base, or it turns out to be broken."""
    base, case_id = order.base, order.case.id
    if base is None:
        return None
    pipeline = order.place.store.pipeline
    begin = time.perf_counter()
    try:
        stored, mask = base.store.stored(case_id)
    except RunError:
        return None
    made_from = base.store.source_fingerprint(case_id) or ""
    history = stored.image.history  # what happened while it was read, then the steps
    done = history[: len(history) - len(base.store.pipeline.steps) + base.steps]
    _add(made, "read", time.perf_counter() - begin)
    image = replace(stored.decoded() if base.whole else stored.image, history=done)
    prepared = pipeline.compact(image, None, lambda step, seconds: _add(made, step, seconds), first=base.steps)
    begin = time.perf_counter()
    if mask is not None:
        rest = Pipeline(pipeline.steps[base.steps :])
        mask = rest.replay(mask, prepared.image.history)
        _add(made, "mask", time.perf_counter() - begin)
    return _written(order, prepared, mask, made_from, made)


def _written(order: Order, prepared: Prepared, mask: Image | None, made_from: str, made: Made) -> Written:
    begin = time.perf_counter()
    written = write_case(order.place, prepared, mask, made_from)
    _add(made, "write", time.perf_counter() - begin)
    return written


def _add(made: Made, step: str, seconds: float) -> None:
    made.seconds[step] = made.seconds.get(step, 0.0) + seconds
