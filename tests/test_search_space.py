"""A search space is data: what it says is checked against the keys it names, all mistakes at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.config import Config, load, parse
from medrail.errors import ConfigError
from medrail.search_space import Choice, Range, read_space

BASE = {
    "task": "classification",
    "data": {"kind": "class_folders", "path": "x"},
    "model": {"name": "tiny_cnn", "dims": 2},
}


def config_with(**tune):
    return parse({**BASE, "tune": tune})


def said(**tune) -> str:
    with pytest.raises(ConfigError) as error:
        config_with(**tune)
    return str(error.value)


def test_ranges_and_choices_come_in_the_order_given():
    config = config_with(
        space={
            "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
            "model.name": ["tiny_cnn", "resnet18"],
            "train.augment.flip": [["W"], ["H", "W"], []],
            "train.batch_size": {"low": 8, "high": 33, "step": 8},
        }
    )
    dimensions, problems = read_space(config.tune.space, Config)
    assert not problems
    assert dimensions == (
        Range("train.lr", 1e-4, 1e-2, log=True),
        Choice("model.name", ("tiny_cnn", "resnet18")),
        Choice("train.augment.flip", (["W"], ["H", "W"], [])),
        Range("train.batch_size", 8, 33, step=8, whole=True),
    )
    assert dimensions[3].top == 32


def test_all_mistakes_come_at_once_with_the_others_of_the_file():
    text = said(
        trails=3,
        storage="postgresql://anna:geheim@db/x",
        space={
            "train.lrr": [1e-3],
            "train.lr": {"low": -1, "high": "much", "logg": True},
            "train.weight_decay": {"low": 0, "high": 1, "log": True},
            "model.name": ["resnet19"],
            "train.augment": [1],
            "prepare.steps": [1],
            "train.seed": [0, 1],
            "train.devices": [1, 2],
            "train.nodes": [1, 2],
            "train.minutes": [1, 2],
            "train.batch_size": {"low": 2.5, "high": 64},
            "train.epochs": {"low": 9, "high": 3},
            "train.augment.flip": {"low": 0, "high": 1},
            "train.patience": 5,
            "train.augment.noise": [True],
            "train.augment.blur": [0, 0.0],
            "train.augment.gamma": {"low": 0, "high": 9},
        },
    )
    for sentence in (
        "tune.trails: unknown key. Did you mean 'trials'?",
        "tune.storage: holds a password",
        "tune.space.train.lrr: there is no such key of the training. Did you mean 'train.lr'?",
        "tune.space.train.lr.logg: unknown key. Did you mean 'log'?",
        "tune.space.train.lr.high: 'much' is not a number",
        "tune.space.train.weight_decay: log with low 0",
        "Did you mean 'resnet18'?",
        "tune.space.train.augment: is a section. Name the keys in it, as train.augment.flip",
        "tune.space.prepare.steps: changes the prepared data",
        "tune.space.train.seed: train.seed is no setting",
        "tune.space.train.devices: train.devices changes no result but for rounding",
        "tune.space.train.nodes: train.nodes changes no result but for rounding",
        "tune.space.train.minutes: train.minutes decides the epochs by the speed of the machine",
        "tune.space.train.batch_size.low: 2.5 is not whole",
        "tune.space.train.epochs: low 9 is not below high 3",
        "tune.space.train.augment.flip: takes no numbers",
        "tune.space.train.patience: 5 is neither choices nor a range",
        "tune.space.train.augment.noise: True is not a number",
        "tune.space.train.augment.blur: the same value twice",
        "tune.space.train.augment.gamma.high: 9",
    ):
        assert sentence in text, text
    assert "geheim" not in text


@pytest.mark.parametrize(
    "url",
    ["postgresql://anna:geheim@db/x", "postgresql://anna@db/x?password=geheim", "mysql://anna:geheim@db/x", "geheim"],
)
@pytest.mark.parametrize("also", [{}, {"trials": 0}])
def test_a_password_in_the_configuration_is_refused_and_not_shown(url, also):
    text = said(storage=url, **also)
    assert "tune.storage" in text
    assert "geheim" not in text


def test_a_url_without_password_is_taken():
    assert config_with(storage="postgresql://anna@db:5433/x").tune.storage == "postgresql://anna@db:5433/x"


def test_set_reaches_into_the_space(tmp_path):
    path = tmp_path / "medrail.yaml"
    path.write_text("task: classification\ndata: {kind: class_folders, path: x}\nmodel: {name: tiny_cnn, dims: 2}\n")
    config = load(path, ["tune.space.train.lr={low: 1e-4, high: 1e-2}", "tune.space.train.augment.blur=[0, 1]"])
    dimensions, _ = read_space(config.tune.space, Config)
    assert dimensions == (Range("train.lr", 1e-4, 1e-2), Choice("train.augment.blur", (0.0, 1.0)))


@given(
    low=st.floats(0.001, 10),
    width=st.floats(0.001, 10),
    step=st.one_of(st.none(), st.floats(0.0001, 20)),
    log=st.booleans(),
)
def test_a_range_is_taken_or_told_and_its_ends_are_in_it(low, width, step, log):
    entry = {"low": low, "high": low + width, "log": log} | ({} if step is None else {"step": step})
    (dimensions, problems) = read_space({"train.lr": entry}, Config)
    assert bool(dimensions) != bool(problems)
    if dimensions:
        (found,) = dimensions
        assert found.takes(found.low)
        assert found.takes(found.top)
        assert found.low <= found.top <= found.high
        assert not found.takes(found.low - 1e-3)
        assert not found.takes(found.high + 1e-3)
    else:
        assert step is not None


@given(st.lists(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.none()), min_size=1))
def test_whatever_stands_in_a_list_is_told_or_can_be_set(values):
    dimensions, problems = read_space({"train.batch_size": values}, Config)
    assert bool(dimensions) != bool(problems)
    for value in dimensions[0].values if dimensions else ():
        assert parse({**BASE, "train": {"batch_size": value}}).train.batch_size == value


def test_a_boolean_and_a_number_are_different_choices():
    assert len(set(Choice("x", (1, True, 1.0, "1")).names)) == 4
