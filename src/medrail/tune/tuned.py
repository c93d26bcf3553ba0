"""Tuned: what a study has found so far, as plain values that can be written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["complete", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Goal:
    """What a study looks for.

    metric:
        The first objective, a number of the validation split.
    second:
        A cost to be small as well, or "none".
    """

    metric: str
    second: str = "none"

    @property
    def larger_is_better(self) -> bool:
        return not self.metric.endswith("loss")

    @property
    def two(self) -> bool:
        return self.second != "none"

    @property
    def directions(self) -> tuple[Literal["maximize", "minimize"], ...]:
        first: Literal["maximize", "minimize"] = "maximize" if self.larger_is_better else "minimize"
        return (first, "minimize") if self.two else (first,)

    def rank(self, trial: TrialRecord) -> tuple[float, float, int]:
        """Sorts the best first: the metric, then the cost, then who was earlier."""
        value = -trial.value if self.larger_is_better else trial.value
        return value, trial.cost if self.two else 0.0, trial.number


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    value, cost:
        The objectives; NaN where it has none. Of a pruned trial the value is its best up to then.
    settings:
        Dotted keys -> values.
    reason:
        Of a failed one: why.
    same_as:
        The trial that had the same settings before, whose result this one took without a training.
    """

    number: int
    state: State
    settings: Mapping[str, Any]
    value: float = math.nan
    cost: float = math.nan
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    same_as: int | None = None

    @property
    def name(self) -> str:
        return trial_name(self.number)


def trial_name(number: int) -> str:
    """Of a trial's Run folder."""
    return f"trial-{number:04d}"


@dataclass(frozen=True)
class Importance:
    """How much a setting decides whether a trial is a good one: its share, and the interval of it."""

    key: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Tuned:
    """A study as it is now.

    front:
        With two objectives: the complete trials that no other one beats in both, the best metric first.
    importance:
        () where there are too few trials to tell.
    asked:
        How many trials there shall be.
    storage:
        Where it is kept, without a password.
    """

    study: str
    folder: Path
    storage: str
    goal: Goal
    asked: int
    trials: Sequence[TrialRecord]
    front: Sequence[TrialRecord] = ()
    importance: Sequence[Importance] = ()
    notes: Sequence[str] = ()
    files: Sequence[Path] = field(default=())

    @property
    def complete(self) -> list[TrialRecord]:
        """The trained ones, the best first."""
        return sorted(self.of("complete"), key=self.goal.rank)

    @property
    def best(self) -> TrialRecord | None:
        return next(iter(self.complete), None)

    def of(self, state: State) -> list[TrialRecord]:
        return [trial for trial in self.trials if trial.state == state]
