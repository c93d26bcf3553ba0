"""Quadratic weighted kappa: scikit-learn is the judge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from medrail.config import parse
from medrail.errors import ConfigError
from medrail.evaluate import Evaluation, evaluate
from medrail.evaluate.bootstrap import point
from medrail.evaluate.ordinal import quadratic_kappa

GRADES = 5


@given(st.lists(st.tuples(st.integers(0, GRADES - 1), st.integers(0, GRADES - 1)), min_size=1, max_size=40))
def test_kappa_is_that_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    mine = point(quadratic_kappa(truth, predicted, GRADES), len(truth))
    if len(set(truth) | set(predicted)) == 1:
        assert math.isnan(mine)
    else:
        theirs = cohen_kappa_score(truth, predicted, labels=range(GRADES), weights="quadratic")
        assert mine == pytest.approx(theirs, abs=1e-9)


def test_two_grades_off_is_worse_than_one() -> None:
    truth = np.array([0, 1, 2, 3, 4, 0, 1, 2])
    near, far = truth.copy(), truth.copy()
    near[0], far[0] = 1, 4
    kappas = [point(quadratic_kappa(truth, predicted, GRADES), 8) for predicted in (truth, near, far)]
    assert kappas[0] == 1
    assert kappas == sorted(kappas, reverse=True)


def test_grades_get_their_kappa_with_an_interval(classification: Any) -> None:
    plain = evaluate(classification.run, classification.config, classification.cases)
    assert "quadratic_kappa" not in plain.metrics
    data = classification.config.data.model_copy(update={"ordered": True})
    config = classification.config.model_copy(update={"data": data})
    assert not Evaluation.is_current(classification.run, config, classification.cases)
    graded = evaluate(classification.run, config, classification.cases)
    kappa = graded.metrics["quadratic_kappa"]
    assert kappa.low <= kappa.value <= kappa.high
    assert next(iter(graded.metrics)) == next(iter(plain.metrics))


def test_grades_need_their_order() -> None:
    values = {"kind": "class_folders", "path": "x", "ordered": True}
    with pytest.raises(ConfigError, match="ordered needs the grades in their order"):
        parse({"task": "classification", "data": values, "model": {"name": "tiny_cnn", "dims": 2}})
