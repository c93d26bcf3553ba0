"""Non-inferiority: nothing is proved from nothing, and the laws that its interval keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.noninferiority import NonInferiority, fewest_patients, non_inferiority


def classified(truth: np.ndarray, scores: np.ndarray, cases: int = 1) -> Answers:
    ids = tuple(f"c{place:04}" for place in range(len(truth)))
    patients = tuple(f"p{place // cases:04}" for place in range(len(truth)))
    probabilities = np.stack([1 - scores, scores], axis=1)
    predicted = (scores > 0.5).astype(np.int64)
    return Answers("classification", ids, patients, ("a", "b"), truth, predicted, probabilities)


def right_or_wrong(right: np.ndarray, cases: int = 1) -> Answers:
    truth = np.arange(len(right)) % 2
    return classified(truth, np.where(right, truth, 1 - truth) * 0.8 + 0.1, cases)


def outlined(dice: np.ndarray, metric: str = "dice") -> Answers:
    ids = tuple(f"c{place:04}" for place in range(len(dice)))
    return Answers("segmentation", ids, ids, scores={metric: dice})


def scored(patients: int, seed: int, noise: float, skill: float = 2.0) -> tuple[Answers, Answers]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, patients)
    latent = skill * truth + rng.normal(size=patients)
    both = (latent, latent + noise * rng.normal(size=patients))
    first, second = (classified(truth, 1 / (1 + np.exp(-one))) for one in both)
    return first, second


@pytest.mark.parametrize("metric", ["auc", "accuracy", "balanced_accuracy", "f1"])
def test_twenty_patients_without_a_change_prove_nothing(metric) -> None:
    same = right_or_wrong(np.arange(20) != 7)
    found = non_inferiority(same, same, metric, 0.01)
    assert not found.passed
    assert found.difference == 0
    assert found.low < -0.05 or math.isnan(found.low)
    assert found.changed == 0


def test_where_no_patient_changes_the_end_is_the_exact_binomial_one() -> None:
    for patients in (20, 100, 299):
        same = right_or_wrong(np.ones(patients, dtype=bool))
        found = non_inferiority(same, same, "accuracy", 0.01, draws=200_000)
        assert found.low == pytest.approx(-(1 - 0.05 ** (1 / patients)), rel=0.02)
    assert fewest_patients(0.01) == 299


def test_of_losses_alone_the_end_is_that_of_clopper_and_pearson() -> None:
    before = np.ones(80, dtype=bool)
    after = before & (np.arange(80) >= 3)
    found = non_inferiority(right_or_wrong(before), right_or_wrong(after), "accuracy", 0.01, draws=200_000)
    assert found.low == pytest.approx(-beta.ppf(0.95, 4, 77), rel=0.02)


def test_patients_count_and_not_their_cases() -> None:
    right = np.ones(400, dtype=bool)
    single = non_inferiority(right_or_wrong(right), right_or_wrong(right), "accuracy", 0.01)
    grouped = non_inferiority(right_or_wrong(right, 20), right_or_wrong(right, 20), "accuracy", 0.01)
    assert single.passed
    assert not grouped.passed
    assert grouped.patients == 20


def test_a_network_that_hardly_moves_passes_and_a_worse_one_does_not() -> None:
    assert non_inferiority(*scored(400, 0, 0.02), "auc", 0.02).passed
    first, second = scored(400, 1, 1.5)
    worse = non_inferiority(first, second, "auc", 0.02)
    assert worse.difference < -0.02
    assert not worse.passed
    assert worse.p > 0.5


def test_the_same_answers_in_another_scale_are_the_same() -> None:
    first, second = scored(200, 2, 0.3)
    stretched = replace(second, probabilities=second.probabilities**3)
    stretched.probabilities[:, 0] = 1 - stretched.probabilities[:, 1]
    plain, other = (non_inferiority(first, one, "auc", 0.02) for one in (second, stretched))
    assert (plain.low, plain.high, plain.p) == (other.low, other.high, other.p)


def test_turned_round_the_interval_is_turned_round() -> None:
    rng = np.random.default_rng(3)
    before = rng.beta(8, 2, 60)
    after = before + rng.normal(0, 0.02, 60)
    there = non_inferiority(outlined(before), outlined(after), "dice", 0.02, draws=100_000)
    back = non_inferiority(outlined(after), outlined(before), "dice", 0.02, draws=100_000)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=3e-4)


def test_of_a_distance_more_is_worse() -> None:
    rng = np.random.default_rng(4)
    before = rng.gamma(4, 1, 80)
    worse, better = before + rng.normal(1, 0.1, 80), before - rng.normal(1, 0.1, 80)
    assert not non_inferiority(outlined(before, "hd95_mm"), outlined(worse, "hd95_mm"), "hd95_mm", 0.5).passed
    found = non_inferiority(outlined(before, "hd95_mm"), outlined(better, "hd95_mm"), "hd95_mm", 0.5)
    assert found.passed
    assert found.high < 0.5


def test_what_cannot_be_told_is_not_accepted() -> None:
    one = outlined(np.array([0.9]))
    assert non_inferiority(one, one, "dice", 0.01).why
    before, after = np.linspace(0.7, 0.9, 30), np.linspace(0.7, 0.9, 30)
    after[3] = math.nan
    found = non_inferiority(outlined(before), outlined(after), "dice", 0.01)
    assert not found.passed
    assert "not defined in 1 cases" in found.why
    distances = outlined(np.full(400, 2.0), "hd95_mm")
    assert not non_inferiority(distances, distances, "hd95_mm", 0.5).passed
    with pytest.raises(ConfigError, match="accuracy"):
        non_inferiority(*scored(30, 0, 0.1), "acuracy", 0.01)


def test_one_large_failure_among_few_is_not_averaged_away() -> None:
    """The t interval of these ends at -0.0097."""
    gains = np.full(40, 0.003)
    gains[0] = -0.2
    base = np.full(40, 0.8)
    assert not non_inferiority(outlined(base), outlined(base + gains), "dice", 0.0105).passed


@pytest.mark.parametrize("metric", ["auc", "accuracy", "f1"])
def test_seeded_and_kept_as_json(metric) -> None:
    first, second = scored(60, 5, 0.3)
    found = non_inferiority(first, second, metric, 0.05, seed=1)
    assert found == non_inferiority(first, second, metric, 0.05, seed=1)
    assert NonInferiority.from_json(found.to_json()) == found
    assert found.low <= found.difference <= found.high
    assert found.passed == (found.low > -0.05)
    assert (found.p <= 0.05) == found.passed


def test_worse_by_the_margin_passes_in_few_of_the_samples() -> None:
    """A small part of benchmarks/noninferiority, with a bound that chance alone does not break."""
    passed = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        base = rng.beta(8, 2, 30)
        worse = base + 0.02 - rng.exponential(0.03, 30)
        passed += non_inferiority(outlined(base), outlined(worse), "dice", 0.01, draws=1000).passed
    assert passed / 300 < 0.09
