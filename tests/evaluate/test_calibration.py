"""Reliability, calibration error and temperature: hand cases, laws, scikit-learn and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import optimize, special

from answers import answers
from medrail.evaluate.bootstrap import point, wilson
from medrail.evaluate.by_chance import calibration_error_interval, expected_by_chance
from medrail.evaluate.calibration import (
    classwise_calibration_error,
    expected_calibration_error,
    fit_temperature,
    named_class,
    reliability,
    softmax,
)


def by_hand(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    total = 0.0
    for low in range(bins):
        here = [i for i, c in enumerate(confidence) if max(0, math.ceil(round(c * bins, 9)) - 1) == low]
        total += abs(sum(confidence[i] - correct[i] for i in here))
    return total / len(confidence)


@settings(deadline=None, max_examples=100)
@given(answers(), st.data())
def test_error_by_hand_and_weighted(answer: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    confidence, correct = named_class(answer[1], answer[0])
    confidence = np.round(confidence, 6)
    error = expected_calibration_error(confidence, correct, 7)
    assert point(error, len(correct)) == pytest.approx(by_hand(confidence, correct, 7))
    bins = reliability(confidence, correct, 7)
    assert sum(one.n for one in bins) == len(correct)
    gaps = [one.n * abs(one.confidence - one.accuracy) for one in bins if one.n]
    assert sum(gaps) / len(correct) == pytest.approx(point(error, len(correct)))
    times = data.draw(hnp.arrays(np.int64, len(correct), elements=st.integers(0, 3)))
    repeated = expected_calibration_error(np.repeat(confidence, times), np.repeat(correct, times), 7)
    weighted = float(error(times[None].astype(float))[0])
    assert weighted == pytest.approx(point(repeated, int(times.sum())), nan_ok=True)


def test_the_curve_is_scikit_learns() -> None:
    judge = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(0)
    chance = generator.random(500) ** 2
    positive = generator.random(500) < chance
    for equal_mass, strategy in ((False, "uniform"), (True, "quantile")):
        true, said = judge.calibration_curve(positive, chance, n_bins=8, strategy=strategy)
        bins = [one for one in reliability(chance, positive, 8, equal_mass=equal_mass) if one.n]
        tolerance = (
            0.03 if equal_mass else 1e-9
        )  # at a quantile between two cases we take the lower one, they the middle
        assert [one.accuracy for one in bins] == pytest.approx(list(true), abs=tolerance)
        assert [one.confidence for one in bins] == pytest.approx(list(said), abs=tolerance)
        assert bins[0].accuracy_low == wilson(bins[0].accuracy, bins[0].n)[0]


def test_equal_mass_is_equal_and_ties_stay_together() -> None:
    bins = reliability(np.linspace(0.5, 1, 100), np.ones(100), 4, equal_mass=True)
    assert [one.n for one in bins] == [25] * 4
    tied = reliability([0.9] * 50 + [0.95] * 2, [True] * 52, 5, equal_mass=True)
    assert [one.n for one in tied] == [50, 2]
    assert [one.n for one in reliability([0.7] * 5, [True] * 5, 3, equal_mass=True)] == [5]


def test_no_case_and_empty_bins_are_undefined_without_a_warning() -> None:
    assert all(one.n == 0 and math.isnan(one.accuracy) for one in reliability([], [], 4))
    assert math.isnan(point(expected_calibration_error([], []), 0))
    assert math.isnan(expected_by_chance([]))
    assert calibration_error_interval([], [], []).method == "no interval: no case"
    assert math.isnan(calibration_error_interval([0.5, 0.6], [1, 0], ["a", "a"]).low)


def test_classwise_is_the_mean_of_the_classes() -> None:
    generator = np.random.default_rng(0)
    truth, given_ = generator.integers(0, 3, 50), generator.dirichlet(np.ones(3), 50)
    of_class = [point(expected_calibration_error(given_[:, k], truth == k), 50) for k in range(3)]
    assert point(classwise_calibration_error(given_, truth), 50) == pytest.approx(np.mean(of_class))


def test_chance_makes_the_error_that_a_calibrated_model_shows() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 100)
    shown = [point(expected_calibration_error(confidence, generator.random(100) < confidence), 100) for _ in range(300)]
    assert expected_by_chance(confidence) == pytest.approx(np.mean(shown), rel=0.05)


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_interval_covers_a_calibrated_and_a_too_sure_model(power: float) -> None:
    """250 experiments of 60 patients with up to 5 cases; a bootstrap covers the calibrated model's error never."""
    generator = np.random.default_rng(0)

    def draw(patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        members = np.repeat(np.arange(patients), generator.integers(1, 6, patients))
        chance = special.expit(generator.normal(size=patients) * 2)[members]
        sure = special.expit(power * special.logit(chance))
        return sure, generator.random(len(members)) < chance, members

    sure, right, _ = draw(100_000)
    truth = point(expected_calibration_error(sure, right), len(sure))
    covered = 0
    for _ in range(250):
        sure, right, members = draw(60)
        found = calibration_error_interval(sure, right, members.tolist())
        covered += found.low - 0.003 <= truth <= found.high
    assert 0.91 <= covered / 250 <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 4.0]), st.integers(2, 4))
def test_temperature_has_the_least_loss(seed: int, too_sure: float, n_classes: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(80, n_classes)) * 2
    truth = np.array([generator.choice(n_classes, p=row) for row in softmax(logits)])
    found = fit_temperature(logits * too_sure, truth)

    def loss(inverse: float) -> float:
        return float(
            (
                special.logsumexp(logits * too_sure * inverse, axis=1) - (logits * too_sure * inverse)[range(80), truth]
            ).mean()
        )

    judge = optimize.minimize(lambda x: loss(math.exp(x[0])), [0.0], method="Nelder-Mead").x[0]
    expected = min(max(math.exp(-judge), 0.05), 20)
    assert found == pytest.approx(expected, rel=2e-3)
    assert loss(1 / found) <= loss(1.0) + 1e-9


def test_temperature_leaves_what_cannot_be_told() -> None:
    assert fit_temperature([[5.0, 0.0], [0.0, 5.0]], [0, 1]) == 1
    assert fit_temperature(np.empty((0, 2)), []) == 1
    assert fit_temperature([[1e4, 0.0], [1e4, 0.0], [0.0, 1e4]], [0, 1, 1]) == pytest.approx(20, rel=1e-3)


def test_temperature_of_a_sigmoid() -> None:
    """A label's logit beside a 0 is the same as its sigmoid."""
    logits = np.random.default_rng(0).normal(size=30) * 3
    both = np.stack([np.zeros(30), logits], axis=1)
    np.testing.assert_allclose(softmax(both, 2.0)[:, 1], special.expit(logits / 2))
