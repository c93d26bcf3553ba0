"""/metrics: what was counted, over one process and over several, and the drift that follows from it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from medrail.bundle.usual import Shares, Usual
from medrail.serve import Settings, gpu
from medrail.serve.gpu import GpuMemory
from medrail.serve.metrics import Telemetry
from small_calibrations import small_calibration

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
USUAL = Usual(
    200,
    {
        "classes": Shares((150, 50), names=("no", "yes")),
        "ood_score": Shares((100, 60, 40), edges=(0.8, 1.2)),
        "input_mean": Shares((100, 100), edges=(0.0,)),
    },
)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values by their names' order) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def model(usual: Usual | None = USUAL, version: str = "1", name: str = "m") -> Any:
    """As much of a ServedModel as telemetry looks at."""
    calibration = small_calibration(1, usual=usual)
    predictor = SimpleNamespace(
        calibration=calibration,
        bundle_id=f"{name}/{version}@0",
        taken=None,
        spec=SimpleNamespace(task="classification"),
    )
    return SimpleNamespace(name=name, version=version, predictor=predictor)


def answered(telemetry: Telemetry, version: str = "1", times: int = 1, **result: Any) -> None:
    record = {"model": "m", "version": version, "result": result}
    for _ in range(times):
        telemetry.observe_request("/v1/predict/image", 200, record, 0.01)


def told(telemetry: Telemetry) -> dict[tuple[str, ...], float]:
    exposition = telemetry.exposition()
    assert exposition is not None
    return samples(exposition[0].decode())


def test_requests_are_counted_as_they_were(start, classifier, calibrated_classifier, blob_png) -> None:
    service = start(classifier, calibrated_classifier)
    service.predict(blob_png)
    service.predict(b"nothing that is an image")
    service.client.get("/v1/models/nobody/card")
    service.client.get("/patients/PID-7719")
    last = time.monotonic() + 20
    while time.monotonic() < last:  # a request is counted after its answer
        answer = service.client.get("/metrics")
        found = samples(answer.text)
        if ("medrail_problems_total", "not-found") in found:
            break
    assert answer.headers["content-type"].startswith("text/plain; version=")
    image = "/v1/predict/image"
    assert found["medrail_requests_total", "chest", image, "200", "1"] == 1
    assert found["medrail_requests_total", "chest", image, "415", "1"] == 1
    assert found["medrail_requests_total", "", "/v1/models/{name}/card", "404", ""] == 1
    assert found["medrail_requests_total", "", "(none)", "404", ""] == 1
    assert found["medrail_request_seconds_count", image] == 2
    for stage in ("upload", "queue", "decode", "prepare", "model", "post"):
        assert found["medrail_stage_seconds_count", "chest", stage] == 1
    assert found["medrail_problems_total", "unsupported-format"] == 1
    assert sum(value for key, value in found.items() if key[:2] == ("medrail_model_info", "bright/1")) == 0
    infos = [key for key, value in found.items() if key[0] == "medrail_model_info" and value == 1]
    assert {key[3] for key in infos} == {"chest", "bright"}
    assert found["medrail_process_resident_bytes",] > 10e6
    assert found["medrail_process_peak_bytes",] >= found["medrail_process_resident_bytes",] * 0.5
    assert found["medrail_process_cpu_seconds_total",] > 0
    assert found["medrail_requests_in_flight",] == 0
    assert "PID-7719" not in answer.text
    assert not [key for key in found if key[0] == "medrail_drift"]  # neither bundle says what is usual


def test_the_metrics_can_be_turned_off(start, classifier, blob_png) -> None:
    service = start(classifier, metrics=False)
    assert service.predict(blob_png).status_code == 200
    assert service.client.get("/metrics").status_code == 404
    telemetry = Telemetry(Settings(metrics=False))
    telemetry.models([model()])
    telemetry.observe_batch("m", "1", 4, 0)
    telemetry.bundle_refused("BundleError")
    telemetry.log_failed("audit.jsonl")
    answered(telemetry, class_name="no")
    assert telemetry.ended(telemetry.began())["process_peak_mb"] > 0
    assert telemetry.exposition() is None


def test_batches_refusals_and_models(monkeypatch) -> None:
    telemetry = Telemetry(Settings())
    for size, queue in ((1, 0), (5, 7), (8, 3)):
        telemetry.observe_batch("m", "1", size, queue)
    telemetry.bundle_refused("BundleError")
    telemetry.models([model()])
    telemetry.models([model(version="2")])
    monkeypatch.setattr("medrail.serve.metrics.gpu_memory", lambda: (GpuMemory(0, 5, 9),))
    found = told(telemetry)
    assert found["medrail_batch_size_count", "m", "1"] == 3
    assert found["medrail_batch_size_sum", "m", "1"] == 14
    assert found["medrail_queue_length", "m", "1"] == 3
    assert found["medrail_bundles_refused_total", "BundleError"] == 1
    assert {key[-1]: value for key, value in found.items() if key[0] == "medrail_model_info"} == {"1": 0, "2": 1}
    assert (found["medrail_gpu_memory_used_bytes", "0"], found["medrail_gpu_memory_total_bytes", "0"]) == (5, 9)


def test_drift_is_told_from_enough_answers_on() -> None:
    telemetry = Telemetry(Settings(drift_least=20, drift_window=40))
    telemetry.models([model()])
    answered(telemetry, times=19, class_name="yes", ood_score=1.0)
    assert not [key for key in told(telemetry) if key[0].startswith("medrail_drift")]
    answered(telemetry, class_name="yes", ood_score=1.0)
    found = told(telemetry)
    assert found["medrail_drift", "m", "classes", "1"] > 1
    assert found["medrail_drift_answers", "m", "classes", "1"] == 20
    assert found["medrail_drift", "m", "classes", "1"] > found["medrail_drift_by_chance", "m", "classes", "1"]
    assert ("medrail_drift", "m", "input_mean", "1") not in found  # no answer said it
    assert found["medrail_usual_share", "0", "no", "m", "classes", "1"] == 0.75


def test_drift_forgets_what_is_older_than_its_window() -> None:
    telemetry = Telemetry(Settings(drift_least=20, drift_window=40))
    telemetry.models([model()])
    answered(telemetry, times=60, class_name="yes", ood_score=5.0)
    changed = told(telemetry)["medrail_drift", "m", "classes", "1"]
    for number in range(40):
        answered(telemetry, class_name="yes" if number % 4 == 0 else "no", ood_score=5.0)
    found = told(telemetry)
    assert found["medrail_drift_answers", "m", "classes", "1"] == 40
    assert found["medrail_drift", "m", "classes", "1"] < 0.001 < changed
    assert found["medrail_drift", "m", "ood_score", "1"] > 1
    assert found["medrail_answers_total", "yes", "m", "1"] == 70


def test_answers_that_failed_do_not_drift_and_a_new_bundle_begins_anew() -> None:
    telemetry = Telemetry(Settings(drift_least=10))
    telemetry.models([model()])
    failed = {"model": "m", "version": "1", "result": {"class_name": "yes"}}
    for _ in range(30):
        telemetry.observe_request("/v1/predict/image", 500, failed, 0.01)
    assert not [key for key in told(telemetry) if key[0] == "medrail_drift"]
    answered(telemetry, times=10, class_name="no")
    assert told(telemetry)["medrail_drift_answers", "m", "classes", "1"] == 10
    telemetry.models([model(replace(USUAL, cases=300))])
    assert ("medrail_drift", "m", "classes", "1") not in told(telemetry)
    telemetry.models([model(None)])
    answered(telemetry, times=10, class_name="no")
    assert ("medrail_drift", "m", "classes", "1") not in told(telemetry)


def test_long_work_is_counted_when_it_ends_and_not_when_it_is_fetched() -> None:
    telemetry = Telemetry(Settings(drift_least=10))
    telemetry.models([model()])
    record = {"model": "m", "version": "1", "timings_ms": {"model": 5.0}, "result": {"class_name": "yes"}}
    telemetry.observe_job("done", record)
    telemetry.observe_job("failed", {"model": "m", "version": "1", "result": {"class_name": "no"}})
    for _ in range(3):
        telemetry.observe_request("/v1/jobs/{job_id}/result", 200, record, 0.01)
    found = told(telemetry)
    assert found["medrail_answers_total", "yes", "m", "1"] == 1
    assert ("medrail_answers_total", "no", "m", "1") not in found
    assert found["medrail_stage_seconds_count", "m", "model"] == 1
    assert (found["medrail_jobs_total", "done", "m", "1"], found["medrail_jobs_total", "failed", "m", "1"]) == (1, 1)


def test_a_registry_that_changes_is_followed() -> None:
    telemetry, registry = Telemetry(Settings(drift_least=10)), SimpleNamespace(models=[model(None)])
    telemetry.follow(registry)
    registry.models = [model(version="2")]
    served = {key[-1]: value for key, value in told(telemetry).items() if key[0] == "medrail_model_info"}
    assert served == {"1": 0, "2": 1}
    answered(telemetry, version="2", times=10, class_name="no")
    assert told(telemetry)["medrail_drift_answers", "m", "classes", "2"] == 10


def test_several_answers_of_one_request_are_counted_each() -> None:
    telemetry = Telemetry(Settings(drift_least=10))
    telemetry.models([model()])
    results = [{"class_name": "no", "abstain": True, "unlike_training": True}, {"class_name": "yes"}, {}]
    telemetry.observe_request("/v1/predict/batch", 200, {"model": "m", "version": "1", "result": results}, 0.1)
    found = told(telemetry)
    assert (found["medrail_answers_total", "no", "m", "1"], found["medrail_answers_total", "yes", "m", "1"]) == (1, 1)
    assert (found["medrail_abstained_total", "m", "1"], found["medrail_unlike_training_total", "m", "1"]) == (1, 1)


def test_a_served_bundle_that_says_what_is_usual_has_drift(start, drifting_classifier, encode) -> None:
    service = start(drifting_classifier, drift_least=10, workers=2)
    dark = encode(np.full((30, 40), 40, np.uint8))
    for _ in range(12):
        assert service.predict(dark).status_code == 200
    found = samples(service.client.get("/metrics").text)
    for statistic in ("classes", "ood_score", "input_mean"):
        assert found["medrail_drift", "drifting", statistic, "1"] > 0.25
        assert 10 <= found["medrail_drift_answers", "drifting", statistic, "1"] <= 12


WORKERS = """
import os, sys, json
from pathlib import Path
from medrail.serve.counters import forget_process, share_between_processes
share_between_processes(Path(sys.argv[1]))
from medrail.serve.metrics import Telemetry
from medrail.serve import Settings
sys.path.insert(0, sys.argv[2])
from serve.test_metrics import answered, model
def work(times):
    telemetry = Telemetry(Settings(drift_least=50))
    telemetry.models([model()])
    answered(telemetry, times=times, class_name="yes", ood_score=1.0, abstain=True)
    telemetry.observe_batch("m", "1", 4, 2)
    return telemetry
ended, folder = [], Path(sys.argv[1])
for times in (30, 25):
    process = os.fork()
    if not process:
        work(times)
        os._exit(0)
    os.waitpid(process, 0)
    ended.append(process)
telemetry = work(5)
first = telemetry.exposition()[0].decode()
for process in ended:
    forget_process(process, folder)
print(json.dumps([first, telemetry.exposition()[0].decode()]))
"""


def test_processes_have_one_view(tmp_path: Path) -> None:
    """Counters of all that ever were; gauges and windows of those that live."""
    command = [sys.executable, "-W", "ignore", "-c", WORKERS, str(tmp_path / "shared"), str(Path(__file__).parents[1])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    before, after = map(samples, json.loads(done.stdout))
    for found in (before, after):
        assert found["medrail_answers_total", "yes", "m", "1"] == 60
        assert found["medrail_batch_size_count", "m", "1"] == 3
        assert found["medrail_model_info", "m/1@0", "", "m", "classification", "1"] == 1
    assert before["medrail_drift_answers", "m", "classes", "1"] == 60
    assert before["medrail_queue_length", "m", "1"] == 6
    assert ("medrail_drift", "m", "classes", "1") not in after  # 5 of the living process are too few
    assert after["medrail_queue_length", "m", "1"] == 2


def test_graphics_memory_is_asked_of_the_driver(monkeypatch) -> None:
    class Library:
        def nvmlDeviceGetCount_v2(self, count) -> int:  # noqa: N802
            count._obj.value = 3
            return 0

        def nvmlDeviceGetHandleByIndex_v2(self, index, handle) -> int:  # noqa: N802
            handle._obj.value = index + 1
            return 15 if index == 1 else 0  # a card that has fallen off the bus

        def nvmlDeviceGetMemoryInfo(self, handle, memory) -> int:  # noqa: N802
            memory._obj.used, memory._obj.total = handle.value * 10, 100
            return 0

    monkeypatch.setattr(gpu, "_library", Library)
    assert gpu.gpu_memory() == (GpuMemory(0, 10, 100), GpuMemory(2, 30, 100))
    monkeypatch.setattr(gpu, "_library", lambda: None)
    assert gpu.gpu_memory() == ()


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bmedrail_[a-z_]+", text))


@pytest.fixture(scope="module")
def every_metric() -> set[str]:
    """The name of every sample that /metrics can have, from the text itself."""
    telemetry = Telemetry(Settings(drift_least=10))
    telemetry.models([model()])
    telemetry.observe_batch("m", "1", 1, 0)
    telemetry.bundle_refused("BundleError")
    telemetry.log_failed("audit.jsonl")
    telemetry.observe_job("done", {"model": "m", "version": "1"})
    answered(telemetry, times=10, class_name="no", ood_score=1.0, input_mean=0.0, abstain=True, unlike_training=True)
    record = {"model": "m", "version": "1", "problem": "busy", "timings_ms": {"model": 1.0}}
    telemetry.observe_request("/v1/predict/image", 429, record, 0.01)
    metrics = telemetry._metrics
    assert metrics is not None
    metrics.gpu_used.labels("0").set(1)
    metrics.gpu_total.labels("0").set(1)
    return {key[0] for key in told(telemetry)}


@pytest.mark.parametrize("file", ["grafana/dashboards/medrail.json", "prometheus-alerts.yml"])
def test_every_metric_of_the_dashboard_and_the_alerts_exists(file: str, every_metric: set[str]) -> None:
    asked = names_in((DEPLOY / file).read_text(encoding="utf-8"))
    assert len(asked) > 3
    assert asked <= every_metric


def test_every_metric_is_explained(every_metric: set[str]) -> None:
    page = DEPLOY.parent / "docs" / "how-to" / "watch-the-service.md"
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in every_metric}
    assert families <= names_in(page.read_text(encoding="utf-8"))
