"""From an uploaded file to the bytes of the answer. Runs on a worker thread; the same Predictor as in evaluation."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medrail.bundle import overlay_png
from medrail.bundle.maskfile import write_mask
from medrail.bundle.overlay import COLOURS
from medrail.errors import MedrailError
from medrail.read import read, read_mask, write_nifti
from medrail.serve.audit import result_of
from medrail.serve.problems import Refusal, refusal_of
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import ClassificationAnswer, MaskAnswer, MaskClass, SegmentationAnswer, Timings
from medrail.serve.screen import screen
from medrail.serve.upload import Received
from medrail.serve.workers import Gate
from medrail.types import Image, Prediction

Form = Literal["application/json", "application/gzip", "image/png"]


@dataclass(frozen=True)
class Question:
    """One request, received: the files, the model, and the form in which the answer is wanted."""

    files: Mapping[str, Received]
    folder: Path
    model: ServedModel
    form: Form
    media_type: str
    preview: bool
    request_id: str
    upload_ms: float
    received_at_s: float
    max_values: int


@dataclass(frozen=True)
class Answer:
    """The body of the response, where the time went, and the summary for the audit log."""

    body: bytes
    media_type: str
    timings: Timings
    result: Mapping[str, Any]


def answer(question: Question, gate: Gate) -> Answer:
    """Decode, predict, encode.

    Raises
    ------
    Refusal
        For everything that is wrong with the file or does not fit the model.
    """
    begin = time.perf_counter()
    gate.take_waited_ms()
    try:
        image, roi = _decode(question)
        decoded = time.perf_counter()
        prediction = question.model.predictor(image, roi)
    except MedrailError as error:
        raise refusal_of(error, question.folder) from None
    except MemoryError:
        raise Refusal("too-many-voxels", "The image does not fit into the service's memory.") from None
    predicted = time.perf_counter()
    waited_ms = gate.take_waited_ms()
    mask_file = _mask_file(question, prediction)
    written = time.perf_counter()
    preview = overlay_png(image, prediction.mask) if question.preview else None
    drawn = time.perf_counter()
    timings = Timings(
        upload=round(question.upload_ms, 3),
        queue=round((begin - question.received_at_s) * 1e3 + waited_ms, 3),
        decode=round((decoded - begin) * 1e3, 3),
        prepare=round(prediction.timings_ms["prepare"], 3),
        model=round(max(prediction.timings_ms["model"] - waited_ms, 0.0), 3),
        post=round(prediction.timings_ms["post"] + (written - predicted) * 1e3, 3),
        preview=round((drawn - written) * 1e3, 3),
    )
    if question.form != "application/json" and mask_file is not None:
        return Answer(mask_file.read_bytes(), question.media_type, timings, result_of(prediction))
    document = _document(question, prediction, mask_file, preview, timings)
    return Answer(document.model_dump_json().encode(), "application/json", timings, result_of(prediction))


def _decode(question: Question) -> tuple[Image, Image | None]:
    for received in question.files.values():
        screen(received.path, question.max_values)
    image = read(question.files["file"].path, options=question.model.predictor.spec.read_options)
    return image, read_mask(question.files["roi"].path) if "roi" in question.files else None


def _mask_file(question: Question, prediction: Prediction) -> Path | None:
    mask = prediction.mask
    if mask is None:
        return None
    if question.form == "application/gzip":
        path = question.folder / "mask.nii.gz"
        write_nifti(mask, path)
        return path
    path = write_mask(mask, question.folder, "mask")
    if question.form == "image/png" and path.suffix != ".png":
        raise Refusal(
            "not-acceptable",
            "The mask is a volume or has a place in space; a PNG cannot hold it.",
            "Ask for application/x-nifti or application/json.",
        )
    return path


def _document(
    question: Question, prediction: Prediction, mask_file: Path | None, preview: bytes | None, timings: Timings
) -> ClassificationAnswer | SegmentationAnswer:
    common = {
        "task": prediction.task,
        "model_name": question.model.name,
        "model_version": question.model.version,
        "bundle_id": prediction.bundle_id,
        "inference_time_ms": round(timings.decode + timings.prepare + timings.model + timings.post, 3),
        "timings_ms": timings,
        "unlike_training": prediction.unlike_training,
        "ood_score": prediction.ood_score,
        "preview_png": _base64(preview) if preview else None,
        "request_id": question.request_id,
    }
    if prediction.mask is not None and mask_file is not None:
        mask = _mask_answer(prediction.mask, prediction.classes, mask_file)
        return SegmentationAnswer.model_validate(common | {"mask": mask})
    answered = {
        "class_name": prediction.class_name,
        "confidence": None if prediction.confidence is None else _fraction(prediction.confidence),
        "probabilities": {name: _fraction(value) for name, value in prediction.probabilities.items()},
        "findings": None if prediction.findings is None else list(prediction.findings),
        "thresholds": dict(prediction.thresholds) or None,
        "conformal_set": prediction.conformal_set,
        "abstain": prediction.abstain,
    }
    return ClassificationAnswer.model_validate(common | answered)


def _mask_answer(mask: Image, classes: tuple[str, ...], file: Path) -> MaskAnswer:
    counts = np.bincount(mask.voxels.ravel(), minlength=len(classes))
    geometry = mask.geometry
    voxel_ml = None if geometry is None else abs(float(np.linalg.det(geometry.affine_ras_mm[:3, :3]))) / 1000
    return MaskAnswer(
        shape=mask.grid,
        spacing_mm=None if geometry is None else geometry.spacing_mm,
        classes=[
            MaskClass(
                index=index,
                name=name,
                colour=_colour(index),
                voxels=int(counts[index]),
                volume_ml=None if voxel_ml is None else round(int(counts[index]) * voxel_ml, 6),
            )
            for index, name in enumerate(classes)
        ],
        encoding="png;base64" if file.suffix == ".png" else "nifti.gz;base64",
        data=_base64(file.read_bytes()),
    )


def _colour(index: int) -> str | None:
    """The colour in which ``overlay_png`` draws a class."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[(index - 1) % len(COLOURS)]) if index else None


def _fraction(value: float) -> float:
    """Softmax in float32 may end a rounding error above 1."""
    return min(max(value, 0.0), 1.0)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
