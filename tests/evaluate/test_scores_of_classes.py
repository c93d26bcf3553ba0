"""Average precision, Brier, log loss, MCC and the rates of each class: scikit-learn is the judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from answers import answers
from medrail.evaluate.agreement import agreement_statistics
from medrail.evaluate.bootstrap import Statistic, point
from medrail.evaluate.scoring import probability_statistics

judge = pytest.importorskip("sklearn.metrics")
Answer = tuple[np.ndarray, np.ndarray]


def statistics_of(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Statistic]:
    names = [str(index) for index in range(probabilities.shape[1])]
    return probability_statistics(truth, probabilities) | agreement_statistics(
        truth, probabilities.argmax(axis=1), names
    )


@settings(deadline=None, max_examples=150)
@given(answers())
def test_probabilities_as_scikit_learn(answer: Answer) -> None:
    truth, given_ = answer
    n_classes = given_.shape[1]
    mine = {name: point(one, len(truth)) for name, one in probability_statistics(truth, given_).items()}
    one_hot = np.eye(n_classes)[truth]
    assert mine["log_loss"] == pytest.approx(judge.log_loss(truth, given_, labels=range(n_classes)), rel=1e-6)
    squares = ((given_ - one_hot) ** 2).sum(axis=1).mean()
    if n_classes == 2:
        assert mine["brier"] == pytest.approx(judge.brier_score_loss(truth, given_[:, 1], pos_label=1))
        assert mine["brier"] == pytest.approx(squares / 2)
    else:
        assert mine["brier"] == pytest.approx(judge.brier_score_loss(truth, given_, labels=range(n_classes)))
    held = [k for k in ([1] if n_classes == 2 else range(n_classes)) if (truth == k).any()]
    areas = [judge.average_precision_score(truth == k, given_[:, k]) for k in held]
    assert mine["auprc"] == pytest.approx(np.mean(areas) if areas else math.nan, nan_ok=True)


@settings(deadline=None, max_examples=150)
@given(answers())
def test_agreement_as_scikit_learn(answer: Answer) -> None:
    truth, given_ = answer
    predicted, classes = given_.argmax(axis=1), range(given_.shape[1])
    names = [str(index) for index in classes]
    mine = {name: point(one, len(truth)) for name, one in agreement_statistics(truth, predicted, names).items()}
    if len(set(truth.tolist())) > 1:
        assert mine["mcc"] == pytest.approx(judge.matthews_corrcoef(truth, predicted), abs=1e-12)
    else:
        assert math.isnan(mine["mcc"])
    for index in classes:
        binary = {"y_true": truth == index, "y_pred": predicted == index, "zero_division": np.nan}
        expected = {
            "sensitivity": judge.recall_score(**binary),
            "specificity": judge.recall_score(**binary, pos_label=False),
            "ppv": judge.precision_score(**binary),
            "npv": judge.precision_score(**binary, pos_label=False),
        }
        found = {rate: mine[f"{rate}/{index}"] for rate in expected}
        assert found == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=80)
@given(answers(), st.data())
def test_a_weight_is_a_repetition(answer: Answer, data: st.DataObject) -> None:
    truth, given_ = answer
    times = data.draw(hnp.arrays(np.int64, len(truth), elements=st.integers(0, 3)))
    repeated = statistics_of(np.repeat(truth, times), np.repeat(given_, times, axis=0))
    for name, one in statistics_of(truth, given_).items():
        found = float(one(times[None].astype(float))[0])
        assert found == pytest.approx(point(repeated[name], int(times.sum())), nan_ok=True, abs=1e-12), name


def test_a_constant_answer_has_no_correlation_and_the_precision_of_the_share() -> None:
    truth, constant = np.array([0, 0, 0, 1]), np.full((4, 2), 0.5)
    mine = {name: point(one, 4) for name, one in statistics_of(truth, constant).items()}
    assert mine["mcc"] == 0
    assert mine["auprc"] == 0.25
    assert mine["brier"] == 0.25
    assert mine["log_loss"] == pytest.approx(math.log(2))
    assert math.isnan(mine["ppv/1"]), "nobody is called of class 1"


def test_no_case_at_all_is_undefined_everywhere() -> None:
    nothing = statistics_of(np.empty(0, int), np.empty((0, 3)))
    assert all(math.isnan(point(one, 0)) for one in nothing.values())


def test_a_sure_and_wrong_answer_is_punished_finitely() -> None:
    mine = probability_statistics([1], [[1.0, 0.0]])
    assert 30 < point(mine["log_loss"], 1) < 40
    assert point(mine["brier"], 1) == 1
    assert point(probability_statistics([1], [[1.0, 0.0, 0.0]])["brier"], 1) == 2
