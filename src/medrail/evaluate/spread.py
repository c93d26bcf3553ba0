"""How much a metric varies between trainings that differ in their seed only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medrail.evaluate.bootstrap import LEVEL, Measured


@dataclass(frozen=True)
class Spread:
    """One metric over the members of a group, each with its own interval over patients.

    mean, sd:
        Over the seeds; the standard deviation has n - 1 in its denominator.
    low, high:
        95 % t interval of the mean: what other seeds would change; cut off at what the metric can be.
    """

    runs: Mapping[str, Measured]
    mean: float
    sd: float
    low: float
    high: float

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def method(self) -> str:
        how = f"mean of {self.n} trainings that differ in the seed, on the same cases"
        if not math.isfinite(self.low):
            why = "not defined for all of them" if not math.isfinite(self.sd) else "all have the same value"
            return f"{how}; no interval: {why}"
        return f"{how}; {LEVEL:.0%} t interval, n = {self.n} seeds: what other seeds would change, not other patients"

    def to_json(self) -> dict[str, Any]:
        """``{value, sd, low, high, n, method, runs: {run: {value, low, high, n, method}}}`` with null for NaN."""
        one = Measured(self.mean, self.low, self.high, self.n, self.method).to_json()
        sd = self.sd if math.isfinite(self.sd) else None
        return {**one, "sd": sd, "runs": {name: measured.to_json() for name, measured in self.runs.items()}}


def spread(runs: Mapping[str, Measured], within: tuple[float, float] = (-math.inf, math.inf)) -> Spread:
    """Mean, SD and interval of two or more runs' values; NaN where one of them is.

    Where all are the same there is no interval: that few trainings agree is no certainty.

    within:
        The least and the largest that the metric can be.
    """
    values = [one.value for one in runs.values()]
    mean, sd, half = mean_sd_half(values)
    if not math.isfinite(mean) or not sd:
        return Spread(dict(runs), mean, sd, math.nan, math.nan)
    least, largest = within
    return Spread(dict(runs), mean, sd, max(mean - half, least), min(mean + half, largest))


def mean_sd_half(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean, the standard deviation (n - 1), and half the 95 % t interval of the mean (Student 1908).

    >>> [round(number, 3) for number in mean_sd_half([1.0, 2.0, 3.0])]
    [2.0, 1.0, 2.484]
    """
    from scipy.stats import t

    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return math.nan, math.nan, math.nan
    mean = math.fsum(values) / n
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return mean, sd, float(t.ppf((1 + LEVEL) / 2, n - 1)) * sd / math.sqrt(n)
