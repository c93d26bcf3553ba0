"""One series from the PACS to the PACS: pulled, read, answered, stored. The task of one job, on its thread."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail import dicom_out
from medrail.errors import GeometryError, MedrailError
from medrail.read import is_dicom, read, sources_of
from medrail.read.guard import Guard
from medrail.serve.answers import Answer, Question, Said, say, tell_shadows
from medrail.serve.audit import result_of
from medrail.serve.decode import Decoded, Upload
from medrail.serve.forms import Wishes
from medrail.serve.job import Job
from medrail.serve.pacs.answer import document_of, stored_objects, timings_of
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.listing import one_series
from medrail.serve.pacs.schemas import PacsRequest
from medrail.serve.problems import Refusal, refusal_of
from medrail.serve.registry import Chosen, ServedModel
from medrail.serve.screen import screen_slices
from medrail.serve.shadow import Shadows
from medrail.serve.wanted import Watch
from medrail.serve.workers import Gate
from medrail.types import Prediction, ReadOptions

_LOST = ("truncated_pixel_data", "undecodable_pixel_data")
_OF_THE_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID")
_PULLED, _PREDICTED, _MADE = 0.4, 0.9, 0.95  # shares that are done


@dataclass(frozen=True)
class Work:
    """What one job is about.

    job:
        Its upload folder holds the series while it is answered, its own the new objects (``seg.dcm``, ``sr.dcm``).
    max_values:
        The most voxels.
    shadows:
        What runs the chosen model's shadows.
    """

    pacs: Pacs
    chosen: Chosen
    gate: Gate
    wanted: PacsRequest
    job: Job
    max_values: int
    shadows: Shadows | None = None

    @property
    def model(self) -> ServedModel:
        return self.chosen.model

    @property
    def options(self) -> ReadOptions:
        return self.model.predictor.spec.read_options


@dataclass(frozen=True, eq=False)
class Answered:
    """What the model said of the series, and the objects that say it.

    images, sha256:
        Of the series: how many files, and over all of them.
    objects:
        "seg", "sr" -> content; {} where none could be made, with the reason as ``note``.
    """

    prediction: Prediction
    images: int
    sha256: str
    objects: dict[str, bytes]
    note: str


class Clock:
    """Where the time went, ms."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What was done since the last one."""
        now = time.perf_counter()
        self.ms[name] = round((now - self._last) * 1e3, 3)
        self._last = now

    def predicted(self, said: Said) -> None:
        """Tell the lap "predict" as its parts."""
        del self.ms["predict"]
        parts = said.prediction.timings_ms
        model_ms = max(parts["model"] - said.waited_ms, 0.0)
        self.ms |= {"queue": round(said.waited_ms, 3), "model": round(model_ms, 3)}
        self.ms |= {name: round(parts[name], 3) for name in ("prepare", "post")}


def answer_series(work: Work, watch: Watch) -> Answer:
    """Do all of it; the body is a ``PacsAnswer``.

    Raises
    ------
    Refusal
        For everything that is wrong with the PACS or the series, up to the answer. What goes wrong when it is stored
        stands in the answer, which is kept.
    Unwanted
        If the watch ends the work, which it does not while the answer is being stored.
    """
    clock = Clock()
    folder = work.job.upload / "series"
    folder.mkdir()
    try:
        answered = _answered(work, folder, watch, clock)
    except MedrailError as error:
        raise _in_words(refusal_of(error, folder)) from None
    except MemoryError:
        raise Refusal("too-many-voxels", "The series does not fit into the service's memory.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    watch.at(_MADE)
    kept, note = stored_objects(work.pacs, work.wanted, work.job.state.job_id, answered.objects)
    clock.lap("store")
    document = document_of(work, answered, kept, note or answered.note, clock.ms)
    result = {**result_of(answered.prediction), "stored": document.stored}
    body = document.model_dump_json().encode()
    return Answer(body, "application/json", timings_of(clock.ms), result)


def _answered(work: Work, folder: Path, watch: Watch, clock: Clock) -> Answered:
    files = _pulled(work, folder, watch)
    digest, size = _digest(files), sum(path.stat().st_size for path in files)
    work.job.write(record={**work.job.state.record, "input_sha256": digest, "input_bytes": size})
    clock.lap("pull")
    _check(files, work)
    decoded = Decoded(read(folder, work.wanted.item, work.options), None, folder)
    clock.lap("decode")
    question = Question(
        Upload({}, folder, work.max_values),
        work.model,
        Wishes(),
        work.job.state.request_id,
        shadows=work.chosen.shadows,
    )
    said = say(question, work.gate, watch.part(_PULLED, _PREDICTED), decoded)
    tell_shadows(question, said, work.shadows)
    clock.lap("predict")
    clock.predicted(said)
    objects, note = _made(said, folder, work)
    clock.lap("make")
    return Answered(said.prediction, len(files), digest, objects, note)


def _pulled(work: Work, folder: Path, watch: Watch) -> list[Path]:
    wanted, spec = work.wanted, work.model.predictor.spec
    found = one_series(work.pacs, spec, wanted.study_uid, wanted.series_uid)
    reason = found.why_not(spec, work.pacs.config.max_series_files)
    if reason:
        raise Refusal("unsuitable-image", reason, "Choose a series of which the list says that the model takes it.")

    def arrived(files: int) -> None:
        watch.at(_PULLED * min(files / (found.images or max(files, 1)), 1.0))

    return work.pacs.pull(wanted.study_uid, wanted.series_uid, folder, arrived, found.images)


def _digest(files: Sequence[Path]) -> str:
    """The same for the same objects, in whatever order they come."""
    return hashlib.sha256("".join(sorted(_sha256(path) for path in files)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(files: Sequence[Path], work: Work) -> None:
    """What came is what was asked for, of one patient, and not too large: the answer will be stored with these."""
    from pydicom import dcmread

    patients = set()
    for path in files:
        if not is_dicom(path):
            raise Refusal("pacs-answer", "The PACS sent something else than DICOM objects.")
        with Guard(path, "DICOM"):
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*_OF_THE_SERIES])
            study, series, patient = (str(header.get(name) or "") for name in _OF_THE_SERIES)
        if (study, series) != (work.wanted.study_uid, work.wanted.series_uid):
            raise Refusal("pacs-answer", "The PACS sent images of another series than it was asked for.")
        patients.add(patient)
    if len(patients) > 1:
        raise Refusal("pacs-answer", "The series has images of more than one patient.")
    try:
        screen_slices(files, work.max_values)
    except Refusal as refusal:
        most = f"The series declares more than {work.max_values / 1e6:,.1f} million values, the limit."
        raise Refusal(refusal.kind, most) from None


def _made(said: Said, folder: Path, work: Work) -> tuple[dict[str, bytes], str]:
    """The DICOM objects, kept in the job's folder too; or none, and why."""
    try:
        lost = [defect.name for defect in said.decoded.image.defects if defect.name in _LOST]
        if lost:
            raise GeometryError(f"some slices could not be decoded ({lost[0]})", needed="all slices")
        sources = sources_of(folder, work.wanted.item, work.options)
        if sources is None:
            raise GeometryError("the image's slices are not those of its files")
        objects = dict(dicom_out.objects(said.prediction, sources).files())
    except MedrailError as error:
        return {}, f"No DICOM objects could be made: {refusal_of(error, folder).detail}"
    for kind, content in objects.items():
        (work.job.folder / f"{kind}.dcm").write_bytes(content)
    return objects, ""


def _in_words(refusal: Refusal) -> Refusal:
    """Of a series that holds several images, one can be asked for here."""
    remedy = refusal.remedy.replace("Send one of them alone", "Name one of them: `item`")
    return Refusal(refusal.kind, refusal.detail, remedy, refusal.retry_after_s)
