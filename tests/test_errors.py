"""Errors keep their parts, also across process borders."""

from __future__ import annotations

import inspect
import pickle

import pytest

from medrail import errors
from medrail.errors import ConfigError, MedrailError, Problem

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MedrailError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_survives_pickling_with_all_its_parts(kind):
    error = kind("a mask of 5 x 7", needed="5 x 8", where="case-1", remedy="Resample it.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "case-1: a mask of 5 x 7; needed: 5 x 8. Resample it."


def test_a_config_error_lists_every_problem():
    problems = (Problem("train.lr", "missing"), Problem("task", "'x' is unknown", "Did you mean 'y'?"))
    error = pickle.loads(pickle.dumps(ConfigError("2 mistakes", problems=problems, where="medrail.yaml")))
    assert error.problems == problems
    assert str(error).splitlines()[1:] == ["  - train.lr: missing", "  - task: 'x' is unknown. Did you mean 'y'?"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_stands_in_the_tree_of_the_docstring(kind):
    assert kind.__name__ in errors.__doc__
