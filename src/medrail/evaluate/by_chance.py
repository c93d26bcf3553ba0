"""The calibration error that chance alone makes, and an interval of the error that knows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bca import Interval
from medrail.evaluate.bootstrap import LEVEL, FloatArray, left_out, membership, point
from medrail.evaluate.calibration import bin_edges, bin_of, expected_calibration_error

_DRAWS = 1000


def expected_by_chance(confidence: npt.ArrayLike, bins: int = 10, *, equal_mass: bool = False, seed: int = 0) -> float:
    """The mean calibration error that a perfectly calibrated model would show on cases of these confidences.

    From draws in which each case is right with the probability of its confidence, independently of the others
    (Vaicenavicius et al., AISTATS 2019, section 5). An error that is not clearly above it says nothing. NaN: no case.
    """
    sure = np.asarray(confidence, dtype=np.float64)
    return float(_drawn_right(sure, _in_bin(sure, bins, equal_mass), seed).mean()) if len(sure) else math.nan


def calibration_error_interval(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    patients: Sequence[Any],
    bins: int = 10,
    *,
    equal_mass: bool = False,
    seed: int = 0,
) -> Interval:
    """A 95 % interval of ``expected_calibration_error``, which a bootstrap cannot give.

    The error of a sample lies above the true one, and that of a resample above both, so the bootstrap's interval misses
    the truth of a calibrated model every time. Here, an error within what chance makes of a calibrated model has the
    low end 0. Chance is drawn twice, and the larger counts: with each case right by its confidence, and with each
    patient's gaps turned round at random as a whole, which keeps the cases of a patient together. Otherwise the ends
    are the error plus and minus Student's t times its jackknife standard error over the patients.

    Parameters
    ----------
    confidence, correct:
        (n,) from 0 to 1, (n,) bool.
    patients:
        For each case its patient.
    """
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    members, n_patients = membership(patients)
    if n_patients < 2:
        return Interval(math.nan, math.nan, "no interval: " + ("one patient" if n_patients else "no case"))
    error = expected_calibration_error(sure, right, bins, equal_mass=equal_mass)
    value, without = point(error, len(sure)), left_out({"error": error}, patients)["error"]
    in_bin = _in_bin(sure, bins, equal_mass)
    gaps = np.zeros((n_patients, in_bin.shape[1]))
    np.add.at(gaps, members, in_bin * (sure - right)[:, np.newaxis])
    turned = np.random.default_rng(seed).choice([-1.0, 1.0], (_DRAWS, n_patients)) @ gaps
    by_chance = [_drawn_right(sure, in_bin, seed), np.abs(turned).sum(axis=1) / len(sure)]
    limit = max(float(np.quantile(drawn, (1 + LEVEL) / 2)) for drawn in by_chance)

    from scipy import special

    spread = math.sqrt((n_patients - 1) / n_patients * float(((without - without.mean()) ** 2).sum()))
    half = float(special.stdtrit(n_patients - 1, (1 + LEVEL) / 2)) * spread
    low = 0.0 if value <= limit else max(0.0, value - half)
    said = " (low end 0: chance alone makes such errors)" if value <= limit else ""
    method = f"{LEVEL:.0%} jackknife interval over {n_patients} patients{said}"
    return Interval(low, min(1.0, value + half), method)


def _in_bin(confidence: FloatArray, bins: int, equal_mass: bool) -> FloatArray:
    edges = bin_edges(confidence, bins, equal_mass=equal_mass)
    return np.asarray(np.eye(len(edges) - 1)[bin_of(confidence, edges)])


def _drawn_right(confidence: FloatArray, in_bin: FloatArray, seed: int) -> FloatArray:
    """The calibration errors (R,) of draws in which each case is right with the probability of its confidence."""
    generator = np.random.default_rng(seed)
    errors = np.empty(_DRAWS)
    step = max(1, 4_000_000 // len(confidence))
    for first in range(0, _DRAWS, step):
        right = generator.random((min(step, _DRAWS - first), len(confidence))) < confidence
        errors[first : first + step] = np.abs((confidence - right) @ in_bin).sum(axis=1)
    return errors / len(confidence)
