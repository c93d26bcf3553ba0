"""Bounded work: who is let in, who waits, who is told to come back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrail.serve import Settings
from medrail.serve.problems import Refusal
from medrail.serve.workers import Gate, Workers


def test_the_queue_is_bounded() -> None:
    workers = Workers(Settings(workers=1, queue=2))
    with workers.admitted(), workers.admitted(), workers.admitted():
        with pytest.raises(Refusal) as refused, workers.admitted():
            pass
        assert refused.value.kind == "busy"
        assert refused.value.retry_after_s >= 1
    with workers.admitted():
        pass


def test_a_place_is_given_back_after_a_failure() -> None:
    workers = Workers(Settings(workers=1, queue=0))
    with pytest.raises(RuntimeError, match="work"), workers.admitted():
        raise RuntimeError("work")
    with workers.admitted():
        pass


@pytest.mark.parametrize(("cores", "threads", "width"), [(8, 0, 1), (8, 1, 8), (8, 2, 4), (2, 4, 1), (1, 1, 1)])
def test_the_gate_is_as_wide_as_the_cores_allow(monkeypatch, cores: int, threads: int, width: int) -> None:
    monkeypatch.setattr("medrail.serve.gate.processors", lambda: cores)
    gate = Gate.of(Settings(threads=threads))
    at_once, most, lock = 0, 0, threading.Lock()

    def backend(batch: Any) -> Any:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return batch

    guarded = gate.around(backend)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: guarded(np.zeros((1, 1), np.float32)), range(24)))
    assert most == width


def test_waiting_at_the_gate_is_counted_apart() -> None:
    gate = Gate(1)
    inside, leave = threading.Event(), threading.Event()

    def slow(batch: Any) -> Any:
        inside.set()
        leave.wait(5)
        return batch

    quick = gate.around(lambda batch: batch)
    batch = np.zeros((1, 1), np.float32)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(gate.around(slow), batch)
        inside.wait(5)
        threading.Timer(0.1, leave.set).start()
        quick(batch)
    assert gate.take_waited_ms() > 50
    assert gate.take_waited_ms() == 0


def test_busy_service_says_when_to_come_back(start, classifier, blob_png, monkeypatch) -> None:
    service = start(classifier, workers=1, queue=1)
    predictor = service.app.state.service.registry.default.predictor
    inside, leave = threading.Event(), threading.Event()
    backend = predictor.backend

    def held(batch: Any) -> Any:
        inside.set()
        leave.wait(20)
        return backend(batch)

    monkeypatch.setattr(predictor, "backend", held)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(service.predict, blob_png)
        inside.wait(10)
        second = pool.submit(service.predict, blob_png)
        workers = service.app.state.service.workers
        while workers._inside < 2:
            time.sleep(0.01)
        refused = service.predict(blob_png)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert service.client.get("/healthz").status_code == 200
        leave.set()
        assert first.result().status_code == 200
        assert second.result().status_code == 200
    assert not service.left_over()


def test_many_clients_get_the_answers_of_their_own_images(start, classifier, blob, encode) -> None:
    service = start(classifier, workers=4, queue=100)
    pictures = [encode(np.roll(blob, 5 * n, axis=1) // (1 + n % 5)) for n in range(8)]
    alone = [service.predict(content).json()["probabilities"] for content in pictures]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: service.predict(pictures[n % 8]).json()["probabilities"], range(64)))
    assert all(answers[n] == alone[n % 8] for n in range(64))
    assert not service.left_over()


def test_client_that_leaves_while_waiting_is_forgotten(start, classifier, blob_png, monkeypatch) -> None:
    import httpx

    service = start(classifier, workers=1, queue=4)
    predictor = service.app.state.service.registry.default.predictor
    inside, leave, calls = threading.Event(), threading.Event(), []
    backend = predictor.backend

    def held(batch: Any) -> Any:
        calls.append(batch.shape)
        inside.set()
        leave.wait(20)
        return backend(batch)

    monkeypatch.setattr(predictor, "backend", held)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(service.predict, blob_png)
        inside.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            service.predict(blob_png, timeout=0.3)
        deadline = time.monotonic() + 5
        while '"status": 499' not in service.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        leave.set()
        assert first.result().status_code == 200
    assert len(calls) == 1
    assert not service.left_over()


def test_uploads_go_with_the_service(classifier: Path, tmp_path: Path, blob_png: bytes) -> None:
    import asyncio

    from medrail.serve import create_app

    app = create_app(classifier, Settings(temp_dir=tmp_path, log_to_stderr=False, threads=1))

    async def life() -> None:
        async with app.router.lifespan_context(app):
            (folder,) = tmp_path.iterdir()
            assert folder.stat().st_mode & 0o077 == 0
            (folder / "left").write_bytes(blob_png)

    asyncio.run(life())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_full_disk_costs_the_request_and_not_the_service(start, classifier, blob_png, monkeypatch, where) -> None:
    import errno

    service = start(classifier)

    def full(*values: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device", "/srv/Doe^Jane")

    with monkeypatch.context() as patched:
        if where == "folder":
            patched.setattr("medrail.serve.asked.tempfile.mkdtemp", full)
        else:
            patched.setattr("medrail.serve.upload._Part.write", full)
        answer = service.predict(blob_png)
    assert answer.status_code == 507
    assert answer.json()["type"] == "urn:medrail:problem:no-space"
    assert int(answer.headers["retry-after"]) > 0
    assert "Doe" not in answer.text + service.log.read_text()
    assert service.predict(blob_png).status_code == 200
    assert not service.left_over()


def test_too_late_for_the_network_is_503_and_says_when_to_come_back(start, classifier, blob_png) -> None:
    service = start(classifier, wait_s=0.000001)
    answer = service.predict(blob_png)
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:medrail:problem:too-late"
    assert int(answer.headers["retry-after"]) > 0


def test_the_pool_grows_with_the_largest_batch() -> None:
    largest = 1
    workers = Workers(Settings(queue=0), largest_batch=lambda: largest)
    before = workers._size
    largest = 8
    assert workers.submit(lambda: 1).result() == 1
    assert workers._size == before + 7


def test_the_janitor_removes_everything_and_lets_nothing_pile_up(tmp_path: Path, monkeypatch) -> None:
    """However slow the file system is: what comes while many wait is removed at once."""
    import shutil

    from medrail.serve.service import _MOST_TO_REMOVE, Janitor

    hold = threading.Event()
    real = shutil.rmtree

    def slow(folder: Path, ignore_errors: bool = False) -> None:
        if threading.current_thread().name.startswith("medrail-janitor"):
            hold.wait(10)
        real(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr("medrail.serve.service.shutil.rmtree", slow)
    janitor = Janitor()
    for number in range(_MOST_TO_REMOVE + 5):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
        janitor.remove(folder)
        assert len(list(tmp_path.iterdir())) <= _MOST_TO_REMOVE
    hold.set()
    janitor.close()
    assert not list(tmp_path.iterdir())
    late = tmp_path / "late"
    late.mkdir()
    janitor.remove(late)  # the service ends, and removes the folder above itself
