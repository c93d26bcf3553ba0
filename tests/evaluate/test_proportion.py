"""Intervals of shares, of their mean, of areas and of whatever else: against scipy, by hand and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from medrail.evaluate.bootstrap import left_out, point, wilson
from medrail.evaluate.chosen import Area, MeanShare, chosen_intervals
from medrail.evaluate.jackknife import jackknife_interval
from medrail.evaluate.metrics import classification_statistics
from medrail.evaluate.proportion import Share, mean_share_interval, share_interval
from medrail.evaluate.scoring import mean_of, probability_statistics


@pytest.mark.parametrize("right", [0, 3, 17, 20])
def test_one_case_a_patient_is_scipys_wilson(right: int) -> None:
    found = share_interval(Share.of_all(np.arange(20) < right), range(20))
    judge = stats.binomtest(right, 20).proportion_ci(0.95, method="wilson")
    assert found[:2] == pytest.approx((judge.low, judge.high), abs=1e-9)
    assert found.method == "95% Wilson interval over 20 patients"


def test_only_cases_that_count_count() -> None:
    counts = np.arange(30) < 10
    found = share_interval(Share(np.ones(30, bool), counts), range(30))
    assert found[:2] == pytest.approx(wilson(1.0, 10))
    nothing = share_interval(Share(np.ones(3, bool), np.zeros(3, bool)), list("abc"))
    assert math.isnan(nothing.low)
    assert nothing.method == "no interval: no case counts"


def test_copies_of_a_case_are_worth_one() -> None:
    """Five equal cases of each of 40 patients are 40 trials, and five independent ones nearly 200."""
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), 5).tolist()
    alike = share_interval(Share.of_all(np.repeat(generator.random(40) < 0.7, 5)), patients)
    own = share_interval(Share.of_all(generator.random(200) < 0.7), patients)
    assert "40 patients, whose 200 cases are worth 39 independent ones" in alike.method
    worth = int(own.method.rsplit(" ", 3)[1])
    assert 120 < worth <= 200
    assert own.high - own.low < 0.6 * (alike.high - alike.low)


def test_all_right_is_as_many_trials_as_patients() -> None:
    found = share_interval(Share.of_all(np.ones(60, bool)), np.repeat(np.arange(12), 5).tolist())
    assert found[:2] == pytest.approx(wilson(1.0, 12))


@pytest.mark.parametrize(("most_cases", "low", "high"), [(1, 0.93, 0.985), (6, 0.93, 0.985)])
def test_shares_cover(most_cases: int, low: float, high: float) -> None:
    """800 experiments with 30 patients, whose cases are alike to a degree; the SD of the share is 0.8 %."""
    generator, covered = np.random.default_rng(most_cases), 0
    for _ in range(800):
        members = np.repeat(np.arange(30), generator.integers(1, most_cases + 1, 30))
        latent = math.sqrt(0.6) * generator.normal(size=30)[members] + math.sqrt(0.4) * generator.normal(
            size=len(members)
        )
        found = share_interval(Share.of_all(latent < stats.norm.ppf(0.85)), members.tolist())
        covered += found.low <= 0.85 <= found.high
    assert low <= covered / 800 <= high


def test_the_mean_of_equal_shares_by_hand() -> None:
    """Two classes of 25 cases each with the same share: MOVER's half-widths are the shares' own over the root of 2."""
    right = np.tile(np.arange(25) < 20, 2)
    shares = [Share(right, np.arange(50) < 25), Share(right, np.arange(50) >= 25)]
    low, high = wilson(0.8, 25)
    found = mean_share_interval(shares, range(50))
    assert found[:2] == pytest.approx((0.8 - (0.8 - low) / math.sqrt(2), 0.8 + (high - 0.8) / math.sqrt(2)))
    same = mean_share_interval([shares[0], shares[0]], range(50))
    assert same[:2] == pytest.approx((low, high)), "a share with itself is wholly related"
    empty = Share(right, np.zeros(50, bool))
    assert mean_share_interval([shares[0], empty], range(50))[:2] == pytest.approx((low, high))
    assert math.isnan(mean_share_interval([], range(50)).low)


def test_a_perfect_class_still_has_its_doubt() -> None:
    right = np.ones(40, bool)
    shares = [Share(right, np.arange(40) < 5), Share(right, np.arange(40) >= 5)]
    assert mean_share_interval(shares, range(40)).low < 0.85


def test_the_jackknife_by_hand() -> None:
    """Of a mean the jackknife's standard error is the usual one."""
    values = np.random.default_rng(0).beta(5, 2, 30)
    found = jackknife_interval(values.mean(), left_out({"m": mean_of(values)}, range(30))["m"])
    scale = values.std(ddof=1) / math.sqrt(30) / (values.mean() * (1 - values.mean()))
    logits = stats.t.interval(0.95, 29, loc=special.logit(values.mean()), scale=scale)
    assert found[:2] == pytest.approx(special.expit(np.array(logits)))


@pytest.mark.parametrize(
    ("value", "without", "why"),
    [
        (math.nan, [0.5, 0.6], "not defined"),
        (1.0, [1.0, 1.0], "a value of exactly 1 shows no doubt"),
        (0.5, [0.5, math.nan], "it hangs on one patient"),
        (0.5, [0.5], "it hangs on one patient"),
        (0.5, [0.5, 0.5], "the same without any of the patients"),
    ],
)
def test_the_jackknife_says_why_it_has_none(value: float, without: list[float], why: str) -> None:
    found = jackknife_interval(value, np.array(without))
    assert math.isnan(found.low)
    assert why in found.method


def test_every_number_gets_the_method_of_its_kind() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 60)
    probabilities = np.stack([1 - (p := np.clip(truth * 0.3 + generator.random(60) * 0.7, 0, 1)), p], axis=1)
    predicted = probabilities.argmax(axis=1)
    statistics = classification_statistics(truth, probabilities, "ab") | probability_statistics(truth, probabilities)
    shares = tuple(Share(predicted == truth, truth == k) for k in range(2))
    kinds = {
        "accuracy": Share.of_all(predicted == truth),
        "balanced_accuracy": MeanShare(shares),
        "auprc": Area(),
        "sensitivity/b": shares[1],
    }
    patients = np.repeat(np.arange(30), 2).tolist()
    found = chosen_intervals(statistics, kinds, patients, resamples=300, seed=0)
    assert set(found) == set(statistics)
    for name, statistic in statistics.items():
        value = point(statistic, 60)
        assert found[name].low < value < found[name].high, name
    assert found["accuracy"].method.startswith("95% Wilson interval over 30 patients, whose 60 cases are worth")
    assert "MOVER" in found["balanced_accuracy"].method
    assert found["auprc"].method == "95% jackknife interval on the logit scale over 30 patients"
    assert found["brier"].method == "95% BCa bootstrap over 30 patients, 300 resamples"


def test_an_area_that_hangs_on_one_patient_is_bootstrapped() -> None:
    truth, scores = np.array([1] + [0] * 9), np.array([0.6, 0.9, 0.8, *np.linspace(0.1, 0.5, 7)])
    statistics = probability_statistics(truth, np.stack([1 - scores, scores], axis=1))
    found = chosen_intervals(statistics, {"auprc": Area()}, range(10), resamples=500, seed=0)["auprc"]
    assert "percentile bootstrap" in found.method
    perfect = probability_statistics(truth, np.stack([truth == 0, truth == 1], axis=1).astype(float))
    found = chosen_intervals(perfect, {"auprc": Area()}, range(10), resamples=500, seed=0)["auprc"]
    assert found.method == "no interval: a value of exactly 1 shows no doubt"
