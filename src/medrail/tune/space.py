"""The space of a study: what a trial draws, the configuration that it makes, and the space where none is given."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medrail.config import Config, parse
from medrail.errors import ConfigError, Problem
from medrail.models import check_model
from medrail.search_space import Choice, Dimension, Range, read_space

if TYPE_CHECKING:
    from optuna.trial import Trial

Settings = Mapping[str, Any]
"""Dotted keys of the configuration -> values, JSON."""
_PLAIN = re.compile(r"[a-z][a-z0-9_]*")
_NOT_PLAIN = {"true", "false", "null", "yes", "no", "on", "off"}


@dataclass(frozen=True)
class Space:
    """The dimensions, and the configuration whose keys they change."""

    config: Config
    dimensions: tuple[Dimension, ...]

    def draw(self, trial: Trial) -> Settings:
        """What the sampler chooses for a trial; for one that has been begun, what it chose then."""
        return {dimension.key: _drawn(dimension, trial) for dimension in self.dimensions}

    def decoded(self, parameters: Mapping[str, Any]) -> Settings:
        """What the study's database says of a trial -> its settings."""
        return {
            dimension.key: json.loads(parameters[dimension.key])
            if isinstance(dimension, Choice)
            else parameters[dimension.key]
            for dimension in self.dimensions
            if dimension.key in parameters
        }

    @property
    def as_it_stands(self) -> dict[str, Any] | None:
        """The configuration's own values, as the database holds them; None where the space does not have them."""
        found: dict[str, Any] = {}
        for dimension in self.dimensions:
            value = _value_at(self.config.to_dict(), dimension.key)
            if not dimension.takes(value):
                return None
            found[dimension.key] = Choice.name(value) if isinstance(dimension, Choice) else value
        return found

    def apply(self, settings: Settings) -> Config:
        """The configuration of a trial: the settings, nothing of the search, and no second record of it elsewhere."""
        values = self.config.to_dict() | {"tune": {}}
        for key, value in settings.items():
            *path, last = key.split(".")
            node = values
            for part in path:
                node = node[part]
            node[last] = value
        values["train"]["track"] = False
        return parse(values)

    def to_json(self) -> list[Any]:
        return [
            [one.key, *one.names] if isinstance(one, Choice) else [one.key, one.low, one.high, one.log, one.step]
            for one in self.dimensions
        ]


def space_of(config: Config) -> Space:
    """The configured space, or the default one of the task.

    Raises
    ------
    ConfigError
        If a network of the space is not for the task, or its width impossible; every mistake at once.
    """
    dimensions, problems = read_space(config.tune.space or default_space(config), Config)
    space = Space(config, dimensions)
    for dimension in dimensions if not problems else ():
        problems += _impossible(space, dimension)
    if problems:
        count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigError(count, problems=tuple(problems), where="tune.space")
    return space


def default_space(config: Config) -> dict[str, Any]:
    """What is worth trying first: learning rate, weight decay, augmentation, and the width of segmentation networks.

    Every range holds the configuration's own value, so that the study begins with it.
    """
    train, augment, width = config.train, config.train.augment, config.model.width
    space: dict[str, Any] = {
        "train.lr": {"low": min(1e-4, train.lr), "high": max(1e-2, train.lr), "log": True},
        "train.weight_decay": {
            "low": min(1e-6, train.weight_decay or 1e-6),
            "high": max(1e-1, train.weight_decay),
            "log": True,
        },
        "train.augment.rotate_deg": {"low": 0, "high": max(30, augment.rotate_deg)},
        "train.augment.intensity": {"low": 0, "high": max(0.3, augment.intensity)},
    }
    if config.task == "segmentation":
        widths = sorted({max(4, width // 2), width, 2 * width})
        space["model.width"] = [one for one in widths if config.model.name != "segresnet" or one % 8 == 0]
    return space


def as_sets(settings: Settings) -> tuple[str, ...]:
    """Settings as ``--set`` takes them; read as YAML they are the same values."""
    return tuple(f"{key}={_as_yaml(value)}" for key, value in settings.items())


def _as_yaml(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value not in _NOT_PLAIN:
        return value
    return json.dumps(value)


def _drawn(dimension: Dimension, trial: Trial) -> Any:
    match dimension:
        case Choice():
            return json.loads(trial.suggest_categorical(dimension.key, dimension.names))
        case Range(whole=True):
            step = 1 if dimension.step is None else int(dimension.step)
            return trial.suggest_int(
                dimension.key, int(dimension.low), int(dimension.top), step=step, log=dimension.log
            )
        case Range():
            return trial.suggest_float(
                dimension.key, dimension.low, dimension.top, step=dimension.step, log=dimension.log
            )


def _value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _impossible(space: Space, dimension: Dimension) -> Sequence[Problem]:
    """What no training could begin with; combinations that do not fit together fail as trials."""
    if not isinstance(dimension, Choice):
        return []
    problems = []
    for value in dimension.values:
        try:
            check_model(space.apply({dimension.key: value}).model, space.config.task)
        except ConfigError as error:
            at = f"tune.space.{dimension.key}"
            if error.problems:
                problems += [Problem(at, f"{value!r}: {problem.message}") for problem in error.problems]
            elif error.where == dimension.key:
                problems.append(Problem(at, error.found, f"Needed: {error.needed}"))
    return problems
