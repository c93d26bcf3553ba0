"""From a checked inference request to output tensors. Runs on a worker thread, behind the same gate as /v1."""

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import LOGITS, fetch
from medrail.errors import MedrailError
from medrail.read import write_nifti
from medrail.serve.archive import ArchiveLimits
from medrail.serve.audit import result_of
from medrail.serve.decode import ANYTHING, Upload, decode
from medrail.serve.problems import Refusal, refusal_of
from medrail.serve.registry import ServedModel
from medrail.serve.screen import screen_growth
from medrail.serve.settings import Settings
from medrail.serve.shadow import Shadows
from medrail.serve.upload import Received
from medrail.serve.v2_signature import (
    ABSTAIN,
    CLASS_NAME,
    CONFIDENCE,
    FILE,
    FINDINGS,
    IMAGE,
    MASK,
    MASK_FILE,
    OOD_SCORE,
    PROBABILITIES,
    ROI,
    UNLIKE_TRAINING,
    Signature,
)
from medrail.serve.v2_wire import Asked, Output, Reply, Wanted, parse, reply
from medrail.serve.workers import Gate
from medrail.types import Prediction

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Inference:
    """One inference request, received.

    json_bytes:
        What `Inference-Header-Content-Length` says; None where it is not there.
    record:
        The request's audit record: what is found out on the way goes in here.
    request_id, shadows, shadowing:
        Of a file, which the shadows of the model answer, too: as what they tell of it, which they are, what runs them.
    """

    signature: Signature
    body: Received
    json_bytes: int | None
    folder: Path
    settings: Settings
    record: MutableMapping[str, Any]
    upload_ms: float
    received_at_s: float
    request_id: str = ""
    shadows: tuple[ServedModel, ...] = ()
    shadowing: Shadows | None = None


def infer(question: Inference, gate: Gate) -> Reply:
    """Check, run, encode.

    Raises
    ------
    Refusal
        For everything that is wrong with the request or does not fit the model.
    """
    begin = time.perf_counter()
    gate.take_waited_ms()
    signature, settings = question.signature, question.settings
    try:
        asked = parse(_mapped(question.body.path), question.json_bytes, signature.inputs, signature.outputs, settings)
        _record_input(question, asked)
        parsed = time.perf_counter()
        found, spent = (_answer if signature.whole else _run)(question, asked)
        waited_ms = gate.take_waited_ms()
        answered = time.perf_counter()
        chosen = [(wanted, _as_classes(found[wanted.name], wanted, signature)) for wanted in asked.wanted]
        answer = reply(asked.id, (signature.name, signature.model.version), chosen, settings)
    except MedrailError as error:
        raise refusal_of(error, question.folder) from None
    except MemoryError:
        raise Refusal("too-many-voxels", "The request does not fit into the service's memory.") from None
    question.record["timings_ms"] = {
        "upload": round(question.upload_ms, 3),
        "queue": round((begin - question.received_at_s) * 1e3 + waited_ms, 3),
        "decode": round((parsed - begin) * 1e3 + spent.get("decode", 0.0), 3),
        "prepare": round(spent.get("prepare", 0.0), 3),
        "model": round(max(spent["model"] - waited_ms, 0.0), 3),
        "post": round(spent.get("post", 0.0) + (time.perf_counter() - answered) * 1e3, 3),
        "preview": 0.0,
    }
    return answer


def _record_input(question: Inference, asked: Asked) -> None:
    """Until now the record has the digest of the whole body; the input's own is the same however it was wrapped."""
    content = asked.tensors[question.signature.inputs[0].name]
    data = np.ascontiguousarray(content).data if isinstance(content, np.ndarray) else content
    question.record.update(input_sha256=hashlib.sha256(data).hexdigest(), input_bytes=memoryview(data).nbytes)


def _mapped(path: Path) -> memoryview:
    """The body's bytes, in memory only as far as they are looked at."""
    if not path.stat().st_size:
        raise Refusal("bad-inference-request", "The body is empty.")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _run(question: Inference, asked: Asked) -> tuple[Mapping[str, Output], Mapping[str, float]]:
    """The network on prepared images, as many at a time as the predictor gives it."""
    batch = asked.tensors[IMAGE]
    assert isinstance(batch, np.ndarray)  # noqa: S101 - so it was checked against the signature
    size = question.signature.largest_batch
    chunks = [batch[first : first + size] for first in range(0, len(batch), size)]
    if not all(np.isfinite(chunk).all() for chunk in chunks):
        raise Refusal("bad-inference-request", f"`{IMAGE}` has values that are not finite.", "Send finite numbers.")
    begin = time.perf_counter()
    names = {LOGITS, *(wanted.name for wanted in asked.wanted)}
    kept: dict[str, list[FloatArray]] = {}
    for chunk in chunks:
        # A copy, because what is mapped from the file cannot be written to, and an engine may want to.
        found = fetch(question.signature.model.predictor.backend, np.array(chunk), tuple(names))
        _check_answers(found, len(chunk), len(batch), question.settings)
        for name, values in found.items():
            kept.setdefault(name, []).append(values)
    outputs = {name: np.concatenate(parts) for name, parts in kept.items()}
    spent = {"model": (time.perf_counter() - begin) * 1e3}
    return {name: Output(name, "FP32", values.shape, values) for name, values in outputs.items()}, spent


def _check_answers(found: Mapping[str, FloatArray], images: int, all_images: int, settings: Settings) -> None:
    """Nothing that is not finite goes out as an answer, nor more than a request may be."""
    if not all(np.isfinite(values).all() for values in found.values()):
        raise Refusal(
            "unsuitable-image",
            "The network's answer to these numbers is not finite.",
            "Send the image as the model's preprocessing leaves it.",
        )
    if sum(values.nbytes for values in found.values()) // images * all_images > settings.max_upload_bytes:
        raise Refusal(
            "too-large",
            f"The answer would be of more than {settings.max_upload_mb:g} MiB.",
            "Send fewer images in a request, or ask for fewer outputs.",
        )


def _answer(question: Inference, asked: Asked) -> tuple[Mapping[str, Output], Mapping[str, float]]:
    """The whole way, as /v1 goes it: screen, read, prepare, network, calibration."""
    begin = time.perf_counter()
    model, settings = question.signature.model, question.settings
    predictor = model.predictor
    files = {name: _file(asked, name, question.folder) for name in (FILE, ROI) if name in asked.tensors}
    upload = Upload(files, question.folder, settings.max_values, ANYTHING, ArchiveLimits.of(settings))
    found = decode(upload, predictor.spec.read_options)
    screen_growth(found.image, predictor.spec.pipeline, upload.max_values)
    decoded = time.perf_counter()
    prediction = predictor(found.image, found.roi)
    spent = {"decode": (decoded - begin) * 1e3, **prediction.timings_ms}
    question.record["result"] = result_of(prediction)
    if question.shadowing:
        question.shadowing.after(question.shadows, model, found.image, found.roi, prediction, question.request_id)
    return _outputs(prediction, question.folder, {wanted.name for wanted in asked.wanted}), spent


def _file(asked: Asked, name: str, folder: Path) -> Received:
    content = asked.tensors[name]
    if isinstance(content, np.ndarray) or not content:
        raise Refusal("empty-file")
    path = folder / name
    path.write_bytes(content)  # from the mapped body to the disk, a view of it as it is
    return Received(path, hashlib.sha256(content).hexdigest(), len(content))


def _outputs(prediction: Prediction, folder: Path, names: set[str]) -> dict[str, Output]:
    if prediction.mask is None:
        probabilities = np.array([[prediction.probabilities[name] for name in prediction.classes]], np.float32)
        found = [
            _texts(FINDINGS, prediction.findings or ()),
            _texts(CLASS_NAME, (prediction.class_name or "",)),
            Output(CONFIDENCE, "FP32", (1,), np.array([prediction.confidence or 0.0], np.float32)),
            Output(PROBABILITIES, "FP32", probabilities.shape, probabilities),
            Output(ABSTAIN, "BOOL", (1,), np.array([prediction.abstain])),
        ]
    else:
        mask = prediction.mask.voxels
        found = [Output(MASK, "UINT8", mask.shape, mask)]
        if MASK_FILE in names:
            path = folder / "mask.nii.gz"
            write_nifti(prediction.mask, path)
            found.append(Output(MASK_FILE, "BYTES", (1,), [path.read_bytes()]))
    found += [
        Output(OOD_SCORE, "FP64", (1,), np.array([prediction.ood_score or 0.0])),
        Output(UNLIKE_TRAINING, "BOOL", (1,), np.array([bool(prediction.unlike_training)])),
    ]
    return {output.name: output for output in found}


def _texts(name: str, values: tuple[str, ...]) -> Output:
    return Output(name, "BYTES", (len(values),), [value.encode() for value in values])


def _as_classes(output: Output, wanted: Wanted, signature: Signature) -> Output:
    """Triton's classification extension: "value:index:label" of the highest values instead of all of them."""
    if not wanted.classes:
        return output
    values = np.asarray(output.values)
    order = np.argsort(-values, axis=1, kind="stable")[:, : wanted.classes]
    labels = signature.model.predictor.spec.classes if output.name in (LOGITS, PROBABILITIES) else ()
    texts = [
        f"{row[index]:f}:{index}" + (f":{labels[index]}" if labels else "")
        for row, indices in zip(values, order, strict=True)
        for index in indices.tolist()
    ]
    assert len(texts) == prod(order.shape)  # noqa: S101 - one for each place
    return Output(output.name, "BYTES", order.shape, [text.encode() for text in texts])
