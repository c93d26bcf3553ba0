"""Two groups of runs that differ in their seeds only: is the difference more than the seeds' own, and the patients'?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import LEVEL, FloatArray, Measured, Statistic, point
from medrail.evaluate.paired import PairedTest
from medrail.evaluate.units import jackknife_variance, units_of


@dataclass(frozen=True)
class Spread:
    """One metric of one group: each member's value, in the order of the members."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def sd(self) -> float:
        """The standard deviation over the seeds."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else math.nan


def spread_of(members: Sequence[Answers], metric: str) -> Spread:
    """The metric of every member."""
    return Spread(tuple(point(one.statistics()[metric], len(one.ids)) for one in members))


@dataclass(frozen=True)
class Doubt:
    """The variance of a mean over seeds, by its sources.

    of_seeds, freedom:
        Of the mean over the seeds on these patients, and its degrees of freedom.
    of_patients, patients_freedom:
        Of the mean of these networks over the patients (jackknife).
    both:
        What is special to one network on one patient stands in each of the two, and is taken off once.
    """

    of_seeds: float
    freedom: float
    of_patients: float
    patients_freedom: int
    both: float

    @property
    def variance(self) -> float:
        """Of the mean when other seeds and other patients had been drawn; never less than either source's."""
        return max(self.of_seeds, self.of_patients, self.of_seeds + self.of_patients - self.both)

    @property
    def degrees(self) -> float:
        """Of freedom, after Satterthwaite (Biometrics Bulletin 2:110, 1946).

        Of the variance as it is used: with the sources' plain sum above the line, three seeds gave 8 % false alarms.
        """
        below = (self.of_seeds**2 / self.freedom if self.freedom else 0.0) + self.of_patients**2 / self.patients_freedom
        return float(self.variance**2 / below)

    def half(self) -> float:
        """Half of the 95 % interval; NaN where nothing varies."""
        if not self.variance > 0:
            return math.nan
        from scipy.stats import t as student

        return float(student.ppf((1 + LEVEL) / 2, self.degrees)) * math.sqrt(self.variance)

    def p(self, difference: float) -> float:
        """Two-sided, of no difference."""
        if not self.variance > 0:
            return 1.0 if difference == 0 and self.variance == 0 else math.nan
        from scipy.stats import t as student

        return float(2 * student.sf(abs(difference) / math.sqrt(self.variance), self.degrees))


def group_test(first: Sequence[Answers], second: Sequence[Answers], metric: str, *, paired: bool) -> PairedTest:
    """Test the difference of the mean over the seeds, second group less first.

    The doubt has two sources, and both are counted: other seeds would have given other networks, other patients another
    test. The seeds' part is the variance of the mean of the differences (``paired``: the k-th members have the same
    seed) or Welch's; the patients' part is the jackknife of the difference of the groups' means, patient by patient.
    It is the question of several readers on the same cases, seeds for readers (Obuchowski and Rockette, Commun Stat
    Simul Comput 24:285, 1995; Gallas, Acad Radiol 13:353, 2006).

    Parameters
    ----------
    first, second:
        The members' answers, all on the same cases in the same order; at least two each, as many of each if ``paired``.
    """
    units, unit = units_of(first[0].patients)
    values = [np.array(spread_of(members, metric).values) for members in (first, second)]
    before, after = ([one.statistics()[metric] for one in members] for members in (first, second))
    difference = float(values[1].mean() - values[0].mean())
    if paired:
        gaps = [_less(later, earlier) for earlier, later in zip(before, after, strict=True)]
        doubt = _doubt(gaps, values[1] - values[0], units)
    else:
        of_seeds, freedom = _welch(values[0], values[1])
        of_patients = jackknife_variance(_less(_mean(after), _mean(before)), units)
        both = _special(before, units) + _special(after, units)
        doubt = Doubt(of_seeds, freedom, of_patients, len(set(units)) - 1, both)
    half = doubt.half()
    how = "paired by seed" if paired else "seeds not paired (Welch)"
    return PairedTest(
        metric,
        difference,
        difference - half,
        difference + half,
        doubt.p(difference),
        f"t test of the means over {len(first)} and {len(second)} seeds, {how}, with the doubt of the seeds and of the "
        f"{unit}s (jackknife); {LEVEL:.0%} interval from the same",
        n=len(first[0].ids),
        patients=len(set(units)),
        effect={"in_seed_sd": _in_seed_sd(difference, values[0], values[1])},
    )


def group_mean(members: Sequence[Answers], metric: str) -> Measured:
    """The metric's mean over the seeds, with an interval that holds the doubt of the seeds and of the patients."""
    units, unit = units_of(members[0].patients)
    values = np.array(spread_of(members, metric).values)
    half = _doubt([one.statistics()[metric] for one in members], values, units).half()
    method = (
        f"mean over {len(values)} seeds; {LEVEL:.0%} t interval with the doubt of the seeds and of the {unit}s"
        if math.isfinite(half)
        else f"mean over {len(values)} seeds; no interval: nothing varies, or the metric is not defined"
    )
    value = float(values.mean())
    return Measured(value, value - half, value + half, len(members[0].ids), method)


def _doubt(statistics: Sequence[Statistic], values: FloatArray, units: Sequence[str]) -> Doubt:
    """Of the mean of one number a seed."""
    return Doubt(
        float(np.var(values, ddof=1)) / len(values),
        len(values) - 1,
        jackknife_variance(_mean(statistics), units),
        len(set(units)) - 1,
        _special(statistics, units),
    )


def _special(statistics: Sequence[Statistic], units: Sequence[str]) -> float:
    """The variance of the mean by what is special to each network on each patient.

    A single network varies by patient with all of it, the mean of m with an m-th: the rest is common to all networks.
    """
    alone = float(np.mean([jackknife_variance(one, units) for one in statistics]))
    return max(0.0, alone - jackknife_variance(_mean(statistics), units)) / (len(statistics) - 1)


def _mean(statistics: Sequence[Statistic]) -> Statistic:
    return lambda weights: np.asarray(np.mean([one(weights) for one in statistics], axis=0))


def _less(later: Statistic, earlier: Statistic) -> Statistic:
    return lambda weights: np.asarray(later(weights) - earlier(weights))


def _welch(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """The variance of the difference of the means over the seeds, and its degrees of freedom."""
    parts = [float(np.var(values, ddof=1) / len(values)) for values in (first, second)]
    below = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    return sum(parts), (sum(parts) ** 2 / below if below else 0.0)


def _in_seed_sd(difference: float, first: FloatArray, second: FloatArray) -> float:
    pooled = math.sqrt((float(np.var(first, ddof=1)) + float(np.var(second, ddof=1))) / 2)
    return difference / pooled if pooled > 1e-12 else math.nan
