"""From an uploaded file to the bytes of the answer. Runs on a worker thread; the same Predictor as in evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medrail.bundle import overlay_png
from medrail.bundle.maskfile import write_mask
from medrail.errors import MedrailError
from medrail.read import write_nifti
from medrail.serve.decode import Decoded, Upload, decode
from medrail.serve.dicom_answer import as_dicom, must_be_dicom
from medrail.serve.documents import classification_answer, evidence_answer, said_shortly, segmentation_answer
from medrail.serve.forms import Wishes
from medrail.serve.problems import Refusal, refusal_of
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import ClassificationAnswer, SegmentationAnswer, Timings
from medrail.serve.wanted import Watch
from medrail.serve.workers import Gate
from medrail.types import Image, Prediction


@dataclass(frozen=True)
class Question:
    """One request, received: the files, the model, and what is wanted of the answer."""

    upload: Upload
    model: ServedModel
    wishes: Wishes
    request_id: str
    upload_ms: float = 0.0
    received_at_s: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Answer:
    """The body of the response, and where the time went.

    result:
        What the audit keeps of it.
    file_name:
        What a browser saves it as; "" for JSON.
    """

    body: bytes
    media_type: str
    timings: Timings
    result: Mapping[str, Any] = field(default_factory=dict)
    file_name: str = ""


@dataclass(frozen=True, eq=False)
class Said:
    """What a model said of a decoded image, and when (seconds of ``perf_counter``)."""

    decoded: Decoded
    prediction: Prediction
    waited_ms: float
    begin_s: float
    decoded_s: float
    predicted_s: float


def answer(question: Question, gate: Gate, watch: Watch) -> Answer:
    """Decode, predict, encode.

    Raises
    ------
    Refusal
        For everything that is wrong with the file or does not fit the model.
    Unwanted
        If the watch ends the work.
    """
    said = say(question, gate, watch)
    form = question.wishes.form
    if form == "application/json":
        made = document(question, said)
        return Answer(
            made.model_dump_json().encode(), "application/json", made.timings_ms, said_shortly(said.prediction)
        )
    try:
        body, file_name = _as_file(question, said)
    except MedrailError as error:
        raise refusal_of(error, question.upload.folder) from None
    timings = timings_of(question, said, time.perf_counter())
    return Answer(body, question.wishes.media_type, timings, said_shortly(said.prediction), file_name)


def say(question: Question, gate: Gate, watch: Watch, decoded: Decoded | None = None) -> Said:
    """Decode (where that was not done) and predict; errors as ``answer``."""
    begin = time.perf_counter()
    gate.take_waited_ms()
    predictor, wishes = question.model.predictor, question.wishes
    try:
        decoded = decoded or decode(question.upload, predictor.spec.read_options)
        _must_have_form(question, decoded)
        decoded_at = time.perf_counter()
        watch.decoded()
        wanted = wishes.evidence or wishes.evidence_map
        prediction = predictor(decoded.image, decoded.roi, evidence=wanted, progress=watch.network)
    except MedrailError as error:
        raise refusal_of(error, question.upload.folder) from None
    except MemoryError:
        raise Refusal("too-many-voxels", "The image does not fit into the service's memory.") from None
    if not all(map(math.isfinite, (*prediction.probabilities.values(), prediction.ood_score or 0.0))):
        raise Refusal("model-failed", "The network's answer has values that are not finite.")
    watch.predicted()
    return Said(decoded, prediction, gate.take_waited_ms(), begin, decoded_at, time.perf_counter())


def document(question: Question, said: Said) -> ClassificationAnswer | SegmentationAnswer:
    """The answer as JSON says it."""
    prediction, image, wishes = said.prediction, said.decoded.image, question.wishes
    mask_file = None
    if prediction.mask is not None and wishes.mask in ("both", "file"):
        mask_file = write_mask(prediction.mask, question.upload.folder, "mask")
    written = time.perf_counter()
    preview = overlay_png(image, prediction.mask) if wishes.preview else None
    evidence = evidence_answer(wishes, image, prediction)
    timings = timings_of(question, said, written)
    shown_ms = round((time.perf_counter() - written) * 1e3, 3) if preview or evidence else 0.0
    common = {
        "task": prediction.task,
        "model_name": question.model.name,
        "model_version": question.model.version,
        "bundle_id": prediction.bundle_id,
        "inference_time_ms": round(timings.decode + timings.prepare + timings.model + timings.post, 3),
        "timings_ms": timings.model_copy(update={"preview": shown_ms}),
        "unlike_training": prediction.unlike_training,
        "ood_score": prediction.ood_score,
        "request_id": question.request_id,
    }
    if prediction.mask is None:
        return classification_answer(common, prediction, preview, evidence)
    return segmentation_answer(common, prediction, preview, mask_file, wishes.mask)


def timings_of(question: Question, said: Said, written_s: float) -> Timings:
    """Where the time went up to the moment when the answer was written."""
    parts = said.prediction.timings_ms
    return Timings(
        upload=round(question.upload_ms, 3),
        queue=round(max(said.begin_s - question.received_at_s, 0.0) * 1e3 + said.waited_ms, 3),
        decode=round((said.decoded_s - said.begin_s) * 1e3, 3),
        prepare=round(parts["prepare"], 3),
        model=round(max(parts["model"] - said.waited_ms, 0.0), 3),
        post=round(parts["post"] + (written_s - said.predicted_s) * 1e3, 3),
        preview=0.0,
    )


def _must_have_form(question: Question, decoded: Decoded) -> None:
    """Refuse, before the network works, a form in which this image's answer cannot be."""
    form = question.wishes.form
    if form == "application/dicom":
        must_be_dicom(decoded, question.model.predictor.spec.read_options)
    if form == "image/png" and not _is_flat(decoded.image):
        raise Refusal(
            "not-acceptable",
            "The mask is a volume or has a place in space; a PNG cannot hold it.",
            "Ask for application/x-nifti or application/json.",
        )


def _is_flat(image: Image) -> bool:
    return image.geometry is None and image.grid[0] == 1


def _as_file(question: Question, said: Said) -> tuple[bytes, str]:
    """The content of the file that was asked for, and what to call it."""
    prediction, folder = said.prediction, question.upload.folder
    if question.wishes.form == "application/dicom":
        return as_dicom(prediction, said.decoded, question.model.predictor.spec.read_options)
    assert prediction.mask is not None  # noqa: S101 - these forms are negotiated for segmenters alone
    if question.wishes.form == "application/gzip":
        path = folder / "mask.nii.gz"
        write_nifti(prediction.mask, path)
    else:
        path = write_mask(prediction.mask, folder, "mask")
    return path.read_bytes(), path.name
