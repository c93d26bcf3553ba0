"""Parity: does the exported network answer as the trained one, on real cases?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medrail.bundle import NetworkSpec, Predictor
from medrail.bundle.backend import EVIDENCE, LOGITS, fetch
from medrail.bundle.calibration import FINDING_FROM
from medrail.bundle.sliding import SLICES_A_BATCH
from medrail.cases import target_index, targets_of
from medrail.errors import ExportError
from medrail.evaluate.metrics import dice, slice_confusion
from medrail.prepare import Store
from medrail.types import Case

SPLIT_ORDER = {"test": 0, "val": 1, "train": 2}


@dataclass(frozen=True)
class Parity:
    """How far apart two engines are.

    cases:
        How many were compared.
    max_abs_difference:
        Of any probability.
    labels_changed:
        Share of the answers that differ: of the cases' classes, their labels, or of all voxels' classes.
    metric, metric_change:
        Accuracy (of several labels: of each) or mean Dice over these cases, and by how much it differs.
    """

    cases: int
    max_abs_difference: float
    labels_changed: float
    metric: str
    metric_change: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "cases": self.cases,
            "max_abs_difference": self.max_abs_difference,
            "labels_changed": self.labels_changed,
            "metric": self.metric,
            "metric_change": self.metric_change,
        }


def chosen_cases(cases: Sequence[Case], count: int) -> tuple[Case, ...]:
    """At most ``count`` cases, of the test split first, then validation; of each split from all over it."""
    result: list[Case] = []
    for split in SPLIT_ORDER:
        members = sorted((case for case in cases if case.split == split), key=lambda case: case.id)
        wanted = min(count - len(result), len(members))
        result += [members[index * len(members) // wanted] for index in range(wanted)]
    return tuple(result)


def measure_parity(trained: Predictor, exported: Predictor, store: Store, cases: Sequence[Case]) -> Parity:
    """Let both networks answer for prepared cases.

    Raises
    ------
    ExportError
        If there is no case to compare on.
    RunError
        If a case is not prepared.
    """
    if not cases:
        raise ExportError(
            "no prepared case to compare torch and ONNX on",
            needed="at least one",
            remedy="Run `medrail prepare` first.",
        )
    largest, changed, answers = 0.0, 0, 0
    before, after = [], []
    for case in cases:
        image, mask = store.load(case.id)
        theirs, ours = trained.probabilities(image), exported.probabilities(image)
        largest = max(largest, _largest_difference(theirs, ours))
        labels = _labels(theirs, trained.spec), _labels(ours, trained.spec)
        changed += int(np.count_nonzero(labels[0] != labels[1]))
        answers += int(np.size(labels[0]))
        if trained.spec.multi_label:
            known = case.target is not None
            scores = [
                float((label == targets_of(case, trained.spec.classes)).mean()) if known else 0.0 for label in labels
            ]
        elif trained.spec.task == "classification":
            truth = target_index(case, trained.spec.classes) if case.target is not None else None
            scores = [0.0 if truth is None else float(label == truth) for label in labels]
        else:
            scores = [_dice(mask.voxels[0], label, trained) if mask is not None else 0.0 for label in labels]
        before.append(scores[0])
        after.append(scores[1])
    return Parity(
        cases=len(cases),
        max_abs_difference=largest,
        labels_changed=changed / answers,
        metric=_METRIC["multi_label" if trained.spec.multi_label else trained.spec.task],
        metric_change=abs(sum(before) - sum(after)) / len(cases),
    )


_METRIC = {"classification": "accuracy", "multi_label": "label_accuracy", "segmentation": "dice"}


def _labels(probabilities: np.typing.NDArray[np.float32], spec: NetworkSpec) -> np.typing.NDArray[Any]:
    """The answer: of several labels which are found, (K,); else the class, of the case or of each voxel."""
    return probabilities >= FINDING_FROM if spec.multi_label else np.asarray(probabilities.argmax(axis=0))


def evidence_gap(
    exported: Predictor, bias: np.typing.NDArray[np.float32], store: Store, cases: Sequence[Case]
) -> float:
    """How far the mean of the evidence plus ``bias`` (K,) is from the logits, at most, as the engine answers.

    In units of the larger of 1 and the largest logit, of which float32 holds about seven digits.
    """
    largest = 0.0
    for case in cases:
        voxels = store.load(case.id)[0].voxels.astype(np.float32)
        batch = voxels[np.newaxis] if exported.spec.dims == 3 else np.moveaxis(voxels, 1, 0)[:SLICES_A_BATCH]
        found = fetch(exported.backend, batch, (LOGITS, EVIDENCE))
        logits = found[LOGITS].astype(np.float64)
        means = found[EVIDENCE].mean(axis=tuple(range(2, found[EVIDENCE].ndim)), dtype=np.float64)
        largest = max(largest, _largest_difference(means + bias, logits) / max(1.0, float(np.abs(logits).max())))
    return largest


def _largest_difference(first: np.typing.NDArray[Any], second: np.typing.NDArray[Any]) -> float:
    difference = np.abs(first - second).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _dice(truth: np.typing.NDArray[Any], labels: np.typing.NDArray[Any], predictor: Predictor) -> float:
    counts = slice_confusion(truth, labels.astype(np.uint8), len(predictor.spec.classes)).sum(axis=0)
    return float(dice(counts).mean())
