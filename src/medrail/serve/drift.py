"""Drift: how far the last answers and images are from those that the bundle's calibration says are usual.

The measure is the population stability index, ``sum((p - q) ln(p / q))`` over bins with the shares p now and q usual
(Siddiqi, Credit Risk Scorecards, 2006, where 0.1 is called a small and 0.25 a large change). Without any drift it is
not 0: it then follows ``(1/n + 1/m) chi-square(bins - 1)`` for n answers and m reference cases (Yurdakul, Statistical
Properties of Population Stability Index, 2018), so the value that chance alone exceeds once in a thousand is told.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

from medrail.bundle.usual import NO_FINDING, Shares, Usual

Bin = tuple[str, int]
_PRIOR = 0.5
"""Added to every bin's count, so that an empty one does not make the index infinite."""
_ONCE_IN = 1000


def stability_index(now: Sequence[float], usual: Sequence[float]) -> float:
    """The index of two tables of counts with the same bins; 0 where the shares are the same."""
    bins = len(usual)
    n, m = sum(now) + _PRIOR * bins, sum(usual) + _PRIOR * bins
    pairs = [((a + _PRIOR) / n, (b + _PRIOR) / m) for a, b in zip(now, usual, strict=True)]
    return math.fsum((p - q) * math.log(p / q) for p, q in pairs)


def by_chance(answers: float, cases: float, bins: int) -> float:
    """The index that no drift at all exceeds once in a thousand such windows (chi-square after Wilson and Hilferty)."""
    freedom = bins - 1
    z = NormalDist().inv_cdf(1 - 1 / _ONCE_IN)
    spread = 2 / (9 * freedom)
    quantile = freedom * (1 - spread + z * math.sqrt(spread)) ** 3
    return (1 / answers + 1 / cases) * quantile


class Window:
    """The last answers of one model in this process, as the bins that they fell into."""

    def __init__(self, usual: Usual, size: int) -> None:
        self._usual = usual
        self._last: deque[tuple[Bin, ...]] = deque()
        self._size = size

    def take(self, result: Mapping[str, Any]) -> tuple[tuple[Bin, ...], tuple[Bin, ...]]:
        """The bins that an answer (``audit.result_of``) falls into, and those of the answer that it pushes out."""
        fallen = tuple(
            (name, place)
            for name, shares in self._usual.shares.items()
            if (value := _value(name, result)) is not None
            for place in shares.bins_of(value)
        )
        if not fallen:
            return (), ()
        self._last.append(fallen)
        return fallen, self._last.popleft() if len(self._last) > self._size else ()


def _value(name: str, result: Mapping[str, Any]) -> Any:
    if name != "classes":
        return result.get(name)
    findings = result.get("findings")
    return result.get("class_name") if findings is None else (findings or [NO_FINDING])


def measured(counts: Mapping[int, float], shares: Shares, least: int) -> tuple[float, float, float] | None:
    """Index, what chance alone may make of it, and the number of answers; None with fewer answers than ``least``."""
    now = [max(0.0, counts.get(place, 0.0)) for place in range(len(shares.counts))]
    total = sum(now)
    if total < least:
        return None
    return stability_index(now, shares.counts), by_chance(total, sum(shares.counts), len(now)), total
