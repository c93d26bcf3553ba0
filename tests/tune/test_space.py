"""What a trial draws, and what stands in the configuration that it makes."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.config import load, parse
from medrail.errors import ConfigError
from medrail.models import MODELS, check_model
from medrail.tune.space import as_sets, default_space, space_of

optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = {
    "train.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "train.augment.rotate_deg": {"low": 0, "high": 30, "step": 0.7},
    "train.batch_size": {"low": 4, "high": 32, "step": 3},
    "train.epochs": {"low": 1, "high": 100, "log": True},
    "model.name": ["tiny_cnn", "resnet18"],
    "train.augment.flip": [["W"], ["H", "W"], []],
    "train.class_weights": ["none", "auto"],
}


def config_of(task="classification", name="tiny_cnn", **more):
    data = {"kind": "class_folders", "path": "x", "classes": ["a", "b"]}
    return parse({"task": task, "data": data, "model": {"name": name, "dims": 2}, **more})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_is_drawn_is_set_stored_and_typed_as_the_same_values(seed, tmp_path_factory):
    space = space_of(config_of(tune={"space": SPACE}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    drawn = space.draw(trial)
    assert list(drawn) == list(SPACE)
    assert all(one.takes(drawn[one.key]) for one in space.dimensions)
    assert space.decoded(study.trials[0].params) == drawn

    config = space.apply(drawn)
    assert config.train.lr == drawn["train.lr"]
    assert list(config.train.augment.flip) == drawn["train.augment.flip"]
    assert not config.tune.space

    path = tmp_path_factory.mktemp("typed") / "medrail.yaml"
    path.write_text(
        "task: classification\ndata: {kind: class_folders, path: x, classes: [a, b]}\n"
        "model: {name: tiny_cnn, dims: 2}\n"
    )
    typed = load(path, as_sets(drawn))
    assert typed.fingerprint("model", "data") == config.fingerprint("model", "data")
    assert typed.train == config.train.model_copy(update={"track": typed.train.track})


@pytest.mark.parametrize(("name", "task"), [(name, entry.task) for name, entry in MODELS.items()])
def test_the_default_space_holds_the_configuration_and_nothing_impossible(name, task):
    config = config_of(task, name)
    space = space_of(config)
    assert space.to_json() == space_of(config.model_copy(update={"tune": config.tune})).to_json()
    assert space.as_it_stands is not None
    for width in default_space(config).get("model.width", []):
        check_model(space.apply({"model.width": width}).model, task)


def test_a_configuration_outside_of_its_space_is_no_trial():
    assert space_of(config_of(tune={"space": {"train.lr": [0.5, 0.6]}})).as_it_stands is None


def test_networks_of_the_other_task_and_impossible_widths_are_told_before_anything_is_trained():
    with pytest.raises(ConfigError, match="unet is for segmentation") as error:
        space_of(config_of(tune={"space": {"model.name": ["tiny_cnn", "unet", "dynunet"]}}))
    assert len(error.value.problems) == 2
    with pytest.raises(ConfigError, match="width 12 for segresnet"):
        space_of(config_of("segmentation", "segresnet", tune={"space": {"model.width": [12, 16]}}))
