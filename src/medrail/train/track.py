"""Tracking: the run folder is the record, a tracker mirrors it. A tracker that fails never stops a training."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Literal, Protocol

from medrail.config import Config
from medrail.workspace import Run

log = logging.getLogger("medrail.train")

Ended = Literal["FINISHED", "KILLED", "FAILED"]
History = Sequence[Mapping[str, Any]]


class Tracker(Protocol):
    """Three methods: a run begins (again), has a new epoch, ends."""

    def begin(self, run: Run, config: Config, passport: Mapping[str, Any], history: History) -> None:
        """``history``: the lines of metrics.jsonl so far, when a run is taken up again."""

    def epoch(self, line: Mapping[str, Any]) -> None:
        """A new line of metrics.jsonl."""

    def end(self, status: Ended) -> None: ...


class NoTracker:
    """Mirrors nothing."""

    def begin(self, run: Run, config: Config, passport: Mapping[str, Any], history: History) -> None:
        return

    def epoch(self, line: Mapping[str, Any]) -> None:
        return

    def end(self, status: Ended) -> None:
        return


class MlflowTracker:
    """MLflow, into ``mlflow.db`` of the workspace, or wherever MLFLOW_TRACKING_URI says.

    Only the client is used, nothing of MLflow's process-wide state. MLflow is imported when a run begins; its
    telemetry is switched off before that.
    """

    def begin(self, run: Run, config: Config, passport: Mapping[str, Any], history: History) -> None:
        self._run = run
        with _quiet():
            from mlflow.entities import Param
            from mlflow.tracking import MlflowClient

            _silence()
            remote = os.environ.get("MLFLOW_TRACKING_URI")
            database = run.workspace.tracking_database
            self._client = MlflowClient(tracking_uri=remote or f"sqlite:///{database.as_posix()}")
            artifacts = None if remote else (run.workspace.root / "mlruns").as_uri()
            experiment = self._client.get_experiment_by_name(config.name)
            experiment_id = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(config.name, artifact_location=artifacts)
            )
            tags = {"medrail.run": run.name, "medrail.fingerprint": str(passport["fingerprint"])}
            wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
            found = self._client.search_runs([experiment_id], filter_string=wanted, max_results=1)
            if found:
                self._run_id = found[0].info.run_id
                self._client.update_run(self._run_id, status="RUNNING")
            else:
                self._run_id = self._client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id
                values = [Param(key, value[:500]) for key, value in flattened(config).items()]
                self._client.log_batch(self._run_id, params=values)
            mirrored = {entry.step for entry in self._client.get_metric_history(self._run_id, "train_loss")}
        for line in history:
            if line["epoch"] not in mirrored:
                self.epoch(line)

    def epoch(self, line: Mapping[str, Any]) -> None:
        with _quiet():
            from mlflow.entities import Metric

            number = int(line["epoch"])
            stamp_ms = int(datetime.fromisoformat(line["time"]).timestamp() * 1000)
            values = {key: value for key, value in line.items() if isinstance(value, float)}
            metrics = [Metric(key, value, stamp_ms, number) for key, value in values.items()]
            self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, status: Ended) -> None:
        with _quiet():
            if self._run.curves.is_file():
                self._client.log_artifact(self._run_id, str(self._run.curves))
            self._client.set_terminated(self._run_id, status)


TRACKERS: dict[str, Callable[[], Tracker]] = {"mlflow": MlflowTracker, "none": NoTracker}


class Guarded:
    """A tracker whose first failure is said once, after which nothing is tracked."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker: Tracker = tracker

    def begin(self, run: Run, config: Config, passport: Mapping[str, Any], history: History) -> None:
        self._try(lambda: self._tracker.begin(run, config, passport, history))

    def epoch(self, line: Mapping[str, Any]) -> None:
        self._try(lambda: self._tracker.epoch(line))

    def end(self, status: Ended) -> None:
        self._try(lambda: self._tracker.end(status))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a tracker does must not stop a training
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            log.warning(
                "not tracked from here on (%s: %s); the run folder has everything. train.track: false turns it off.",
                type(error).__name__,
                reason,
            )
            self._tracker = NoTracker()


def flattened(config: Config) -> dict[str, str]:
    """The configuration as ``{"train.lr": "0.001", ...}``, without where the data lies."""
    result: dict[str, str] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            result[prefix] = str(value)

    values = config.to_dict()
    for key in ("task", "split", "prepare", "model", "train"):
        walk(key, values[key])
    return result


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns of its own libraries and tells of its tables; a failing server must fail soon."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }.items():
        os.environ.setdefault(name, value)
    _silence()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _silence() -> None:
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
