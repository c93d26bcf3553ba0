"""Units: what stands for itself when doubt is measured. The patients; of a single patient, its cases."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.metrics import IntArray

_CHUNK_WEIGHTS = 4_000_000


def units_of(patients: Sequence[str]) -> tuple[list[str], str]:
    """Each case's unit, and what a unit is called."""
    if len(set(patients)) > 1 or len(patients) < 2:
        return list(patients), "patient"
    return [str(index) for index in range(len(patients))], "case of one patient"


def alone(units: Sequence[str]) -> bool:
    """Whether every unit has one case."""
    return len(set(units)) == len(units)


def members_of(units: Sequence[str]) -> IntArray:
    """(n,) place of each case's unit among the sorted units."""
    return np.asarray(np.unique(np.asarray(units, dtype=str), return_inverse=True)[1], dtype=np.int64)


def means(values: FloatArray, units: Sequence[str]) -> FloatArray:
    """The mean of each unit's values, (n,) to (P,)."""
    members = members_of(units)
    return np.asarray(np.bincount(members, weights=values) / np.bincount(members))


def standardised(differences: FloatArray) -> float:
    """Cohen's d_z: the mean difference in units of the differences' SD (Cohen 1988, section 2.3.5); NaN without any."""
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    mean = float(differences.mean())
    return mean / spread if spread > 1e-12 * max(1.0, abs(mean)) else math.nan


def jackknife_variance(statistic: Statistic, units: Sequence[str]) -> float:
    """The variance of any metric by leaving out one unit at a time (Efron and Stein, Ann Stat 9:586, 1981).

    NaN with one unit, or where leaving one out leaves the metric undefined.
    """
    members = members_of(units)
    count = int(members.max()) + 1
    if count < 2:
        return math.nan
    chunk = max(1, _CHUNK_WEIGHTS // len(members))
    values = np.concatenate(
        [
            statistic((np.arange(first, min(first + chunk, count))[:, np.newaxis] != members).astype(np.float64))
            for first in range(0, count, chunk)
        ]
    )
    return float((count - 1) / count * np.sum((values - values.mean()) ** 2))
