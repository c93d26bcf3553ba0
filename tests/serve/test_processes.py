"""Several processes at one address: a crash costs only its own requests, and a signal drains all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import httpx
import pytest

from medrail.errors import BundleError
from medrail.serve import Settings, serve
from medrail.serve.log import ServiceLog
from medrail.serve.supervisor import _Slot, _start_all

SERVICE = """
import sys
from pathlib import Path
from medrail.serve import Settings, serve
temp, log = Path(sys.argv[2]), Path(sys.argv[3])
settings = Settings(threads=1, processes=2, temp_dir=temp, log_dir=log, log_to_stderr=False, queue=100)
serve(sys.argv[1], port=0, settings=settings, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""
pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def children(parent: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


@pytest.fixture(scope="module")
def running(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str]]:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "temp").mkdir()
    command = [sys.executable, "-c", SERVICE, str(classifier), str(folder / "temp"), str(folder / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), url + process.stdout.read()
            yield process, url
            process.terminate()
            assert process.stdout.read().splitlines() == ["ended"]
            assert process.wait(30) == 0
        finally:
            if process.poll() is None:
                process.kill()
    assert not list((folder / "temp").iterdir())
    assert (folder / "log" / "service.jsonl").is_file()


def ask(url: str, content: bytes) -> httpx.Response:
    """On a connection of its own, so that any of the processes may get it."""
    return httpx.post(f"{url}v1/predict/image", files={"file": ("x", content)}, timeout=60, trust_env=False)


def test_a_killed_process_is_started_again_and_costs_only_its_requests(running, blob_png: bytes) -> None:
    process, url = running
    before = children(process.pid)
    assert len(before) == 2
    stop = threading.Event()
    answered: list[int] = []
    lost: list[float] = []

    def client(_: int) -> None:
        while not stop.is_set():
            try:
                answered.append(ask(url, blob_png).status_code)
            except httpx.TransportError:
                lost.append(time.monotonic())

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            until(lambda: len(answered) > 20)
            os.kill(before[0], signal.SIGKILL)
            until(lambda: starts(process) == 3)
            count = len(answered)
            until(lambda: len(answered) > count + 20)
        finally:
            stop.set()
        for each in clients:
            each.result()
    assert set(answered) == {200}
    assert len(lost) <= 4  # no more than were in work
    assert before[1] in children(process.pid)
    log = Path(str(list(process.args)[-1])) / "service.jsonl"
    (ended,) = [
        line for line in map(json.loads, log.read_text("utf-8").splitlines()) if line["event"] == "process-ended"
    ]
    assert ended["code"] == -signal.SIGKILL


def test_sigterm_drains_all(running, blob_png: bytes) -> None:
    """Uploads that have begun are received to their end and answered, in every process, and nobody new is let in."""
    process, url = running
    temp = next(Path(argument) for argument in process.args if argument.endswith("/temp"))
    address = ("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
    body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + blob_png + b"\r\n--B--\r\n"
    head = f"POST /v1/predict/image HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: multipart/form-data; boundary=B\r\nConnection: close\r\n\r\n"
    with ExitStack() as stack:
        clients: list[socket.socket] = []

        def both_have_some() -> bool:
            """One more upload begins, until each process has two."""
            clients.append(stack.enter_context(socket.create_connection(address, timeout=60)))
            clients[-1].sendall(head.encode() + body[:90])
            until(lambda: len(list(temp.glob("*/*/*/*/file"))) == len(clients))
            begun = Counter(path.parents[2].name for path in temp.glob("*/*/*/*/file"))
            return len(begun) == 2 and min(begun.values()) > 1

        until(both_have_some)
        process.send_signal(signal.SIGTERM)
        until(lambda: refuses(address))
        for client in clients:
            client.sendall(body[90:])
        answers = [b"".join(iter(lambda client=client: client.recv(65536), b"")) for client in clients]
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * len(clients)


def starts(process: subprocess.Popen[str]) -> int:
    """How often one of the processes has begun to answer."""
    logs = Path(str(list(process.args)[-1])).glob("*.jsonl")
    return sum(log.read_text(encoding="utf-8").count('"event": "start"') for log in logs)


def refuses(address: tuple[str, int]) -> bool:
    """Whether a new connection gets nowhere."""
    try:
        with socket.create_connection(address, timeout=0.2) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return not client.recv(1)
    except OSError:
        return True


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for what the service does by itself."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_a_bundle_that_cannot_be_loaded_is_told_as_in_one_process(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        serve(tmp_path / "nothing", port=0, settings=Settings(processes=2, log_to_stderr=False, temp_dir=tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_signal_to_stop_while_they_start_is_not_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes as one process is begun, which it does not reach: whoever waits for that one waits for ever."""
    stop, done = threading.Event(), []
    monkeypatch.setattr(_Slot, "start", lambda slot: (done.append("start"), stop.set()))
    monkeypatch.setattr(_Slot, "go", lambda slot: done.append("go"))
    monkeypatch.setattr(_Slot, "expect", lambda slot, said, stop: done.append(said))
    _start_all([object.__new__(_Slot) for _ in range(2)], stop)
    assert done == ["start"]


@pytest.mark.parametrize("kind", ["models", "one"])
def test_pins_lie_beside_the_models_where_there_is_a_folder_of_them(
    classifier: Path, tmp_path: Path, kind: str
) -> None:
    """Where one process would have them; else the processes share a folder that goes with the service."""
    models = tmp_path / "models"
    shutil.copytree(classifier, models / "chest" / "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        folder = models if kind == "models" else classifier
        slot = _Slot(0, [folder], listener, Settings(processes=2), tmp_path, cast(ServiceLog, None))
    assert slot._order["settings"]["state_dir"] == (None if kind == "models" else str(tmp_path))
