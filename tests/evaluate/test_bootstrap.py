"""The bootstrap: covers what it promises, resamples patients, repeats itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats

from medrail.evaluate import Measured, percentile_bootstrap, summary
from medrail.evaluate.bootstrap import FloatArray, wilson
from medrail.evaluate.intervals import Resampling
from medrail.evaluate.metrics import mean_over_patients


def measure_classification(
    truth: Sequence[int],
    probabilities: Sequence[Sequence[float]],
    patients: Sequence[str],
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Measured]:
    how = Resampling(patients, resamples, seed)
    return summary.measure_classification(summary.Answers.of(truth, probabilities, classes, how))


def measure_segmentation(
    scores: Sequence[dict[str, float]],
    patients: Sequence[str],
    counts: Any,
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> dict[str, Measured]:
    return summary.measure_segmentation(scores, counts, classes, Resampling(patients, resamples, seed))


def test_coverage_of_the_mean_at_50_patients() -> None:
    """1000 experiments: a right 95 % interval of 50 values covers between 92 and 97 % (its own SD is 0.7 %)."""
    generator = np.random.default_rng(1)
    patients = [str(index) for index in range(50)]
    covered = 0
    for seed in range(1000):
        values = generator.beta(8, 2, size=50)  # skewed like Dice
        low, high = percentile_bootstrap(
            {"mean": mean_over_patients(values, patients)}, patients, resamples=400, seed=seed
        )["mean"]
        covered += low <= 0.8 <= high
    assert 920 <= covered <= 970


def test_patients_are_resampled_not_cases() -> None:
    """Ten equal cases a patient add nothing: the interval is that of the patients."""
    values = np.random.default_rng(0).normal(size=30)
    patients = [str(index) for index in range(30)]
    alone = percentile_bootstrap({"mean": mean_over_patients(values, patients)}, patients, resamples=1000, seed=0)
    ten_times = [name for name in patients for _ in range(10)]
    many = percentile_bootstrap(
        {"mean": mean_over_patients(np.repeat(values, 10), ten_times)}, ten_times, resamples=1000, seed=0
    )
    assert many["mean"] == pytest.approx(alone["mean"])


def test_as_a_plain_loop() -> None:
    """The same resamples drawn one after the other give the same interval, also when they are made in chunks."""
    groups = ["a", "b", "b", "c", "d", "d", "d"]
    values = np.arange(7.0)

    def mean(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ values / weights.sum(axis=1))

    generator = np.random.default_rng(5)
    members = {name: [i for i, other in enumerate(groups) if other == name] for name in "abcd"}
    means = []
    for _ in range(500):
        drawn = [i for group in generator.integers(0, 4, size=4) for i in members["abcd"[group]]]
        means.append(values[drawn].mean())
    expected = np.percentile(means, (2.5, 97.5))
    assert percentile_bootstrap({"m": mean}, groups, resamples=500, seed=5)["m"] == pytest.approx(expected)


def test_chunks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    from medrail.evaluate import bootstrap

    patients = [str(index) for index in range(20)]
    statistic = {"mean": mean_over_patients(np.random.default_rng(0).normal(size=20), patients)}
    whole = percentile_bootstrap(statistic, patients, resamples=300, seed=3)
    monkeypatch.setattr(bootstrap, "_CHUNK_WEIGHTS", 140)
    assert percentile_bootstrap(statistic, patients, resamples=300, seed=3)["mean"] == pytest.approx(whole["mean"])
    assert percentile_bootstrap(statistic, patients, resamples=300, seed=4) != whole


def test_the_interval_holds_the_value_for_many_patients() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 200)
    probabilities = generator.dirichlet(np.ones(3), 200) + np.eye(3)[truth] * 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    measured = measure_classification(
        truth.tolist(), probabilities.tolist(), [str(i) for i in range(200)], "abc", resamples=500, seed=0
    )
    assert {"accuracy", "balanced_accuracy", "auc", "f1", "sensitivity/a"} <= set(measured)
    for name, one in measured.items():
        assert one.low < one.value < one.high, name
        assert " patients" in one.method
    assert measured["accuracy"].n == 200
    assert measured["sensitivity/a"].n == (truth == 0).sum()


def test_one_patient_is_resampled_by_cases_and_says_so() -> None:
    measured = measure_classification(
        [0, 1] * 10, [[0.9, 0.1]] * 20, ["only"] * 20, ["no", "yes"], resamples=300, seed=0
    )
    assert "over 20 cases of one patient" in measured["accuracy"].method
    assert measured["accuracy"].low < 0.5 < measured["accuracy"].high
    assert measured["sensitivity/yes"].value == 0


def test_one_case_has_no_interval() -> None:
    measured = measure_classification([1], [[0.1, 0.9]], ["only"], ["no", "yes"], resamples=300, seed=0)
    assert measured["accuracy"].to_json() == {
        "value": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "method": "no interval: one case",
    }
    assert Measured.from_json(measured["accuracy"].to_json()).value == 1
    assert math.isnan(measured["auc"].value)


def test_one_volume_is_resampled_by_axial_slices() -> None:
    counts = np.zeros((12, 2, 2), dtype=np.int64)
    counts[:, 0, 0] = 50
    counts[2:10, 1, 1], counts[2:10, 0, 1] = np.arange(10, 90, 10), 5
    scores = {"dice": 2 * 360 / (2 * 360 + 40), "iou": 360 / 400, "hd95_mm": 2.0}
    measured = measure_segmentation([scores], ["only"], counts, ["background", "brain"], resamples=500, seed=0)
    assert "over 8 axial slices that hold foreground" in measured["dice"].method
    assert measured["dice"].value == pytest.approx(scores["dice"])
    assert measured["dice"].low < measured["dice"].value < measured["dice"].high
    assert measured["iou"].low < 0.9 < measured["iou"].high
    assert math.isnan(measured["hd95_mm"].low)
    assert "no interval" in measured["hd95_mm"].method


def test_undefined_cases_are_left_out_and_counted() -> None:
    scores = [{"hd95_mm": value, "dice": 0.5} for value in (1.0, 3.0, math.nan, 2.0)]
    measured = measure_segmentation(scores, list("abcd"), None, ["background", "organ"], resamples=300, seed=0)
    assert measured["hd95_mm"].n == 3
    assert measured["hd95_mm"].value == pytest.approx(2)
    assert "left out: 1" in measured["hd95_mm"].method
    assert measured["dice"].n == 4
    assert math.isnan(measured["dice"].low), "four equal cases are no proof that all are equal"
    assert "alike" in measured["dice"].method


@pytest.mark.parametrize(("share", "n"), [(0.0, 5), (0.3, 10), (1.0, 83), (0.5, 400)])
def test_wilson_is_scipys(share: float, n: int) -> None:
    judge = scipy.stats.binomtest(round(share * n), n).proportion_ci(0.95, method="wilson")
    assert wilson(share, n) == pytest.approx((judge.low, judge.high), abs=1e-9)


def test_a_perfect_score_is_not_certain() -> None:
    """83 of 83 right is no proof of 100 %: the bootstrap, which sees only what happened, would say so."""
    truth = [0] * 83 + [1] * 40
    probabilities = [[0.9, 0.1]] * 83 + [[0.2, 0.8]] * 40
    single = measure_classification(truth, probabilities, ["p"] * 123, ["a", "b"], resamples=200, seed=0)
    assert (single["sensitivity/a"].low, single["sensitivity/a"].high) == pytest.approx((0.9557, 1.0), abs=1e-4)
    assert single["accuracy"].low == pytest.approx(wilson(1.0, 123)[0])
    assert single["auc"].low == pytest.approx(wilson(1.0, 40)[0])
    assert "separate pairs" in single["auc"].method
    assert "cases of one patient" in single["auc"].method
    by_patient = [f"p{n % 10}" for n in range(123)]
    grouped = measure_classification(truth, probabilities, by_patient, ["a", "b"], resamples=200, seed=0)
    assert grouped["accuracy"].low == pytest.approx(wilson(1.0, 10)[0], abs=1e-3), "ten patients are ten trials"
    assert "10 patients" in grouped["accuracy"].method


def test_an_interval_of_few_patients_is_called_a_guess() -> None:
    def dice_over(patients: int, defined: int = 100) -> str:
        scores = [{"dice": n / 10 if n < defined else math.nan} for n in range(patients)]
        names = [f"p{n}" for n in range(patients)]
        return measure_segmentation(scores, names, None, ["background", "organ"], resamples=200, seed=0)["dice"].method

    assert dice_over(2).endswith("; only 2 patients: the interval is a guess")
    assert "guess" in dice_over(4)
    assert "guess" not in dice_over(5)
    assert dice_over(9, defined=4).endswith(
        "left out: 5 cases in which it is not defined; only 4 patients: the interval is a guess"
    )
    assert "left out: 1 case in which" in dice_over(9, defined=8)


def test_a_class_of_few_patients_has_a_guessed_sensitivity() -> None:
    truth, right = [0] * 8 + [1] * 3, [[0.9, 0.1], [0.2, 0.8]]
    probabilities = [right[label] for label in truth]
    probabilities[0], probabilities[-1] = right[1], right[0]
    patients = [f"p{n}" for n in range(11)]
    measured = measure_classification(truth, probabilities, patients, ["a", "b"], resamples=300, seed=0)
    assert "only 3 patients: the interval is a guess" in measured["sensitivity/b"].method
    assert "guess" not in measured["accuracy"].method + measured["sensitivity/a"].method


def test_one_is_singular() -> None:
    measured = measure_classification(
        [0] * 8 + [1], [[0.9, 0.1]] * 8 + [[0.2, 0.8]], [f"p{n}" for n in range(9)], ["a", "b"], resamples=200, seed=0
    )
    assert "Wilson interval over 1 patient;" in measured["sensitivity/b"].method


def test_why_there_is_no_interval() -> None:
    """Three of four cases undefined: not one case, but all resamples that have a value have the same."""
    scores = [{"hd95_mm": value} for value in (1.0, math.nan, math.nan, math.nan)]
    method = measure_segmentation(scores, list("abcd"), None, ["background", "organ"], resamples=300, seed=0)
    low, said = method["hd95_mm"].low, method["hd95_mm"].method
    assert "one case" not in said
    assert math.isnan(low)
    assert "no interval: all bootstrap resamples are alike; left out: 3 cases" in said
