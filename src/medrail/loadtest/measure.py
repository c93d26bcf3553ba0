"""From the requests of one step to numbers with intervals.

A percentile's interval is that of order statistics: the ranks come from the binomial distribution, whatever the
latencies' own distribution is (Conover, Practical Nonparametric Statistics, 3.2). Requests that stand in one queue are
slow together, so n of them tell less than n independent ones; how much less is estimated from batches of neighbours
(the variance of batch means, as in Law, Simulation Modeling and Analysis, 9.5) and the ranks are those of that many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float64]
LEVEL = 0.95
_RESAMPLES = 2_000
_BATCHES = 30
_FEWEST_IN_BATCH = 10
_BINS = 20
_LONGEST_BIN_S = 1.0


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval; None where so few requests tell nothing. ``n``: requests it is taken over."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def percentile(latencies: Sequence[float] | FloatArray, share: float) -> Measured:
    """The ``share`` quantile of latencies, which stand in the order in which the requests were planned."""
    values = np.asarray(latencies, dtype=np.float64)
    n = len(values)
    if not n:
        return Measured(None, None, None, 0)
    ordered = np.sort(values)
    value = float(ordered[_rank(share, n)])
    worth = max(1, int(n / _design_effect(values > value)))
    low, high = _ranks(worth, share)
    return Measured(
        value,
        None if low is None else float(ordered[_rank(low / worth, n)]),
        None if high is None else float(ordered[_rank(high / worth, n)]),
        n,
    )


def _rank(share: float, n: int) -> int:
    """The place of a quantile among n ordered values, from 0 (the inverse of the empirical distribution)."""
    return min(n - 1, max(0, math.ceil(share * n - 1e-9) - 1))


def _ranks(n: int, share: float) -> tuple[int | None, int | None]:
    """The order statistics, counted from 1, between which the quantile lies with 95 % probability."""
    tail = (1 - LEVEL) / 2
    below = np.cumsum(_binomial(n, share))  # below[k]: at most k of n values are under the quantile
    low = int(np.searchsorted(below, tail, side="right"))  # the largest rank whose probability to lie above is <= tail
    high = int(np.searchsorted(below, 1 - tail)) + 1
    return (low if low >= 1 else None), (high if high <= n else None)


def _binomial(n: int, share: float) -> FloatArray:
    """P(k of n), k = 0..n."""
    steps = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))])
    k = np.arange(n + 1)
    log_p = steps[n] - steps - steps[::-1] + k * math.log(share) + (n - k) * math.log1p(-share)
    found: FloatArray = np.exp(log_p)
    return found


def _design_effect(slow: npt.NDArray[np.bool_]) -> float:
    """How many requests are worth one independent one, for the share of ``slow`` ones; at least 1."""
    batches = min(_BATCHES, len(slow) // _FEWEST_IN_BATCH)
    share = float(slow.mean())
    if batches < 5 or not 0 < share < 1:
        return 1.0
    size = len(slow) // batches
    means = slow[: size * batches].reshape(batches, size).mean(axis=1)
    return max(1.0, float(means.var(ddof=1)) * size / (share * (1 - share)))


def rate(finished_s: Sequence[float] | FloatArray, begin_s: float, end_s: float, seed: int = 0) -> Measured:
    """Events a second within [begin, end), with a bootstrap over stretches of it (a second, or a twentieth)."""
    span = end_s - begin_s
    inside = np.asarray(finished_s, dtype=np.float64)
    inside = inside[(inside >= begin_s) & (inside < end_s)]
    if span <= 0:
        return Measured(None, None, None, 0)
    bins = max(1, round(span / min(_LONGEST_BIN_S, span / _BINS)))
    counts, _ = np.histogram(inside, bins=bins, range=(begin_s, end_s))
    drawn = np.random.default_rng(seed).integers(0, bins, size=(_RESAMPLES, bins))
    rates = counts[drawn].sum(axis=1) / span
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Measured(len(inside) / span, float(low), float(high), len(inside))


def share(count: int, of: int) -> Measured:
    """Wilson's interval of a share."""
    from medrail.evaluate.bootstrap import wilson  # 0.2 s of imports that `--help` and the sender do without

    if not of:
        return Measured(None, None, None, 0)
    low, high = wilson(count / of, of)
    return Measured(count / of, float(low), float(high), of)
