"""Parity: does the exported network answer as the trained one, on real cases?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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

Labels: TypeAlias = np.typing.NDArray[Any]
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
        largest = max(largest, largest_difference(theirs, ours))
        labels = labels_of(theirs, trained.spec), labels_of(ours, trained.spec)
        changed += int(np.count_nonzero(labels[0] != labels[1]))
        answers += int(np.size(labels[0]))
        truth = mask.voxels[0] if mask is not None else None
        before.append(score_of(case, truth, labels[0], trained.spec))
        after.append(score_of(case, truth, labels[1], trained.spec))
    return Parity(
        cases=len(cases),
        max_abs_difference=largest,
        labels_changed=changed / answers,
        metric=metric_of(trained.spec),
        metric_change=abs(sum(before) - sum(after)) / len(cases),
    )


_METRIC = {"classification": "accuracy", "multi_label": "label_accuracy", "segmentation": "dice"}


def metric_of(spec: NetworkSpec) -> str:
    """What ``score_of`` is called."""
    return _METRIC["multi_label" if spec.multi_label else spec.task]


def score_of(case: Case, truth: Labels | None, labels: Labels, spec: NetworkSpec) -> float:
    """How right an answer is, from 0 to 1; 0 where the truth is not known.

    1 for the right class; of several labels the share that is right; of a mask the mean Dice.

    Parameters
    ----------
    truth:
        Segmentation: the true class of each voxel (D, H, W).
    labels:
        As ``labels_of`` gives them.
    """
    if spec.task == "segmentation":
        return _dice(truth, labels, len(spec.classes)) if truth is not None else 0.0
    if case.target is None:
        return 0.0
    if spec.multi_label:
        return float((labels == targets_of(case, spec.classes)).mean())
    return float(labels == target_index(case, spec.classes))


def labels_of(probabilities: np.typing.NDArray[np.float32], spec: NetworkSpec) -> Labels:
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
        largest = max(largest, largest_difference(means + bias, logits) / max(1.0, float(np.abs(logits).max())))
    return largest


def largest_difference(first: np.typing.NDArray[Any], second: np.typing.NDArray[Any]) -> float:
    """Of any number; infinite where one is not finite."""
    difference = np.abs(first - second).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _dice(truth: Labels, labels: Labels, n_classes: int) -> float:
    counts = slice_confusion(truth, labels.astype(np.uint8), n_classes).sum(axis=0)
    return float(dice(counts).mean())
