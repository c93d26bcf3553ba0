"""Curves behind the pictures: ROC, precision-recall, shares below a score; thinned to what a picture can show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray
from medrail.evaluate.metrics import BoolArray

MOST_POINTS = 200
Curve = list[tuple[float, float]]


def roc(positive: BoolArray, scores: FloatArray) -> Curve:
    """(1 - specificity, sensitivity) at every threshold, from (0, 0) to (1, 1); [] without cases on both sides."""
    up, down = _found(positive, scores)
    if not up[-1] or not down[-1]:
        return []
    return thinned(np.stack([down / down[-1], up / up[-1]], axis=1))


def precision_recall(positive: BoolArray, scores: FloatArray) -> Curve:
    """(sensitivity, precision) at every threshold that names a case; [] without a case of the class."""
    up, down = _found(positive, scores)
    if not up[-1]:
        return []
    up, down = up[1:], down[1:]
    return thinned(np.stack([up / up[-1], up / (up + down)], axis=1))


def shares_below(values: npt.ArrayLike) -> Curve:
    """(value, share of the values that are not larger); NaN is left out."""
    numbers = np.asarray(values, dtype=np.float64)
    ranked = np.sort(numbers[np.isfinite(numbers)])
    return thinned(np.stack([ranked, np.arange(1, len(ranked) + 1) / max(1, len(ranked))], axis=1))


def thinned(points: FloatArray | Sequence[tuple[float, float]], most: int = MOST_POINTS) -> Curve:
    """At most so many of the points, evenly taken, the first and the last among them."""
    given = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(given) > most:
        given = given[np.linspace(0, len(given) - 1, most).round().astype(int)]
    return [(round(float(x), 6), round(float(y), 6)) for x, y in given]


def _found(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Positive and negative cases at or above each threshold, from above all scores to below them."""
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    up = np.cumsum(positive[order])[last_of_score]
    down = np.cumsum(~positive[order])[last_of_score]
    return np.concatenate([[0.0], up]), np.concatenate([[0.0], down])
