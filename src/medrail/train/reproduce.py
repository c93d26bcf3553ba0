"""Training once more from what a passport names, and how the second run differs from the first."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import Predictor
from medrail.config import Config, parse
from medrail.errors import ConfigError
from medrail.evaluate.metrics import dice, slice_confusion
from medrail.lock import Busy, locked
from medrail.train.answer import torch_backend
from medrail.train.checkpoint import load
from medrail.train.device import Machine, choose
from medrail.train.loop import train
from medrail.train.material import Material, gather
from medrail.train.runs import SCRATCH
from medrail.train.weights import load_model, tensors_sha256
from medrail.types import Case, Progress
from medrail.workspace import Run, Workspace

_COMPARED = ("train_", "val_")
_SCHEDULED = ("epochs", "samples_per_epoch", "patience")
_MOST_CASES = 200
_LOCK = ".lock"


@dataclass(frozen=True)
class Comparison:
    """Two trainings of the same run.

    weights:
        SHA-256 of the best weights' tensors, of the first and the second.
    first_different_epoch:
        The first line of metrics.jsonl whose numbers differ; None where all are the same, bit for bit.
    metrics:
        Validation metric -> its value in the chosen epoch of the first and the second.
    answers, answers_of, cases:
        How far the two networks' answers for ``cases`` prepared cases are apart, and in which measure; NaN where the
        weights are the same, or the first ones are gone.
    """

    weights: tuple[str, str]
    first_different_epoch: int | None
    metrics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    answers: float = float("nan")
    answers_of: str = ""
    cases: int = 0

    @property
    def identical(self) -> bool:
        return self.weights[0] == self.weights[1] and self.first_different_epoch is None

    def within(self, tolerance: float) -> bool:
        """Whether every validation metric, and the answers, differ by no more."""
        metrics = all(abs(first - second) <= tolerance for first, second in self.metrics.values())
        return metrics and self.answers <= tolerance


def as_recorded(config: Config, passport: Mapping[str, Any]) -> tuple[Config, Machine]:
    """The run's configuration with the device, precision and threads that its passport names, as far as this machine
    has them, and with the epochs that a time budget was found to hold; nothing is tracked.
    """
    machine = passport.get("machine", {})
    settings = {**config.to_dict()["train"], "threads": machine.get("threads", 0), "track": False}
    if settings.get("minutes"):  # what fitted into the time then is what is repeated, however long it takes now
        schedule = passport.get("schedule", {})
        settings |= {key: schedule[key] for key in _SCHEDULED if key in schedule} | {"minutes": 0}
    recorded = {"device": machine.get("device", "auto"), "precision": machine.get("precision", "auto")}

    def with_settings(wanted: dict[str, Any]) -> tuple[Config, Machine]:
        again = parse({**config.to_dict(), "train": settings | wanted})
        return again, choose(again.train, again.task, again.model.dims)

    try:
        return with_settings(recorded)
    except ConfigError:  # this machine has no such device
        return with_settings({"device": "auto", "precision": config.train.precision})


@contextmanager
def scratch(run: Run, *, keep: bool) -> Iterator[str]:
    """The name of a run folder for the repetition, which is removed at the end; ``keep``: it becomes ``kept(run)``.

    What killed repetitions left behind, of whatever run beside this one, is removed. Who is at work holds a lock.
    """
    _remove_abandoned(run.folder.parent)
    again = Run(run.folder.with_name(f"{SCRATCH}{run.name}.{os.getpid()}"))
    with locked(_at_work(again.folder)):
        try:
            yield again.name
            if keep:
                shutil.rmtree(kept(run), ignore_errors=True)
                again.folder.rename(kept(run))
        finally:
            shutil.rmtree(again.folder, ignore_errors=True)


def kept(run: Run) -> Path:
    """Where ``scratch`` leaves what is kept."""
    return run.folder.with_name(f"{SCRATCH}{run.name}")


def _at_work(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{_LOCK}")


def _remove_abandoned(runs: Path) -> None:
    """Folders of repetitions, and their locks, whose process is gone."""
    for path in runs.glob(f"{SCRATCH}*"):
        folder = path.with_name(path.name.removesuffix(_LOCK))
        name, _, process = folder.name.removeprefix(SCRATCH).rpartition(".")
        of_a_run = (runs / f"{name}.{process}").exists()  # what was kept of a run whose name ends like this
        if not name or not process.isdecimal() or of_a_run:
            continue
        try:
            with locked(_at_work(folder)):
                if folder.is_dir():
                    with locked(Run(folder).lock):  # processes that train may outlive the one that started them
                        shutil.rmtree(folder, ignore_errors=True)
        except Busy:
            continue


def train_again(
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    name: str,
    progress: Progress | None = None,
) -> Run:
    """``train`` with the configuration of ``as_recorded`` into a folder of ``scratch``."""
    return train(config, workspace, cases, run_name=name, progress=progress)


def compare(run: Run, again: Run, config: Config, workspace: Workspace, cases: Sequence[Case]) -> Comparison:
    """How the second training differs from the first: in weights, numbers of each epoch, and answers."""
    first, second = _lines(run), _lines(again)
    digests = _recorded_digest(run), tensors_sha256(load(again.best)["weights"])
    comparison = Comparison(digests, _first_different(first, second), _metrics(run, again))
    if digests[0] == digests[1] or not run.best.is_file():
        return comparison
    difference, measure, count = _answers(run, again, gather(config, workspace, cases))
    return Comparison(digests, comparison.first_different_epoch, comparison.metrics, difference, measure, count)


def _recorded_digest(run: Run) -> str:
    result = json.loads(run.passport.read_text(encoding="utf-8")).get("result", {})
    return str(result.get("weights_sha256") or tensors_sha256(load(run.best)["weights"]))


def _lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]


def _first_different(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> int | None:
    """Counted from 1. What a later medrail writes down in addition is not compared."""
    for number, (one, other) in enumerate(zip(first, second, strict=False), 1):
        names = {name for name in one if name.startswith(_COMPARED) or name == "lr"}
        if any(one[name] != other.get(name) for name in names):
            return number
    return None if len(first) == len(second) else min(len(first), len(second)) + 1


def _metrics(run: Run, again: Run) -> dict[str, tuple[float, float]]:
    """Of the chosen epoch of each; losses have no scale that a tolerance could be of."""
    chosen = []
    for one in (run, again):
        epoch = int(load(one.best)["epoch"]) if one.best.is_file() else len(_lines(one))
        chosen.append(_lines(one)[epoch - 1])
    names = [name for name in chosen[0] if name.startswith("val_") and "loss" not in name and name in chosen[1]]
    return {name: (float(chosen[0][name]), float(chosen[1][name])) for name in names}


def _answers(run: Run, again: Run, material: Material) -> tuple[float, str, int]:
    """On validation cases, else on those of the training.

    Classification: the mean over the cases of the largest difference of a probability. Segmentation: 1 - the mean Dice
    of the two networks' masks.
    """
    spec = material.spec(tuple(load(run.best)["grid"]))
    predictors = [Predictor(spec, torch_backend(load_model(one))) for one in (run, again)]
    cases = (material.validation or material.training)[:_MOST_CASES]
    found = []
    for case in cases:
        image, _ = material.store.load(case.id)
        one, other = (predictor.probabilities(image) for predictor in predictors)
        if spec.task == "classification":
            found.append(float(np.abs(one - other).max()))
        else:
            masks = [probabilities.argmax(axis=0).astype(np.uint8) for probabilities in (one, other)]
            counts = slice_confusion(masks[0], masks[1], len(spec.classes)).sum(axis=0)
            found.append(1 - float(dice(counts).mean()))
    measure = "mean difference of a probability" if spec.task == "classification" else "1 - mean Dice of the masks"
    return sum(found) / len(found), measure, len(found)
