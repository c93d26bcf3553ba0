"""Metrics for Prometheus: what the service counts, and one view of it over several worker processes.

Several processes share a folder (``counters.share_between_processes``); any of them answers /metrics for all.
Nothing here holds a file name, a key or an address; models are named as their bundles, routes by their patterns.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from medrail.bundle.usual import Usual
from medrail.serve.counters import Counters, Model, WithDrift
from medrail.serve.drift import Bin, Window
from medrail.serve.gpu import gpu_memory
from medrail.serve.memory import Call, ProcessMemory, resident_bytes
from medrail.serve.settings import Settings

if TYPE_CHECKING:
    from medrail.serve.registry import ServedModel

JOBS_ROUTE = "/v1/jobs"
STAGES = ("upload", "queue", "decode", "prepare", "model", "post", "preview")
_SAMPLED_EVERY_S = 1.0


class Serving(Protocol):
    """As much of the registry as is looked at."""

    @property
    def models(self) -> Sequence[ServedModel]: ...


class Telemetry:
    """The service's counters; any thread may call any method, and with ``settings.metrics`` off none does a thing.

    One is made for an application and lies at ``app.state.telemetry``.
    """

    def __init__(self, settings: Settings) -> None:
        self.memory = ProcessMemory()
        self._settings = settings
        self._lock = threading.Lock()
        self._usual: dict[Model, Usual] = {}
        self._windows: dict[Model, Window] = {}
        self._served: dict[Model, tuple[str, ...]] = {}
        self._registry: Serving | None = None
        self._sampled_at_s = 0.0
        self._cpu_s = 0.0
        self._metrics = Counters() if settings.metrics else None

    def began(self) -> Call:
        """A request begins; give what this returns to ``ended``."""
        if self._metrics:
            self._metrics.in_flight.inc()
        return self.memory.begin()

    def ended(self, call: Call) -> dict[str, float]:
        """What memory it took, for its line in the audit log."""
        if self._metrics:
            self._metrics.in_flight.dec()
        return self.memory.end(call)

    def observe_request(self, route: str, status: int, record: Mapping[str, Any], seconds: float) -> None:
        """Count a request that has been answered; ``record`` is ``request.state.record``."""
        metrics = self._metrics
        if metrics is None:
            return
        model, version = str(record.get("model", "")), str(record.get("version", ""))
        metrics.child(metrics.requests, route, str(status), model, version).inc()
        metrics.child(metrics.request_seconds, route).observe(seconds)
        if problem := record.get("problem"):
            metrics.problems.labels(str(problem)).inc()
        if not route.startswith(JOBS_ROUTE):  # which tell again what was counted when the work ended
            self._worked((model, version), record, answered=status < 400)
        if time.monotonic() - self._sampled_at_s > _SAMPLED_EVERY_S:
            self._sample()

    def observe_job(self, job_status: str, record: Mapping[str, Any]) -> None:
        """Count long work that has ended; ``record`` is what its request noted, with timings and result if it is done.

        Long work itself belongs within ``with telemetry.memory.working():``.
        """
        if self._metrics:
            key = str(record.get("model", "")), str(record.get("version", ""))
            self._metrics.jobs.labels(job_status, *key).inc()
            self._worked(key, record, answered=job_status == "done")

    def observe_batch(self, model: str, version: str, size: int, queue: int) -> None:
        """Count one call of a network: the images in it, and those that still wait for the same network."""
        if self._metrics:
            self._metrics.child(self._metrics.batch_size, model, version).observe(size)
            self._metrics.child(self._metrics.queue_length, model, version).set(queue)

    def follow(self, registry: Serving) -> None:
        """Look from now on which models the registry has, whenever numbers are sampled, so that nobody has to tell."""
        self._registry = registry
        self.models(registry.models)

    def models(self, models: Sequence[ServedModel]) -> None:
        """Say which models are served from now on."""
        metrics = self._metrics
        if metrics is None:
            return
        with self._lock:
            served = {(model.name, model.version): _about(model) for model in models}
            for key, about in self._served.items():
                if served.get(key) != about:
                    metrics.model_info.labels(*key, *about).set(0)  # labels cannot be taken away between processes
            for key, about in served.items():
                metrics.model_info.labels(*key, *about).set(1)
            self._served = served
            usual = {(one.name, one.version): one.predictor.calibration for one in models}
            for key in {**self._usual, **usual}:
                calibration = usual.get(key)
                self._watch(key, calibration.usual if calibration else None)

    def bundle_refused(self, reason: str) -> None:
        """Count a bundle that was not taken into service; ``reason`` is the error's class, as "BundleError"."""
        if self._metrics:
            self._metrics.refused.labels(reason).inc()

    def log_failed(self, file: str) -> None:
        """Count a line that could not be written to a log."""
        if self._metrics:
            self._metrics.log_failures.labels(file).inc()

    def exposition(self) -> tuple[bytes, str] | None:
        """The text of /metrics and its media type; None where metrics are off."""
        metrics = self._metrics
        if metrics is None:
            return None
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        self._sample()
        for card in gpu_memory():
            metrics.gpu_used.labels(str(card.gpu)).set(card.used_bytes)
            metrics.gpu_total.labels(str(card.gpu)).set(card.total_bytes)
        with self._lock:
            usual = dict(self._usual)
        return generate_latest(WithDrift(metrics.registry, usual, self._settings.drift_least)), CONTENT_TYPE_LATEST

    def _worked(self, key: Model, record: Mapping[str, Any], *, answered: bool) -> None:
        metrics, timings = self._metrics, record.get("timings_ms") or {}
        assert metrics is not None  # noqa: S101 - the callers have looked
        for stage in STAGES:
            if stage in timings:
                metrics.child(metrics.stage_seconds, stage, key[0]).observe(timings[stage] / 1e3)
        if answered and key[0]:
            found = record.get("result")
            for result in found if isinstance(found, list) else [found]:
                if isinstance(result, Mapping):
                    self._answered(key, result)

    def _answered(self, key: Model, result: Mapping[str, Any]) -> None:
        metrics = self._metrics
        assert metrics is not None  # noqa: S101 - the callers have looked
        findings = result.get("findings")
        names = [result["class_name"]] if result.get("class_name") else findings or ()
        for name in names:
            metrics.child(metrics.answers, *key, name).inc()
        if result.get("abstain"):
            metrics.abstained.labels(*key).inc()
        if result.get("unlike_training"):
            metrics.unlike.labels(*key).inc()
        with self._lock:
            window = self._windows.get(key)
            if window is None:
                return
            fallen, pushed_out = window.take(result)
            for bins, step in ((fallen, 1), (pushed_out, -1)):
                for name, place in bins:
                    metrics.child(metrics.window, *key, name, str(place), self._label(key, (name, place))).inc(step)

    def _watch(self, key: Model, usual: Usual | None) -> None:
        """Begin a new window where what is usual is not what it was."""
        before = self._usual.get(key)
        if self._metrics is None or before == usual:
            return
        for name, shares in before.shares.items() if before else ():
            for place, label in enumerate(shares.labels):
                self._metrics.window.labels(*key, name, str(place), label).set(0)
        self._usual.pop(key, None)
        self._windows.pop(key, None)
        if usual is None:
            return
        self._usual[key], self._windows[key] = usual, Window(usual, self._settings.drift_window)
        for name, shares in usual.shares.items():
            for place, (label, count) in enumerate(zip(shares.labels, shares.counts, strict=True)):
                self._metrics.usual_share.labels(*key, name, str(place), label).set(count / sum(shares.counts))
                self._metrics.window.labels(*key, name, str(place), label).set(0)

    def _label(self, key: Model, which: Bin) -> str:
        name, place = which
        return self._usual[key].shares[name].labels[place]

    def _sample(self) -> None:
        metrics = self._metrics
        if metrics is None:
            return
        self._sampled_at_s = time.monotonic()
        if self._registry:
            self.models(self._registry.models)
        metrics.resident.set(resident_bytes())
        metrics.peak.set(self.memory.peak_bytes())
        used = time.process_time()
        with self._lock:
            step, self._cpu_s = used - self._cpu_s, used
        metrics.cpu.inc(max(0.0, step))


@functools.cache
def _off() -> Telemetry:
    return Telemetry(Settings(metrics=False))


def telemetry_of(scope: Mapping[str, Any]) -> Telemetry:
    """The application's, of an ASGI scope; one that counts nothing where the application has none."""
    state = getattr(scope.get("app"), "state", None)
    found: Telemetry | None = getattr(state, "telemetry", None)
    return found or _off()


def _about(model: ServedModel) -> tuple[str, ...]:
    predictor = model.predictor
    return predictor.bundle_id, str(predictor.taken.choice) if predictor.taken else "", predictor.spec.task
