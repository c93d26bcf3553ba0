"""A number with its interval: the percentile bootstrap over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
"""Weights (R, n), how often each of n items stands in each of R resamples -> the statistic (R,), NaN if undefined."""

LEVEL = 0.95
MOST_LEFT_OUT = 500
_CHUNK_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class Measured:
    """A metric: its value, its 95 % interval (NaN where there is none), the cases it counts, and how it was found."""

    value: float
    low: float
    high: float
    n: int
    method: str

    def to_json(self) -> dict[str, Any]:
        """``{value, low, high, n, method}`` with null for NaN."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite = {name: float(number) if math.isfinite(number) else None for name, number in numbers.items()}
        return {**finite, "n": self.n, "method": self.method}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Measured:
        """The inverse of ``to_json``."""
        value, low, high = (
            math.nan if values[name] is None else float(values[name]) for name in ("value", "low", "high")
        )
        return Measured(value, low, high, n=int(values["n"]), method=str(values["method"]))


def point(statistic: Statistic, n: int) -> float:
    """The statistic of the sample itself: every one of the n items once."""
    return float(statistic(np.ones((1, n)))[0])


def percentile_bootstrap(
    statistics: Mapping[str, Statistic], groups: Sequence[Any], *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals by the percentile bootstrap over groups of items.

    In each resample as many groups are drawn with replacement as there are; a group brings all its items. The interval
    goes from the 2.5th to the 97.5th percentile of the statistic over the resamples (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 13). All statistics see the same resamples.

    Parameters
    ----------
    statistics:
        Name -> function of the items' weights.
    groups:
        For each of the n items the group it belongs to (the patient).
    resamples, seed:
        Number of resamples, and the seed of their generator: the same seed gives the same interval.

    Returns
    -------
    Name -> (low, high); NaN for a statistic that more than half of the resamples leave undefined, and for every
    statistic when there is only one group.
    """
    found = resampled(statistics, groups, resamples=resamples, seed=seed)
    return {name: percentiles(values) for name, values in found.items()}


def resampled(
    statistics: Mapping[str, Statistic], groups: Sequence[Any], *, resamples: int, seed: int
) -> dict[str, FloatArray]:
    """Name -> the statistic in each of the resamples of the groups (R,); NaN throughout with fewer than two groups."""
    members, n_groups = membership(groups)
    values = {name: np.full(resamples, math.nan) for name in statistics}
    if n_groups < 2:
        return values
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_WEIGHTS // max(len(members), n_groups))
    for first in range(0, resamples, chunk):
        size = min(chunk, resamples - first)
        drawn = generator.integers(0, n_groups, size=(size, n_groups))
        drawn += n_groups * np.arange(size)[:, np.newaxis]
        times = np.bincount(drawn.ravel(), minlength=size * n_groups).reshape(size, n_groups)
        weights = times[:, members].astype(np.float64)
        for name, statistic in statistics.items():
            values[name][first : first + size] = statistic(weights)
    return values


def left_out(statistics: Mapping[str, Statistic], groups: Sequence[Any]) -> dict[str, FloatArray]:
    """Name -> the statistic without each of the groups in turn (G,): the jackknife.

    Of more than 500 groups, blocks of them drawn at random are left out instead (500,): the time would grow with the
    square of the patients, and neither the spread nor the skew gets better known.
    """
    members, n_groups = membership(groups)
    if n_groups > MOST_LEFT_OUT:
        blocks = np.random.default_rng(0).permutation(n_groups) % MOST_LEFT_OUT
        members, n_groups = blocks[members], MOST_LEFT_OUT
    values = {name: np.full(n_groups, math.nan) for name in statistics}
    chunk = max(1, _CHUNK_WEIGHTS // max(len(members), 1))
    for first in range(0, n_groups, chunk):
        without = np.arange(first, min(first + chunk, n_groups))
        weights = (members != without[:, np.newaxis]).astype(np.float64)
        for name, statistic in statistics.items():
            values[name][without] = statistic(weights)
    return values


def membership(groups: Sequence[Any]) -> tuple[npt.NDArray[np.int64], int]:
    """For each item the number of its group, and how many groups there are."""
    names, members = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    return np.asarray(members, dtype=np.int64), len(names)


def percentiles(values: FloatArray, shares: tuple[float, float] | None = None) -> tuple[float, float]:
    """The values at two shares (the middle 95 % unless told), NaN if more than half are undefined."""
    defined = values[np.isfinite(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return math.nan, math.nan
    low, high = np.quantile(defined, shares or ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def wilson(share: float, n: float) -> tuple[float, float]:
    """95 % score interval of a proportion among ``n`` independent trials (Wilson 1927, J Am Stat Assoc 22:209).

    Unlike the bootstrap it is not empty when all trials end alike: 20 of 20 give (0.84, 1).

    >>> [round(bound, 4) for bound in wilson(1.0, 20)]
    [0.8389, 1.0]
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
