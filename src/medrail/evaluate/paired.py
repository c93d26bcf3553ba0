"""The difference of two runs on the same cases: with interval, p-value and effect size, by patient.

Which test belongs to which metric is the table ``TESTS``. Differences are the second run less the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medrail.cases.listing import counted
from medrail.evaluate.answers import Answers, is_ranked, ranks
from medrail.evaluate.bca import bca_intervals
from medrail.evaluate.bootstrap import LEVEL, Statistic, point
from medrail.evaluate.delong import delong_difference
from medrail.evaluate.mcnemar import McNemar, mcnemar, paired_interval
from medrail.evaluate.metrics import BoolArray, mean_over_patients
from medrail.evaluate.signedranks import signed_ranks
from medrail.evaluate.signflip import Chance, flip_signs, flip_whole_numbers
from medrail.evaluate.swaps import swap_answers
from medrail.evaluate.units import alone, means, members_of, standardised, units_of

SHARES = ("accuracy", "sensitivity", "specificity")
"""Metrics that are the share of right answers among cases that do not hang on the answers."""


@dataclass(frozen=True)
class Drawing:
    """How often is drawn for intervals and permutations, and from which seed."""

    resamples: int = 2000
    permutations: int = 9999
    seed: int = 0


@dataclass(frozen=True)
class Further:
    """The same question asked another way, for whoever wonders whether the answer hangs on the method."""

    method: str
    p: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """One metric of two runs on the same cases.

    difference, low, high:
        Second run less first, with its 95 % interval (NaN where there is none).
    p:
        Two-sided; NaN where the metric is not defined.
    smallest_p:
        The smallest that this test could have given with so many patients.
    effect:
        Name -> the difference without a unit: ``cohen_dz``, ``odds_ratio`` (NaN where not defined).
    counts:
        What the effect was made of, as ``gained`` and ``lost``.
    further:
        Other tests of the same difference, never to be chosen from.
    """

    metric: str
    difference: float
    low: float
    high: float
    p: float
    method: str
    n: int
    patients: int
    smallest_p: float = 0.0
    effect: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    further: tuple[Further, ...] = ()


def paired_test(first: Answers, second: Answers, metric: str, drawing: Drawing) -> PairedTest:
    """Test one metric of two runs whose answers stand in the same order (``match_cases``).

    * segmentation: the patients' mean differences by sign-flip permutation; beside it Wilcoxon's signed ranks.
    * ``accuracy``, ``sensitivity``, ``specificity``: McNemar's exact test, beside it mid-p; with several cases a
      patient the exact sign-flip permutation of the patients' sums.
    * ``auc`` of two classes: DeLong, clustered by patient; beside it the permutation of the ranks.
    * every other metric, and every one of several labels a case: permutation, the two runs' answers of a patient
      swapped.
    """
    return TESTS[kind_of(first, metric)](first, second, metric, drawing)


def kind_of(answers: Answers, metric: str) -> str:
    """Which row of ``TESTS`` a metric belongs to."""
    if answers.task == "segmentation":
        return "mean"
    if answers.multi_label:
        return "any"
    if metric == "auc" and len(answers.classes) == 2 and not answers.folds:
        return "area"
    if metric.partition("/")[0] in SHARES:
        return "share"
    return "any"


def mean_test(first: Answers, second: Answers, metric: str, drawing: Drawing) -> PairedTest:
    both = np.isfinite(first.scores[metric]) & np.isfinite(second.scores[metric])
    differences = (second.scores[metric] - first.scores[metric])[both]
    units, unit = units_of([name for name, kept in zip(first.patients, both, strict=True) if kept])
    if not len(units):
        return _undefined(metric, "no case in which both are defined")
    by_patient = means(differences, units)
    chance = flip_signs(by_patient, permutations=drawing.permutations, seed=drawing.seed)
    low, high, interval = _interval(mean_over_patients(differences, units), units, unit, drawing)
    ranked = signed_ranks(by_patient)
    middle = Further(f"{ranked.method}, middle of the differences", ranked.p, ranked.middle, ranked.low, ranked.high)
    left_out = len(both) - len(differences)
    fewer = f"; left out: {counted(left_out, 'case')} not defined in both runs" if left_out else ""
    return PairedTest(
        metric,
        float(by_patient.mean()),
        low,
        high,
        chance.p,
        _said(chance, unit, interval) + fewer,
        n=len(differences),
        patients=len(by_patient),
        smallest_p=chance.smallest,
        effect={"cohen_dz": standardised(by_patient)},
        counts={"higher": int(np.sum(by_patient > 0)), "lower": int(np.sum(by_patient < 0))},
        further=(middle,),
    )


def share_test(first: Answers, second: Answers, metric: str, drawing: Drawing) -> PairedTest:
    kept = cases_of_share(first, metric)
    right = [taken_right(one, metric)[kept] for one in (first, second)]
    units, unit = units_of([name for name, counts in zip(first.patients, kept, strict=True) if counts])
    if not len(units):
        return _undefined(metric, "no case of this class")
    table = mcnemar(*right)
    difference = (table.gained - table.lost) / len(units)
    shared: dict[str, Any] = {
        "n": len(units),
        "patients": len(set(units)),
        "effect": {"odds_ratio": table.odds_ratio},
        "counts": {"gained": table.gained, "lost": table.lost},
    }
    if len(set(units)) == len(units):
        return _mcnemar_test(metric, difference, table, unit, shared)
    changes = right[1].astype(np.int64) - right[0]
    sums = np.bincount(members_of(units), weights=changes).astype(np.int64)
    options = {"permutations": drawing.permutations, "seed": drawing.seed}
    chance = flip_whole_numbers(sums) or flip_signs(sums, **options)
    low, high, interval = _interval(_mean(changes), units, unit, drawing)
    method = _said(chance, unit, interval)
    return PairedTest(metric, difference, low, high, chance.p, method, smallest_p=chance.smallest, **shared)


def cases_of_share(answers: Answers, metric: str) -> BoolArray:
    """(n,): the cases that ``accuracy``, a sensitivity or a specificity is a share of."""
    rate, _, name = metric.partition("/")
    if rate == "accuracy":
        return np.ones(len(answers.ids), dtype=bool)
    of_class = answers.truth == answers.classes.index(name or answers.classes[1])
    return np.asarray(of_class if rate == "sensitivity" else ~of_class)


def taken_right(answers: Answers, metric: str) -> BoolArray:
    """(n,): whether the case counts as right; for a specificity, whether it is not taken for the class."""
    rate, _, name = metric.partition("/")
    if rate == "specificity":
        return np.asarray(answers.predicted != answers.classes.index(name or answers.classes[1]))
    return np.asarray(answers.predicted == answers.truth)


def _mcnemar_test(metric: str, difference: float, table: McNemar, unit: str, shared: Mapping[str, Any]) -> PairedTest:
    low, high = paired_interval(table.gained, table.lost, shared["n"])
    smallest = min(1.0, 2.0 ** (1 - table.gained - table.lost))
    method = f"exact McNemar test; {LEVEL:.0%} score interval (Tango)" + _doubt(unit)
    mid = Further("McNemar test with mid-p", table.mid_p, difference, low, high)
    return PairedTest(metric, difference, low, high, table.p, method, smallest_p=smallest, further=(mid,), **shared)


def area_test(first: Answers, second: Answers, metric: str, drawing: Drawing) -> PairedTest:
    units, unit = units_of(first.patients)
    scores = [one.probabilities[:, 1] for one in (first, second)]
    # DeLong gives its first less its second; here it is the second run less the first.
    found = delong_difference(first.truth == 1, scores[1], scores[0], units)
    statistic, chance = _swapped(first, second, metric, units, drawing)
    low, high, interval = _interval(statistic, units, unit, drawing)
    swapped = Further(_said(chance, unit, interval), chance.p, found.difference, low, high)
    if not math.isfinite(found.p):  # too few patients of one class, or no spread at all
        return swap_test(first, second, metric, drawing)
    return PairedTest(
        metric,
        found.difference,
        found.low,
        found.high,
        found.p,
        "DeLong test and interval" + ("" if alone(units) else ", clustered by patient (Obuchowski)") + _doubt(unit),
        n=len(units),
        patients=len(set(units)),
        further=(swapped,) if math.isfinite(chance.p) else (),
    )


def swap_test(first: Answers, second: Answers, metric: str, drawing: Drawing) -> PairedTest:
    units, unit = units_of(first.patients)
    statistic, chance = _swapped(first, second, metric, units, drawing)
    low, high, interval = _interval(statistic, units, unit, drawing)
    difference = point(statistic, len(units))
    return PairedTest(
        metric,
        difference,
        low,
        high,
        chance.p if math.isfinite(difference) else math.nan,
        _said(chance, unit, interval),
        n=len(units),
        patients=len(set(units)),
        smallest_p=chance.smallest,
    )


PairTest = Callable[[Answers, Answers, str, Drawing], PairedTest]
TESTS: Mapping[str, PairTest] = {"mean": mean_test, "share": share_test, "area": area_test, "any": swap_test}
"""Kind of metric -> its test."""


def _swapped(
    first: Answers, second: Answers, metric: str, units: Sequence[str], drawing: Drawing
) -> tuple[Statistic, Chance]:
    """The metric's difference as a function of the cases' weights, and its permutation test.

    Where only the order counts, the probabilities are replaced by their ranks among the run's own before they are
    swapped, since the two runs' scales need not be the same (Bandos, Rockette and Gur, Stat Med 24:2873, 2005).
    """
    before, after = first.statistics()[metric], second.statistics()[metric]
    probabilities = [
        ranks(one.probabilities, metric) if is_ranked(metric) else one.probabilities for one in (first, second)
    ]
    both = replace(
        first,
        truth=np.concatenate([first.truth, second.truth]),
        predicted=np.concatenate([first.predicted, second.predicted]),
        probabilities=np.concatenate(probabilities),
        folds=(*first.folds, *second.folds),
    )
    stacked = both.statistics()[metric]
    chance = swap_answers(stacked, units, permutations=drawing.permutations, seed=drawing.seed)
    return lambda weights: after(weights) - before(weights), chance


def _mean(values: Any) -> Statistic:
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def _interval(statistic: Statistic, units: Sequence[str], unit: str, drawing: Drawing) -> tuple[float, float, str]:
    found = bca_intervals({"": statistic}, units, resamples=drawing.resamples, seed=drawing.seed)[""]
    if not math.isfinite(found.low):
        return math.nan, math.nan, found.method
    if found.high - found.low <= 1e-12 * max(1.0, abs(found.low)):
        return math.nan, math.nan, "no interval: all bootstrap resamples are alike"
    return found.low, found.high, f"{LEVEL:.0%} {found.method} by {unit}, {drawing.resamples} resamples"


def _said(chance: Chance, unit: str, interval: str) -> str:
    return f"{chance.method.replace('by patient', f'by {unit}')}; {interval}{_doubt(unit)}"


def _doubt(unit: str) -> str:
    return "" if unit == "patient" else "; one patient: says nothing of other patients"


def _undefined(metric: str, why: str) -> PairedTest:
    return PairedTest(metric, math.nan, math.nan, math.nan, math.nan, f"no test: {why}", n=0, patients=0)
