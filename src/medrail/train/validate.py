"""Validation: the network in training, judged on prepared cases as the served one will be."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.bundle import Predictor
from medrail.bundle.probability import as_probabilities
from medrail.cases import target_index, targets_of
from medrail.config import Config
from medrail.errors import CaseError
from medrail.evaluate.metrics import area_under_roc, classification_statistics, dice, slice_confusion
from medrail.prepare import Store
from medrail.types import Case

SLICES_TOGETHER = 64
SELECT_BY = {"classification": "val_balanced_accuracy", "multi_label": "val_auc", "segmentation": "val_dice"}
"""What the best epoch is chosen by; the lower ``val_loss`` decides a tie."""


def select_by(config: Config) -> str:
    """The metric of that table by which this configuration's best epoch is chosen."""
    return SELECT_BY["multi_label" if config.data.multi_label else config.task]


_SMALLEST = 1e-7


@dataclass(frozen=True)
class Score:
    """One validation: its numbers by name, the key by which a better one is larger, and whether the network has found
    anything yet (segmentation: a voxel of any foreground class).
    """

    metrics: dict[str, float]
    rank: tuple[float, float]
    found: bool = True


def validate(predictor: Predictor, store: Store, cases: Sequence[Case]) -> Score:
    """Judge a network on the prepared grid.

    Classification: balanced accuracy, accuracy and mean cross entropy over the cases; of several labels the mean AUC of
    those that some cases have and others have not, and the mean binary cross entropy. Segmentation: mean over the cases
    of the mean Dice of the foreground classes, and of Dice loss + cross entropy on the probabilities (``val_loss``),
    which tells networks apart before the first voxel is found.

    Raises
    ------
    CaseError
        If a case has no label or mask.
    """
    if predictor.spec.multi_label:
        return _several_labels(predictor, store, cases)
    if predictor.spec.task == "classification":
        return _classification(predictor, store, cases)
    scores, losses, hits, present = [], [], 0, 0
    for case in cases:
        image, mask = store.load(case.id)
        if mask is None:
            raise CaseError("no mask", needed="one for every validation case", where=f"case {case.id}")
        probabilities = predictor.probabilities(image)
        labels = probabilities.argmax(axis=0).astype(np.uint8)
        counts = slice_confusion(mask.voxels[0], labels, len(predictor.spec.classes)).sum(axis=0)
        scores.append(float(dice(counts).mean()))
        losses.append(_segmentation_loss(probabilities, mask.voxels[0]))
        hits += int(np.diag(counts)[1:].sum())
        present += int(counts[1:].sum())
    value, loss = sum(scores) / len(scores), sum(losses) / len(losses)
    metrics = {SELECT_BY["segmentation"]: value, "val_loss": loss}
    return Score(metrics, (value, _rank_of(loss)), found=bool(hits) or not present)


def _segmentation_loss(probabilities: npt.NDArray[np.float32], truth: npt.NDArray[np.generic]) -> float:
    """Mean cross entropy + 1 - mean soft Dice of the foreground classes, from (K, D, H, W) and (D, H, W)."""
    overlaps, of_truth = [], np.empty(truth.shape, dtype=np.float32)
    for label, found in enumerate(probabilities):
        inside = truth == label
        of_truth[inside] = found[inside]
        if label:
            hit, total = float(found[inside].sum()), float(found.sum()) + int(inside.sum())
            overlaps.append((2 * hit + _SMALLEST) / (total + _SMALLEST))
    entropy = float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())
    return entropy + 1 - sum(overlaps) / len(overlaps)


def _rank_of(loss: float) -> float:
    return -loss if math.isfinite(loss) else -math.inf


def _classification(predictor: Predictor, store: Store, cases: Sequence[Case]) -> Score:
    classes = predictor.spec.classes
    truth = [target_index(case, classes) for case in cases]
    probabilities = np.stack([*_class_probabilities(predictor, store, cases)])
    statistics = classification_statistics(truth, probabilities, classes)
    every_case_once = np.ones((1, len(cases)))
    balanced = float(statistics["balanced_accuracy"](every_case_once)[0])
    of_truth = probabilities[np.arange(len(truth)), truth]
    loss = float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())
    metrics = {
        SELECT_BY["classification"]: balanced,
        "val_accuracy": float(statistics["accuracy"](every_case_once)[0]),
        "val_loss": loss,
    }
    return Score(metrics, (balanced, _rank_of(loss)))


def _several_labels(predictor: Predictor, store: Store, cases: Sequence[Case]) -> Score:
    truth = np.stack([targets_of(case, predictor.spec.classes) for case in cases])
    probabilities = np.stack([*_class_probabilities(predictor, store, cases)])
    every_case_once = np.ones((1, len(cases)))
    areas = [float(area_under_roc(t, p, every_case_once)[0]) for t, p in zip(truth.T, probabilities.T, strict=True)]
    defined = [area for area in areas if math.isfinite(area)]
    auc = sum(defined) / len(defined) if defined else 0.5  # nothing to tell apart: the loss alone decides
    of_truth = np.where(truth, probabilities, 1 - probabilities)
    loss = float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())
    return Score({SELECT_BY["multi_label"]: auc, "val_loss": loss}, (auc, _rank_of(loss)))


def _class_probabilities(
    predictor: Predictor, store: Store, cases: Sequence[Case]
) -> Iterator[npt.NDArray[np.float32]]:
    """(K,) a case. Pictures of several cases go through a 2-D network together: one by one would take eight times as
    long (ResNet-18, 28 x 28, measured) for the same answer.
    """
    if predictor.spec.dims == 3:
        yield from (predictor.probabilities(store.load(case.id)[0]) for case in cases)
        return
    waiting: list[npt.NDArray[np.float32]] = []
    for position, case in enumerate(cases, 1):
        waiting.append(np.moveaxis(store.load(case.id)[0].voxels.astype(np.float32), 1, 0))
        if position == len(cases) or sum(map(len, waiting)) >= SLICES_TOGETHER:
            logits = predictor.backend(np.concatenate(waiting)).T
            answers = as_probabilities(logits, multi_label=predictor.spec.multi_label).T
            ends = np.cumsum([len(slices) for slices in waiting])
            yield from (part.mean(axis=0) for part in np.split(answers, ends[:-1]))
            waiting.clear()
