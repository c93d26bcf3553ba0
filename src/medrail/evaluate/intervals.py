"""From statistics of the cases to numbers with intervals, and a sentence that says how each was found."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medrail.evaluate.bca import Interval, bca_intervals
from medrail.evaluate.bootstrap import LEVEL, Measured, Statistic, point, wilson
from medrail.evaluate.metrics import BoolArray

FEW = 5
"""With fewer patients the resamples can show only a few values, and the interval is far too narrow."""


@dataclass(frozen=True)
class Resampling:
    """How many resamples of which cases.

    patients:
        For each case its patient. They are resampled with all their cases; of a single patient the cases are.
    """

    patients: Sequence[str]
    resamples: int
    seed: int

    @property
    def groups(self) -> list[str]:
        """For each case what is resampled with it."""
        if len(set(self.patients)) > 1 or len(self.patients) == 1:
            return list(self.patients)
        return [str(index) for index in range(len(self.patients))]

    @property
    def unit(self) -> str:
        many = len(set(self.patients)) > 1 or len(self.patients) == 1
        return "patient{s}" if many else "case{s} of one patient"

    def units(self, counts: BoolArray | None = None) -> int:
        """How many are resampled that have a case which counts."""
        groups = self.groups
        chosen = groups if counts is None else [group for group, here in zip(groups, counts, strict=True) if here]
        return len(set(chosen))

    def told(self, method: str = "BCa bootstrap") -> str:
        return bootstrap_words(self.unit, self.units(), self.resamples, method)


@dataclass(frozen=True)
class Counted:
    """What a number is made of.

    counts:
        (n,) whether each case counts for it; None: all do.
    proportion:
        Whether it is a share of these cases, each right or wrong, so that Wilson's interval fits.
    said:
        What stands before the method.
    doubted:
        What is added about cases that are left out.
    """

    counts: BoolArray | None = None
    proportion: bool = False
    said: str = "over all cases"
    doubted: str = ""


ALL_CASES = Counted()


@dataclass(frozen=True)
class WithIntervals:
    """Measures statistics of the same cases, all on the same resamples."""

    how: Resampling
    counted: Mapping[str, Counted] = field(default_factory=dict)

    def of(self, statistics: Mapping[str, Statistic], skip: Collection[str] = ()) -> dict[str, Measured]:
        """Name -> value with its interval; those in ``skip`` get their interval elsewhere."""
        wanted = {name: statistic for name, statistic in statistics.items() if name not in skip}
        found = bca_intervals(wanted, self.how.groups, resamples=self.how.resamples, seed=self.how.seed)
        return {name: self._measured(name, statistic, found[name]) for name, statistic in wanted.items()}

    def _measured(self, name: str, statistic: Statistic, interval: Interval) -> Measured:
        about, n = self.counted.get(name, ALL_CASES), len(self.how.patients)
        value, units = point(statistic, n), self.how.units(about.counts)
        cases = n if about.counts is None else int(np.sum(about.counts))
        if not math.isfinite(interval.low):
            return Measured(value, math.nan, math.nan, cases, none_why(n) + about.doubted)
        if interval.low == interval.high:
            return self._without_spread(value, cases, units if about.proportion else 0, about.doubted)
        method = f"{about.said}; {self.how.told(_plain(interval.method))}{about.doubted}"
        return Measured(value, interval.low, interval.high, cases, method + doubt(self.how.unit, units))

    def _without_spread(self, value: float, n: int, units: int, doubted: str) -> Measured:
        """For a value that all resamples share (nothing wrong, or nothing right): a bootstrap sees no doubt at all.

        Proportions (``units`` > 0) get Wilson's interval with each patient as one trial; other metrics get none.
        """
        if units:
            method = (
                f"over all cases; {LEVEL:.0%} Wilson interval for {count_of(self.how.unit, units)}, because all "
                "resamples are alike"
            )
            return Measured(value, *wilson(value, units), n=n, method=method)
        method = f"no interval: all bootstrap resamples are alike{doubted}"
        return Measured(value, math.nan, math.nan, n=n, method=method)


def _plain(method: str) -> str:
    return "BCa bootstrap" if method.startswith("BCa") else "percentile bootstrap"


def bootstrap_words(unit: str, count: int, resamples: int, method: str = "BCa bootstrap") -> str:
    """ "95% BCa bootstrap over 12 patients, 2000 resamples"."""
    return f"{LEVEL:.0%} {method} over {count_of(unit, count)}, {resamples} resamples"


def doubt(unit: str, count: int) -> str:
    """What must be added to the method where too few are resampled for the interval to be believed."""
    return f"; only {count_of(unit, count)}: the interval is a guess" if count < FEW else ""


def none_why(count: int) -> str:
    """Why there is no interval."""
    return "no interval: one case" if count < 2 else "no interval: not defined in most of the resamples"


def count_of(unit: str, count: int) -> str:
    """A number with its noun, singular or plural.

    >>> count_of("case{s} of one patient", 1), count_of("patient{s}", 12)
    ('1 case of one patient', '12 patients')
    """
    return f"{count} {unit.format(s='' if count == 1 else 's')}"
