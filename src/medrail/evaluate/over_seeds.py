"""Two groups of runs that differ in their seeds only: is the difference more than the seeds' own, and the patients'?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import LEVEL, FloatArray, Statistic, point
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


def group_test(first: Sequence[Answers], second: Sequence[Answers], metric: str, *, paired: bool) -> PairedTest:
    """Test the difference of the mean over the seeds, second group less first.

    The doubt has two sources, and both are counted: other seeds would have given other networks, other patients another
    test. The seeds' part is the variance of the mean of the differences (``paired``: the k-th members have the same
    seed) or Welch's; the patients' part is the jackknife of the difference of the groups' means, patient by patient.
    Their sum is a little too large, since both hold what is special to a network on a patient, so the test errs on the
    safe side. Degrees of freedom after Satterthwaite (Biometrics Bulletin 2:110, 1946). The same question stands behind
    several readers on the same cases (Obuchowski and Rockette, Commun Stat Simul Comput 24:285, 1995).

    Parameters
    ----------
    first, second:
        The members' answers, all on the same cases in the same order; at least two each, as many of each if ``paired``.
    """
    units, unit = units_of(first[0].patients)
    values = [np.array(spread_of(members, metric).values) for members in (first, second)]
    difference = float(values[1].mean() - values[0].mean())
    of_seeds, freedom = _seeds_part(values[0], values[1], paired=paired)
    of_patients = jackknife_variance(_gap(first, second, metric), units)
    variance = of_seeds + of_patients
    n_patients = len(set(units))
    low, high, p = math.nan, math.nan, 1.0 if difference == 0 and variance == 0 else math.nan
    if variance > 0:
        from scipy.stats import t as student

        parts = (of_seeds**2 / freedom if freedom else 0.0) + of_patients**2 / (n_patients - 1)
        degrees = variance**2 / parts
        error = math.sqrt(variance)
        half = float(student.ppf((1 + LEVEL) / 2, degrees)) * error
        low, high = difference - half, difference + half
        p = float(2 * student.sf(abs(difference) / error, degrees))
    how = "paired by seed" if paired else "seeds not paired (Welch)"
    return PairedTest(
        metric,
        difference,
        low,
        high,
        p,
        f"t test of the means over {len(first)} and {len(second)} seeds, {how}, with the doubt of the seeds and of the "
        f"{unit}s (jackknife); {LEVEL:.0%} interval from the same",
        n=len(first[0].ids),
        patients=n_patients,
        effect={"in_seed_sd": _in_seed_sd(difference, values[0], values[1])},
    )


def _gap(first: Sequence[Answers], second: Sequence[Answers], metric: str) -> Statistic:
    before = [one.statistics()[metric] for one in first]
    after = [one.statistics()[metric] for one in second]

    def gap(weights: FloatArray) -> FloatArray:
        return np.mean([one(weights) for one in after], axis=0) - np.mean([one(weights) for one in before], axis=0)

    return gap


def _seeds_part(first: FloatArray, second: FloatArray, *, paired: bool) -> tuple[float, float]:
    """The variance of the difference of the means over the seeds, and its degrees of freedom."""
    if paired:
        return float(np.var(second - first, ddof=1) / len(first)), len(first) - 1
    parts = [float(np.var(values, ddof=1) / len(values)) for values in (first, second)]
    below = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    return sum(parts), (sum(parts) ** 2 / below if below else 0.0)


def _in_seed_sd(difference: float, first: FloatArray, second: FloatArray) -> float:
    pooled = math.sqrt((float(np.var(first, ddof=1)) + float(np.var(second, ddof=1))) / 2)
    return difference / pooled if pooled > 1e-12 else math.nan
