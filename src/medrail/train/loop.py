"""train: prepared cases -> a Run. The loop itself is ``_epochs``, one screen."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.nn.utils import convert_conv2d_weight_memory_format

from medrail.bundle import Predictor
from medrail.cases import write_record
from medrail.config import Config
from medrail.data import Samples, batches, batches_per_epoch, generator, load_samples
from medrail.errors import RunError
from medrail.models import build_model
from medrail.train import passport
from medrail.train.answer import torch_backend
from medrail.train.device import choose, repeatable
from medrail.train.loss import learning_rate, make_loss
from medrail.train.material import Material, gather
from medrail.train.runs import claim, open_place
from medrail.train.state import State
from medrail.train.track import TRACKERS, Ended, Guarded, History, Tracker
from medrail.train.validate import SELECT_BY, Score, validate
from medrail.train.weights import start_from
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, write_json

log = logging.getLogger("medrail.train")
OnEpoch = Callable[[History], None]
"""Told after each whole epoch, with the lines of metrics.jsonl so far; what it raises ends the training."""


@dataclass(frozen=True)
class Job:
    """What stays the same during a training."""

    material: Material
    samples: Samples
    run: Run
    passport: dict[str, Any]
    tracker: Tracker
    progress: Progress | None
    on_epoch: OnEpoch | None = None


def train(
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    *,
    run_name: str | None = None,
    progress: Progress | None = None,
    table: Sequence[Case] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Train a network on the prepared cases of the training split; choose the epoch by the validation split.

    An unfinished run of the same fingerprint (same configuration, same data) is taken up again after its last whole
    epoch; a finished one is returned as it is. Without validation cases all epochs are trained and the last weights
    are the best ones. Ctrl-C and a kill leave a run that can be taken up again: on a CPU it ends with the same weights,
    bit for bit, as an undisturbed one.

    Parameters
    ----------
    run_name:
        Folder below ``runs``; None: ``NAME-001`` and so on.
    progress:
        Called after each batch, of an epoch's last one after validation.
    table:
        All cases, with those that could not be prepared: the run's record of whom it was trained, validated and is to
        be tested on (cases.csv and images.json in its folder). None: ``cases``.
    on_epoch:
        Told after each epoch; what it raises ends the training, and the run can be taken up again.

    Raises
    ------
    ConfigError
        If network, loss, device or augmentation do not go together with the task, or the starting weights do not fit.
    CaseError, PrepareError
        If there are no training cases, or one of them does not suit the network.
    RunError
        If a case is not prepared, the run of that name is another one, another process is training this run, or the
        loss is no longer a number.
    """
    material = gather(config, workspace, cases)
    machine = choose(config.train, config.task)
    fingerprint = passport.fingerprint(config, material.store, material.classes, material.cases, material.weights)
    table = cases if table is None else table
    with claim(config, workspace, fingerprint, run_name) as place:
        if place.finished:
            write_record(place.run, table)  # the training cases are the same ones; others may have come since
            return place.run
        with repeatable(machine) as fabric:
            samples = load_samples(material.store, material.training, material.needs)
            state = _fresh(material, samples)
            begun = passport.begin(config, workspace, material.store, material.cases, machine)
            write_record(place.run, table)
            begun = open_place(place, config, {"fingerprint": fingerprint, **begun})
            tracker = Guarded(TRACKERS["mlflow" if config.train.track else "none"]())
            with _status_told(tracker):
                _epochs(Job(material, samples, place.run, begun, tracker, progress, on_epoch), state, fabric)
        write_json(place.run.passport, passport.finish(begun, **_result(material, state)))
    return place.run


def _epochs(job: Job, state: State, fabric: Fabric) -> None:
    config, settings = job.material.config, job.material.config.train
    network, optimizer = fabric.setup(state.network, state.optimizer)
    state.restore(job.run, job.passport["fingerprint"])
    job.tracker.begin(job.run, config, job.passport, state.history)
    loss_of = make_loss(settings, config.task, job.samples.class_counts, fabric.device)
    per_epoch = batches_per_epoch(job.samples.count, settings.batch_size, settings.samples_per_epoch)
    steps = per_epoch * settings.epochs
    while state.epoch < settings.epochs and not state.exhausted(settings.patience):
        began = time.perf_counter()
        losses: list[torch.Tensor] = []
        torch.manual_seed(generator(settings.seed, "network", state.epoch).initial_seed())  # for dropout
        network.train()
        for images, targets in batches(job.samples, settings, state.epoch, fabric.device):
            step = state.epoch * per_epoch + len(losses)
            state.set_learning_rate(learning_rate(step, steps, settings.lr))
            loss = loss_of(network(images), targets)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            losses.append(loss.detach())
            if job.progress and len(losses) < per_epoch:
                job.progress(step + 1, steps, state.note_of_last(settings.epochs))
        line = _line(job, state, losses)
        score = _validate(job, state, fabric.device)
        line |= (score.metrics if score else {}) | {"seconds": round(time.perf_counter() - began, 3)}
        state.save(job.run, job.passport["fingerprint"], best=state.take(line, score))
        job.tracker.epoch(line)
        if job.on_epoch:
            job.on_epoch(state.history)
        if job.progress:
            job.progress(state.epoch * per_epoch, steps, state.note_of_last(settings.epochs))
    if not job.material.validation:
        state.save_best(job.run)


def _fresh(material: Material, samples: Samples) -> State:
    """A network with the seed's random weights, or those of the configured file, and its optimizer."""
    config = material.config
    torch.manual_seed(config.train.seed)
    network = build_model(config.model, config.task, len(material.classes), samples.size)
    if config.model.dims == 2:
        convert_conv2d_weight_memory_format(network, torch.channels_last)
    notes = []
    if material.weights:
        notes.append(f"started from {start_from(network, material.weights)}")
        log.info("%s", notes[0])
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.train.lr, weight_decay=config.train.weight_decay, fused=True
    )
    about = {
        "task": config.task,
        "classes": list(material.classes),
        "model": config.model.model_dump(mode="json"),
        "grid": list(samples.size),
    }
    return State(network, optimizer, about, notes=notes)


def _line(job: Job, state: State, losses: Sequence[torch.Tensor]) -> dict[str, Any]:
    train_loss = float(torch.stack(list(losses)).mean())
    if not math.isfinite(train_loss):
        raise RunError(
            f"the loss is {train_loss} in epoch {state.epoch + 1}",
            where=str(job.run.folder),
            remedy="Lower train.lr, or normalise the images in prepare.steps; train.precision: 32-true rules out "
            "overflow.",
        )
    lr = state.optimizer.param_groups[0]["lr"]
    return {"epoch": state.epoch + 1, "time": passport.now(), "lr": lr, "train_loss": train_loss}


def _validate(job: Job, state: State, device: torch.device) -> Score | None:
    if not job.material.validation:
        return None
    predictor = Predictor(job.material.spec(job.samples.size), torch_backend(state.network, device))
    return validate(predictor, job.material.store, job.material.validation)


def _result(material: Material, state: State) -> dict[str, Any]:
    """For the passport: which weights were chosen, and by what; ``notes`` are for whoever reads the result."""
    seconds = round(sum(float(line["seconds"]) for line in state.history), 3)
    result: dict[str, Any] = {"epochs": state.epoch, "train_seconds": seconds}
    notes = list(state.notes)
    if not material.validation:
        chosen = "no validation cases: all epochs were trained and the last weights were kept"
        notes.append(chosen)
        log.info("%s", chosen)
        return {**result, "best_epoch": state.epoch, "chosen_by": chosen, "notes": notes}
    metric = SELECT_BY[material.config.task]
    if state.epoch < material.config.train.epochs:
        notes.append(
            f"stopped after epoch {state.epoch} of {material.config.train.epochs}: none of the last "
            f"{material.config.train.patience} was better than epoch {state.best_epoch}"
        )
    if not state.found_epoch:
        notes.append("in no epoch did the network find any voxel of the validation cases' masks")
    return {
        **result,
        "best_epoch": state.best_epoch,
        "chosen_by": f"the highest {metric}, on a tie the lowest val_loss",
        metric: state.history[state.best_epoch - 1][metric],
        "notes": notes,
    }


@contextmanager
def _status_told(tracker: Tracker) -> Iterator[None]:
    """Tells the tracker how the training ended."""
    status: Ended = "FAILED"
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        tracker.end(status)
