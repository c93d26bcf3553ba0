"""Operating points: a threshold on a score, how to choose it on validation cases, and what it is worth.

A case is called positive if its score is at least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from medrail.evaluate.agreement import agreement_statistics
from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import BoolArray

RATES = ("sensitivity", "specificity", "ppv", "npv")


def youden_threshold(positive: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The threshold with the largest sensitivity + specificity - 1 (Youden, Cancer 3, 1950).

    It lies halfway between two neighbouring scores, so that it does not hang on one case's digits; of equally good ones
    the lowest is taken, which misses fewest. NaN if a class has no case or no threshold is better than guessing.

    Parameters
    ----------
    positive, scores:
        (n,) bool and (n,).
    """
    is_positive = np.asarray(positive, dtype=bool)
    thresholds, up, down = _called(is_positive, np.asarray(scores, dtype=np.float64))
    if not len(thresholds) or not up[0] or not down[0]:
        return math.nan
    gain = up * down[0] - down * up[0]  # in whole cases, so that ties are ties
    return float(thresholds[int(gain.argmax())]) if gain.max() > 0 else math.nan


def threshold_for_sensitivity(positive: npt.ArrayLike, scores: npt.ArrayLike, target: float) -> float:
    """The highest threshold at which at least the share ``target`` of the positive cases is called positive.

    It lies halfway to the next lower score. NaN without a positive case.
    """
    thresholds, up, _ = _called(np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64))
    if not len(thresholds) or not up[0]:
        return math.nan
    reached = np.flatnonzero(up >= target * up[0] - 1e-9)
    return float(thresholds[reached[-1]])


def at_threshold(positive: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> dict[str, Statistic]:
    """``sensitivity``, ``specificity``, ``ppv`` and ``npv`` at a threshold, as functions of the cases' weights.

    PPV and NPV hold for a population in which the class is as frequent as among these cases.
    """
    if math.isnan(threshold):
        return dict.fromkeys(RATES, _undefined)
    called = np.asarray(scores, dtype=np.float64) >= threshold
    found = agreement_statistics(np.asarray(positive, dtype=bool), called, ("negative", "positive"))
    return {rate: found[f"{rate}/positive"] for rate in RATES}


def class_thresholds(
    truth: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str], *, sensitivity: float | None = None
) -> dict[str, float]:
    """For each class the threshold on its probability against the rest: Youden's, or that of a target sensitivity.

    With several classes these answer "is it this one?" one by one; a case may be called of several classes or of none.
    """
    true, given = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    found = {}
    for index, name in enumerate(classes):
        of_class, scores = true == index, given[:, index]
        found[name] = (
            youden_threshold(of_class, scores)
            if sensitivity is None
            else threshold_for_sensitivity(of_class, scores, sensitivity)
        )
    return found


def at_class_thresholds(
    truth: npt.ArrayLike, probabilities: npt.ArrayLike, classes: Sequence[str], thresholds: Mapping[str, float]
) -> dict[str, Statistic]:
    """``sensitivity@/CLASS``, ``specificity@/CLASS``, ``ppv@/CLASS``, ``npv@/CLASS``: each class against the rest."""
    true, given = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    found: dict[str, Statistic] = {}
    for index, name in enumerate(classes):
        if name in thresholds:
            at = at_threshold(true == index, given[:, index], thresholds[name])
            found |= {f"{rate}@/{name}": statistic for rate, statistic in at.items()}
    return found


def _called(positive: BoolArray, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds from low to high, and how many positive and negative cases each of them calls positive."""
    values, places = np.unique(scores, return_inverse=True)
    thresholds = values.copy()
    thresholds[1:] = (values[1:] + values[:-1]) / 2
    # Halfway between neighbours of the last digit may round to the lower one, which must not be called positive.
    thresholds = np.where(np.r_[False, thresholds[1:] <= values[:-1]], values, thresholds)
    up = np.bincount(places, weights=positive, minlength=len(values))
    down = np.bincount(places, weights=~positive, minlength=len(values))
    return thresholds, up[::-1].cumsum()[::-1], down[::-1].cumsum()[::-1]


def _undefined(weights: FloatArray) -> FloatArray:
    return np.full(len(weights), math.nan)
