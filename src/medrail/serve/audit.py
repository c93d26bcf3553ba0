"""A request's line in the audit log: what it may hold, and how it comes together.

The table ``FIELDS`` is the border: of what a route noted in ``request.state.record`` only these keys get into a log, so
that a careless line in a route cannot bring a name there. docs/reference/audit.md says what each means.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.types import Scope

from medrail.serve.log import now
from medrail.types import Prediction

FIELDS = (
    "key_id",
    "model",
    "version",
    "bundle_id",
    "second_model",
    "second_version",
    "input_sha256",
    "inputs_sha256",
    "input_bytes",
    "files",
    "result",
    "job_id",
    "problem",
    "timings_ms",
)
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])


def audit_line(
    scope: Scope,
    route: str,
    status: int,
    request_id: str,
    total_ms: float,
    record: Mapping[str, Any],
    memory: Mapping[str, float],
) -> dict[str, Any]:
    """The line as JSON values; ``key_id`` is always there, null for who sent no key."""
    client = scope.get("client")
    line: dict[str, Any] = {
        "time": now(),
        "event": "request",
        "request_id": request_id,
        "key_id": None,
        "address": client[0] if client else None,
        "method": scope["method"] if scope["method"] in _METHODS else "(other)",
        "route": route,
        "status": status,
        "total_ms": round(total_ms, 3),
    }
    line |= {key: record[key] for key in FIELDS if key in record}
    return {**line, **memory, "process": os.getpid()}


def job_line(request_id: str, job_status: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The line for the end of long work that a request began; ``record`` is what that request noted, and the result."""
    line: dict[str, Any] = {
        "time": now(),
        "event": "job",
        "request_id": request_id,
        "key_id": None,
        "job_status": job_status,
    }
    return {**line, **{key: record[key] for key in FIELDS if key in record}, "process": os.getpid()}


def result_of(prediction: Prediction) -> dict[str, Any]:
    """The summary of an answer for ``record["result"]``: what drift is measured by, and what a review asks for first.

    Classification: ``class_name``, ``confidence``, ``abstain`` (of several labels ``findings`` and ``abstain``).
    Segmentation: ``volumes_ml`` of each class but the background, or ``voxels`` where the image has no place in space.
    Where the bundle knows them also ``ood_score`` and ``unlike_training``; ``input_mean`` and ``input_sd`` are of the
    prepared image.
    """
    told: dict[str, Any]
    if prediction.mask is not None:
        told = _sizes(prediction)
    elif prediction.findings is not None:
        told = {"findings": list(prediction.findings), "abstain": prediction.abstain}
    else:
        confidence = prediction.confidence
        told = {
            "class_name": prediction.class_name,
            "confidence": None if confidence is None else round(confidence, 6),
            "abstain": prediction.abstain,
        }
    if prediction.ood_score is not None:
        told |= {"ood_score": round(prediction.ood_score, 4), "unlike_training": prediction.unlike_training}
    return told | {name: float(f"{value:.5g}") for name, value in prediction.input_statistics.items()}


def _sizes(prediction: Prediction) -> dict[str, Any]:
    mask = prediction.mask
    assert mask is not None  # noqa: S101 - the caller has looked
    counts = np.bincount(mask.voxels.ravel(), minlength=len(prediction.classes))
    voxels = {name: int(counts[index]) for index, name in enumerate(prediction.classes) if index}
    if mask.geometry is None:
        return {"voxels": voxels}
    voxel_ml = abs(float(np.linalg.det(mask.geometry.affine_ras_mm[:3, :3]))) / 1000
    return {"volumes_ml": {name: round(count * voxel_ml, 3) for name, count in voxels.items()}}
