"""The search space of ``medrail tune``: keys of the configuration -> ranges and choices, as data.

``read_space(values, model)`` checks ``tune.space`` against the configuration's own models: the key must be one of the
training, and every value that a range or a choice can give must be one that the key takes. All mistakes come at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, get_args

import pydantic
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medrail.errors import Problem, did_you_mean

ROOTS = ("model", "train")
"""The sections whose keys a trial may change; what lies before them, the prepared data, is the same for all trials."""
_NOT_TUNED: Mapping[str, str] = {
    "train.seed": "is no setting: the luckiest of several seeds says nothing about the next one",
    "train.device": "changes no result",
    "train.threads": "changes no result",
    "train.track": "changes no result",
    "train.devices": "changes no result but for rounding",
    "train.nodes": "changes no result but for rounding",
    "train.minutes": "decides the epochs by the speed of the machine: tune train.epochs, and limit all by tune.minutes",
    "model.dims": "follows from the data",
    "model.channels": "follows from the data",
}
_SAME_DATA = ("data", "split", "prepare", "task")
_RANGE_KEYS = ("low", "high", "log", "step")

Number = int | float


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    log:
        Whether the logarithm is drawn evenly.
    step:
        Distance of the numbers that are drawn, from ``low`` on; None: any.
    whole:
        Whether only whole numbers are drawn.
    """

    key: str
    low: Number
    high: Number
    log: bool = False
    step: Number | None = None
    whole: bool = False

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is one of the numbers."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return not self.whole or value == int(value)
        steps = (value - self.low) / self.step
        return math.isclose(steps, round(steps), abs_tol=1e-9)

    @property
    def top(self) -> Number:
        """The last number that whole steps from ``low`` reach, reckoned in decimals as they were written."""
        if self.step is None:
            return self.high
        low, high, step = (Decimal(str(value)) for value in (self.low, self.high, self.step))
        top = low + (high - low) // step * step
        return int(top) if self.whole else float(top)

    def shown(self) -> str:
        words = [f"{self.low:g} to {self.high:g}", *(["log"] if self.log else [])]
        return ", ".join([*words, *([f"step {self.step:g}"] if self.step is not None else [])])


@dataclass(frozen=True)
class Choice:
    """One of several values, each as YAML gives it."""

    key: str
    values: tuple[Any, ...]

    def takes(self, value: Any) -> bool:
        return self.name(value) in self.names

    @property
    def names(self) -> tuple[str, ...]:
        """A text for each value, by which it is stored: JSON, so that lists have one and 1, 1.0 and true differ."""
        return tuple(map(self.name, self.values))

    @staticmethod
    def name(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    def shown(self) -> str:
        return ", ".join(str(value) for value in self.values)


Dimension = Range | Choice


def read_space(values: Any, model: type[BaseModel]) -> tuple[tuple[Dimension, ...], list[Problem]]:
    """``tune.space`` as YAML gives it -> its dimensions in the order given, and every mistake.

    Parameters
    ----------
    model:
        The whole configuration's, whose fields say which keys there are and what they take.
    """
    if not isinstance(values, Mapping):
        return (), []  # the configuration's model says so already
    known = dict(_leaves(model))
    dimensions: list[Dimension] = []
    problems: list[Problem] = []
    for key, entry in _flat(values, known):
        found = _key_problem(key, known)
        dimension, more = (None, []) if found else _read_entry(key, entry, known[key])
        problems += ([found] if found else []) + more
        if dimension is not None and not more:
            dimensions.append(dimension)
    return tuple(dimensions), problems


def _flat(values: Mapping[Any, Any], known: Iterable[str], at: str = "") -> Iterator[tuple[str, Any]]:
    """Sections as dotted keys: ``{train: {lr: ...}}``, which is what --set makes, is ``{train.lr: ...}``."""
    for name, entry in values.items():
        key = f"{at}{name}"
        section = any(one.startswith(f"{key}.") for one in known)
        if section and isinstance(entry, Mapping):
            yield from _flat(entry, known, f"{key}.")
        else:
            yield key, entry


def _leaves(model: type[BaseModel], at: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if not at and name not in ROOTS:
            continue
        key = f"{at}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{key}.")
        else:
            yield key, field


def _key_problem(key: str, known: Mapping[str, FieldInfo]) -> Problem | None:
    at = f"tune.space.{key}"
    root = key.partition(".")[0]
    if root in _SAME_DATA:
        remedy = f"Make a project for each {root} you want to compare"
        return Problem(at, "changes the prepared data, and every trial learns from the same", remedy)
    if key in _NOT_TUNED:
        return Problem(at, f"{key} {_NOT_TUNED[key]}", "Leave it out")
    if key in known:
        return None
    names = [name for name in known if name not in _NOT_TUNED]
    inside = [name for name in names if name.startswith(f"{key}.")]
    if inside:
        return Problem(at, "is a section", f"Name the keys in it, as {inside[0]}")
    return Problem(at, "there is no such key of the training", did_you_mean(key, names))


def _read_entry(key: str, entry: Any, field: FieldInfo) -> tuple[Dimension | None, list[Problem]]:
    at = f"tune.space.{key}"
    if isinstance(entry, Mapping):
        return _read_range(key, entry, field)
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        return _read_choice(key, list(entry), field)
    advice = f"Write a list, as [{entry}, ...], or a range, as {{low: ..., high: ...}}"
    return None, [Problem(at, f"{entry!r} is neither choices nor a range", advice)]


def _read_choice(key: str, entry: list[Any], field: FieldInfo) -> tuple[Choice | None, list[Problem]]:
    at = f"tune.space.{key}"
    if not entry:
        return None, [Problem(at, "no values to choose from")]
    read = [_read_value(at, value, field) for value in entry]
    problems = [problem for _, problem in read if problem]
    choice = Choice(key, tuple(value for value, _ in read))
    if not problems and len(set(choice.names)) < len(entry):
        problems = [Problem(at, "the same value twice", "Leave one out: each choice is drawn as often as the others")]
    return choice, problems


def _read_range(key: str, entry: Mapping[Any, Any], field: FieldInfo) -> tuple[Range | None, list[Problem]]:
    at = f"tune.space.{key}"
    kind = _number_kind(field.annotation)
    if kind is None:
        return None, [Problem(at, "takes no numbers, so it has no range", "Write the values to try as a list")]
    problems = [
        Problem(f"{at}.{name}", "unknown key", did_you_mean(str(name), _RANGE_KEYS))
        for name in entry
        if name not in _RANGE_KEYS
    ]
    problems += [Problem(f"{at}.{name}", "missing", "Add it") for name in ("low", "high") if name not in entry]
    if not isinstance(entry.get("log", False), bool):
        problems.append(Problem(f"{at}.log", f"{entry['log']!r} is not true or false"))
    for name in ("low", "high", "step"):
        said = _no_number(entry[name], kind) if name in entry else ""
        problems += [Problem(f"{at}.{name}", said)] if said else []
    if problems:
        return None, problems
    problems = [problem for name in ("low", "high") if (problem := _read_value(f"{at}.{name}", entry[name], field)[1])]
    step: Any = entry.get("step")
    low, high = kind(entry["low"]), kind(entry["high"])
    found = Range(key, low, high, entry.get("log", False), None if step is None else kind(step), kind is int)
    return found, problems + [Problem(at, text) for text in _wrong_limits(found)]


def _no_number(value: Any, kind: type[int] | type[float]) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return f"{value!r} is not a number"
    return f"{value!r} is not whole, and the key takes whole numbers" if kind is int and value != int(value) else ""


def _wrong_limits(found: Range) -> Iterator[str]:
    if found.low >= found.high:
        yield f"low {found.low:g} is not below high {found.high:g}"
    if found.log and found.low <= 0:
        yield f"log with low {found.low:g}: there is no logarithm of it"
    if found.step is not None:
        if found.log:
            yield "log and step exclude each other"
        if found.step <= 0:
            yield f"step {found.step:g} is not above 0"
        elif found.step > found.high - found.low > 0:
            yield f"step {found.step:g} is longer than the range"


def _number_kind(annotation: Any) -> type[int] | type[float] | None:
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind in (int, float)]
    return kinds[0] if kinds else None


def _read_value(at: str, value: Any, field: FieldInfo) -> tuple[Any, Problem | None]:
    """The value as the configuration holds it (JSON), or what is wrong with it in the words of the key's own type."""
    if isinstance(value, bool) and _number_kind(field.annotation):
        return None, Problem(at, f"{value!r} is not a number")
    kind: Any = Annotated[field.annotation, field]
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json"), None
    except pydantic.ValidationError as error:
        detail = error.errors(include_url=False)[0]
    message, near = detail["msg"], ""
    if detail["type"] == "literal_error":
        names = message.removeprefix("Input should be ").replace(" or ", ", ").split(", ")
        near = did_you_mean(str(detail["input"]), [name.strip("'") for name in names], or_else=False)
    return None, Problem(at, f"{value!r}: {message[0].lower()}{message[1:]}", near)
