"""From statistics of the cases to numbers with intervals, and a sentence that says how each was found."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medrail.evaluate.bca import Interval
from medrail.evaluate.bootstrap import LEVEL, Measured, Statistic, point
from medrail.evaluate.chosen import Kind, chosen_intervals
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
    def by_case(self) -> bool:
        """Whether cases are resampled, because all are of one patient."""
        return len(set(self.patients)) == 1 and len(self.patients) > 1

    @property
    def groups(self) -> list[str]:
        """For each case what is resampled with it."""
        return [str(index) for index in range(len(self.patients))] if self.by_case else list(self.patients)

    @property
    def unit(self) -> str:
        return "case{s} of one patient" if self.by_case else "patient{s}"

    def units(self, counts: BoolArray | None = None) -> int:
        """How many are resampled that have a case which counts."""
        groups = self.groups
        chosen = groups if counts is None else [group for group, here in zip(groups, counts, strict=True) if here]
        return len(set(chosen))

    def in_words(self, method: str) -> str:
        """A method's sentence, which speaks of patients, for what was in fact resampled."""
        if not self.by_case:
            return method
        return method.replace("patients", "cases of one patient").replace("1 patient", "1 case of one patient")


@dataclass(frozen=True)
class Counted:
    """What a number is made of.

    counts:
        (n,) whether each case counts for it; None: all do.
    kind:
        What kind of number it is, where its interval is not a bootstrap's.
    said:
        What stands before the method.
    doubted:
        What is added about cases that are left out.
    """

    counts: BoolArray | None = None
    kind: Kind | None = None
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
        kinds = {name: about.kind for name, about in self.counted.items() if about.kind is not None}
        found = chosen_intervals(wanted, kinds, self.how.groups, resamples=self.how.resamples, seed=self.how.seed)
        n = len(self.how.patients)
        return {name: self.measured(name, point(one, n), found[name]) for name, one in wanted.items()}

    def measured(self, name: str, value: float, interval: Interval) -> Measured:
        """A value with an interval, and how both were found."""
        about, n = self.counted.get(name, ALL_CASES), len(self.how.patients)
        cases = n if about.counts is None else int(np.sum(about.counts))
        if n < 2:
            return Measured(value, math.nan, math.nan, cases, f"no interval: one case{about.doubted}")
        method = self.how.in_words(interval.method)
        if not math.isfinite(interval.low):
            return Measured(value, math.nan, math.nan, cases, f"{method}{about.doubted}")
        method = f"{about.said}; {method}{about.doubted}{doubt(self.how.unit, self.how.units(about.counts))}"
        return Measured(value, interval.low, interval.high, cases, method)


def bootstrap_words(unit: str, count: int, resamples: int) -> str:
    """ "95% BCa bootstrap over 12 patients, 2000 resamples"."""
    return f"{LEVEL:.0%} BCa bootstrap over {count_of(unit, count)}, {resamples} resamples"


def doubt(unit: str, count: int) -> str:
    """What must be added to the method where too few are resampled for the interval to be believed."""
    return f"; only {count_of(unit, count)}: the interval is a guess" if count < FEW else ""


def count_of(unit: str, count: int) -> str:
    """A number with its noun, singular or plural.

    >>> count_of("case{s} of one patient", 1), count_of("patient{s}", 12)
    ('1 case of one patient', '12 patients')
    """
    return f"{count} {unit.format(s='' if count == 1 else 's')}"
