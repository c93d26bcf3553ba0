"""Paired tests of two runs: laws, peers, and false alarms under the null."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.evaluate.answers import Answers, class_statistics
from medrail.evaluate.bootstrap import point
from medrail.evaluate.paired import Drawing, kind_of, paired_test
from medrail.evaluate.units import jackknife_variance

QUICK = Drawing(resamples=200, permutations=199)
METRICS = ("accuracy", "balanced_accuracy", "auc", "f1", "sensitivity/a")


def classified(rng: np.random.Generator, n: int, classes: str, patients: int, skill: float, truth=None) -> Answers:
    truth = rng.integers(0, len(classes), n) if truth is None else truth
    logits = rng.normal(size=(n, len(classes))) + skill * np.eye(len(classes))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Answers(
        "classification",
        tuple(f"c{i:04}" for i in range(n)),
        tuple(f"p{i % patients:03}" for i in range(n)),
        tuple(classes),
        truth,
        probabilities.argmax(axis=1),
        probabilities,
    )


def segmented(rng: np.random.Generator, n: int, patients: int, shift: float = 0.0) -> Answers:
    scores = {"dice": rng.beta(8, 2, n) + shift, "hd95_mm": np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2, 3, n))}
    return Answers(
        "segmentation", tuple(f"c{i}" for i in range(n)), tuple(f"p{i % patients}" for i in range(n)), scores=scores
    )


def pairs_of_runs(seed: int, n: int, patients: int, classes: str = "ab") -> tuple[Answers, Answers]:
    rng = np.random.default_rng(seed)
    first = classified(rng, n, classes, patients, 1.0)
    return first, classified(rng, n, classes, patients, 1.5, first.truth)


ANY_PAIR = st.tuples(st.integers(0, 10_000), st.integers(8, 40), st.integers(3, 40), st.sampled_from(("ab", "abc")))


@settings(max_examples=30, deadline=None)
@given(ANY_PAIR, st.sampled_from(METRICS))
def test_swapping_the_runs_negates_the_difference_and_keeps_p(drawn, metric) -> None:
    first, second = pairs_of_runs(*drawn)
    there, back = paired_test(first, second, metric, QUICK), paired_test(second, first, metric, QUICK)
    assert back.p == pytest.approx(there.p, nan_ok=True)
    found = (-back.difference, -back.high, -back.low)
    assert found == pytest.approx((there.difference, there.low, there.high), nan_ok=True, abs=1e-7)
    assert back.counts.get("gained") == there.counts.get("lost")


@settings(max_examples=30, deadline=None)
@given(ANY_PAIR, st.sampled_from(METRICS))
def test_identical_runs_differ_by_nothing(drawn, metric) -> None:
    first, _ = pairs_of_runs(*drawn)
    found = paired_test(first, first, metric, QUICK)
    if math.isfinite(found.difference):
        assert (found.p, found.difference) == (1.0, 0.0)


@settings(max_examples=30, deadline=None)
@given(ANY_PAIR, st.sampled_from(METRICS))
def test_the_order_of_the_cases_is_nothing(drawn, metric) -> None:
    first, second = pairs_of_runs(*drawn)
    order = [first.ids[place] for place in np.random.default_rng(drawn[0]).permutation(len(first.ids))]
    as_it_was, shuffled = (
        paired_test(first, second, metric, QUICK),
        paired_test(first.of(order), second.of(order), metric, QUICK),
    )
    assert shuffled.p == pytest.approx(as_it_was.p, nan_ok=True)
    assert shuffled.difference == pytest.approx(as_it_was.difference, nan_ok=True, abs=1e-12)
    assert shuffled.low == pytest.approx(as_it_was.low, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_is_that_of_the_metrics(metric: str) -> None:
    for classes in ("ab", "abc"):
        first, second = pairs_of_runs(7, 60, 20, classes)
        values = [point(one.statistics()[metric], 60) for one in (first, second)]
        found = paired_test(first, second, metric, QUICK)
        assert found.difference == pytest.approx(values[1] - values[0])
        assert found.low < found.difference < found.high
        assert found.patients == (
            20 if not metric.startswith("sens") else len(set(np.array(first.patients)[first.truth == 0]))
        )


def test_segmentation_laws() -> None:
    rng = np.random.default_rng(1)
    first, second = segmented(rng, 30, 10), segmented(rng, 30, 10, shift=0.05)
    for metric in ("dice", "hd95_mm"):
        there, back = paired_test(first, second, metric, QUICK), paired_test(second, first, metric, QUICK)
        assert (back.p, back.difference) == pytest.approx((there.p, -there.difference))
        assert back.effect["cohen_dz"] == pytest.approx(-there.effect["cohen_dz"])
        same = paired_test(first, first, metric, QUICK)
        assert (same.p, same.difference) == (1.0, 0.0)
        assert math.isnan(same.low), "that nothing differed is no proof of equality"
    assert "left out" in there.method
    assert there.n < 30


def test_a_patient_counts_once() -> None:
    """Ten equal pictures a patient are no more evidence than one."""
    rng = np.random.default_rng(2)
    first, second = segmented(rng, 12, 12), segmented(rng, 12, 12, 0.04)
    many = [
        replace(
            one,
            ids=tuple(f"{i}/{k}" for k in range(10) for i in one.ids),
            patients=one.patients * 10,
            scores={name: np.tile(values, 10) for name, values in one.scores.items()},
        )
        for one in (first, second)
    ]
    once, often = paired_test(first, second, "dice", QUICK), paired_test(*many, "dice", QUICK)
    assert often.p == once.p
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    assert (often.n, often.patients) == (120, 12)


def test_dice_is_scipys_permutation_test() -> None:
    rng = np.random.default_rng(3)
    first, second = segmented(rng, 10, 10), segmented(rng, 10, 10, 0.05)
    differences = second.scores["dice"] - first.scores["dice"]
    judge = scipy.stats.permutation_test(
        (differences,),
        lambda values, axis=-1: np.mean(values, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=True,
    )
    found = paired_test(first, second, "dice", QUICK)
    assert found.p == pytest.approx(judge.pvalue)
    assert found.effect["cohen_dz"] == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.further[0].p == pytest.approx(scipy.stats.wilcoxon(differences).pvalue)


def test_swapping_answers_one_by_one_gives_the_same() -> None:
    """Seven patients: every way of swapping, made in a plain loop."""
    first, second = pairs_of_runs(11, 21, 7, "abc")
    patients = np.array(first.patients)
    observed = paired_test(first, second, "balanced_accuracy", QUICK)
    as_large = []
    for way in range(2**7):
        swapped = np.array([bool(way >> int(name[1:]) & 1) for name in patients])
        values = []
        for here, there in ((first, second), (second, first)):
            mixed = np.where(swapped, there.predicted, here.predicted)
            statistic = class_statistics(first.truth, mixed, first.probabilities, "abc")["balanced_accuracy"]
            values.append(point(statistic, 21))
        as_large.append(abs(values[1] - values[0]) >= abs(observed.difference) - 1e-9)
    assert observed.p == pytest.approx(np.mean(as_large))


def test_the_test_belongs_to_the_metric() -> None:
    two, three = pairs_of_runs(0, 30, 30)[0], pairs_of_runs(0, 30, 30, "abc")[0]
    assert [kind_of(two, metric) for metric in METRICS] == ["share", "any", "area", "any", "share"]
    assert kind_of(three, "auc") == "any"
    method = paired_test(*pairs_of_runs(0, 30, 30), "accuracy", QUICK).method
    assert method.startswith("exact McNemar")
    assert paired_test(*pairs_of_runs(0, 30, 10), "accuracy", QUICK).method.startswith("exact sign-flip")
    assert "clustered" in paired_test(*pairs_of_runs(0, 30, 10), "auc", QUICK).method


def test_one_patient_is_tested_by_case_and_says_so() -> None:
    found = paired_test(*pairs_of_runs(0, 30, 1), "accuracy", QUICK)
    assert "says nothing of other patients" in found.method
    assert found.patients == 30


def test_few_patients_cannot_show_anything() -> None:
    rng = np.random.default_rng(0)
    found = paired_test(segmented(rng, 4, 4), segmented(rng, 4, 4, 0.5), "dice", QUICK)
    assert found.p == found.smallest_p == 0.125


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=40)
    found = jackknife_variance(lambda w: w @ values / w.sum(axis=1), [str(i) for i in range(40)])
    assert found == pytest.approx(values.var(ddof=1) / 40)


@pytest.mark.parametrize(
    ("metric", "low"), [("auc", 0.02), ("accuracy", 0.01), ("balanced_accuracy", 0.015), ("f1", 0.015)]
)
def test_false_alarms_under_the_null(metric: str, low: float) -> None:
    """400 experiments of two equally good models (SD of the rate: 1.1 %); benchmarks/paired has the full table."""
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        first = classified(rng, 120, "ab", 120, 1.0)
        second = classified(rng, 120, "ab", 120, 1.0, first.truth)
        alarms += paired_test(first, second, metric, Drawing(resamples=20, permutations=99, seed=seed)).p <= 0.05
    assert low <= alarms / 400 <= 0.085
