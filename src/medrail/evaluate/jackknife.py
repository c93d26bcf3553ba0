"""An interval from what the statistic is without each patient in turn: for areas under curves, which crowd near 1."""

from __future__ import annotations

import math

import numpy as np

from medrail.evaluate.bca import Interval
from medrail.evaluate.bootstrap import LEVEL, FloatArray

_ROUNDING = 1e-12


def jackknife_interval(value: float, without: FloatArray) -> Interval:
    """Logit of the value, plus and minus Student's t times its jackknife standard error.

    The standard error is Tukey's (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 11.5); on the
    logit scale the interval stays between 0 and 1 and leans the right way. For the average precision of few patients a
    bootstrap leans too little (docs/explanation/statistics.md has the coverage of both).

    Parameters
    ----------
    value:
        The statistic of the sample, between 0 and 1.
    without:
        (G,) the statistic without each patient, or without each block of many (``bootstrap.left_out``).

    Returns
    -------
    NaN at exactly 0 or 1, if the statistic is undefined without some patient, or does not depend on any.
    """
    if not math.isfinite(value):
        return Interval(math.nan, math.nan, "no interval: not defined")
    if not 0 < value < 1:
        return Interval(math.nan, math.nan, f"no interval: a value of exactly {value:.0f} shows no doubt")
    n_groups = len(without)
    if n_groups < 2 or not np.isfinite(without).all():
        return Interval(math.nan, math.nan, "no interval: it hangs on one patient")
    error = math.sqrt((n_groups - 1) / n_groups * float(((without - without.mean()) ** 2).sum()))
    if not error > _ROUNDING:
        return Interval(math.nan, math.nan, "no interval: it is the same without any of the patients")
    from scipy import special

    half = float(special.stdtrit(n_groups - 1, (1 + LEVEL) / 2)) * error / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = (float(special.expit(centre + side * half)) for side in (-1, 1))
    return Interval(low, high, f"{LEVEL:.0%} jackknife interval on the logit scale")
