"""How often ``medrail slim`` would take a network that is worse by just the margin: 2,000 pairs a row.

A one-sided test at 5 % may do so in 5 % of them: more is a promise broken, less is strength given away. Beside it stand
what the usual ways would do (the t test of the differences, DeLong's interval, the percentile bootstrap, each at the
same level), how often a network that is as good as the other passes, and where any test of so few patients must fail.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import record
from populations import Population, changed_answers, even, failing, outlined, ranked, ranked_with_failures, skewed

from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import resampled, wilson
from medrail.evaluate.delong import delong_difference
from medrail.evaluate.noninferiority import non_inferiority

REPEATS, DRAWS = 2000, 2000
SIZES = (30, 50, 100, 300)
_Z, _Z95 = 1.6448536, 1.9599640
Test = Callable[[Answers, Answers, str, float, int], bool]
NOTES = (
    "Value: percent of the pairs in which the second network was accepted; beside it the 95 % interval of that "
    "percentage, not the smallest and largest round. n: pairs of networks.",
    f"Random weights a test: {DRAWS}; `medrail slim` draws 20,000.",
    "Rows `error`: worse by just the margin, so at most 5 is right. Rows `power`: as good as the first, so more is "
    "better. Rows `usual`: other tests on the same pairs. Rows `limit`: failures that so few patients need not show.",
)


def ours(base: Answers, candidate: Answers, metric: str, margin: float, seed: int) -> bool:
    return non_inferiority(base, candidate, metric, margin, seed=seed, draws=DRAWS).passed


def delong(base: Answers, candidate: Answers, metric: str, margin: float, seed: int) -> bool:
    """The 90 % interval of DeLong's difference; no spread counts as no interval at all."""
    scores = [one.probabilities[:, 1] for one in (candidate, base)]
    found = delong_difference(base.truth == 1, *scores, base.patients)
    if not math.isfinite(found.low):
        return found.difference > -margin
    return found.difference - (found.high - found.low) / 2 * _Z / _Z95 > -margin


def t_test(base: Answers, candidate: Answers, metric: str, margin: float, seed: int) -> bool:
    from scipy.special import stdtrit

    gains = candidate.scores[metric] - base.scores[metric]
    return bool(gains.mean() - stdtrit(len(gains) - 1, 0.95) * gains.std(ddof=1) / math.sqrt(len(gains)) > -margin)


def percentile(base: Answers, candidate: Answers, metric: str, margin: float, seed: int) -> bool:
    first, second = base.statistics()[metric], candidate.statistics()[metric]
    drawn = resampled({"": lambda w: second(w) - first(w)}, base.patients, resamples=500, seed=seed)[""]
    return bool(np.nanquantile(drawn, 0.05) > -margin)


@dataclass(frozen=True)
class Setting:
    """One kind of pair: ``name`` in the measure, ``told`` in the table."""

    metric: str
    name: str
    told: str
    population: Population
    margin: float = 0.01
    usual: Test | None = None


SETTINGS = (
    Setting("auc", "even", "AUC 0.93, much alike (0.98)", ranked(0.93, 0.98), usual=delong),
    Setting("auc", "less_alike", "AUC 0.85, less alike (0.8)", ranked(0.85, 0.8)),
    Setting("auc", "near_1", "AUC 0.99, alike (0.95)", ranked(0.99, 0.95), usual=delong),
    Setting("auc", "rare", "AUC 0.93, one in five positive, alike (0.95)", ranked(0.93, 0.95, positives=0.2)),
    Setting("auc", "failures", "AUC 0.93, blind in 2.3 % of the positive", ranked_with_failures(0.93), usual=delong),
    Setting("auc", "margin_0.05", "AUC 0.93, margin 0.05, alike (0.9)", ranked(0.93, 0.9), margin=0.05),
    Setting("accuracy", "only_lost", "accuracy, nothing gained", changed_answers(gained=0.0), usual=percentile),
    Setting("accuracy", "both", "accuracy, 3 % gained", changed_answers(gained=0.03), usual=percentile),
    Setting("accuracy", "near_1", "accuracy 0.99, margin 0.05", changed_answers(gained=0.0, right=0.99), margin=0.05),
    Setting("accuracy", "margin_0.05", "accuracy, 5 % gained, margin 0.05", changed_answers(gained=0.05), margin=0.05),
    Setting(
        "balanced_accuracy", "even", "balanced accuracy, both classes", changed_answers(gained=0.02, balanced="even")
    ),
    Setting(
        "balanced_accuracy",
        "small",
        "balanced accuracy, all in the class of 30 %",
        changed_answers(gained=0.0, balanced="small"),
        usual=percentile,
    ),
    Setting(
        "balanced_accuracy",
        "margin_0.05",
        "balanced accuracy, both classes, margin 0.05",
        changed_answers(gained=0.03, balanced="even"),
        margin=0.05,
    ),
    Setting("dice", "even", "Dice, all patients alike (SD 0.02)", outlined(even(0.02)), usual=t_test),
    Setting("dice", "skewed", "Dice, mostly better, now and then much worse", outlined(skewed(0.01)), usual=t_test),
    Setting("dice", "failures", "Dice, all of the loss in 1 of 10 patients", outlined(failing(10)), usual=t_test),
    Setting("dice", "margin_0.05", "Dice, margin 0.05 (SD 0.08)", outlined(even(0.08)), margin=0.05),
)
LIMIT = Setting("dice", "failures", "Dice, all of the loss in 1 of 50 patients", outlined(failing(50)))
POWER = (
    Setting("auc", "even", "AUC 0.93, much alike (0.98)", ranked(0.93, 0.98)),
    Setting("auc", "very_alike", "AUC 0.93, hardly changed (0.9995)", ranked(0.93, 0.9995)),
    Setting("accuracy", "none", "accuracy, no patient changes", changed_answers(gained=0.0)),
    Setting("accuracy", "both", "accuracy, 1 % gained and lost", changed_answers(gained=0.01)),
    Setting("balanced_accuracy", "none", "balanced accuracy, none", changed_answers(gained=0.0, balanced="even")),
    Setting("dice", "even", "Dice, SD 0.02", outlined(even(0.02))),
    Setting("dice", "very_alike", "Dice, SD 0.003", outlined(even(0.003))),
)


def accepted(setting: Setting, patients: int, test: Test, repeats: int, *, worse: float | None = None) -> float:
    """The share of pairs in which the second network passes."""
    loss = setting.margin if worse is None else worse
    passed = 0
    for seed in range(repeats):
        pair = setting.population(np.random.default_rng([seed, patients]), patients, loss)
        passed += test(*pair, setting.metric, setting.margin, seed)
    return passed / repeats


def measures(repeats: int) -> Iterator[record.Measure]:
    for setting in SETTINGS:
        for patients in SIZES:
            yield _measure("error", setting, patients, accepted(setting, patients, ours, repeats), repeats)
            if setting.usual:
                rate = accepted(setting, patients, setting.usual, repeats)
                yield _measure("usual", setting, patients, rate, repeats, _TOLD[setting.usual])
    for patients in SIZES:
        yield _measure("limit", LIMIT, patients, accepted(LIMIT, patients, ours, repeats), repeats)
    for setting in POWER:
        for patients in (*SIZES, 1000):
            yield _measure("power", setting, patients, accepted(setting, patients, ours, repeats, worse=0.0), repeats)


_TOLD: dict[Test, str] = {delong: "DeLong", t_test: "t test", percentile: "percentile bootstrap"}


def _measure(kind: str, setting: Setting, patients: int, rate: float, repeats: int, usual: str = "") -> record.Measure:
    name = f"noninferiority/{kind}/{setting.metric}/{setting.name}/{patients}"
    values = (round(100 * one, 2) for one in (rate, *wilson(rate, repeats)))
    return record.Measure(name, *values, "%", repeats, f"{setting.told}{usual and '; ' + usual}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    found = []
    for one in measures(arguments.repeats):
        found.append(one)
        print(one.name, one.value, flush=True)
    if not arguments.dry:
        record.write("noninferiority", found, NOTES)


if __name__ == "__main__":
    main()
