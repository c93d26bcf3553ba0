"""One trial: a training with the drawn settings, watched epoch by epoch, and what it came to."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.bundle.cost import answer_cost
from medrail.errors import ConfigError, MedrailError, did_you_mean
from medrail.export.onnx_file import write_onnx
from medrail.train import load_model, train
from medrail.train.checkpoint import load
from medrail.tune.study import Started, Study
from medrail.tune.tuned import Goal, State, trial_name
from medrail.types import Case
from medrail.workspace import Run, Workspace, read_json

if TYPE_CHECKING:
    from medrail.train.track import History

log = logging.getLogger("medrail.tune")

Told = Callable[[int, "History"], None]
"""(trial, lines of metrics.jsonl so far), after each epoch."""


class Hopeless(Exception):
    """Ends a training that no longer can become a good one."""


@dataclass(frozen=True)
class Given:
    """What is the same for all trials.

    workspace:
        With the study's folder as the place for runs.
    cases:
        Of training and validation alone.
    table:
        Whom each run records; None: ``cases``.
    """

    workspace: Workspace
    cases: Sequence[Case]
    table: Sequence[Case] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; ``facts`` are kept with it: epochs, reason, and the costs that were measured."""

    state: State
    values: tuple[float, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """Reports a training's epochs to the study, and ends it when the pruner says so.

    What is reported is the best value so far: that is what the trial will be judged by, and it does not waver.
    """

    study: Study
    started: Started
    epochs: int
    told: Told

    def __call__(self, history: History) -> None:
        trial, goal = self.started.trial, self.study.goal
        values = [value_of(goal, line) for line in history]
        self.told(trial.number, history)
        if goal.two:
            return  # Optuna prunes by one objective only
        from optuna.exceptions import StorageInternalError

        try:
            with self.study.claims.alone():
                known = self.study.reported(trial.number)
                best = -math.inf if goal.larger_is_better else math.inf
                for step, value in enumerate(values):
                    best = max(best, value) if goal.larger_is_better else min(best, value)
                    if step not in known:
                        trial.report(best, step)
                hopeless = len(history) < self.epochs and trial.should_prune()
        except (StorageInternalError, MedrailError) as error:
            log.warning("an epoch was not reported (%s); the training goes on", type(error).__name__)
            return
        if hopeless:
            raise Hopeless


def value_of(goal: Goal, line: Mapping[str, Any]) -> float:
    """The metric of one line of metrics.jsonl.

    Raises
    ------
    ConfigError
        If trainings of this task do not measure it.
    """
    if goal.metric not in line:
        names = [name for name in line if name.startswith("val_")]
        near = did_you_mean(goal.metric, names, or_else=False)
        raise ConfigError(
            f"trainings of this task do not measure {goal.metric!r}",
            needed=f"one of {', '.join(names)}",
            where="tune.metric",
            remedy=near,
        )
    return float(line[goal.metric])


def run_trial(study: Study, started: Started, given: Given, told: Told) -> Outcome:
    """Train and measure; what goes wrong with these settings is an outcome, not an error.

    Raises
    ------
    ConfigError
        If the metric is none of this task's.
    """
    name = trial_name(started.trial.number)
    try:
        config = study.space.apply(started.settings)
        watch = Watch(study, started, config.train.epochs, told)
        run = train(config, given.workspace, given.cases, run_name=name, table=given.table, on_epoch=watch)
        return _judged(study.goal, run)
    except Hopeless:
        return Outcome("pruned", facts={"epochs": len(_lines(given.workspace.run(name)))})
    except ConfigError as error:
        if error.where == "tune.metric":
            raise
        return Outcome("failed", facts={"reason": _first_line(str(error))})
    except MedrailError as error:
        return Outcome("failed", facts={"reason": _first_line(str(error))})
    except MemoryError:
        return Outcome("failed", facts={"reason": "out of memory"})
    except RuntimeError as error:  # torch's, of sizes that do not go together or memory that is not there
        reason = (
            "out of memory" if "out of memory" in str(error) else f"{type(error).__name__}: {_first_line(str(error))}"
        )
        return Outcome("failed", facts={"reason": reason})


def _judged(goal: Goal, run: Run) -> Outcome:
    """The metric at the epoch whose weights were kept, and what an answer costs."""
    lines, result = _lines(run), read_json(run.passport)["result"]
    value = value_of(goal, lines[int(result["best_epoch"]) - 1])
    facts: dict[str, Any] = {"epochs": len(lines)}
    if not math.isfinite(value):
        return Outcome("failed", facts=facts | {"reason": f"{goal.metric} is {value}"})
    if not goal.two:
        return Outcome("complete", (value,), facts)
    cost = measure(goal.second, run)
    if not math.isfinite(cost):
        return Outcome("failed", facts=facts | {"reason": f"this system does not tell {goal.second}"})
    return Outcome("complete", (value, cost), facts)


def measure(what: str, run: Run) -> float:
    """A cost of a run's network: ``parameters``, or ``latency_ms`` or ``memory_mb`` of one answer of its ONNX file.

    Raises
    ------
    ExportError
        If the network cannot be written as ONNX.
    BundleError
        If ONNX Runtime does not answer.
    """
    network = load_model(run)
    if what == "parameters":
        return float(sum(weight.numel() for weight in network.parameters()))
    content = load(run.best)
    shape = (int(content["model"]["channels"]), *content["grid"])
    with tempfile.TemporaryDirectory(prefix="medrail-") as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, shape, path)
        cost = answer_cost(path, shape)
    return cost.latency_ms if what == "latency_ms" else cost.memory_mb


def _lines(run: Run) -> list[dict[str, Any]]:
    text = run.metrics.read_text(encoding="utf-8") if run.metrics.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:300]
