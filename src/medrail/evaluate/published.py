"""A run against a number that was published: other cases, so the comparison is unpaired, whatever it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import LEVEL, Measured, Statistic, point, wilson
from medrail.evaluate.paired import SHARES, PairedTest
from medrail.evaluate.units import alone, jackknife_variance, units_of

CAUTION = (
    "other cases than the published ones: the test is unpaired, and the data sets, their patients, labels and splits "
    "may not be comparable"
)
NUMBERS = ("n", "positives", "low", "high", "sd")
_FORM = "METRIC=VALUE[,n=N][,positives=N][,low=L,high=H][,sd=S], as auc=0.944,n=624"
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Published:
    """One published number and what is told about it; 0 and NaN for what is not.

    n:
        Cases (of a mean: patients) behind it.
    positives:
        Of an AUC: those of the class that is looked for.
    low, high:
        Its 95 % interval. ``sd``: of a mean, the standard deviation over the patients.
    """

    metric: str
    value: float
    n: int = 0
    positives: int = 0
    low: float = math.nan
    high: float = math.nan
    sd: float = math.nan

    def __str__(self) -> str:
        given = [f"n = {self.n}" if self.n else "", f"{self.positives} positives" if self.positives else ""]
        given += [f"[{self.low:g}, {self.high:g}]" if math.isfinite(self.low) else ""]
        given += [f"SD {self.sd:g}" if math.isfinite(self.sd) else ""]
        about = ", ".join(part for part in given if part)
        return f"published {self.metric} {self.value:g}" + (f" ({about})" if about else "")


def parse_published(text: str) -> Published:
    """``auc=0.944,n=624`` as a Published.

    Raises
    ------
    ConfigError
        If it is not of that form, or its numbers cannot be.
    """
    metric, values = "", {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            values[name] = float(number)
        except ValueError:
            raise _wrong(text, f"{part.strip()!r} is no NAME=NUMBER") from None
        if name not in NUMBERS:
            if metric:
                raise _wrong(text, f"two metrics, {metric} and {name}")
            metric = name
    if not metric:
        raise _wrong(text, "no metric")
    one = Published(
        metric,
        values[metric],
        n=int(values.get("n", 0)),
        positives=int(values.get("positives", 0)),
        **{name: values.get(name, math.nan) for name in ("low", "high", "sd")},
    )
    for problem, is_so in _impossible(one, values).items():
        if is_so:
            raise _wrong(text, problem)
    return one


def _impossible(one: Published, values: Mapping[str, float]) -> dict[str, bool]:
    counts = [values[name] for name in ("n", "positives") if name in values]
    interval = math.isfinite(one.low), math.isfinite(one.high)
    return {
        "n and positives are whole numbers above 0": any(count < 1 or count != int(count) for count in counts),
        "positives without n, or not fewer than n": bool(one.positives) and one.positives >= one.n,
        "low and high go together, with the value between them": interval[0] != interval[1]
        or (all(interval) and not one.low < one.value < one.high),
        "a value from 0 to 1": not math.isfinite(one.value)
        or (one.metric in ("auc", "accuracy") and not 0 <= one.value <= 1),
        "sd is above 0, and needs n": math.isfinite(one.sd) and (one.sd <= 0 or not one.n),
    }


def _wrong(text: str, what: str) -> ConfigError:
    return ConfigError(f"{what}", where=f"--published {text}", needed=_FORM)


def hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    """The variance of an AUC of which only the numbers of cases are known.

    Hanley and McNeil, Radiology 143:29, 1982, with the negative exponential model for the scores.

    >>> round(hanley_mcneil(0.893, 51, 58) ** 0.5, 4)
    0.0325
    """
    beaten_by_two = auc / (2 - auc)
    beats_two = 2 * auc**2 / (1 + auc)
    above = (positives - 1) * (beaten_by_two - auc**2) + (negatives - 1) * (beats_two - auc**2)
    return (auc * (1 - auc) + above) / (positives * negatives)


def against_published(answers: Answers, own: Measured, published: Published) -> PairedTest:
    """The run's metric less the published one, with interval and p.

    The interval puts the two intervals together (MOVER: Zou and Donner, Stat Med 27:1693, 2008; for two proportions
    that is Newcombe's, Stat Med 17:873, 1998): the run's own as it was measured, by patient; the published one's own if
    it is told, else Wilson's for an accuracy or a sensitivity, Hanley and McNeil's for an AUC, the t interval of a mean
    with ``sd``. Without n, nor an interval, the published number is taken as exact, and the method says so.
    p is the score test of two proportions, one case a patient; the exact binomial test against an exact proportion; and
    else of the normal approximation, the run's variance by the jackknife over the patients.

    Raises
    ------
    ConfigError
        If ``n`` alone does not tell how uncertain such a metric is.
    """
    units, unit = units_of(answers.patients)
    low, high, told = _interval_of(published, answers)
    difference = own.value - published.value
    bounds = (
        difference - math.hypot(own.value - own.low, high - published.value),
        difference + math.hypot(own.high - own.value, published.value - low),
    )
    statistic = answers.statistics()[published.metric]
    p, test = math.nan, "no test: this run's number has no interval"
    if math.isfinite(bounds[0]):
        p, test = _p_value(statistic, units, published, (high - low) / (2 * _Z))
    return PairedTest(
        published.metric,
        difference,
        *bounds,
        p,
        f"{test}; interval from both intervals (MOVER), the published one {told}; unpaired"
        + ("" if unit == "patient" else "; one patient"),
        n=own.n,
        patients=len(set(units)),
    )


def _interval_of(published: Published, answers: Answers) -> tuple[float, float, str]:
    value, n = published.value, published.n
    if math.isfinite(published.low):
        return published.low, published.high, "as published"
    if not n:
        return value, value, "taken as exact, because no n is given"
    if math.isfinite(published.sd):
        half = _Z * published.sd / math.sqrt(n)
        return value - half, value + half, f"from its SD and n = {n}"
    if answers.multi_label:
        raise _unclear(published)
    if _is_share(published.metric):
        return *wilson(value, n), f"Wilson's with n = {n}"
    if published.metric == "auc":
        positives, how = published.positives, "as given"
        if not positives:
            share = float(np.mean(answers.truth == 1)) if len(answers.classes) == 2 else 1 / len(answers.classes)
            positives = min(n - 1, max(1, round(share * n)))
            how = "assumed as among this run's cases" if len(answers.classes) == 2 else "assumed: one class in K"
        half = _Z * math.sqrt(hanley_mcneil(value, positives, n - positives))
        return (
            max(0.0, value - half),
            min(1.0, value + half),
            f"Hanley and McNeil's, {positives} of {n} positive ({how})",
        )
    raise _unclear(published)


def _unclear(published: Published) -> ConfigError:
    return ConfigError(
        f"n alone does not tell how uncertain a published {published.metric} is",
        where="--published",
        needed="its interval (low=, high=), or of a mean its SD over the patients (sd=)",
    )


def _is_share(metric: str) -> bool:
    return metric.partition("/")[0] in SHARES


def _p_value(
    statistic: Statistic, units: Sequence[str], published: Published, published_error: float
) -> tuple[float, str]:
    n, value = len(units), point(statistic, len(units))
    if published.metric == "accuracy" and alone(units):
        if not published.n and not published_error:
            from scipy.stats import binomtest

            return float(binomtest(round(value * n), n, published.value).pvalue), "exact binomial test"
        if not math.isfinite(published.low):
            pooled = (value * n + published.value * published.n) / (n + published.n)
            error = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / published.n))
            return _two_sided(value - published.value, error), "score test of two independent proportions"
    error = math.sqrt(jackknife_variance(statistic, units) + published_error**2)
    return _two_sided(value - published.value, error), "z test, variance by the jackknife over the patients"


def _two_sided(difference: float, error: float) -> float:
    if not error > 0:
        return 1.0 if difference == 0 else math.nan
    return math.erfc(abs(difference) / error / math.sqrt(2))
