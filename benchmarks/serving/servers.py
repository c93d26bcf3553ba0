"""The contenders: how each is started, where it answers, and how it is ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

APPS = Path(__file__).with_name("apps")
READY_LIMIT_S = 240
END_LIMIT_S = 20


@dataclass(frozen=True)
class Place:
    """Where everything lies."""

    peers: Path
    images: Path
    fp32: Path
    slim: Path
    weights: Path

    def python(self, environment: str) -> str:
        return str(self.peers / environment / "bin" / "python")


@dataclass(frozen=True)
class Contender:
    """One server.

    environment:
        Of peers.txt; "": medrail's own.
    command:
        (place, port) -> what is run.
    path, ready:
        Where images go, and what answers 200 as soon as it is ready.
    """

    name: str
    told: str
    environment: str
    command: Callable[[Place, int], list[str]]
    path: str = "/predict"
    ready: str = "/ready"

    @property
    def is_ours(self) -> bool:
        return not self.environment


def _uvicorn(app: str) -> Callable[[Place, int], list[str]]:
    def command(place: Place, port: int) -> list[str]:
        return [place.python("torch"), "-m", "uvicorn", f"{app}:app", "--port", str(port), "--log-level", "critical"]

    return command


def _medrail(which: str) -> Callable[[Place, int], list[str]]:
    def command(place: Place, port: int) -> list[str]:
        bundle = str(getattr(place, which))
        logs = tempfile.mkdtemp(prefix="medrail-serving-logs-")
        return [record.medrail_command(), "serve", bundle, "--port", str(port), "--threads", "1", "--log-dir", logs]

    return command


def _script(environment: str, app: str) -> Callable[[Place, int], list[str]]:
    return lambda place, port: [place.python(environment), str(APPS / app), str(port)]


def _bentoml(place: Place, port: int) -> list[str]:
    serve = [place.python("bentoml"), "-m", "bentoml", "serve", "bentoml_app:ResNet"]
    return [*serve, "--port", str(port), "--host", "127.0.0.1", "--working-dir", str(APPS)]


CONTENDERS = (
    Contender("usual_app", "async def, Pillow, eager torch on one thread", "torch", _uvicorn("usual_app")),
    Contender("threadpool", "FastAPI def on its thread pool, torch channels_last", "torch", _uvicorn("threads_app")),
    Contender(
        "litserve", "LitServe, batches of 8", "litserve", _script("litserve", "litserve_app.py"), ready="/health"
    ),
    Contender("bentoml", "BentoML, one worker", "bentoml", _bentoml, ready="/readyz"),
    Contender(
        "ray_serve", "Ray Serve, one replica, batches of 8", "ray", _script("ray", "ray_app.py"), ready="/predict"
    ),
    Contender("fp32", "medrail, the bundle in fp32", "", _medrail("fp32"), "/v1/predict/image", "/readyz"),
    Contender("slim", "medrail, the slimmed bundle", "", _medrail("slim"), "/v1/predict/image", "/readyz"),
)


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    port: int
    ready_s: float
    pid: int

    def rss_mb(self) -> float:
        """Resident memory of the process and all that it started."""
        total = 0
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for one in (process, *process.children(recursive=True)):
                with suppress(psutil.Error):
                    total += one.memory_info().rss
        return total / 2**20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def on_cores(cores: str, command: list[str]) -> list[str]:
    """The command held to these cores, as `0` or `0,1`; "": to none."""
    return ["taskset", "-c", cores, *command] if cores else command


@contextmanager
def running(contender: Contender, place: Place, cores: str) -> Iterator[Running]:
    """Start it, wait until it is ready, end it with everything that it started.

    Raises
    ------
    RuntimeError
        If it ends by itself, or is not ready in time; with the last line it said.
    """
    port = free_port()
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    told = {"SERVING_WEIGHTS": str(place.weights), "SERVING_ONNX": str(place.fp32 / "model.onnx")}
    quiet = {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    environment = {**os.environ, **threads, **told, **quiet}
    if not contender.is_ours:
        environment["PYTHONPATH"] = str(APPS)
    with tempfile.TemporaryFile() as said:
        begin = time.perf_counter()
        process = subprocess.Popen(
            on_cores(cores, contender.command(place, port)),
            env=environment,
            cwd=tempfile.gettempdir(),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not _answers(port, contender.ready):
                if process.poll() is not None or time.perf_counter() - begin > READY_LIMIT_S:
                    raise RuntimeError(f"did not get ready: {_last_line(said)}")
                time.sleep(0.01)
            yield Running(port, time.perf_counter() - begin, process.pid)
        finally:
            _end(process)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_line(said: object) -> str:
    said.seek(0)  # type: ignore[attr-defined]
    lines = said.read().decode("utf-8", "replace").strip().splitlines()  # type: ignore[attr-defined]
    return lines[-1][:200] if lines else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    """First a polite word; then all processes that it started, by their numbers."""
    family = []
    with suppress(psutil.Error):
        family = psutil.Process(process.pid).children(recursive=True)
    with suppress(OSError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_LIMIT_S)
    _, alive = psutil.wait_procs(family, timeout=3)
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
