"""Answers that may be withheld: accuracy against the share of cases answered, and sets of classes instead of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray, Statistic, membership
from medrail.evaluate.metrics import BoolArray, ratio
from medrail.evaluate.scoring import mean_of

RARE = 0.025
"""What happens by chance less often than this is not put down to chance."""


def abstention_curve(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> list[tuple[float, float]]:
    """(coverage, accuracy) when only the cases above a confidence are answered, from the most confident on.

    One point for each distinct confidence: cases that are equally confident are answered together or not at all. The
    last point is (1, accuracy over all cases).
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if not len(sure):
        return []
    answered, good = (values[0] for values in _answered(sure, right, np.ones((1, len(sure)))))
    return [(float(n / len(sure)), float(g / n)) for n, g in zip(answered, good, strict=True)]


def area_under_risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> Statistic:
    """Mean error rate over all degrees of abstaining, as a function of the cases' weights; 0 is best.

    For each case, the error rate among the cases that are at least as confident, averaged over the cases (Geifman,
    Uziel and El-Yaniv, ICLR 2019). It falls with the errors and with how well confidence puts them last.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)

    def area(weights: FloatArray) -> FloatArray:
        answered, good = _answered(sure, right, weights)
        if not answered.shape[1]:
            return np.full(len(weights), math.nan)
        added = np.diff(answered, axis=1, prepend=0)
        risk = 1 - ratio(good, answered, empty=1.0)
        return ratio((added * risk).sum(axis=1), answered[:, -1])

    return area


def accuracy_above(confidence: npt.ArrayLike, correct: npt.ArrayLike, threshold: float) -> dict[str, Statistic]:
    """``coverage``, the share of cases with at least this confidence, and ``accuracy`` among them."""
    kept = (np.asarray(confidence, dtype=np.float64) >= threshold).astype(np.float64)
    good = kept * np.asarray(correct, dtype=np.float64)
    return {"coverage": mean_of(kept), "accuracy": lambda weights: ratio(weights @ good, weights @ kept)}


def covered_by_chance(share: float, n: int, held_out: int, alpha: float) -> float:
    """How likely it is that sets at ``alpha`` hold the true class in at most this share of ``n`` new patients, if these
    are just like the ``held_out`` ones: with few of them the quantile itself is off by chance.

    The number of those held is beta-binomial (Vovk, Asian Conference on Machine Learning 2012, section 2).

    >>> covered_by_chance(0.84, 180, 1000, 0.1) < 0.025 < covered_by_chance(0.84, 180, 30, 0.1)
    True
    """
    from scipy.stats import betabinom

    rank = min(held_out, math.ceil((held_out + 1) * (1 - alpha)))
    return float(betabinom.cdf(round(share * n), n, rank, held_out + 1 - rank))


def conformal_quantile(
    probabilities: npt.ArrayLike, truth: npt.ArrayLike, alpha: float, patients: Sequence[Any] | None = None
) -> float:
    """What may be missing to 1 in the probability of a class that still enters the set; from held-out cases.

    Split conformal prediction with the score 1 - p(true class) ("LAC": Sadinle, Lei and Wasserman, J Am Stat Assoc 114,
    2019): of all sets that hold the true class with probability 1 - alpha these are the smallest on average, and with
    two classes the sets of the adaptive scores (APS) only add a second class where it is not needed. The price is that
    a case unlike all others may get an empty set, which says "none of these" and is meant to be read so.

    The quantile is that of the finite sample: with n cases the smallest of n + 1 values, one of them infinite, that at
    least (1 - alpha) (n + 1) do not exceed; so a new case's set holds its class with at least 1 - alpha, averaged over
    samples. Where patients have several cases, each patient weighs 1 and his cases share it, with which the same holds
    for a case of a new patient (Lee, Barber and Willett, Distribution-free inference with hierarchical data, 2023).

    Parameters
    ----------
    probabilities, truth:
        (n, K) and (n,) class indices, of cases that the model was not fitted to.
    alpha:
        The share of sets that may miss the true class.
    patients:
        For each case its patient; each case is a patient of its own unless told.

    Returns
    -------
    From 0 to 1. With fewer than 1 / alpha - 1 patients it is 1: every set holds all classes, as nothing less is safe.
    """
    given, true = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    members, n_patients = membership(range(len(true)) if patients is None else patients)
    if not n_patients:
        return 1.0
    scores = 1 - given[np.arange(len(true)), true]
    share = 1 / np.bincount(members)[members]
    order = np.argsort(scores, kind="stable")
    enough = np.cumsum(share[order]) >= (1 - alpha) * (n_patients + 1) - 1e-9
    return float(scores[order][enough.argmax()]) if enough.any() else 1.0


def conformal_sets(probabilities: npt.ArrayLike, quantile: float) -> BoolArray:
    """Which classes each case's set holds: (n, K) bool; those with 1 - p of at most the quantile."""
    return np.asarray(1 - np.asarray(probabilities, dtype=np.float64) <= quantile)


def set_statistics(probabilities: npt.ArrayLike, truth: npt.ArrayLike, quantile: float) -> dict[str, Statistic]:
    """Functions of the cases' weights that say whether the sets keep their promise, and how much they say.

    ``set_coverage``: share of sets that hold the true class. ``set_size``: mean number of classes in a set.
    ``set_single``: share of sets of one class. ``set_empty``: share of sets of none.
    """
    sets, true = conformal_sets(probabilities, quantile), np.asarray(truth, dtype=np.int64)
    size = sets.sum(axis=1)
    return {
        "set_coverage": mean_of(sets[np.arange(len(true)), true]),
        "set_size": mean_of(size),
        "set_single": mean_of(size == 1),
        "set_empty": mean_of(size == 0),
    }


def _answered(confidence: FloatArray, correct: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of the cases at least as confident as each confidence, from high to low, and of the right ones."""
    order = np.argsort(-confidence, kind="stable")
    _, starts = np.unique(-confidence[order], return_index=True)
    if not len(starts):
        return np.empty((len(weights), 0)), np.empty((len(weights), 0))
    ranked = weights[:, order]
    answered = np.cumsum(np.add.reduceat(ranked, starts, axis=1), axis=1)
    return answered, np.cumsum(np.add.reduceat(ranked * correct[order], starts, axis=1), axis=1)
