"""McNemar's test: two runs on the same cases, each answer right or wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import LEVEL


@dataclass(frozen=True)
class McNemar:
    """What the discordant cases say.

    gained, lost:
        Cases that only the second, or only the first run has right; the others say nothing about a difference.
    p:
        Exact, two-sided; conservative, because few discordant cases can give few values of p.
    mid_p:
        The same with half of the chance of what was found: closer to the level, without the exact test's guarantee.
    """

    gained: int
    lost: int
    p: float
    mid_p: float

    @property
    def odds_ratio(self) -> float:
        """Gained over lost: how many times more often the second is right where they disagree; NaN without any."""
        if self.lost == 0:
            return math.inf if self.gained else math.nan
        return self.gained / self.lost


def mcnemar(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> McNemar:
    """The exact test of two (n,) bool arrays (McNemar, Psychometrika 12:153, 1947; mid-p: Fagerland, Lydersen and
    Laake, BMC Med Res Methodol 13:91, 2013). It takes the cases as independent, so one case a patient.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    gained, lost = int(np.sum(second & ~first)), int(np.sum(first & ~second))
    if gained + lost == 0:
        return McNemar(0, 0, 1.0, 1.0)
    from scipy.stats import binom

    fewer = min(gained, lost)
    below = float(binom.cdf(fewer, gained + lost, 0.5))
    here = float(binom.pmf(fewer, gained + lost, 0.5))
    p = min(1.0, 2 * below)
    return McNemar(gained, lost, p, 1 - here if gained == lost else p - here)


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """95 % score interval of the difference of two proportions of the same ``n`` independent cases.

    The differences that the score test does not reject (Tango, Stat Med 17:891, 1998). Unlike Wald's and the bootstrap
    it is not empty without discordant cases.

    >>> [round(bound, 4) for bound in paired_interval(0, 0, 100)]
    [-0.037, 0.037]
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    found = (gained - lost) / n
    low = _crossing(lambda delta: _score(delta, gained, lost, n) - z, -1.0, found)
    high = _crossing(lambda delta: _score(delta, gained, lost, n) + z, found, 1.0)
    return low, high


def _score(delta: float, gained: int, lost: int, n: int) -> float:
    """Tango's statistic, which falls as ``delta`` grows; its share of lost cases is the likeliest under ``delta``."""
    second = -gained - lost + (2 * n - gained + lost) * delta
    last = -lost * delta * (1 - delta)
    share = (math.sqrt(max(0.0, second * second - 8 * n * last)) - second) / (4 * n)
    variance = n * (2 * share + delta * (1 - delta))
    above = gained - lost - n * delta
    if variance <= 0:
        return 0.0 if above == 0 else math.copysign(math.inf, above)
    return above / math.sqrt(variance)


def _crossing(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return (low + high) / 2
