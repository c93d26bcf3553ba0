"""The BCa bootstrap over patients: percentiles moved for bias and skew (Efron, J Am Stat Assoc 82, 1987)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from medrail.evaluate.bootstrap import (
    LEVEL,
    FloatArray,
    Statistic,
    left_out,
    percentiles,
    point,
    resampled,
)

_NORMAL = NormalDist()


class Interval(NamedTuple):
    """A 95 % interval, NaN where there is none, and how it was found: "BCa bootstrap", or what was done instead."""

    low: float
    high: float
    method: str


def bca_bootstrap(
    statistics: Mapping[str, Statistic], groups: Sequence[Any], *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """``bca_intervals`` without the methods, in the form of ``percentile_bootstrap``."""
    found = bca_intervals(statistics, groups, resamples=resamples, seed=seed)
    return {name: (interval.low, interval.high) for name, interval in found.items()}


def bca_intervals(
    statistics: Mapping[str, Statistic], groups: Sequence[Any], *, resamples: int, seed: int
) -> dict[str, Interval]:
    """95 % intervals by the bias-corrected and accelerated bootstrap over groups of items.

    The resamples are those of ``percentile_bootstrap``. Which of their percentiles bound the interval depends on the
    bias (the share of resamples below the sample's value) and on the acceleration (the skew of the statistic without
    each patient in turn). With few patients both ends are moved outwards, too, as resamples vary too little by the
    factor sqrt((G - 1) / G) and have the normal's tails, not Student's (Hesterberg, The American Statistician 69, 2015,
    section 5.3).

    Parameters
    ----------
    statistics:
        Name -> function of the items' weights.
    groups:
        For each of the n items the group it belongs to (the patient).
    resamples, seed:
        Number of resamples, and the seed of their generator.

    Returns
    -------
    NaN where the statistic is undefined in the sample or in more than half of the resamples, or the same
    in all. The plain percentile interval where the acceleration cannot be told: the statistic is undefined without some
    patient, or is the same without any of them, or all resamples lie on one side of the sample's value.
    """
    drawn = resampled(statistics, groups, resamples=resamples, seed=seed)
    without = left_out(statistics, groups)
    return {
        name: bca_of(point(statistic, len(groups)), drawn[name], without[name])
        for name, statistic in statistics.items()
    }


def bca_of(value: float, drawn: FloatArray, without: FloatArray) -> Interval:
    """The interval from the sample's value, its resamples (R,), and its values without each of the groups (G,)."""
    n_groups = len(without)
    if n_groups < 2 or not math.isfinite(value):
        return Interval(math.nan, math.nan, "no interval: " + ("one group" if n_groups < 2 else "not defined"))
    plain = percentiles(drawn)
    if math.isnan(plain[0]):
        return Interval(math.nan, math.nan, "no interval: not defined in most of the resamples")
    if plain[0] == plain[1] == value:
        return Interval(math.nan, math.nan, "no interval: all bootstrap resamples are alike")
    bias, acceleration = _bias(value, drawn), _acceleration(without)
    if not math.isfinite(bias) or not math.isfinite(acceleration):
        return Interval(*plain, "percentile bootstrap, as BCa is not defined here")
    outwards = _outwards(n_groups)
    shares = tuple(_share(side * outwards, bias, acceleration) for side in (-1, 1))
    if not 0 < shares[0] < shares[1] < 1:
        return Interval(*plain, "percentile bootstrap, as BCa is not defined here")
    return Interval(*percentiles(drawn, (shares[0], shares[1])), "BCa bootstrap")


def in_words(interval: Interval, n_groups: int, resamples: int) -> Interval:
    """The interval with its level, patients and resamples in its method."""
    if math.isnan(interval.low):
        return interval
    method, _, why = interval.method.partition(", ")
    said = f"{LEVEL:.0%} {method} over {n_groups} patients, {resamples} resamples" + (f" ({why})" if why else "")
    return Interval(interval.low, interval.high, said)


def _bias(value: float, drawn: FloatArray) -> float:
    """The normal quantile of the share of resamples below the value, those equal to it counted half."""
    defined = drawn[np.isfinite(drawn)]
    near = np.isclose(defined, value, rtol=1e-12, atol=1e-14)
    share = float(((defined < value) & ~near).mean() + near.mean() / 2)
    return _NORMAL.inv_cdf(share) if 0 < share < 1 else math.nan


def _acceleration(without: FloatArray) -> float:
    """A sixth of the skew of the jackknife values; NaN where one is undefined or all are alike."""
    gaps = without.mean() - without
    spread = float((gaps**2).sum())
    # Rounding leaves about 1e-31 where all values are alike; NaN fails the comparison, too.
    return float((gaps**3).sum() / (6 * spread**1.5)) if spread > 1e-24 else math.nan


def _share(normal: float, bias: float, acceleration: float) -> float:
    moved = bias + normal
    below = 1 - acceleration * moved
    return _NORMAL.cdf(bias + moved / below) if below > 0 else math.nan


def _outwards(n_groups: int) -> float:
    """How many standard deviations of the resamples the ends lie from the middle: Student's t, corrected for n."""
    from scipy import special

    return float(special.stdtrit(n_groups - 1, (1 + LEVEL) / 2)) * math.sqrt(n_groups / (n_groups - 1))
