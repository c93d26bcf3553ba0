"""What a job of the PACS answers with: the model's answer in numbers, and what became of the objects that say it."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from medrail.serve.masks import voxel_ml
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.schemas import PacsAnswer, PacsRequest, StoredObject
from medrail.serve.problems import PROBLEMS, Refusal
from medrail.serve.schemas import Timings
from medrail.types import Prediction

if TYPE_CHECKING:
    from medrail.serve.pacs.work import Answered, Work

_KEPT = "its objects can be had from this job while it is kept"


def stored_objects(
    pacs: Pacs, wanted: PacsRequest, job_id: str, objects: Mapping[str, bytes]
) -> tuple[list[StoredObject], str]:
    """Store them where that is wanted: each with what became of it, and a sentence where not all are stored.

    Never an error: the answer is there, whatever the PACS says.
    """
    uids = {kind: _uids(content) for kind, content in objects.items()}
    reasons: dict[str, str | None] = dict.fromkeys(uids, "It was not to be stored.")
    note = "" if wanted.store else "The answer was not to be stored."
    if uids and wanted.store:
        try:
            said = pacs.store(wanted.study_uid, {uids[kind][0]: content for kind, content in objects.items()})
            reasons = {kind: one.reason or None for kind, one in zip(uids, said, strict=True)}
            note = f"The PACS did not store all of the answer; {_KEPT}." if any(reasons.values()) else ""
        except Refusal as refusal:
            reasons = dict.fromkeys(uids, refusal.detail or PROBLEMS[refusal.kind].title)
            note = f"The PACS did not store the answer ({refusal.kind}); {_KEPT}."
    kept = [
        StoredObject(
            kind="seg" if kind == "seg" else "sr",
            sop_instance_uid=uid,
            series_uid=series,
            stored=reasons[kind] is None,
            reason=reasons[kind],
            file=f"/v1/pacs/jobs/{job_id}/{kind}.dcm",
        )
        for kind, (uid, series) in uids.items()
    ]
    return kept, note


def document_of(
    work: Work, answered: Answered, kept: list[StoredObject], note: str, timings_ms: Mapping[str, float]
) -> PacsAnswer:
    """All of it as JSON says it."""
    prediction = answered.prediction
    return PacsAnswer(
        study_uid=work.wanted.study_uid,
        series_uid=work.wanted.series_uid,
        images=answered.images,
        input_sha256=answered.sha256,
        model_name=work.model.name,
        model_version=work.model.version,
        bundle_id=prediction.bundle_id,
        task=prediction.task,
        class_name=prediction.class_name,
        confidence=None if prediction.confidence is None else _fraction(prediction.confidence),
        probabilities={name: _fraction(value) for name, value in prediction.probabilities.items()},
        findings=None if prediction.findings is None else list(prediction.findings),
        conformal_set=None if prediction.conformal_set is None else list(prediction.conformal_set),
        abstain=prediction.abstain,
        unlike_training=prediction.unlike_training,
        ood_score=prediction.ood_score,
        volumes_ml=_volumes_ml(prediction),
        timings_ms=dict(timings_ms),
        objects=kept,
        stored=bool(kept) and all(one.stored for one in kept),
        note=note or None,
    )


def _volumes_ml(prediction: Prediction) -> dict[str, float]:
    """Of each class but the background; {} where there is no mask, or no place in space."""
    each_ml = None if prediction.mask is None else voxel_ml(prediction.mask)
    if prediction.mask is None or each_ml is None:
        return {}
    counts = np.bincount(prediction.mask.voxels.ravel(), minlength=len(prediction.classes))
    return {name: round(int(counts[at]) * each_ml, 6) for at, name in enumerate(prediction.classes) if at}


def timings_of(ms: Mapping[str, float]) -> Timings:
    """The same in the parts that every answer's time is told in: pulling is its upload, storing its last part."""
    return Timings(
        upload=ms["pull"],
        queue=ms["queue"],
        decode=ms["decode"],
        prepare=ms["prepare"],
        model=ms["model"],
        post=round(ms["post"] + ms["make"] + ms["store"], 3),
        preview=0.0,
    )


def _uids(content: bytes) -> tuple[str, str]:
    from pydicom import dcmread

    dataset = dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"])
    return str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)


def _fraction(value: float) -> float:
    """Softmax in float32 may end a rounding error above 1."""
    return min(max(value, 0.0), 1.0)
