"""The metrics of both tasks.

Classification: functions of the cases' weights, so that the bootstrap evaluates all resamples at once.
Segmentation: numbers of one case, from the confusion counts of its slices and the surfaces of its masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.surface import surface_distances
from medrail.types import Geometry

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def classification_statistics(
    truth: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    classes: Sequence[str],
    predicted: npt.ArrayLike | None = None,
) -> dict[str, Statistic]:
    """Every classification metric as a function of the cases' weights.

    * ``accuracy``: share of the cases whose answer is the true class.
    * ``balanced_accuracy``: mean sensitivity of the classes that occur among the true ones.
    * ``f1``: mean over the classes that occur among the true or the predicted ones of 2 TP / (2 TP + FP + FN).
    * ``auc``: area under the ROC curve with ties counted half (the Mann-Whitney statistic; Hanley and McNeil, Radiology
      143, 1982); two classes: of the second one; more: the mean of one class against the rest over the classes that
      have cases on both sides.
    * ``sensitivity/CLASS``: share of the cases of that class that are recognised.

    Parameters
    ----------
    truth:
        (n,) class indices.
    probabilities:
        (n, K).
    classes:
        K names.
    predicted:
        (n,) class indices of the answers; None: the most probable class, the first one on a tie.
    """
    true = np.asarray(truth, dtype=np.int64)
    scores = np.asarray(probabilities, dtype=np.float64).reshape(len(true), len(classes))
    named = scores.argmax(axis=1) if predicted is None else np.asarray(predicted, dtype=np.int64)
    n_classes = len(classes)

    def counts(weights: FloatArray) -> FloatArray:
        return confusion(true, named, n_classes, weights)

    def accuracy(weights: FloatArray) -> FloatArray:
        return ratio(weights @ (true == named), weights.sum(axis=1))

    def balanced_accuracy(weights: FloatArray) -> FloatArray:
        return mean_defined(sensitivities(counts(weights)))

    def f1(weights: FloatArray) -> FloatArray:
        return mean_defined(_f1_scores(counts(weights)))

    def auc(weights: FloatArray) -> FloatArray:
        positives = [1] if n_classes == 2 else range(n_classes)
        areas = [area_under_roc(true == index, scores[:, index], weights) for index in positives]
        return mean_defined(np.stack(areas, axis=1))

    def sensitivity(index: int) -> Statistic:
        return lambda weights: sensitivities(counts(weights))[:, index]

    per_class = {f"sensitivity/{name}": sensitivity(index) for index, name in enumerate(classes)}
    return {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "auc": auc, "f1": f1, **per_class}


def confusion(truth: IntArray, predicted: IntArray, n_classes: int, weights: FloatArray) -> FloatArray:
    """Weighted confusion matrices (R, K, K): rows are the true classes, columns the predicted ones."""
    cells = truth * n_classes + predicted
    order = np.argsort(cells, kind="stable")
    present, starts = np.unique(cells[order], return_index=True)
    matrix = np.zeros((len(weights), n_classes * n_classes))
    if len(present):
        matrix[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return matrix.reshape(len(weights), n_classes, n_classes)


def area_under_roc(positive: BoolArray, scores: FloatArray, weights: FloatArray) -> FloatArray:
    """Probability that a positive case has a higher score than a negative one, ties counted half; (R,)."""
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    ranked = weights[:, order]
    if not len(starts):
        return np.full(len(weights), math.nan)
    up = np.add.reduceat(ranked * positive[order], starts, axis=1)
    down = np.add.reduceat(ranked * ~positive[order], starts, axis=1)
    wins = (up * (np.cumsum(down, axis=1) - 0.5 * down)).sum(axis=1)
    return ratio(wins, up.sum(axis=1) * down.sum(axis=1))


def mean_over_patients(values: npt.ArrayLike, patients: Sequence[str]) -> Statistic:
    """The mean of a per-case number in which every patient counts the same; cases with NaN are left out."""
    numbers = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(numbers)
    _, members = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    cases_of = np.bincount(members, weights=defined)[members]
    share = np.where(defined, 1 / np.maximum(cases_of, 1), 0.0)
    filled = np.where(defined, numbers, 0.0)
    return lambda weights: ratio(weights @ (filled * share), weights @ share)


def slice_confusion(truth: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8], n_classes: int) -> IntArray:
    """Confusion counts of each slice along the first axis: (S, K, K), rows are the true classes."""
    counts = np.empty((len(truth), n_classes, n_classes), dtype=np.int64)
    for index, (true, found) in enumerate(zip(truth, predicted, strict=True)):
        cells = true.astype(np.int64).ravel() * n_classes + found.ravel()
        counts[index] = np.bincount(cells, minlength=n_classes * n_classes).reshape(n_classes, n_classes)
    return counts


def dice(confusion_counts: npt.NDArray[np.generic]) -> FloatArray:
    """2 TP / (2 TP + FP + FN) of each foreground class, from (..., K, K) to (..., K - 1).

    A class that neither mask has: 1. A class that only one of the masks has: 0.
    """
    hit, miss, extra = _hits(confusion_counts)
    return np.asarray(ratio(2 * hit, 2 * hit + miss + extra, empty=1.0))


def iou(confusion_counts: npt.NDArray[np.generic]) -> FloatArray:
    """TP / (TP + FP + FN) of each foreground class, with the same rules for empty masks as ``dice``."""
    hit, miss, extra = _hits(confusion_counts)
    return np.asarray(ratio(hit, hit + miss + extra, empty=1.0))


def volume_error_ml(confusion_counts: npt.NDArray[np.generic], geometry: Geometry) -> FloatArray:
    """Absolute difference of the masks' volumes in millilitres, of each foreground class, from (K, K) to (K - 1,)."""
    _, miss, extra = _hits(confusion_counts)
    voxel_ml = abs(float(np.linalg.det(geometry.affine_ras_mm[:3, :3]))) / 1000
    return np.asarray(np.abs(extra - miss) * voxel_ml)


def hd95(truth: BoolArray, predicted: BoolArray, spacing: Sequence[float] | FloatArray) -> float:
    """95 % Hausdorff distance of two masks' surfaces, in the unit of ``spacing``: see ``surface``.

    Parameters
    ----------
    truth, predicted:
        (D, H, W).
    spacing:
        Of the three axes.

    Returns
    -------
    0 if both masks are empty, NaN if one of them is.
    """
    return surface_distances(truth, predicted, spacing).hd95()


def _hits(confusion_counts: npt.NDArray[np.generic]) -> tuple[FloatArray, FloatArray, FloatArray]:
    counts = np.asarray(confusion_counts, dtype=np.float64)
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    miss = counts.sum(axis=-1) - hit
    extra = counts.sum(axis=-2) - hit
    return hit[..., 1:], miss[..., 1:], extra[..., 1:]


def sensitivities(matrices: FloatArray) -> FloatArray:
    """TP / (TP + FN) of each class, from (R, K, K) to (R, K)."""
    return ratio(np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=2))


def _f1_scores(matrices: FloatArray) -> FloatArray:
    hit = np.diagonal(matrices, axis1=1, axis2=2)
    return ratio(2 * hit, matrices.sum(axis=2) + matrices.sum(axis=1))


def ratio(above: npt.ArrayLike, below: FloatArray, empty: float = math.nan) -> FloatArray:
    """above / below, and ``empty`` where ``below`` is 0, without a warning."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), empty), where=below > 0))


def mean_defined(values: FloatArray) -> FloatArray:
    """Mean of each row's finite values, from (R, K) to (R,); NaN where there is none."""
    defined = np.isfinite(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
