"""Pooling over folds and spread over seeds, against simple sums, scikit-learn and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from medrail.errors import CaseError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.evaluation import Evaluation
from medrail.evaluate.glossary import limits
from medrail.evaluate.pooled import measure_pooled, pool, pooled_evaluation
from medrail.evaluate.spread import mean_sd_half, spread

CLASSES = ("no", "yes")


def answers(ids: str, truth: list[int], scores: list[float]) -> Answers:
    probabilities = np.array([[1 - score, score] for score in scores])
    names = tuple(f"{ids}{number}" for number in range(len(truth)))
    predicted = (probabilities[:, 1] > 0.5).astype(np.int64)
    return Answers("classification", names, names, CLASSES, np.array(truth), predicted, probabilities)


def measure(parts: dict[int, Answers]) -> dict[str, Measured]:
    return measure_pooled(pool(parts), resamples=200, seed=0)


def test_scores_of_two_networks_on_different_scales_are_not_mixed() -> None:
    """Each network ranks perfectly; one gives high scores and the other low ones."""
    high = answers("a", [0, 0, 1, 1], [0.80, 0.81, 0.90, 0.91])
    low = answers("b", [0, 0, 1, 1], [0.10, 0.11, 0.20, 0.21])
    measured = measure({0: high, 1: low})
    assert measured["auc"].value == 1
    mixed = roc_auc_score([0, 0, 1, 1] * 2, [*high.probabilities[:, 1], *low.probabilities[:, 1]])
    assert mixed == 0.75
    assert measured["accuracy"].value == 0.5
    assert "each fold counting the same" in measured["auc"].method
    assert "no one network has this number" in measured["auc"].method


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_pooled_numbers_are_those_of_simple_sums(seed: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    parts, areas = {}, []
    for number in range(folds):
        n = int(rng.integers(4, 12))
        truth = np.array([0, 1, *rng.integers(0, 2, n - 2)])
        scores = np.round(rng.random(n), 1)
        parts[number] = answers(f"{number}-", truth.tolist(), scores.tolist())
        areas.append(roc_auc_score(truth, scores))
    measured = measure(parts)
    assert measured["auc"].value == pytest.approx(np.mean(areas))
    right = np.concatenate([one.truth == one.predicted for one in parts.values()])
    assert measured["accuracy"].value == pytest.approx(right.mean())
    assert measured["accuracy"].n == len(right)
    for one in measured.values():
        assert math.isnan(one.low) or one.low <= one.value <= one.high or one.low == pytest.approx(one.value)


def test_a_fold_without_one_of_the_classes_is_left_out_of_the_mean() -> None:
    whole = answers("a", [0, 1, 0, 1], [0.1, 0.9, 0.8, 0.7])
    one_class = answers("b", [1, 1], [0.2, 0.3])
    assert measure({0: whole, 1: one_class})["auc"].value == pytest.approx(0.75)


def test_segmentations_are_pooled_by_patient() -> None:
    parts = {
        0: Answers("segmentation", ("a", "b"), ("p", "p"), scores={"dice": np.array([0.2, 0.4])}),
        1: Answers("segmentation", ("c",), ("q",), scores={"dice": np.array([0.9])}),
    }
    assert measure(parts)["dice"].value == pytest.approx((0.3 + 0.9) / 2)


def test_a_case_in_two_folds_is_refused() -> None:
    one = answers("a", [0, 1], [0.1, 0.9])
    with pytest.raises(CaseError, match="several folds"):
        pool({0: one, 1: one})


def test_classes_in_another_order_are_put_in_the_first_fold_s() -> None:
    first = answers("a", [0, 1], [0.1, 0.9])
    other = answers("b", [1, 1], [0.7, 0.9]).in_order_of(("yes", "no"))
    assert pool({0: first, 1: other}).answers.truth.tolist() == [0, 1, 1, 1]


def test_the_interval_covers_what_it_is_of() -> None:
    """1,000 groups of 5 normal numbers: the t interval of the mean covers the truth in 95 of 100."""
    rng = np.random.default_rng(0)
    inside = 0
    for values in rng.normal(0.9, 0.02, (1000, 5)):
        mean, _, half = mean_sd_half(values.tolist())
        inside += abs(mean - 0.9) <= half
    assert 0.93 <= inside / 1000 <= 0.97


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_spread_is_scipy_s(values: list[float]) -> None:
    found = spread({f"r{place}": Measured(value, 0, 1, 10, "") for place, value in enumerate(values)})
    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    if found.sd > 1e-9:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_without_a_value_of_each_run_there_is_no_spread() -> None:
    undefined = spread({"a": Measured(math.nan, 0, 1, 1, ""), "b": Measured(1, 0, 1, 1, "")}).to_json()
    assert undefined["value"] is undefined["sd"] is undefined["low"] is None


def test_the_interval_of_a_rate_is_cut_off_at_what_a_rate_can_be() -> None:
    runs = {name: Measured(value, 0, 1, 10, "") for name, value in (("a", 0.7), ("b", 0.83))}
    rate, loss = spread(runs, limits("sensitivity/ill")), spread(runs, limits("log_loss"))
    assert (rate.low, rate.high) == (0, 1)
    assert loss.low == 0
    assert loss.high > 1
    assert limits("mcc") == (-1, 1)
    assert limits("no metric of ours") == (-math.inf, math.inf)
    unknown = spread({**runs, "c": Measured(math.nan, 0, 1, 10, "")}, (0, 1))
    assert math.isnan(unknown.low)
    assert math.isnan(unknown.high)


def of_labels(name: str, truth: np.ndarray, scores: np.ndarray) -> Answers:
    ids = tuple(f"{name}{number}" for number in range(len(truth)))
    return Answers("classification", ids, ids, ("a", "b"), truth, scores >= 0.5, scores, multi_label=True)


def test_several_labels_are_pooled_label_by_label() -> None:
    rng = np.random.default_rng(3)
    parts = {}
    for fold in range(2):
        truth = rng.random((20, 2)) < 0.5
        parts[fold] = of_labels(str(fold), truth, np.round(0.3 * truth + 0.7 * rng.random((20, 2)), 2))
    measured = measure(parts)
    areas = [roc_auc_score(one.truth[:, 1], one.probabilities[:, 1]) for one in parts.values()]
    assert measured["auc/b"].value == pytest.approx(np.mean(areas))
    micro = [roc_auc_score(one.truth.ravel(), one.probabilities.ravel()) for one in parts.values()]
    assert measured["auc_micro"].value == pytest.approx(np.mean(micro))
    truth, found = (np.concatenate([getattr(one, name) for one in parts.values()]) for name in ("truth", "predicted"))
    assert measured["subset_accuracy"].value == pytest.approx((truth == found).all(axis=1).mean())
    assert measured["sensitivity/a"].value == pytest.approx(found[truth[:, 0], 0].mean())
    assert measured["sensitivity/a"].n == truth[:, 0].sum()
    assert measured["specificity/a"].n == (~truth[:, 0]).sum()
    evaluation = pooled_evaluation(pool(parts), measured, [Evaluation("test", 20, 20, {}, settings={"seed": 3})], "")
    assert (evaluation.confusion, evaluation.multi_label, evaluation.settings) == ((), True, {"seed": 3})
    with pytest.raises(CaseError, match="different classes"):
        pool({**parts, 2: answers("x", [0, 1], [0.1, 0.9])})


def test_of_two_classes_the_plain_sensitivity_counts_the_second() -> None:
    measured = measure(
        {0: answers("a", [0, 0, 1], [0.2, 0.3, 0.9]), 1: answers("b", [0, 1, 1, 1], [0.1, 0.6, 0.7, 0.8])}
    )
    assert measured["sensitivity"].n == measured["sensitivity/yes"].n == 4


def test_seeds_that_agree_are_no_certainty() -> None:
    found = spread({name: Measured(0.75, 0.6, 0.9, 40, "") for name in ("a", "b")}, (0.0, 1.0))
    assert (found.mean, found.sd) == (0.75, 0.0)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.method.endswith("no interval: all have the same value")
