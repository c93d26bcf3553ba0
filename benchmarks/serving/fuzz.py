"""Requests that schemathesis makes of the OpenAPI document, right ones and wrong ones, with real files among the noise.

``python benchmarks/serving/fuzz.py`` starts a service with small networks and sends 10,000; ``--url`` asks another.
Counts statuses, and fails where anything but 2xx and 4xx was answered, or what the document does not say.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image as Picture
from schemathesis import checks
from schemathesis.generation import GenerationMode

REQUESTS = 10_000
LIMIT_S = 60
_MOST_FAILURES = 20
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]


@dataclass
class Report:
    """What was sent and answered; ``failures``: route -> what schemathesis found wrong."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    by_route: dict[str, Counter[int]] = field(default_factory=dict)
    slowest_s: float = 0.0
    slowest_route: str = ""
    failures: list[str] = field(default_factory=list)

    def add(self, route: str, status: int, seconds: float) -> None:
        self.requests += 1
        self.statuses[status] += 1
        self.by_route.setdefault(route, Counter())[status] += 1
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest_route = seconds, route


def real_files() -> list[bytes]:
    """Small files of several kinds, whole and cut off."""
    import nibabel

    def picture(form: str) -> bytes:
        buffer = io.BytesIO()
        Picture.fromarray(np.indices((24, 20)).sum(0).astype(np.uint8) * 5).save(buffer, form)
        return buffer.getvalue()

    from pydicom.data import get_testdata_file

    voxels = np.random.default_rng(0).normal(size=(6, 8, 10)).astype(np.float32)
    nifti = nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])).to_bytes()
    dicom = Path(str(get_testdata_file("CT_small.dcm"))).read_bytes()
    whole = [picture("PNG"), picture("JPEG"), picture("TIFF"), picture("BMP"), nifti, dicom]
    return [*whole, *(content[: len(content) // 2] for content in whole)]


def fuzz(url: str, examples: int, seed: int = 0) -> Report:
    """Send ``examples`` right and as many wrong requests to each route of a running service."""
    schema = schemathesis.openapi.from_url(f"{url.rstrip('/')}/openapi.json")
    known = Known(real_files(), served_models(url), ["none"])
    report = Report()
    for found in schema.get_all_operations():
        operation = found.ok()
        can_be_wrong = len(operation.query) + len(operation.body) > 0  # a text in a path is never wrong
        for mode in GenerationMode if can_be_wrong else (GenerationMode.POSITIVE,):
            _fuzz_one(operation, mode, examples, seed, known, report)
    return report


@dataclass(frozen=True)
class Known:
    """What is right where the document can only say that it is a text: files, served models, jobs that were made."""

    files: Sequence[bytes]
    models: Sequence[tuple[str, str]]
    jobs: list[str]

    def put_into(self, case: Any, content: bytes | None, number: int) -> None:
        """A file into the form (None: none), names of the served into the address (below 0: none)."""
        if content is not None and isinstance(case.body, dict) and "file" in case.body:
            several = isinstance(case.body["file"], list)
            case.body = {**case.body, "file": [content] * max(1, len(case.body["file"])) if several else content}
        if number < 0:
            return
        (name, version), other = (self.models[(number + more) % len(self.models)] for more in (0, 1))
        right = {"job_id": self.jobs[number % len(self.jobs)], "name": name, "version": version}
        case.path_parameters = {**case.path_parameters, **{k: right[k] for k in right if k in case.path_parameters}}
        asked = {"model": name, "first": f"{name}/{version}", "second": "/".join(other)}
        if case.operation.query and isinstance(case.query, dict):
            there = {parameter.name for parameter in case.operation.query}
            case.query = {**case.query, **{key: value for key, value in asked.items() if key in there}}


def served_models(url: str) -> list[tuple[str, str]]:
    """Name and version of each."""
    with urllib.request.urlopen(f"{url.rstrip('/')}/v1/models", timeout=LIMIT_S) as answer:
        return [(model["name"], model["version"]) for model in json.load(answer)["models"]]


def _fuzz_one(operation: Any, mode: GenerationMode, examples: int, seed: int, known: Known, report: Report) -> None:
    route = f"{operation.method.upper()} {operation.path}"

    def once(case: Any, content: bytes | None, number: int, accept: str) -> None:
        known.put_into(case, content, number)
        begin = time.perf_counter()
        response = case.call(timeout=LIMIT_S, headers={"Accept": accept} if accept else None)
        report.add(route, response.status_code, time.perf_counter() - begin)
        if response.status_code == 202:
            known.jobs.append(response.json()["job_id"])
        try:
            case.validate_response(response, checks=CHECKS)
        except Exception as error:  # noqa: BLE001 - schemathesis groups its failures; the report tells them all
            if len(report.failures) < _MOST_FAILURES:
                report.failures.append(f"{route}: {response.status_code}: {_text(error)}")

    accepts = ("", "*/*", "application/json", "application/x-nifti", "image/png", "application/dicom", "text/html")
    given = hypothesis.given(
        operation.as_strategy(generation_mode=mode),
        st.none() | st.sampled_from(known.files),
        st.integers(-1, 9),
        st.sampled_from(accepts),
    )
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong where there is no parameter
        hypothesis.seed(seed)(settings(given(once)))()


def _text(error: BaseException) -> str:
    parts = getattr(error, "exceptions", None) or [error]
    return " | ".join(" ".join(str(part).split())[:300] for part in parts)


def with_service(folder: Path, requests: int) -> Report:
    """Start a service with small networks, of pictures and of volumes, and ask it."""
    tests = Path(__file__).resolve().parents[2] / "tests"
    sys.path.insert(0, str(tests))
    from medrail.bundle import InputKind, NetworkSpec
    from medrail.serve import Settings, create_app
    from small_bundles import classifier_network, segmenter_network, write_bundle

    any_kind = InputKind(picture=None, channels=0, unit="")
    normalise = {"kind": "normalise", "method": "zscore"}
    classes = NetworkSpec(
        task="classification",
        classes=("a", "b", "c"),
        dims=2,
        channels=3,
        pipeline=({"kind": "grey_to_rgb"}, {"kind": "resize", "size": [32, 32]}, normalise),
        input_kind=any_kind,
        grid=(32, 32),
    )
    mask = NetworkSpec(
        task="segmentation",
        classes=("background", "bright"),
        dims=2,
        channels=1,
        pipeline=({"kind": "rgb_to_grey"}, normalise),
        input_kind=any_kind,
        patch=(16, 16),
    )
    bundles = [
        write_bundle(folder, "classes", classifier_network(3), classes),
        write_bundle(folder, "classes", classifier_network(3), classes, version="2"),
        write_bundle(folder, "mask", segmenter_network(2, (0.5,)), mask),
    ]
    app = create_app(bundles, Settings(threads=1, log_to_stderr=False, temp_dir=folder, job_keep_s=30))
    return _running(app, requests)


def _running(app: Any, requests: int) -> Report:
    import socket
    import threading

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        return until(f"http://127.0.0.1:{listener.getsockname()[1]}", requests)
    finally:
        server.should_exit = True
        thread.join(60)


def until(url: str, requests: int) -> Report:
    """Rounds of ``fuzz`` with other seeds until so many requests were sent."""
    whole = Report()
    seed = 0
    while whole.requests < requests:
        part = fuzz(url, examples=min(100, max(1, requests // 30)), seed=seed)
        seed += 1
        whole.requests += part.requests
        whole.statuses += part.statuses
        for route, counts in part.by_route.items():
            whole.by_route.setdefault(route, Counter()).update(counts)
        if part.slowest_s > whole.slowest_s:
            whole.slowest_s, whole.slowest_route = part.slowest_s, part.slowest_route
        whole.failures = [*whole.failures, *part.failures][:_MOST_FAILURES]
        print(f"{whole.requests} requests, {dict(whole.statuses)}, {len(whole.failures)} failures", flush=True)
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="of a running service; default: one with small networks is started")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="at least so many")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file for the report")
    options = parser.parse_args()
    if options.url:
        report = until(options.url, options.requests)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = with_service(Path(folder), options.requests)
    told = {
        "requests": report.requests,
        "statuses": {str(status): count for status, count in sorted(report.statuses.items())},
        "by_route": {
            route: {str(s): n for s, n in sorted(counts.items())} for route, counts in report.by_route.items()
        },
        "slowest_s": round(report.slowest_s, 3),
        "slowest_route": report.slowest_route,
        "failures": report.failures,
    }
    print(json.dumps(told, indent=2))
    if options.output:
        options.output.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return int(bool(report.failures) or any(status >= 500 for status in report.statuses))


if __name__ == "__main__":
    sys.exit(main())
