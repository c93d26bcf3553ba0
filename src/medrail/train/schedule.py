"""Schedule: how many epochs of how many samples; as configured, or as many as a time budget holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from medrail.config import Config, TrainConfig
from medrail.data import batches_per_epoch
from medrail.errors import ConfigError

MARGIN = 0.92
"""Share of the budget that is planned: other programs come and go."""
FEWEST_EPOCHS, MOST_EPOCHS = 10, 1000
_PLANNED = ("epochs", "samples_per_epoch", "patience")
"""What a time budget decides, of the keys of ``train``."""
_LEAST_STEPS = 4
"""Of an epoch that is cut short so that there are ``FEWEST_EPOCHS``."""


@dataclass(frozen=True)
class Schedule:
    """What a training does, in full; it stands in the passport.

    samples_per_epoch:
        0: all.
    patience:
        Epochs without a better validation after which it stops; 0: never.
    minutes:
        The budget that it was chosen for; 0: none.
    step_s, validation_s:
        What one step and one validation took when that was measured.
    """

    epochs: int
    samples_per_epoch: int
    patience: int
    minutes: float = 0.0
    step_s: float = 0.0
    validation_s: float = 0.0

    @staticmethod
    def of(values: Mapping[str, Any]) -> Schedule:
        """From a passport's ``schedule``."""
        return Schedule(**{field.name: values[field.name] for field in fields(Schedule)})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def configured(settings: TrainConfig) -> Schedule:
    """As the configuration says it."""
    return Schedule(settings.epochs, settings.samples_per_epoch, settings.patience)


def fitting(settings: TrainConfig, count: int, used_s: float, step_s: float, validation_s: float) -> Schedule:
    """As many epochs as the rest of the budget holds, so that the learning rate reaches 0 within it.

    Where fewer than ten would fit, an epoch has fewer samples, drawn at random, so that there are as many chances to
    choose the best one.

    Parameters
    ----------
    count:
        Samples there are.
    used_s:
        Spent already.
    step_s, validation_s:
        Measured, seconds.

    Raises
    ------
    ConfigError
        If not even a few steps fit.
    """
    left_s = settings.minutes * 60 * MARGIN - used_s
    samples = settings.samples_per_epoch
    steps = batches_per_epoch(count, settings.step_size, samples)
    epochs = int(left_s / (steps * step_s + validation_s))
    if epochs < FEWEST_EPOCHS:
        wanted = max(1, min(FEWEST_EPOCHS, int(left_s / (_LEAST_STEPS * step_s + validation_s))))
        steps = int((left_s / wanted - validation_s) / step_s)
        if steps < 1:
            raise ConfigError(
                f"{settings.minutes:g} minutes are too few: reading took {used_s:.0f} s, a step takes {step_s:.1f} s "
                f"and a validation {validation_s:.1f} s",
                where="train.minutes",
                remedy="Give more time, or take a smaller network or size.",
            )
        epochs, samples = wanted, min(count, steps * settings.step_size)
    epochs = min(epochs, MOST_EPOCHS)
    patience = max(settings.patience, epochs // 3) if settings.patience else 0
    return Schedule(epochs, samples, patience, settings.minutes, round(step_s, 4), round(validation_s, 3))


def as_sets(schedule: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be set so that a training does a budget's schedule without the budget; as ``--set`` takes it.

    >>> as_sets({"epochs": 12, "samples_per_epoch": 640, "patience": 4})
    ('train.minutes=0', 'train.epochs=12', 'train.samples_per_epoch=640', 'train.patience=4')
    """
    return ("train.minutes=0", *(f"train.{key}={schedule[key]}" for key in _PLANNED))


def fixed(config: Config, schedule: Schedule | Mapping[str, Any]) -> Config:
    """The configuration with a schedule's numbers in place of the budget: what has to be repeated on another machine
    to do the same steps.
    """
    values = schedule.to_dict() if isinstance(schedule, Schedule) else schedule
    chosen = {key: values[key] for key in _PLANNED}
    train = config.train.model_copy(update={**chosen, "minutes": 0.0})
    return config.model_copy(update={"train": train})


def measured(once: Callable[[], float], least: int = 3, most: int = 12, long_enough_s: float = 2.0) -> list[float]:
    """Seconds of one call of ``once`` after another, until there are enough."""
    found: list[float] = []
    while len(found) < least or (sum(found) < long_enough_s and len(found) < most):
        found.append(once())
    return found
