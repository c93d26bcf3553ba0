"""Non-inferiority: is a cheaper network worse by less than a margin, on the same patients?

A test that finds no difference proves nothing: with few patients none finds any. Here the burden lies on the cheaper
network. It is taken for worse by the whole margin until the patients' differences, one by one, make that unlikely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from medrail.config import did_you_mean
from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import FloatArray, left_out, point
from medrail.evaluate.delong import auc_components
from medrail.evaluate.metrics import BoolArray
from medrail.evaluate.paired import cases_of_share, kind_of, taken_right
from medrail.evaluate.units import means, members_of, units_of
from medrail.evaluate.verdict import has_unit, lower_is_better

ALPHA = 0.05
"""One-sided: how often a network that is worse by just the margin may pass."""
DRAWS = 20_000
_CHUNK = 4_000_000
_NOTHING = 1e-12
_NORMAL = NormalDist()


@dataclass(frozen=True)
class NonInferiority:
    """One metric of a candidate against that of the network it is to replace.

    difference, low, high:
        Candidate less base, with its 90 % interval: each end is a one-sided bound of 95 %. NaN where there is none.
    p:
        Of "worse by the margin or more", one-sided.
    passed:
        Whether the bad end of the interval lies within the margin.
    changed:
        Patients for whom the two networks' numbers differ at all.
    unseen:
        Share of patients so small that failures which hit only them would be missed in one of twenty such samples.
    why:
        Why there is no interval, or "".
    """

    metric: str
    margin: float
    difference: float
    low: float
    high: float
    p: float
    passed: bool
    method: str
    n: int
    patients: int
    changed: int = 0
    unseen: float = 1.0
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values, null for NaN."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in vars(self).items()
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> NonInferiority:
        """The inverse of ``to_json``."""
        numbers = ("difference", "low", "high", "p")
        read: dict[str, Any] = {
            name: math.nan if name in numbers and value is None else value for name, value in values.items()
        }
        return NonInferiority(**read)

    def sentence(self, title: str = "") -> str:
        """As a person is told.

        >>> NonInferiority("auc", 0.01, -0.002, -0.006, 0.002, 0.001, True, "", 90, 90).sentence("AUC")
        'AUC difference -0.002 [-0.006, +0.002], non-inferior at 0.01'
        """
        name = title or self.metric
        if not math.isfinite(self.low):
            return f"{name}: non-inferiority cannot be shown ({self.why})"
        form = "+z.4g" if has_unit(self.metric) else "+z.3f"
        if abs(self.margin) < 0.005 and not has_unit(self.metric):
            form = "+z.4f"
        numbers = [format(one, form) for one in (self.difference, self.low, self.high)]
        verdict = "non-inferior" if self.passed else "not shown to be non-inferior"
        return f"{name} difference {numbers[0]} [{numbers[1]}, {numbers[2]}], {verdict} at {self.margin:g}"


def non_inferiority(
    base: Answers, candidate: Answers, metric: str, margin: float, *, seed: int = 0, draws: int = DRAWS
) -> NonInferiority:
    """Test one metric of two networks whose answers stand in the same order (``match_cases``).

    The interval is the Bayesian bootstrap's (Rubin, Ann Stat 9:130, 1981): the patients get random weights again and
    again, and the difference is found anew. One more patient is among them, who was not seen: one for whom the
    candidate fails (for the upper end: the base). So the lower end is that of Gaffke (J Stat Plan Inference 135:428,
    2005) for the mean of bounded numbers, as it is for a share the exact binomial one: where no patient of n has
    changed, up to about 3 in n may have, and no evidence is made from nothing.

    How badly the unseen patient fails:

    * ``accuracy``, ``balanced_accuracy``, sensitivities and specificities: the answer is right before and wrong after.
      Of several classes it is in the one where that costs most.
    * Dice and other means over patients: by as much as the largest change seen, in either direction; by all of it where
      none was seen. Failures larger than any that was seen are not guarded against: ``unseen`` says how rare they
      would have to be.
    * ``auc`` of two classes: it is moved past as many cases as the one that was seen to move farthest, in either
      direction, from the place among the seen ones where that costs most. Near an area of 1 patients move far without
      passing one of the other class, so what the area itself has changed by would tell too little.
    * every other metric: as Dice, on what the difference is without each patient in turn (jackknife pseudo-values).

    Of all but the shares the interval is widened for few patients, as the resamples of a bootstrap vary too little and
    have the normal's tails (Hesterberg, The American Statistician 69, 2015, section 5.3).

    Parameters
    ----------
    margin:
        Above 0, in the metric's unit. For a metric of which less is better, so much more is allowed.
    draws:
        Random weights; the same seed gives the same interval.

    Raises
    ------
    ConfigError
        If the two have no such metric.
    """
    known = base.statistics()
    if metric not in known or metric not in candidate.statistics():
        raise ConfigError(
            f"the metric {metric!r} cannot be judged",
            where="slim.metric",
            needed=f"one of {', '.join(known)}",
            remedy=did_you_mean(metric, list(known), or_else=False),
        )
    found = _PARTS[_kind(base, metric)](base, candidate, metric)
    better = -1.0 if lower_is_better(metric) else 1.0
    none = NonInferiority(
        metric, margin, found.difference, math.nan, math.nan, 1.0, False, found.method, found.n, found.patients
    )
    if found.why:
        return NonInferiority(**{**vars(none), "why": found.why})
    parts = [part._replace(gains=better * part.gains) for part in found.parts]
    changed = _changed(parts)
    if not changed and has_unit(metric):
        return NonInferiority(
            **{**vars(none), "why": "no patient has changed, and nobody knows how much a change would cost"}
        )
    tail = _tail(found.widened)
    lowest, highest, beyond = _bounds(parts, better * found.offset, margin, tail, seed, draws)
    p = beyond if not found.widened else _widened_p(beyond, found.widened)
    low, high = (lowest, highest) if better > 0 else (-highest, -lowest)
    return NonInferiority(
        metric,
        margin,
        found.difference,
        low,
        high,
        p,
        passed=bool(lowest > -margin),
        method=found.method,
        n=found.n,
        patients=found.patients,
        changed=changed,
        unseen=1 - ALPHA ** (1 / max(1, min(int((part.sizes > 0).sum()) for part in parts))),
    )


def fewest_patients(margin: float) -> int:
    """How many patients it takes to show that a share is worse by less than the margin, if none of them changes.

    >>> fewest_patients(0.01)
    299
    """
    return math.ceil(math.log(ALPHA) / math.log1p(-margin))


class _Part(NamedTuple):
    """One mean that the difference is made of.

    gains, sizes:
        (P,) what each patient adds to its numerator, and to its denominator.
    worst:
        What the unseen patient loses, for a size of 1; 0: nothing has changed.
    """

    gains: FloatArray
    sizes: FloatArray
    worst: float


class _Found(NamedTuple):
    """The difference is ``offset`` and the sum of the parts' means.

    widened:
        For so many patients; 0: not at all.
    why:
        It cannot be told, because ...
    """

    difference: float
    parts: Sequence[_Part]
    offset: float
    method: str
    n: int
    patients: int
    widened: int = 0
    why: str = ""


_METHOD = "90 % interval of the Bayesian bootstrap over {units}, with one more for whom {what}"
_WRONG = "the answer goes wrong"
_AS_SEEN = "it gets worse by as much as the largest change seen"
_MOVED = "a case is moved past as many others as the farthest that was seen to move"


def _kind(answers: Answers, metric: str) -> str:
    kind = kind_of(answers, metric)
    return "balanced" if kind == "any" and metric == "balanced_accuracy" and not answers.multi_label else kind


def _mean(base: Answers, candidate: Answers, metric: str) -> _Found:
    both = np.isfinite(base.scores[metric]) & np.isfinite(candidate.scores[metric])
    units, unit = units_of([name for name, kept in zip(base.patients, both, strict=True) if kept])
    if len(set(units)) < 2:
        return _none(base, "fewer than two patients in whom both are defined")
    gains = means((candidate.scores[metric] - base.scores[metric])[both], units)
    lost = int(np.sum(np.isfinite(base.scores[metric]) & ~np.isfinite(candidate.scores[metric])))
    if lost:
        return _none(base, f"{metric} is not defined in {lost} cases in which it was before")
    part = _Part(gains, np.ones(len(gains)), _largest(gains))
    return _Found(float(gains.mean()), [part], 0.0, _told(unit, _AS_SEEN), len(units), len(gains), len(gains))


def _share(base: Answers, candidate: Answers, metric: str) -> _Found:
    kept = cases_of_share(base, metric)
    right = [taken_right(one, metric)[kept] for one in (base, candidate)]
    units, unit = units_of([name for name, counts in zip(base.patients, kept, strict=True) if counts])
    if not units:
        return _none(base, "no case of this class")
    part = _part_of_share(right[0], right[1], units, 1.0)
    difference = float(right[1].mean() - right[0].mean())
    return _Found(difference, [part], 0.0, _told(unit, _WRONG), len(units), len(set(units)))


def _balanced(base: Answers, candidate: Answers, metric: str) -> _Found:
    present = np.unique(base.truth)
    units, unit = units_of(base.patients)
    right = [one.predicted == one.truth for one in (base, candidate)]
    parts, difference = [], 0.0
    for index in present:
        of_class = np.asarray(base.truth == index)
        part = _part_of_share(right[0] & of_class, right[1] & of_class, units, 1 / len(present), of_class)
        parts.append(part)
        difference += float(part.gains.sum() / part.sizes.sum())
    told = _told(unit, f"{_WRONG}, of the class in which that costs most")
    return _Found(difference, parts, 0.0, told, len(units), len(set(units)))


def _part_of_share(
    before: BoolArray, after: BoolArray, units: Sequence[str], scale: float, counts: BoolArray | None = None
) -> _Part:
    members = members_of(units)
    gains = np.bincount(members, weights=scale * (after.astype(np.float64) - before)).astype(np.float64)
    sizes = np.bincount(members, weights=None if counts is None else counts).astype(np.float64)
    return _Part(gains, sizes, scale)


def _area(base: Answers, candidate: Answers, metric: str) -> _Found:
    """DeLong's components: their means over the positive and over the negative cases are the difference, each."""
    positive = np.asarray(base.truth == 1)
    units, unit = units_of(base.patients)
    members, count = members_of(units), len(set(units))
    before, after = (auc_components(positive, one.probabilities[:, 1]) for one in (base, candidate))
    if not math.isfinite(before.auc):
        return _none(base, "one of the classes has no case")
    worst = _moved(positive, base.probabilities[:, 1], candidate.probabilities[:, 1])
    parts = []
    for cases, gained, loss in (
        (positive, after.of_positives - before.of_positives, worst[0]),
        (~positive, after.of_negatives - before.of_negatives, worst[1]),
    ):
        gains = np.bincount(members[cases], weights=gained, minlength=count).astype(np.float64)
        sizes = np.bincount(members[cases], minlength=count).astype(np.float64)
        if (sizes > 0).sum() < 2:
            return _none(base, "one of the classes has cases of one patient only")
        parts.append(_Part(gains, sizes, loss))
    difference = after.auc - before.auc
    fewer = min(int((part.sizes > 0).sum()) for part in parts)
    return _Found(difference, parts, -difference, _told(unit, _MOVED), len(units), count, fewer)


def _moved(positive: BoolArray, before: FloatArray, after: FloatArray) -> tuple[float, float]:
    """What an unseen positive and an unseen negative case lose at most, if they are moved past as many cases as the
    farthest mover among the seen ones: shares of the other class.
    """
    ranks = [np.argsort(np.argsort(one, kind="stable"), kind="stable") for one in (before, after)]
    farthest = int(np.abs(_mid_ranks(before) - _mid_ranks(after)).max() + 0.5)
    upwards = positive[np.argsort(ranks[1], kind="stable")]  # the classes in the order of the candidate's scores
    if not farthest:
        return 0.0, 0.0
    return _passed(~upwards, upwards, farthest), _passed(upwards[::-1], ~upwards[::-1], farthest)


def _passed(others: BoolArray, own: BoolArray, steps: int) -> float:
    """The largest share of the others that one of its own passes, moved down by so many places."""
    below = np.concatenate([[0], np.cumsum(others)])
    at = np.flatnonzero(own)
    return float((below[at] - below[np.maximum(0, at - steps)]).max() / others.sum())


def _mid_ranks(values: FloatArray) -> FloatArray:
    """Places from the lowest up, equal values on the middle of theirs."""
    ordered = np.sort(values)
    return np.asarray((np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2)


def _any(base: Answers, candidate: Answers, metric: str) -> _Found:
    units, unit = units_of(base.patients)
    first, second = base.statistics()[metric], candidate.statistics()[metric]
    difference = point(second, len(units)) - point(first, len(units))
    without = left_out({"": lambda weights: second(weights) - first(weights)}, units)[""]
    if not math.isfinite(difference) or not np.isfinite(without).all() or len(without) < 2:
        return _none(base, "it is not defined, or not without one of the patients")
    gains = (len(without) - 1) * (without.mean() - without) + difference
    told = _told(unit, _AS_SEEN) + ", on jackknife pseudo-values"
    part = _Part(gains, np.ones(len(gains)), _largest(gains))
    return _Found(difference, [part], 0.0, told, len(units), len(set(units)), len(gains))


_PARTS: Mapping[str, Callable[[Answers, Answers, str], _Found]] = {
    "mean": _mean,
    "share": _share,
    "balanced": _balanced,
    "area": _area,
    "any": _any,
}


def _none(base: Answers, why: str) -> _Found:
    return _Found(math.nan, [], 0.0, f"no interval: {why}", len(base.ids), len(set(base.patients)), why=why)


def _told(unit: str, what: str) -> str:
    doubt = "" if unit == "patient" else "; one patient: says nothing of other patients"
    return _METHOD.format(units="patients" if unit == "patient" else "cases of one patient", what=what) + doubt


def _largest(gains: FloatArray) -> float:
    largest = float(np.abs(gains).max())
    return largest if largest > _NOTHING else 0.0


def _changed(parts: Sequence[_Part]) -> int:
    return int(np.sum(np.any([np.abs(part.gains) > _NOTHING for part in parts], axis=0)))


def _bounds(
    parts: Sequence[_Part], offset: float, margin: float, tail: float, seed: int, draws: int
) -> tuple[float, float, float]:
    """(lower, upper, p): each the least favourable of those with the unseen patient in one of the parts.

    Patients that are alike share one draw, of a gamma distribution: as many exponential weights added.
    """
    table = np.stack([column for part in parts for column in (part.gains, part.sizes)], axis=1)
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    unseen = rng.standard_exponential(draws)
    sums = np.empty((draws, table.shape[1]))
    chunk = max(1, _CHUNK // len(kinds))
    for first in range(0, draws, chunk):
        size = min(chunk, draws - first)
        sums[first : first + size] = rng.standard_gamma(counts, size=(size, len(kinds))) @ kinds
    nothing = not any(part.worst for part in parts)
    seen = [sums[:, 2 * place] / sums[:, 2 * place + 1] for place in range(len(parts))]
    lows, highs, ps = [], [], []
    for place, part in enumerate(parts):
        others = offset + sum(one for other, one in enumerate(seen) if other != place)
        typical = float(part.sizes.sum() / (part.sizes > 0).sum())
        weights = sums[:, 2 * place + 1] + unseen * typical
        lost = unseen * typical * (1.0 if nothing else part.worst)
        worse = others + (sums[:, 2 * place] - lost) / weights
        better = others + (sums[:, 2 * place] + lost) / weights
        lows.append(float(np.quantile(worse, tail)))
        highs.append(float(np.quantile(better, 1 - tail)))
        ps.append(float((np.sum(worse <= -margin) + 1) / (draws + 1)))
    return min(lows), max(highs), max(ps)


def _tail(patients: int) -> float:
    """The share of the draws beyond an end of the interval: 5 %, less for few patients."""
    if not patients:
        return ALPHA
    from scipy import special

    return _NORMAL.cdf(float(special.stdtrit(patients - 1, ALPHA)) * _stretch(patients))


def _widened_p(share: float, patients: int) -> float:
    """The p that is 5 % where the share of the draws is ``_tail``."""
    from scipy import special

    return float(special.stdtr(patients - 1, _NORMAL.inv_cdf(share) / _stretch(patients))) if share < 1 else 1.0


def _stretch(patients: int) -> float:
    return math.sqrt(patients / (patients - 1))
