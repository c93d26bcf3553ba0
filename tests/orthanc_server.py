"""A real PACS of the test's own: Orthanc with its DICOMweb plug-in, on loopback, its storage in a temporary folder."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

USER, PASSWORD = "medrail", "ge@heim/50%{x}"
PROGRAM = Path("/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
LIMIT_S = 60


@dataclass(frozen=True)
class Orthanc:
    """url: of the server; its DICOMweb root is ``root``."""

    url: str
    client: httpx.Client

    @property
    def root(self) -> str:
        return f"{self.url}/dicom-web"

    def put(self, content: bytes) -> None:
        """Keep one DICOM file, by Orthanc's own interface."""
        self.client.post("/instances", content=content).raise_for_status()

    def ask(self, path: str) -> Any:
        """By Orthanc's own interface."""
        return self.client.get(path).raise_for_status().json()

    def find(self, level: str, **query: str) -> list[Any]:
        """Everything of a level that matches, with its tags."""
        question = {"Level": level, "Query": query, "Expand": True}
        found: list[Any] = self.client.post("/tools/find", json=question).raise_for_status().json()
        return found

    def empty(self) -> None:
        """Forget all studies."""
        for one in self.ask("/patients"):
            self.client.delete(f"/patients/{one}").raise_for_status()


@contextmanager
def orthanc() -> Iterator[Orthanc | None]:
    """A running one, or None where there is none installed; gone at the end."""
    if not PROGRAM.is_file() or not PLUGIN.is_file():
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="orthanc-"))
    port = _free_port()
    settings = {
        "Name": "medrail's tests",
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    url = f"http://127.0.0.1:{port}"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([PROGRAM, folder / "orthanc.json"], cwd=folder, stdout=log, stderr=log) as process,
        httpx.Client(base_url=url, auth=(USER, PASSWORD), timeout=LIMIT_S, trust_env=False) as client,
    ):
        try:
            _wait(client, process, folder / "log")
            yield Orthanc(url, client)
        finally:
            process.terminate()
            try:
                process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _wait(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    last = time.monotonic() + LIMIT_S
    while time.monotonic() < last and process.poll() is None:
        try:
            client.get("/system").raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
