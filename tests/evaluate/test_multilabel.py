"""The metrics of several labels an image: scikit-learn is the judge; a resample equals the repeated cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as judge

from medrail.evaluate.bootstrap import point
from medrail.evaluate.fitting_labels import label_thresholds
from medrail.evaluate.intervals import Resampling
from medrail.evaluate.multilabel import measure_multilabel, multilabel_statistics

LABELS = ("a", "b", "c")
Answers = tuple[np.ndarray, np.ndarray]


@st.composite
def answers(draw: st.DrawFn, least: int = 1) -> Answers:
    """(n, 3) truth and probabilities, with ties."""
    n = draw(st.integers(least, 30))
    seed, levels = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([2, 5, 1000]))
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 3)) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return truth, rng.integers(0, levels + 1, (n, 3)) / levels


def same(ours: float, theirs: float) -> None:
    assert ours == pytest.approx(theirs, abs=1e-9) or (math.isnan(ours) and math.isnan(theirs))


@given(answers())
def test_every_label_is_judged_as_scikit_learn_judges_it(given_answers: Answers) -> None:
    truth, scores = given_answers
    statistics = multilabel_statistics(truth, scores, LABELS)
    mine = {name: point(statistic, len(truth)) for name, statistic in statistics.items()}
    per_label: dict[str, list[float]] = {name: [] for name in ("auc", "auprc", "sensitivity", "specificity", "f1")}
    for index, label in enumerate(LABELS):
        true, score, found = truth[:, index], scores[:, index], scores[:, index] >= 0.5
        both = true.any() and not true.all()
        theirs = {
            "auc": judge.roc_auc_score(true, score) if both else math.nan,
            "auprc": judge.average_precision_score(true, score) if true.any() else math.nan,
            "sensitivity": judge.recall_score(true, found) if true.any() else math.nan,
            "specificity": judge.recall_score(~true, ~found) if not true.all() else math.nan,
            "f1": judge.f1_score(true, found) if true.any() or found.any() else math.nan,
        }
        for name, value in theirs.items():
            same(mine[f"{name}/{label}"], value)
            per_label[name].append(value)
    for name, values in per_label.items():
        defined = [value for value in values if not math.isnan(value)]
        same(mine[name], sum(defined) / len(defined) if defined else math.nan)
    same(mine["subset_accuracy"], judge.accuracy_score(truth, scores >= 0.5))
    same(mine["hamming_loss"], judge.hamming_loss(truth, scores >= 0.5))


@given(answers())
def test_micro_averages_take_every_label_of_every_case_as_one_question(given_answers: Answers) -> None:
    truth, scores = given_answers
    mine = {n: point(s, len(truth)) for n, s in multilabel_statistics(truth, scores, LABELS).items()}
    if truth.any() and not truth.all():
        same(mine["auc_micro"], judge.roc_auc_score(truth.ravel(), scores.ravel()))
        same(mine["auprc_micro"], judge.average_precision_score(truth, scores, average="micro"))
    if truth.any() or (scores >= 0.5).any():
        same(mine["f1_micro"], judge.f1_score(truth, scores >= 0.5, average="micro"))


@given(answers(least=2), st.integers(0, 1000))
def test_weights_are_repetitions(given_answers: Answers, seed: int) -> None:
    truth, scores = given_answers
    times = np.random.default_rng(seed).integers(0, 3, len(truth))
    if not times.any():
        return
    weighted = multilabel_statistics(truth, scores, LABELS)
    repeated = multilabel_statistics(np.repeat(truth, times, axis=0), np.repeat(scores, times, axis=0), LABELS)
    for name, statistic in weighted.items():
        same(float(statistic(times[None].astype(float))[0]), point(repeated[name], int(times.sum())))


@given(answers())
def test_all_right_is_perfect(given_answers: Answers) -> None:
    truth, _ = given_answers
    mine = {n: point(s, len(truth)) for n, s in multilabel_statistics(truth, truth.astype(float), LABELS).items()}
    assert mine.pop("hamming_loss") == 0
    assert all(value == pytest.approx(1) or math.isnan(value) for value in mine.values())


def test_a_threshold_of_its_own_for_a_label() -> None:
    truth, scores = np.array([[1, 1], [0, 0]], bool), np.array([[0.3, 0.3], [0.1, 0.1]])
    mine = multilabel_statistics(truth, scores, ("a", "b"), {"b": 0.3})
    assert (point(mine["sensitivity/a"], 2), point(mine["sensitivity/b"], 2)) == (0, 1)
    assert point(mine["subset_accuracy"], 2) == 0.5


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 100))
def test_intervals_are_by_patient_and_hold_the_value(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((120, 3)) < (0.5, 0.3, 0.1)
    scores = np.clip(0.25 * truth + 0.7 * rng.random((120, 3)), 0, 1)
    patients = [f"p{n // 3}" for n in range(120)]
    found = measure_multilabel(truth, scores, LABELS, Resampling(patients, 300, 0))
    assert next(iter(found)) == "auc"
    for name, measured in found.items():
        assert measured.low <= measured.value <= measured.high, name
        assert "patients" in measured.method, name
    assert found["auc/a"].n == 120
    assert found["sensitivity/c"].n == truth[:, 2].sum()
    assert found["specificity/c"].n == 120 - truth[:, 2].sum()
    assert found == measure_multilabel(truth, scores, LABELS, Resampling(patients, 300, 0))


def test_a_label_that_nobody_has_spoils_no_average() -> None:
    truth = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    scores = np.array([[0.9, 0.2], [0.2, 0.1], [0.3, 0.8], [0.1, 0.1]])
    found = measure_multilabel(truth, scores, ("yes", "none"), Resampling(list("abcd"), 200, 0))
    assert math.isnan(found["auc/none"].value)
    assert found["auc"].value == found["auc/yes"].value == 1
    assert found["sensitivity/none"].n == 0
    assert found["specificity/none"].value == 0.75


def test_a_threshold_is_chosen_for_each_label_that_enough_patients_have() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((60, 3)) < (0.5, 0.5, 0.0)
    truth[:3, 2] = True
    scores = np.stack([0.2 + 0.2 * truth[:, 0], rng.random(60) * 0.01, 0.9 * truth[:, 2]], axis=1)
    scores[:, 1] = 0.4  # says nothing
    found, said = label_thresholds(truth, scores, [f"p{n}" for n in range(60)], LABELS, "youden")
    assert found == pytest.approx({"a": 0.3})
    assert said[0] == "thresholds by the rule youden on 60 validation cases of 60 patients: a 0.3"
    assert said[1].endswith("b, c")
    high, _ = label_thresholds(truth, scores, [f"p{n}" for n in range(60)], LABELS, "sensitivity=0.9")
    assert high["a"] == pytest.approx(0.3)
    of_two, _ = label_thresholds(truth, scores, [f"p{n % 4}" for n in range(60)], LABELS, "youden")
    assert of_two == {}, "four patients"
