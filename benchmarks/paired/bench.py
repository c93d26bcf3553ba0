"""How often the paired tests of ``medrail compare`` raise a false alarm: 2,000 pairs of equally good models a row.

A test at the level of 5 % should say "different" in 5 % of them: more is a promise broken, less is strength given away.
Exact tests of few discordant cases cannot reach 5 %: the next smaller p they have is often far below. What a test that
takes cases of one patient for independent would do stands beside ours. The level of 5 % is that of a single test; the
last rows are Holm's correction over four metrics.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

from medrail.evaluate.answers import Answers, class_statistics, ranks
from medrail.evaluate.bootstrap import wilson
from medrail.evaluate.delong import delong_difference
from medrail.evaluate.holm import holm
from medrail.evaluate.mcnemar import mcnemar
from medrail.evaluate.over_seeds import group_test
from medrail.evaluate.signedranks import signed_ranks
from medrail.evaluate.signflip import flip_signs, flip_whole_numbers
from medrail.evaluate.swaps import swap_answers
from models import classifiers, dice_differences

REPEATS, PERMUTATIONS, LEVEL = 2000, 499, 0.05
Generator = np.random.Generator
Experiment = Callable[[Generator, int], float]
NOTES = (
    "Value: percent of the pairs of equally good models that were called different at p <= 0.05; beside it the 95 % "
    "interval of that percentage, not the smallest and largest round. n: pairs of models.",
    f"Permutations where they are drawn: {PERMUTATIONS}; `medrail compare` draws 9,999.",
)


def area(patients: int, **options: float) -> Experiment:
    def run(rng: Generator, _: int) -> float:
        first, second = classifiers(rng, patients, **options)
        scores = [one.probabilities[:, 1] for one in (first, second)]
        return delong_difference(first.truth == 1, *scores, first.patients).p

    return run


def area_ignoring_patients(patients: int, **options: float) -> Experiment:
    def run(rng: Generator, _: int) -> float:
        first, second = classifiers(rng, patients, **options)
        scores = [one.probabilities[:, 1] for one in (first, second)]
        return delong_difference(first.truth == 1, *scores, first.ids).p

    return run


def share(patients: int, part: str, **options: float) -> Experiment:
    def run(rng: Generator, _: int) -> float:
        first, second = (one.predicted == one.truth for one in classifiers(rng, patients, **options))
        return float(getattr(mcnemar(first, second), part))

    return run


def share_by_patient(patients: int, cases: int) -> Experiment:
    def run(rng: Generator, _: int) -> float:
        first, second = (one.predicted == one.truth for one in classifiers(rng, patients, cases=cases))
        sums = (second.astype(int) - first).reshape(patients, cases).sum(axis=1)
        found = flip_whole_numbers(sums)
        assert found is not None
        return found.p

    return run


def swapped(metric: str, patients: int, **options: float) -> Experiment:
    return lambda rng, seed: swap_p(*classifiers(rng, patients, **options), metric, seed)


def swap_p(first: Answers, second: Answers, metric: str, seed: int) -> float:
    """As ``medrail.evaluate.paired`` does it."""
    both = (first, second)
    probabilities = [ranks(one.probabilities) if metric == "auc" else one.probabilities for one in both]
    statistic = class_statistics(
        np.concatenate([one.truth for one in both]),
        np.concatenate([one.predicted for one in both]),
        np.concatenate(probabilities),
        first.classes,
    )[metric]
    return swap_answers(statistic, first.patients, permutations=PERMUTATIONS, seed=seed).p


def dice(patients: int, *, skew: bool = False) -> Experiment:
    return lambda rng, seed: (
        flip_signs(dice_differences(rng, patients, skew=skew), permutations=PERMUTATIONS, seed=seed).p
    )


def dice_ranks(patients: int, *, skew: bool = False) -> Experiment:
    return lambda rng, _: signed_ranks(dice_differences(rng, patients, skew=skew)).p


def seeds(patients: int, count: int, *, metric: str = "accuracy", luck: float = 0.2) -> Experiment:
    def run(rng: Generator, _: int) -> float:
        members = classifiers(rng, patients, count=2 * count, luck=luck)
        return group_test(members[:count], members[count:], metric, paired=True).p

    return run


def one_seed(patients: int) -> Experiment:
    """One run each, and from p the conclusion on the method; the runs differ by their seeds' luck only."""

    def run(rng: Generator, _: int) -> float:
        first, second = classifiers(rng, patients, luck=0.2)
        scores = [one.probabilities[:, 1] for one in (first, second)]
        return delong_difference(first.truth == 1, *scores, first.patients).p

    return run


def any_of_four(patients: int, *, corrected: bool) -> Experiment:
    """The smallest p of four metrics of one pair."""

    def run(rng: Generator, seed: int) -> float:
        first, second = classifiers(rng, patients)
        right = [one.predicted == one.truth for one in (first, second)]
        scores = [one.probabilities[:, 1] for one in (first, second)]
        found = [
            delong_difference(first.truth == 1, *scores, first.patients).p,
            mcnemar(*right).p,
            *(swap_p(first, second, metric, seed) for metric in ("balanced_accuracy", "f1")),
        ]
        return min(holm(found) if corrected else found)

    return run


# Name of the measure's last part -> what it is -> the experiment.
EXPERIMENTS: dict[str, tuple[str, Experiment]] = {
    "auc/delong/50": ("AUC, DeLong, 50 patients", area(50)),
    "auc/delong/100": ("AUC, DeLong, 100 patients", area(100)),
    "auc/delong/100/auc_0.76": ("AUC of 0.76 (above: of 0.93), DeLong, 100 patients", area(100, skill=0.7)),
    "auc/delong/400": ("AUC, DeLong, 400 patients", area(400)),
    "auc/delong/60x4": ("AUC, DeLong clustered by patient, 60 patients with 4 cases", area(60, cases=4)),
    "auc/delong/60x4/ignoring_patients": (
        "AUC, DeLong as if every case were a patient, 60 with 4 cases",
        area_ignoring_patients(60, cases=4),
    ),
    "auc/swaps/100": ("AUC, ranks swapped by patient, 100 patients", swapped("auc", 100)),
    "auc/swaps/3_classes": ("AUC of 3 classes, ranks swapped by patient, 100 patients", swapped("auc", 100, classes=3)),
    "accuracy/mcnemar/50": ("accuracy, McNemar exact, 50 patients", share(50, "p")),
    "accuracy/mcnemar/200": ("accuracy, McNemar exact, 200 patients", share(200, "p")),
    "accuracy/mcnemar/1000": ("accuracy, McNemar exact, 1,000 patients", share(1000, "p")),
    "accuracy/mid_p/50": ("accuracy, McNemar mid-p, 50 patients", share(50, "mid_p")),
    "accuracy/mid_p/200": ("accuracy, McNemar mid-p, 200 patients", share(200, "mid_p")),
    "accuracy/flips/60x4": ("accuracy, signs flipped by patient, 60 patients with 4 cases", share_by_patient(60, 4)),
    "accuracy/mcnemar/60x4/ignoring_patients": (
        "accuracy, McNemar as if every case were a patient, 60 with 4 cases",
        share(60, "p", cases=4),
    ),
    "balanced_accuracy/swaps/100": (
        "balanced accuracy, answers swapped by patient, 100 patients",
        swapped("balanced_accuracy", 100),
    ),
    "balanced_accuracy/swaps/400": (
        "balanced accuracy, answers swapped by patient, 400 patients",
        swapped("balanced_accuracy", 400),
    ),
    "balanced_accuracy/swaps/200/opposite_errors": (
        "balanced accuracy, 200 patients, the models err in opposite directions",
        swapped("balanced_accuracy", 200, bias=0.5),
    ),
    "f1/swaps/3_classes": ("F1 of 3 classes, answers swapped by patient, 200 patients", swapped("f1", 200, classes=3)),
    "f1/swaps/50x4": ("F1, answers swapped by patient, 50 patients with 4 cases", swapped("f1", 50, cases=4)),
    "dice/flips/6": ("Dice, signs flipped, 6 patients (all 64 ways)", dice(6)),
    "dice/flips/12": ("Dice, signs flipped, 12 patients (all ways)", dice(12)),
    "dice/flips/40": ("Dice, signs flipped, 40 patients", dice(40)),
    "dice/flips/40/skewed": ("Dice, signs flipped, 40 patients, skewed differences of mean 0", dice(40, skew=True)),
    "dice/signed_ranks/6": ("Dice, Wilcoxon's signed ranks, 6 patients", dice_ranks(6)),
    "dice/signed_ranks/12": ("Dice, Wilcoxon's signed ranks, 12 patients", dice_ranks(12)),
    "dice/signed_ranks/40": ("Dice, Wilcoxon's signed ranks, 40 patients", dice_ranks(40)),
    "dice/signed_ranks/40/skewed": (
        "Dice, Wilcoxon's signed ranks, 40 patients, skewed differences of mean 0",
        dice_ranks(40, skew=True),
    ),
    "seeds/accuracy/5x5": ("two groups of 5 seeds, accuracy, 100 patients", seeds(100, 5)),
    "seeds/accuracy/5x5/no_luck": (
        "two groups of 5 seeds, accuracy, 100 patients, all seeds equally good",
        seeds(100, 5, luck=0.0),
    ),
    "seeds/auc/3x3": ("two groups of 3 seeds, AUC, 100 patients", seeds(100, 3, metric="auc")),
    "seeds/auc/1x1/ignoring_seeds": (
        "one seed each, taken for the method: AUC, DeLong, 400 patients, seeds that vary by 0.026",
        one_seed(400),
    ),
    "any_of_4/uncorrected": ("any of four metrics, uncorrected, 200 patients", any_of_four(200, corrected=False)),
    "any_of_4/holm": ("any of four metrics, Holm, 200 patients", any_of_four(200, corrected=True)),
}


def false_alarms(experiment: Experiment, repeats: int) -> float:
    """The share of pairs with p at most 0.05."""
    alarms = 0
    for seed in range(repeats):
        p = experiment(np.random.default_rng([seed, 5]), seed)
        alarms += p <= LEVEL
    return alarms / repeats


def measures(repeats: int) -> Iterator[record.Measure]:
    for name, (title, experiment) in EXPERIMENTS.items():
        rate = false_alarms(experiment, repeats)
        low, high = wilson(rate, repeats)
        yield record.Measure(
            f"paired/false_alarms/{name}", *(round(100 * one, 2) for one in (rate, low, high)), "%", repeats, title
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    found = []
    for one in measures(parser.parse_args().repeats):
        found.append(one)
        print(one.name, one.value, flush=True)
    record.write("paired", found, NOTES)


if __name__ == "__main__":
    main()
