"""One series from the PACS to the PACS: pulled, read, answered, stored. The work of one job, on a worker's thread."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from medrail import dicom_out
from medrail.errors import GeometryError, MedrailError
from medrail.read import is_dicom, read, sources_of
from medrail.read.guard import Guard
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.listing import one_series
from medrail.serve.pacs.schemas import PacsAnswer, StoredObject
from medrail.serve.problems import Refusal, refusal_of
from medrail.serve.registry import ServedModel
from medrail.serve.screen import SCREENS
from medrail.types import Image, Prediction

Told = Callable[[float], None]

_LOST = ("truncated_pixel_data", "undecodable_pixel_data")
_OF_THE_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "PatientID")
_PULLED, _READ, _PREDICTED, _MADE = 0.5, 0.6, 0.85, 0.9  # progress


@dataclass(frozen=True)
class Work:
    """One job.

    folder:
        The job's own; the series lies there only until it is answered, the new objects (``seg.dcm``, ``sr.dcm``) stay.
    max_values:
        The most voxels.
    """

    pacs: Pacs
    model: ServedModel
    study_uid: str
    series_uid: str
    item: str
    store: bool
    job_id: str
    folder: Path
    max_values: int


@dataclass(frozen=True, eq=False)
class _Answered:
    prediction: Prediction
    objects: dict[str, bytes]  # "seg", "sr" -> content
    note: str
    volumes_ml: dict[str, float]


def answer_series(work: Work, tell: Told) -> PacsAnswer:
    """Do all of it. ``tell`` is called with the progress, 0 to 1, and may raise, which ends the work.

    Raises
    ------
    Refusal
        For everything that is wrong with the PACS or the series, up to the answer. What goes wrong when it is stored
        stands in the answer, which is kept.
    """
    clock = _Clock()
    folder = work.folder / "series"
    folder.mkdir()
    try:
        files = _pulled(work, folder, tell)
        digest = _digest(files)
        clock.lap("pull")
        _check(files, work)
        answered = _answered(work, folder, tell, clock)
    except MedrailError as error:
        raise _in_words(refusal_of(error, folder)) from None
    except MemoryError:
        raise Refusal("too-many-voxels", "The series does not fit into the service's memory.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell(_MADE)
    kept, note = _stored(work, answered)
    clock.lap("store")
    tell(1.0)
    return _document(work, answered, kept, note or answered.note, len(files), digest, clock)


class _Clock:
    """Where the time went, ms."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.ms[name] = round((now - self._last) * 1e3, 3)
        self._last = now


def _pulled(work: Work, folder: Path, tell: Told) -> list[Path]:
    found = one_series(work.pacs, work.model.predictor.spec, work.study_uid, work.series_uid)
    reason = found.why_not(work.model.predictor.spec, work.pacs.config.max_series_files)
    if reason:
        raise Refusal("unsuitable-image", reason, "Choose a series of which the list says that the model takes it.")

    def arrived(files: int) -> None:
        tell(_PULLED * min(files / (found.images or max(files, 1)), 1.0))

    return work.pacs.pull(work.study_uid, work.series_uid, folder, arrived, found.images)


def _digest(files: Sequence[Path]) -> str:
    """The same for the same objects, in whatever order they come."""
    return hashlib.sha256("".join(sorted(_sha256(path) for path in files)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(files: Sequence[Path], work: Work) -> None:
    """What came is what was asked for, of one patient, and not too large: the answer will be stored with these."""
    from pydicom import dcmread

    total, patients = 0, set()
    for path in files:
        if not is_dicom(path):
            raise Refusal("pacs-answer", "The PACS sent something else than DICOM objects.")
        with Guard(path, "DICOM"):
            total += SCREENS["dicom"](path, work.max_values)
            header = dcmread(path, stop_before_pixels=True, specific_tags=[*_OF_THE_SERIES])
            study, series, patient = (str(header.get(name) or "") for name in _OF_THE_SERIES)
        if (study, series) != (work.study_uid, work.series_uid):
            raise Refusal("pacs-answer", "The PACS sent images of another series than it was asked for.")
        patients.add(patient)
    if len(patients) > 1:
        raise Refusal("pacs-answer", "The series has images of more than one patient.")
    if total > work.max_values:
        most = f"the limit is {work.max_values / 1e6:,.1f} million"
        raise Refusal("too-many-voxels", f"The series declares {total / 1e6:,.1f} million values; {most}.")


def _answered(work: Work, folder: Path, tell: Told, clock: _Clock) -> _Answered:
    options = work.model.predictor.spec.read_options
    tell(_PULLED)
    image = read(folder, work.item, options)
    clock.lap("decode")
    tell(_READ)
    prediction = work.model.predictor(image)
    clock.lap("predict")
    clock.ms |= {name: round(value, 3) for name, value in prediction.timings_ms.items()}
    tell(_PREDICTED)
    objects, note = _made(image, prediction, folder, work)
    clock.lap("make")
    return _Answered(prediction, objects, note, _volumes_ml(prediction))


def _made(image: Image, prediction: Prediction, folder: Path, work: Work) -> tuple[dict[str, bytes], str]:
    """The DICOM objects, kept in the job's folder too; or none, and why."""
    try:
        lost = [defect.name for defect in image.defects if defect.name in _LOST]
        if lost:
            raise GeometryError(f"some slices could not be decoded ({lost[0]})", needed="all slices")
        sources = sources_of(folder, work.item, work.model.predictor.spec.read_options)
        if sources is None:
            raise GeometryError("the image's slices are not those of its files")
        objects = dict(dicom_out.objects(prediction, sources).files())
    except MedrailError as error:
        return {}, f"No DICOM objects could be made: {refusal_of(error, folder).detail or error.found}"
    for kind, content in objects.items():
        (work.folder / f"{kind}.dcm").write_bytes(content)
    return objects, ""


def _volumes_ml(prediction: Prediction) -> dict[str, float]:
    if prediction.mask is None or prediction.mask.geometry is None:
        return {}
    voxel_ml = abs(float(np.linalg.det(prediction.mask.geometry.affine_ras_mm[:3, :3]))) / 1000
    counts = np.bincount(prediction.mask.voxels.ravel(), minlength=len(prediction.classes))
    return {name: round(int(counts[index]) * voxel_ml, 6) for index, name in enumerate(prediction.classes) if index}


def _stored(work: Work, answered: _Answered) -> tuple[list[StoredObject], str]:
    """Each object with what became of it, and a sentence where not all are stored. Never an error: the answer stays."""
    made = {kind: _uids(content) for kind, content in answered.objects.items()}
    reasons: dict[str, str | None] = dict.fromkeys(made, "It was not asked for.")
    note = "" if work.store else "The answer was not to be stored."
    if made and work.store:
        by_uid = {made[kind][0]: content for kind, content in answered.objects.items()}
        try:
            said = {one.uid: one for one in work.pacs.store(work.study_uid, by_uid)}
            reasons = {kind: said[uid].reason or None for kind, (uid, _) in made.items()}
            if any(reasons.values()):
                note = "The PACS did not store all of the answer; its objects are kept with this job."
        except Refusal as refusal:
            note = f"The PACS did not store the answer ({refusal.kind}); its objects are kept with this job."
            reasons = dict.fromkeys(made, refusal.detail or refusal.kind)
    kept = [
        StoredObject(
            kind="seg" if kind == "seg" else "sr",
            sop_instance_uid=uid,
            series_uid=series,
            stored=reasons[kind] is None,
            reason=reasons[kind],
            file=f"/v1/pacs/jobs/{work.job_id}/{kind}.dcm",
        )
        for kind, (uid, series) in made.items()
    ]
    return kept, note


def _uids(content: bytes) -> tuple[str, str]:
    from pydicom import dcmread

    dataset = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"])
    return str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)


def _document(
    work: Work, answered: _Answered, kept: list[StoredObject], note: str, images: int, digest: str, clock: _Clock
) -> PacsAnswer:
    prediction = answered.prediction
    return PacsAnswer(
        study_uid=work.study_uid,
        series_uid=work.series_uid,
        images=images,
        input_sha256=digest,
        model_name=work.model.name,
        model_version=work.model.version,
        bundle_id=prediction.bundle_id,
        task=prediction.task,
        class_name=prediction.class_name,
        confidence=None if prediction.confidence is None else _fraction(prediction.confidence),
        probabilities={name: _fraction(value) for name, value in prediction.probabilities.items()},
        findings=None if prediction.findings is None else list(prediction.findings),
        conformal_set=None if prediction.conformal_set is None else list(prediction.conformal_set),
        abstain=bool(prediction.abstain),
        unlike_training=prediction.unlike_training,
        ood_score=prediction.ood_score,
        volumes_ml=answered.volumes_ml,
        timings_ms=clock.ms,
        objects=kept,
        stored=bool(kept) and all(one.stored for one in kept),
        note=note or None,
    )


def _fraction(value: float) -> float:
    """Softmax in float32 may end a rounding error above 1."""
    return min(max(value, 0.0), 1.0)


def _in_words(refusal: Refusal) -> Refusal:
    """Of a series that holds several images, one can be asked for here."""
    remedy = refusal.remedy.replace("Send one of them alone", "Name one of them: `item`")
    return Refusal(refusal.kind, refusal.detail, remedy, refusal.retry_after_s)
