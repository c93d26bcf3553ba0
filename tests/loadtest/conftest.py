"""Small services to put under load: a real one, and one that does what a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from typing import Any

import pytest

from medrail.loadtest.measure import Measured
from medrail.loadtest.outcome import CLOSED, OPEN, StepResult
from medrail.loadtest.watch import Stretch

MODELS = [{"name": "chest", "version": "1", "dims": 2, "needs_roi": False}]


class Pretended:
    """An HTTP service whose predictions are as told: a status, a wait, and a body."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.status, self.body, self.wait_s = 200, b'{"class_name": "a"}', 0.0
        self.headers: dict[str, str] = {}
        self.models: list[dict[str, Any]] = MODELS
        self.key = ""
        self.metrics = b""
        self.seen: list[str] = []

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, headers: Any) -> tuple[int, bytes]:
        self.seen.append(path)
        if path == "/metrics":
            return (200, self.metrics) if self.metrics else (404, b"{}")
        if self.key and headers.get("X-API-Key") != self.key:
            return 401, b'{"title": "No key"}'
        if path == "/v1/models":
            return 200, json.dumps({"models": self.models}).encode()
        if path == "/healthz":
            return 200, b"{}"
        time.sleep(self.wait_s)
        return self.status, self.body


@contextmanager
def pretending(kind: type[HTTPServer] = ThreadingHTTPServer) -> Iterator[Pretended]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._do()

        def _do(self) -> None:
            status, body = service.answer(self.path, self.headers)
            self.send_response(status)
            for name, value in service.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    class Server(kind):  # type: ignore[valid-type, misc]
        request_queue_size = 256

        def handle_error(self, *_: Any) -> None:  # a client may go away
            return

    server = Server(("127.0.0.1", 0), Handler)
    service = Pretended(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.end()
        thread.join(10)


@pytest.fixture
def pretended() -> Iterator[Pretended]:
    with pretending() as service:
        yield service


@pytest.fixture
def serial() -> Iterator[Pretended]:
    """Answers one request after the other."""
    with pretending(HTTPServer) as service:
        yield service


MakeStep = Callable[..., StepResult]


def measured(value: float | None, half: float = 0.0, n: int = 1000) -> Measured:
    return Measured(value, None if value is None else value - half, None if value is None else value + half, n)


@pytest.fixture
def make_step() -> MakeStep:
    """(users, p95, half of its interval) -> a step."""

    def make(users: int, p95_ms: float | None, half_ms: float = 1.0, **more: Any) -> StepResult:
        values = {
            "mode": OPEN if "planned_rps" in more else CLOSED,
            "planned_rps": None,
            "users": users,
            "n": 1000,
            "rps": measured(40.0, 2.0),
            "latency_ms": {name: measured(p95_ms, half_ms) for name in ("p50", "p95", "p99")},
            "errors": 0,
            "error_share": Measured(0.0, 0.0, 0.003, 1000),
            "error_kinds": {},
            "by_kind": {"image": {"n": 1000, "errors": 0, "p50_ms": p95_ms, "p95_ms": p95_ms, "p99_ms": p95_ms}},
            "server": Stretch(0.9, 210.0),
            "client_cores": 0.1,
            "late_ms": 0.5,
            "begin_s": 0.0,
            "seconds": 10.0,
        }
        return StepResult(**(values | more))

    return make
