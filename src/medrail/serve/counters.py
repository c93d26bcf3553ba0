"""The table of what is counted, and the text of /metrics over one or several processes, with the drift in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.bundle.usual import Usual
from medrail.serve.drift import measured

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_MODEL = ("model", "version")
Model = tuple[str, str]


def share_between_processes(folder: Path) -> None:
    """Let this process and those that it starts from now on count together in ``folder``, which is emptied.

    To be called before the first ``Telemetry`` is made, once, by whoever starts the workers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("*.db"):
        left.unlink()
    os.environ[FOLDER_VARIABLE] = str(folder)


def forget_process(process: int, folder: Path) -> None:
    """A worker has ended: its gauges (memory, queue, window) no longer count; what it counted stays counted."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process, str(folder))  # type: ignore[no-untyped-call]


class Counters:
    """The table of what is counted; docs/how-to/watch-the-service.md says what each is good for."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values

        # When each of them was made would double the text.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        # prometheus_client decides when it is imported whether processes share; here it is decided by what holds now.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._children: dict[tuple[Any, ...], Any] = {}

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"medrail_{name}", about, labels, registry=registry)

        def gauge(name: str, about: str, mode: Any, *labels: str) -> Gauge:
            return Gauge(f"medrail_{name}", about, labels, registry=registry, multiprocess_mode=mode)

        def histogram(name: str, about: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"medrail_{name}", about, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "Requests answered", "route", "status", *_MODEL)
        self.problems = counter("problems", "Requests refused or failed, by the kind of problem", "problem")
        self.request_seconds = histogram("request_seconds", "From a request's first byte to its end", _SECONDS, "route")
        self.stage_seconds = histogram("stage_seconds", "Where a prediction's time went", _SECONDS, "stage", "model")
        self.in_flight = gauge("requests_in_flight", "Requests that are in work", "livesum")
        self.batch_size = histogram("batch_size", "Images in one call of a network", _BATCHES, *_MODEL)
        self.queue_length = gauge("queue_length", "Images that waited after the last call", "livesum", *_MODEL)
        self.answers = counter("answers", "Answers by the class decided for", *_MODEL, "class_name")
        self.abstained = counter("abstained", "Answers that leave it to a person", *_MODEL)
        self.unlike = counter("unlike_training", "Answers for images unlike the training data", *_MODEL)
        self.cpu = counter("process_cpu_seconds", "Processor time of the serving processes")
        self.resident = gauge("process_resident_bytes", "Memory that the serving processes hold", "livesum")
        self.peak = gauge("process_peak_bytes", "The most that one serving process has held", "livemax")
        self.gpu_used = gauge("gpu_memory_used_bytes", "In use on the card, by any process", "livemax", "gpu")
        self.gpu_total = gauge("gpu_memory_total_bytes", "Of the card", "livemax", "gpu")
        about = ("bundle_id", "engine", "task")
        self.model_info = gauge("model_info", "1 for a model in service, 0 once it is not", "livemax", *_MODEL, *about)
        self.jobs = counter("jobs", "Long work that has ended", "job_status", *_MODEL)
        self.refused = counter("bundles_refused", "Bundles that were not taken into service", "reason")
        self.log_failures = counter("log_failures", "Lines that could not be written to a log", "file")
        bins = ("statistic", "bin", "label")
        self.window = gauge("window_answers", "The last answers, by bin", "livesum", *_MODEL, *bins)
        self.usual_share = gauge("usual_share", "Of the validation cases, by bin", "livemax", *_MODEL, *bins)

    def child(self, family: Any, *labels: str) -> Any:
        """``family.labels(*labels)``, remembered: that takes longer than the counting itself."""
        key = (family, *labels)
        found = self._children.get(key)
        if found is None:
            found = self._children[key] = family.labels(*labels)
        return found


class WithDrift:
    """A registry as generate_latest takes one: all processes' metrics, and the drift that their windows add up to."""

    def __init__(self, own: CollectorRegistry, usual: Mapping[Model, Usual], least: int) -> None:
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        self._registry = own
        if FOLDER_VARIABLE in os.environ:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)  # type: ignore[no-untyped-call]
        self._usual, self._least = usual, least

    def collect(self) -> Iterator[Metric]:
        counts: dict[tuple[Model, str], dict[int, float]] = {}
        for family in self._registry.collect():
            if family.name == "medrail_window_answers":
                for sample in family.samples:
                    model = (sample.labels["model"], sample.labels["version"])
                    bins = counts.setdefault((model, sample.labels["statistic"]), {})
                    place = int(sample.labels["bin"])
                    bins[place] = bins.get(place, 0.0) + sample.value
            yield family
        yield from self._drift(counts)

    def _drift(self, counts: Mapping[tuple[Model, str], Mapping[int, float]]) -> Iterator[Metric]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        labels = [*_MODEL, "statistic"]
        index = GaugeMetricFamily("medrail_drift", "Population stability index against the bundle's own", labels=labels)
        chance = GaugeMetricFamily("medrail_drift_by_chance", "The index that chance seldom exceeds", labels=labels)
        answers = GaugeMetricFamily("medrail_drift_answers", "Answers that the index is over", labels=labels)
        for model, usual in self._usual.items():
            for name, shares in usual.shares.items():
                found = measured(counts.get((model, name), {}), shares, self._least)
                for family, value in zip((index, chance, answers), found or (), strict=False):
                    family.add_metric([*model, name], value)
        yield from (index, chance, answers)
