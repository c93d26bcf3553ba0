"""The area under the ROC curve with its interval, and the difference of two areas on the same cases, by DeLong.

Every positive case has as its component the share of the negative cases that it beats, every negative case the share of
the positive ones that it loses to, ties counted half. The area is the mean of either; its variance is that of the
components (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988). Where a patient has several cases, the components
are summed by patient first, so that ten pictures of one knee are not ten witnesses (Obuchowski, Biometrics 53, 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import LEVEL, FloatArray, wilson
from medrail.evaluate.metrics import BoolArray, IntArray

_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_ROUNDING = 1e-20
"""Where every component is the same, rounding leaves a variance of about 1e-33."""


class Components(NamedTuple):
    """The area and what each case says about it; NaN and empty where one class has no case."""

    auc: float
    of_positives: FloatArray
    of_negatives: FloatArray


class AreaInterval(NamedTuple):
    """An area with its 95 % interval; NaN where there is none."""

    auc: float
    low: float
    high: float


class AreaDifference(NamedTuple):
    """First area minus second, its 95 % interval, and the two-sided p of no difference; NaN where there is none."""

    difference: float
    low: float
    high: float
    p: float


class _Variance(NamedTuple):
    """Of an area or of a difference, and the degrees of freedom that stand behind it."""

    value: float
    freedom: float

    def half_width(self) -> float:
        from scipy import special

        return float(special.stdtrit(self.freedom, (1 + LEVEL) / 2)) * math.sqrt(self.value)


def auc_components(positive: npt.ArrayLike, scores: npt.ArrayLike) -> Components:
    """The area under the ROC curve and its structural components, in O(n log n).

    Parameters
    ----------
    positive:
        (n,) bool.
    scores:
        (n,), high for positive.

    Returns
    -------
    The area; of each positive case the share of the negatives that it beats; of each negative case the share of the
    positives that it loses to; both in the order of the cases.
    """
    is_positive = np.asarray(positive, dtype=bool)
    values = np.asarray(scores, dtype=np.float64)
    above, below = values[is_positive], values[~is_positive]
    if not len(above) or not len(below):
        return Components(math.nan, np.full(len(above), math.nan), np.full(len(below), math.nan))
    of_positives = _share_below(above, np.sort(below))
    of_negatives = 1 - _share_below(below, np.sort(above))
    return Components(float(of_positives.mean()), of_positives, of_negatives)


def delong_interval(positive: npt.ArrayLike, scores: npt.ArrayLike, patients: Sequence[Any]) -> AreaInterval:
    """The area with its 95 % interval, clustered by patient.

    The interval is made on the logit scale, where it cannot leave 0 to 1 and leans the right way near 1 (Pepe, The
    Statistical Evaluation of Medical Tests, 2003, section 5.2), with Student's t in place of the normal: by simulation
    the normal one is too narrow where a class has few patients (docs/explanation/statistics.md). An area of exactly 1
    (or 0) has components without any spread, so DeLong's interval would be empty: see ``delong_method``.

    Parameters
    ----------
    positive, scores:
        (n,) bool and (n,).
    patients:
        For each case its patient.

    Returns
    -------
    NaN for the area if one class has no case, and for the interval if one class has cases of a single patient only, or
    if all scores are alike.
    """
    is_positive, members = np.asarray(positive, dtype=bool), _members(patients)
    found = auc_components(is_positive, scores)
    pairs = _separate_pairs(is_positive, members)
    if found.auc in (0.0, 1.0) and pairs >= 1:
        return AreaInterval(found.auc, *wilson(found.auc, pairs))
    variance = _clustered_variance(found, is_positive, members)
    if not variance.value > 0:
        return AreaInterval(found.auc, math.nan, math.nan)
    centre = math.log(found.auc / (1 - found.auc))
    half = variance.half_width() / (found.auc * (1 - found.auc))
    return AreaInterval(found.auc, _expit(centre - half), _expit(centre + half))


def delong_method(positive: npt.ArrayLike, scores: npt.ArrayLike, patients: Sequence[Any]) -> str:
    """How ``delong_interval`` found its interval, or why there is none, in words.

    For an area of exactly 1: k patients with a positive case can be paired with k others with a negative one, so that
    each pair is a trial of its own, and all k were put in the right order. Wilson's interval of k out of k holds
    whatever the scores' distributions are. It is wide: all the other pairs are not used, as they are not independent.
    """
    is_positive, members = np.asarray(positive, dtype=bool), _members(patients)
    found = auc_components(is_positive, scores)
    if math.isnan(found.auc):
        return "no interval: one of the classes has no case"
    pairs = _separate_pairs(is_positive, members)
    if found.auc in (0.0, 1.0) and pairs >= 1:
        return (
            f"{LEVEL:.0%} Wilson interval for {_count(pairs, 'separate pair')} of patients, as no pair is ranked wrong"
        )
    if not math.isfinite(_clustered_variance(found, is_positive, members).value):
        return "no interval: one of the classes has cases of one patient only"
    if math.isnan(delong_interval(is_positive, scores, patients).low):
        return "no interval: the scores rank nothing"
    sides = f"{_units(members[is_positive])} with and {_units(members[~is_positive])} without"
    grouped = ", clustered by patient (Obuchowski)" if members.max() + 1 < len(members) else ""
    return (
        f"{LEVEL:.0%} DeLong interval on the logit scale{grouped}, {sides} among {_count(_units(members), 'patient')}"
    )


def delong_difference(
    positive: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike, patients: Sequence[Any]
) -> AreaDifference:
    """First area minus second area of two models on the same cases, paired and clustered by patient.

    Parameters
    ----------
    positive:
        (n,) bool.
    first, second:
        (n,) scores of the two models.
    patients:
        For each case its patient.

    Returns
    -------
    The difference with its 95 % interval on the plain scale and its two-sided p, both by the normal approximation:
    where the models are equally good it is below 0.05 in 3 to 6 % of the simulations (Student's t: 2 to 5 %). Where the
    two models rank every case alike the components' difference has no spread: p is 1 and there is no interval. Where
    they differ by the same amount for every case (one perfect, the other constant), interval and p are NaN: a
    permutation test can still answer.
    """
    is_positive, members = np.asarray(positive, dtype=bool), _members(patients)
    one, other = auc_components(is_positive, first), auc_components(is_positive, second)
    gap = Components(one.auc - other.auc, one.of_positives - other.of_positives, one.of_negatives - other.of_negatives)
    variance = _clustered_variance(gap, is_positive, members)
    if not variance.value > 0:
        alike = gap.auc == 0 and not gap.of_positives.any() and not gap.of_negatives.any()
        return AreaDifference(gap.auc, math.nan, math.nan, 1.0 if alike else math.nan)
    deviation = math.sqrt(variance.value)
    p = math.erfc(abs(gap.auc) / deviation / math.sqrt(2))
    return AreaDifference(gap.auc, gap.auc - _Z * deviation, gap.auc + _Z * deviation, p)


def _clustered_variance(found: Components, positive: BoolArray, members: IntArray) -> _Variance:
    """Obuchowski's variance; DeLong's where every patient has one case. NaN if a class has fewer than two patients."""
    n_patients = int(members.max()) + 1 if len(members) else 0
    up, of_up = members[positive], np.bincount(members[positive], minlength=n_patients)
    down, of_down = members[~positive], np.bincount(members[~positive], minlength=n_patients)
    with_up, with_down = int((of_up > 0).sum()), int((of_down > 0).sum())
    if with_up < 2 or with_down < 2:
        return _Variance(math.nan, math.nan)
    gain = np.bincount(up, weights=found.of_positives - found.auc, minlength=n_patients) / len(up)
    loss = np.bincount(down, weights=found.of_negatives - found.auc, minlength=n_patients) / len(down)
    parts = np.array([gain @ gain, loss @ loss]) * [with_up / (with_up - 1), with_down / (with_down - 1)]
    variance = float(parts.sum() + 2 * n_patients / (n_patients - 1) * (gain @ loss))
    if not variance > _ROUNDING:
        return _Variance(0.0, math.nan)
    # Welch and Satterthwaite: the class of few patients decides, where it makes most of the variance.
    freedom = float(parts.sum() ** 2 / (parts**2 / [with_up - 1, with_down - 1]).sum())
    return _Variance(variance, freedom)


def _share_below(values: FloatArray, ranked: FloatArray) -> FloatArray:
    """Of each value the share of the ranked ones that are smaller, ties counted half."""
    left, right = np.searchsorted(ranked, values, "left"), np.searchsorted(ranked, values, "right")
    return np.asarray((left + right) / (2 * len(ranked)))


def _separate_pairs(positive: BoolArray, members: IntArray) -> int:
    """How many pairs of two patients, one with a positive and one with a negative case, share no patient."""
    up, down = np.unique(members[positive]), np.unique(members[~positive])
    return min(len(up), len(down), len(np.union1d(up, down)) // 2)


def _members(patients: Sequence[Any]) -> IntArray:
    return np.asarray(np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1], dtype=np.int64)


def _units(members: IntArray) -> int:
    return len(np.unique(members))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
