"""Outcome: what a training tells of an epoch, and of itself at the end."""

from __future__ import annotations

import logging
import math
from typing import Any

from lightning_fabric import Fabric

from medrail.bundle import Predictor
from medrail.data import Samples
from medrail.errors import RunError
from medrail.train.answer import torch_backend
from medrail.train.material import Material
from medrail.train.passport import now
from medrail.train.schedule import Schedule
from medrail.train.state import State
from medrail.train.validate import Score, validate
from medrail.workspace import Run

log = logging.getLogger("medrail.train")


def score_of(material: Material, samples: Samples, state: State, fabric: Fabric) -> Score | None:
    """Of the network that would be kept now, on the validation cases, in the precision of training; None if there are
    none.
    """
    if not material.validation:
        return None
    predictor = Predictor(material.spec(samples.size), torch_backend(state.judged, fabric.device, fabric.autocast))
    return validate(predictor, material.store, material.validation)


def epoch_line(run: Run, state: State, train_loss: float, images_per_s: float) -> dict[str, Any]:
    """The part of a line of metrics.jsonl that is known before validation.

    Raises
    ------
    RunError
        If the loss is no longer a number.
    """
    if not math.isfinite(train_loss):
        raise RunError(
            f"the loss is {train_loss} in epoch {state.epoch + 1}",
            where=str(run.folder),
            remedy="Lower train.lr, or normalise the images in prepare.steps; train.precision: 32-true rules out "
            "overflow.",
        )
    lr = state.optimizer.param_groups[0]["lr"]
    return {
        "epoch": state.epoch + 1,
        "time": now(),
        "lr": lr,
        "train_loss": train_loss,
        "images_per_s": round(images_per_s, 2),
    }


def result(state: State, schedule: Schedule, metric: str, *, validated: bool) -> dict[str, Any]:
    """For the passport: which weights were chosen, and by what; ``notes`` are for whoever reads the result."""
    seconds = round(sum(float(line["seconds"]) for line in state.history), 3)
    found: dict[str, Any] = {"epochs": state.epoch, "train_seconds": seconds}
    notes = list(state.notes.values())
    if schedule.minutes:
        notes.append(
            f"{schedule.minutes:g} min: {schedule.epochs} epochs"
            + (f" of {schedule.samples_per_epoch} samples each" if schedule.samples_per_epoch else "")
            + f" were planned, {seconds / 60:.1f} min used"
        )
    if not validated:
        chosen = "no validation cases: all epochs were trained and the last weights were kept"
        notes.append(chosen)
        log.info("%s", chosen)
        return {**found, "best_epoch": state.epoch, "chosen_by": chosen, "notes": notes}
    if state.epoch < schedule.epochs:
        notes.append(
            f"stopped after epoch {state.epoch} of {schedule.epochs}: none of the last "
            f"{schedule.patience} was better than epoch {state.best_epoch}"
        )
    if not state.found_epoch:
        notes.append("in no epoch did the network find any voxel of the validation cases' masks")
    return {
        **found,
        "best_epoch": state.best_epoch,
        "chosen_by": f"the highest {metric}, on a tie the lowest val_loss",
        metric: state.history[state.best_epoch - 1][metric],
        "notes": notes,
    }
