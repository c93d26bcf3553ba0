"""What JSON says of a prediction."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import overlay_png
from medrail.serve.forms import MaskParts, Wishes
from medrail.serve.masks import mask_answer, voxel_ml
from medrail.serve.schemas import ClassificationAnswer, EvidenceAnswer, FloatMap, SegmentationAnswer
from medrail.types import Image, Prediction

_NONE_IN_NETWORK = "This network cannot be taken apart exactly, and no approximation is given."


def classification_answer(
    common: Mapping[str, Any], prediction: Prediction, preview: bytes | None, evidence: EvidenceAnswer | None
) -> ClassificationAnswer:
    """The class or the findings, and every probability; ``common``: the fields of both tasks."""
    answered = {
        "preview_png": _base64(preview),
        "class_name": prediction.class_name,
        "confidence": None if prediction.confidence is None else _fraction(prediction.confidence),
        "probabilities": {name: _fraction(value) for name, value in prediction.probabilities.items()},
        "findings": None if prediction.findings is None else list(prediction.findings),
        "thresholds": dict(prediction.thresholds) or None,
        "conformal_set": prediction.conformal_set,
        "abstain": prediction.abstain,
        "evidence": evidence,
    }
    return ClassificationAnswer.model_validate({**common, **answered})


def segmentation_answer(
    common: Mapping[str, Any],
    prediction: Prediction,
    preview: bytes | None,
    mask_file: Path | None,
    parts: MaskParts,
) -> SegmentationAnswer:
    """The mask and its volumes; ``mask_file`` as ``mask_answer`` wants it."""
    assert prediction.mask is not None  # noqa: S101 - who calls looks first
    mask = mask_answer(prediction.mask, prediction.classes, mask_file, parts)
    return SegmentationAnswer.model_validate({**common, "preview_png": _base64(preview), "mask": mask})


def evidence_answer(wishes: Wishes, image: Image, prediction: Prediction) -> EvidenceAnswer | None:
    """Where the network sees what it decided by, exactly or not at all; None where it was not asked for."""
    if prediction.mask is not None or not (wishes.evidence or wishes.evidence_map):
        return None
    shown = prediction.evidence
    if shown is None or not shown.exact:
        return EvidenceAnswer(exact=False, reason=_NONE_IN_NETWORK)
    overlay = None
    if wishes.evidence:
        caption = f"evidence (exact): orange for {shown.class_name}, blue against it"
        overlay = overlay_png(image, heat=shown.values, caption=caption)
    return EvidenceAnswer(
        exact=True,
        class_name=shown.class_name,
        method=shown.method,
        overlay_png=_base64(overlay),
        map=_float_map(shown.values) if wishes.evidence_map else None,
    )


def said_shortly(prediction: Prediction) -> dict[str, Any]:
    """What the audit keeps of an answer."""
    if prediction.mask is None:
        return {
            "class_name": prediction.class_name,
            "confidence": prediction.confidence,
            "abstain": prediction.abstain,
            **({} if prediction.findings is None else {"findings": list(prediction.findings)}),
        }
    counts = np.bincount(prediction.mask.voxels.ravel(), minlength=len(prediction.classes))
    each_ml = voxel_ml(prediction.mask)
    voxels = {name: int(counts[index]) for index, name in enumerate(prediction.classes) if index}
    if each_ml is None:
        return {"voxels": voxels}
    return {"volumes_ml": {name: round(count * each_ml, 6) for name, count in voxels.items()}}


def _float_map(values: Image) -> FloatMap:
    content = np.ascontiguousarray(values.voxels[0], dtype="<f4").tobytes()
    return FloatMap(shape=values.grid, data=base64.b64encode(zlib.compress(content, 6)).decode("ascii"))


def _fraction(value: float) -> float:
    """Softmax in float32 may end a rounding error above 1."""
    return min(max(value, 0.0), 1.0)


def _base64(content: bytes | None) -> str | None:
    return base64.b64encode(content).decode("ascii") if content else None
