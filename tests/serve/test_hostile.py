"""Files that mean harm, or are just broken: a clear 4xx each, in bounded time and memory, and nothing left behind.

One service answers the whole corpus (tests/hostile), so that what one file does to it, the next one meets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from hostile import CORPUS, FORMS, PARTS

LONGEST_CPU_S = 5.0
LARGEST_GROWTH_MB = 400
MEGAVOXELS = 20  # a file may declare so many; as float32 that is 80 MB a copy
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@pytest.fixture(scope="module")
def service(serving, classifier, volume_segmenter, tmp_path_factory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("hostile")
    with serving(folder, classifier, volume_segmenter, max_megavoxels=MEGAVOXELS, workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def good(blob_png, head_nifti) -> dict[str, bytes]:
    return {"chest": blob_png, "brain": head_nifti.read_bytes()}


class PeakMemory:
    """How much more of memory this process has held since now, at its peak (Linux; elsewhere 0)."""

    def __init__(self) -> None:
        self._known = CLEAR_REFS.exists()
        if self._known:
            CLEAR_REFS.write_text("5")  # the peak becomes what is held now
        self._before_mb = self._peak_mb()

    def growth_mb(self) -> float:
        return self._peak_mb() - self._before_mb

    def _peak_mb(self) -> float:
        found = re.search(r"^VmHWM:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE) if self._known else None
        return int(found[1]) / 1024 if found else 0.0


def check_problem(service: Any, response: httpx.Response) -> None:
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "remedy", "request_id"}
    assert problem["status"] == response.status_code
    assert problem["remedy"]
    assert str(service.uploads) not in response.text
    assert "/tmp" not in response.text
    assert "Traceback" not in response.text


def around(service: Any) -> set[Path]:
    """Everything that lies about the service, but what it writes as its log."""
    return {path for path in service.uploads.parent.parent.rglob("*") if path != service.log}


@pytest.fixture(autouse=True)
def nothing_is_written_elsewhere(service: Any) -> Iterator[None]:
    before = around(service)
    yield
    assert not service.left_over()
    assert around(service) == before
    assert not Path("/tmp/medrail-was-here").exists()


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(PARTS) == 10
    assert len(CORPUS) >= 600
    assert len(FORMS) >= 60


@pytest.mark.parametrize("name", sorted(CORPUS))
def test_hostile_file(service: Any, name: str) -> None:
    hostile = CORPUS[name]
    content = hostile.make()
    memory = PeakMemory()
    begin = time.process_time()  # of client and service together, whatever else this machine does meanwhile
    response = service.predict(content, params={"model": hostile.model})
    assert time.process_time() - begin < LONGEST_CPU_S
    assert memory.growth_mb() < LARGEST_GROWTH_MB
    assert response.status_code in hostile.statuses, response.text
    if response.status_code == 200:
        assert all(np.isfinite(value) for value in response.json().get("probabilities", {}).values())
    else:
        check_problem(service, response)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_hostile_form(service: Any, name: str) -> None:
    form = FORMS[name]
    headers = {**form.headers, **({"Content-Type": form.content_type} if form.content_type else {})}
    response = service.client.post("/v1/predict/image", content=form.body, headers=headers)
    assert response.status_code in form.statuses, response.text
    if response.status_code != 200:
        check_problem(service, response)


def test_absurd_dicom(service: Any, make_dicom) -> None:
    assert service.predict(make_dicom(Rows=65_000, Columns=65_000)).status_code == 413
    assert service.predict(make_dicom(NumberOfFrames=100_000)).status_code in (413, 422)
    assert service.predict(make_dicom()[:-500]).status_code == 422


@pytest.mark.parametrize("model", ["chest", "brain"])
def test_a_good_file_is_answered_afterwards(service: Any, good: dict[str, bytes], model: str) -> None:
    assert service.predict(good[model], params={"model": model}).status_code == 200


def test_the_log_has_neither_a_fault_nor_anything_of_the_files(service: Any) -> None:
    text = service.log.read_text(encoding="utf-8")
    assert '"event": "error"' not in text
    assert not re.search(r'"status": 5\d\d', text)
    for harm in ("Jane", "script", "passwd", "cron.d", "evil", "Traceback"):
        assert harm not in text
