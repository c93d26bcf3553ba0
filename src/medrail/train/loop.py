"""train: prepared cases -> a Run. The loop itself is ``_epochs``, one screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from lightning_fabric import Fabric

from medrail.cases import write_record
from medrail.config import Config, TrainConfig
from medrail.data import Samples, batches, batches_per_epoch, generator, load_samples
from medrail.errors import MedrailError
from medrail.train import passport
from medrail.train.curves import drawn
from medrail.train.device import Machine, choose, repeatable
from medrail.train.fresh import fresh, step_of
from medrail.train.loss import learning_rate
from medrail.train.material import Material, gather
from medrail.train.outcome import epoch_line, result, score_of
from medrail.train.pace import Pace
from medrail.train.processes import companions
from medrail.train.runs import Place, claim, open_place
from medrail.train.schedule import Schedule, configured, fixed
from medrail.train.state import State
from medrail.train.step import mean_of
from medrail.train.track import TRACKERS, Ended, Guarded, History, Tracker
from medrail.train.trial import schedule_by_trial
from medrail.train.validate import select_by
from medrail.train.weights import weights_sha256
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace, write_json

OnEpoch = Callable[[History], None]
"""Told after each whole epoch, with the lines of metrics.jsonl so far; what it raises ends the training."""


@dataclass(frozen=True)
class Order:
    """What is to be trained, on which devices."""

    config: Config
    workspace: Workspace
    cases: tuple[Case, ...]
    machine: Machine
    run_name: str | None = None
    table: tuple[Case, ...] = ()
    progress: Progress | None = None
    on_epoch: OnEpoch | None = None
    began_s: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True)
class Job:
    """What stays the same during a training."""

    material: Material
    samples: Samples
    settings: TrainConfig
    run: Run
    passport: dict[str, Any]
    fabric: Fabric
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
        If network, loss, device or augmentation do not go together with the task, the starting weights do not fit, or
        the time budget is too small.
    CaseError, PrepareError
        If there are no training cases, or one of them does not suit the network.
    RunError
        If a case is not prepared, the run of that name is another one, another process is training this run, memory
        does not suffice for one sample, or the loss is no longer a number.
    """
    machine = choose(config.train, config.task)
    record = tuple(cases if table is None else table)
    order = Order(config, workspace, tuple(cases), machine, run_name, record)
    with companions(config.train, order):
        return carry_out(replace(order, progress=progress, on_epoch=on_epoch))


def carry_out(order: Order) -> Run:
    """The part of one process, which may be one of several; the first of them writes, and all return the same run."""
    config, machine = order.config, order.machine
    material = gather(config, order.workspace, order.cases)
    fingerprint = _fingerprint(material, config)
    with repeatable(machine) as fabric, _held(order, fabric, fingerprint) as place:
        if place.finished:
            if fabric.is_global_zero:
                write_record(place.run, order.table)  # its cases are the same ones; others may have come since
            return place.run
        samples = load_samples(material.store, material.training, material.needs)
        schedule = _schedule(order, material, samples, place, fabric)
        state = fresh(material, samples)
        told = {"device": machine.note, "normalisation": _split_norm(state, fabric)}
        state.notes |= {topic: note for topic, note in told.items() if note}
        exact = fixed(config, schedule)
        begun = passport.begin(config, order.workspace, material.store, material.cases, machine, material.weights)
        planned = {**schedule.to_dict(), "fingerprint": _fingerprint(material, exact)}
        begun = {"fingerprint": fingerprint, "schedule": planned, **begun}
        if fabric.is_global_zero:
            write_record(place.run, order.table)
            begun = open_place(place, config, begun)
        tracker = Guarded(TRACKERS["mlflow" if config.train.track and fabric.is_global_zero else "none"]())
        progress = order.progress if fabric.is_global_zero else None
        with _status_told(tracker):
            job = Job(material, samples, exact.train, place.run, begun, fabric, tracker, progress, order.on_epoch)
            _epochs(job, state)
        if fabric.is_global_zero:
            outcome = result(state, schedule, select_by(config), validated=bool(material.validation))
            write_json(place.run.passport, passport.finish(begun, **outcome, weights_sha256=weights_sha256(place.run)))
    return place.run


def _epochs(job: Job, state: State) -> None:
    settings, fabric, material = job.settings, job.fabric, job.material
    step = step_of(material, job.samples, settings, state, fabric)
    state.restore(job.run, job.passport["fingerprint"])
    step.parts = state.parts
    job.tracker.begin(job.run, material.config, job.passport, state.history)
    per_epoch = batches_per_epoch(job.samples.count, settings.step_size, settings.samples_per_epoch)
    steps, pace = per_epoch * settings.epochs, Pace(settings.epochs, state.epoch)
    with drawn(job.run if fabric.is_global_zero else None, state) as curves:
        while state.epoch < settings.epochs and not state.exhausted(settings.patience):
            losses: list[torch.Tensor] = []
            torch.manual_seed(generator(settings.seed, "network", state.epoch).initial_seed())  # for dropout
            step.network.train()
            pace.begin_epoch()
            for images, targets in batches(job.samples, settings, state.epoch, fabric.device):
                number = state.epoch * per_epoch + len(losses)
                state.set_learning_rate(learning_rate(number, steps, settings.lr))
                losses.append(step(images, targets))
                if state.average:
                    state.average.follow(state.network, number)
                pace.batch(len(images), len(losses) / per_epoch, losses[-1])
                if job.progress and len(losses) < per_epoch:
                    job.progress(number + 1, steps, state.note(settings.epochs, pace.note(state.epoch)))
            line = epoch_line(job.run, state, mean_of(losses, fabric), pace.images_per_s)
            score = fabric.broadcast(score_of(material, job.samples, state, fabric) if fabric.is_global_zero else None)
            line |= (score.metrics if score else {}) | {"seconds": pace.epoch_s}
            best = state.take(line, score)
            state.parts, state.notes = step.parts, state.notes | step.new_notes()
            if fabric.is_global_zero:
                state.save(job.run, job.passport["fingerprint"], best=best)
                job.tracker.epoch(line)
                curves.epoch(state.history, state.best_epoch)
            if job.on_epoch:
                job.on_epoch(state.history)
            if job.progress:
                job.progress(state.epoch * per_epoch, steps, state.note(settings.epochs))
    if fabric.is_global_zero:
        state.save(job.run, job.passport["fingerprint"], best=False, final=True)
        if not material.validation:
            state.save_best(job.run)


def _schedule(order: Order, material: Material, samples: Samples, place: Place, fabric: Fabric) -> Schedule:
    """As configured or, with a time budget, as measured; a run that is taken up again keeps the one it began with."""
    if not order.config.train.minutes:
        return configured(order.config.train)
    kept = place.passport.get("schedule")
    return Schedule.of(kept) if kept else schedule_by_trial(material, samples, fabric, order.began_s)


def _fingerprint(material: Material, config: Config) -> str:
    return passport.fingerprint(config, material.store, material.classes, material.cases, material.weights)


def _split_norm(state: State, fabric: Fabric) -> str:
    """A note where batch normalisation sees only a process's own samples."""
    normalised = any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in state.network.modules())
    if not normalised or fabric.world_size == 1 or fabric.device.type == "cuda":
        return ""
    return (
        f"{fabric.world_size} processes: each normalises its own part of a batch (on GPUs the whole), so this is not "
        "exactly what one process would have trained"
    )


@contextmanager
def _held(order: Order, fabric: Fabric, fingerprint: str) -> Iterator[Place]:
    """The run's folder, held by the first process; the others are told which it is, or why there is none."""
    if not fabric.is_global_zero:
        found: Any = fabric.broadcast(None)
        if isinstance(found, MedrailError):
            raise found
        yield found
        return
    with ExitStack() as held:
        try:
            place = held.enter_context(claim(order.config, order.workspace, fingerprint, order.run_name))
        except MedrailError as error:
            fabric.broadcast(error)
            raise
        fabric.broadcast(place)
        yield place


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
