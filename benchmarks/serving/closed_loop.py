"""What the serving scripts share: a service in a process of its own, pictures, and clients in a closed loop."""

from __future__ import annotations

import http.client
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

BOUNDARY = "medrail-benchmark"
READY_S = 60


def picture(pixels: int, seed: int, form: str = "JPEG") -> bytes:
    """A colour picture with structure of 8 pixels, as bytes of a file."""
    blocks = np.random.default_rng(seed).integers(0, 255, (pixels // 8 + 1, pixels // 8 + 1, 3))
    values = np.kron(blocks, np.ones((8, 8, 1)))[:pixels, :pixels].astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def form_of(content: bytes) -> bytes:
    """A multipart body with one field `file`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextmanager
def service(model: Path, sets: Sequence[str] = (), log_dir: Path | None = None) -> Iterator[tuple[int, int]]:
    """`medrail serve MODEL` on a free port; yields (port, process id)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [record.medrail_command(), "serve", str(model), "--port", str(port)]
    command += [part for entry in sets for part in ("--set", entry)]
    command += ["--log-dir", str(log_dir)] if log_dir else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + READY_S
        while time.monotonic() < until and process.poll() is None:
            with suppress(OSError):
                if ask(http.client.HTTPConnection("127.0.0.1", port, timeout=1), "GET", "/readyz")[0] == 200:
                    break
            time.sleep(0.02)
        else:
            raise RuntimeError("the service did not become ready")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(60)


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, kind: str = ""
) -> tuple[int, bytes]:
    """(status, body of the answer)."""
    connection.request(method, path, body, {"Content-Type": kind} if kind else {})
    answer = connection.getresponse()
    return answer.status, answer.read()


def predict(connection: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    """POST an image."""
    return ask(connection, "POST", "/v1/predict/image", body, f"multipart/form-data; boundary={BOUNDARY}")


def order(port: int, path: str, **values: object) -> tuple[int, bytes]:
    """POST JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    return ask(connection, "POST", path, json.dumps(values).encode(), "application/json")


@dataclass
class Seen:
    """What the clients saw."""

    statuses: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def lost(self) -> int:
        """Requests without an answer, or with a 5xx."""
        return sum(count for status, count in self.statuses.items() if not status.isdigit() or status >= "500")


def closed_loop(
    port: int, users: int, requests: int, send: Callable[[http.client.HTTPConnection, int], tuple[int, bytes]]
) -> tuple[Seen, threading.Thread]:
    """Let ``users`` clients send the requests with these numbers, each one after the other; a thread that ends when
    all are answered. Nothing is sent again."""
    seen, numbers, lock = Seen(), iter(range(requests)), threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                status, body = send(connection, number)
                version = str(json.loads(body).get("model_version", "")) if body[:1] == b"{" else ""
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, version = type(error).__name__, ""
            with lock:
                seen.statuses[str(status)] += 1
                seen.versions[version] += bool(version)

    def all_of_them() -> None:
        clients = [threading.Thread(target=client) for _ in range(users)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()

    thread = threading.Thread(target=all_of_them)
    thread.start()
    return seen, thread
