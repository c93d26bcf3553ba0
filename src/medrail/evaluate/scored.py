"""Scored: one case judged, by the predictor as it is served, on the raw file."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medrail.bundle import Predictor, write_mask
from medrail.cases import read_roi, read_target_mask, target_index, targets_of
from medrail.cases.labels import joined_labels
from medrail.config import Config
from medrail.errors import CaseError, MedrailError
from medrail.evaluate.metrics import IntArray
from medrail.evaluate.segments import score_masks
from medrail.read import read
from medrail.types import Case, Image, Prediction
from medrail.workspace import Run


@dataclass(frozen=True)
class Scored:
    """One evaluated case.

    badness:
        What the table is sorted by, larger is worse.
    truth, predicted, probabilities:
        Classification: the true class's index, that of the answer, and the K probabilities.
    labels, findings:
        Of several labels: for each of the K whether the case has it, and whether it was found.
    possible:
        Classification: the classes of its conformal set, None where none was fitted.
    ood_score, unlike:
        How unlike the training images it is, NaN where nothing was fitted; and whether that is above the threshold.
    scores:
        Segmentation: metric name -> value of this case (NaN where undefined).
    counts:
        Segmentation: confusion counts of each axial slice, (S, K, K).
    mask_file:
        Segmentation: where the predicted mask was written.
    defects:
        Names of what was wrong with the image and was accepted or repaired in reading it.
    """

    case: Case
    badness: float
    timings_ms: Mapping[str, float]
    truth: int = -1
    predicted: int = -1
    probabilities: tuple[float, ...] = ()
    labels: tuple[bool, ...] = ()
    findings: tuple[bool, ...] = ()
    possible: tuple[str, ...] | None = None
    ood_score: float = math.nan
    unlike: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    counts: IntArray | None = None
    mask_file: Path | None = None
    defects: tuple[str, ...] = ()


def score_case(run: Run, config: Config, predictor: Predictor, case: Case, *, keep_mask: bool = True) -> Scored:
    """Read one case's raw file, let the predictor answer, and compare with the truth.

    A predicted mask is written to run/evaluation/predictions, if ``keep_mask``.

    Raises
    ------
    CaseError
        If the case has no label.
    DataError, InputError
        If the image or its mask cannot be read, or is not what the network takes.
    """
    if case.target is None:
        raise CaseError("the case has no label", needed="a class or a mask", remedy="Label it or leave it out.")
    image = read(case.paths[0], case.item, config.read_options)
    prediction = predictor(image, read_roi(case, image) if predictor.spec.needs_roi else None)
    if predictor.spec.multi_label:
        return _labelled(case, image, prediction)
    if predictor.spec.task == "classification":
        return _classified(case, image, prediction, target_index(case, predictor.spec.classes))
    target = read_target_mask(case, image, config.data)
    assert prediction.mask is not None  # noqa: S101 - a segmentation always has one
    scores, counts = score_masks(
        target, prediction.mask, predictor.spec.classes, tolerance=config.evaluate.surface_tolerance_mm
    )
    return Scored(
        case,
        1 - scores["dice"],
        prediction.timings_ms,
        scores=scores,
        counts=counts,
        mask_file=write_mask(prediction.mask, run.evaluation / "predictions", case.id) if keep_mask else None,
        ood_score=_score(prediction),
        unlike=bool(prediction.unlike_training),
        defects=_defects(case, image),
    )


def _classified(case: Case, image: Image, prediction: Prediction, truth: int) -> Scored:
    probabilities = tuple(prediction.probabilities[name] for name in prediction.classes)
    return Scored(
        case,
        1 - probabilities[truth],
        prediction.timings_ms,
        truth=truth,
        predicted=prediction.classes.index(prediction.class_name or ""),
        probabilities=probabilities,
        possible=prediction.conformal_set,
        ood_score=_score(prediction),
        unlike=bool(prediction.unlike_training),
        defects=_defects(case, image),
    )


def _labelled(case: Case, image: Image, prediction: Prediction) -> Scored:
    """Of several labels; worst is the case whose labels were thought least likely to be as they are."""
    labels = tuple(targets_of(case, prediction.classes).tolist())
    probabilities = tuple(prediction.probabilities[name] for name in prediction.classes)
    wrong = [1 - p if has else p for has, p in zip(labels, probabilities, strict=True)]
    return Scored(
        case,
        sum(wrong) / len(wrong),
        prediction.timings_ms,
        probabilities=probabilities,
        labels=labels,
        findings=tuple(name in (prediction.findings or ()) for name in prediction.classes),
        ood_score=_score(prediction),
        unlike=bool(prediction.unlike_training),
        defects=_defects(case, image),
    )


def labels_told(which: Sequence[bool], classes: Sequence[str]) -> str:
    """Of several labels those that are there, as a case's target has them; "" for none."""
    return joined_labels((name for name, there in zip(classes, which, strict=True) if there), classes)


def _score(prediction: Prediction) -> float:
    return math.nan if prediction.ood_score is None else prediction.ood_score


def _defects(case: Case, image: Image) -> tuple[str, ...]:
    return tuple(sorted({*case.defects, *(defect.name for defect in image.defects)}))


def median_ms(scored: list[Scored], name: str) -> float:
    """The median over the cases of one of the predictor's times."""
    return round(float(np.median([one.timings_ms[name] for one in scored])), 3)


def reason_of(error: Exception) -> str:
    """What happened and what to do, without any path or foreign text (the case says which file)."""
    if isinstance(error, MedrailError):
        parts = [error.found, f"needed: {error.needed}" if error.needed else "", error.remedy]
        return ". ".join(part.rstrip(".") for part in parts if part)
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory for this image"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
