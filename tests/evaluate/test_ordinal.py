"""Quadratic weighted kappa: scikit-learn is the judge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

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
