"""The service as a process of its own: ready, without torch, and gone when told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from medrail.errors import BundleError, ServeError
from medrail.serve import Settings, create_app, serve
from medrail.serve.registry import Registry

FORBIDDEN = ("torch", "monai", "lightning_fabric", "medrail.train", "medrail.models", "medrail.data", "medrail.export")

# A finder in front of all others turns any attempt to import a forbidden module into a failure of the whole process.
SERVICE = """
import importlib.abc
import os
import sys
from pathlib import Path

class Forbid(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in FORBIDDEN or name.startswith(tuple(f"{each}." for each in FORBIDDEN)):
            print(f"imported {name}", flush=True)
            os._exit(70)
        if name == "onnxruntime.capi" and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
            print("onnxruntime would report to its maker", flush=True)
            os._exit(71)

FORBIDDEN = FORBIDDEN_NAMES
sys.meta_path.insert(0, Forbid())
from medrail.serve import Settings, serve
settings = Settings(threads=1, temp_dir=Path(sys.argv[2]), log_to_stderr=False)
serve(sys.argv[1], port=0, settings=settings, on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
print(sorted(name for name in FORBIDDEN if name in sys.modules), flush=True)
"""


@contextmanager
def process(bundle: Path, temp: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    script = textwrap.dedent(SERVICE).replace("FORBIDDEN_NAMES", repr(FORBIDDEN))
    command = [sys.executable, "-c", script, str(bundle), str(temp)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert running.stdout is not None
    try:
        yield running, running.stdout.readline().strip()
    finally:
        if running.poll() is None:
            running.kill()
        running.wait(10)
        running.stdout.close()


def test_the_service_answers_and_never_imports_torch(volume_segmenter, head_nifti, tmp_path: Path) -> None:
    with process(volume_segmenter, tmp_path) as (running, url):
        assert url.startswith("http://127.0.0.1:"), url
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            assert client.get("readyz").status_code == 200
            files = {"file": ("x", head_nifti.read_bytes())}
            answer = client.post("v1/predict/image", files=files, params={"preview": "true"})
            assert answer.status_code == 200, answer.text
            assert client.post("v1/predict/image", files={"file": ("x", b"nothing")}).status_code == 415
            assert client.get("").text.startswith("<!doctype html>")
            assert client.get("openapi.json").status_code == 200
            assert list(tmp_path.iterdir())
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=20)
        assert output.splitlines() == ["ended", "[]"]
        assert running.returncode == 0
    assert not list(tmp_path.iterdir())


def test_sigterm_ends_the_service_and_removes_the_uploads(classifier, tmp_path: Path) -> None:
    with process(classifier, tmp_path) as (running, url):
        assert url.startswith("http://")
        running.terminate()
        assert running.wait(20) in (0, -signal.SIGTERM)
    assert not list(tmp_path.iterdir())


def test_port_in_use(classifier) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match="cannot listen") as failed:
            serve(classifier, port=port, settings=Settings(log_to_stderr=False))
    assert "--port" in failed.value.remedy


def test_host_that_does_not_exist(classifier) -> None:
    with pytest.raises(ServeError, match="cannot listen"):
        serve(classifier, host="no.such.host.invalid", settings=Settings(log_to_stderr=False))


def test_missing_and_damaged_bundles(classifier, tmp_path: Path) -> None:
    quiet = Settings(log_to_stderr=False)
    with pytest.raises(BundleError):
        serve(tmp_path / "nothing", port=0, settings=quiet)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in classifier.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    model = bytearray((copy / "model.onnx").read_bytes())
    model[-3] ^= 1
    (copy / "model.onnx").write_bytes(model)
    with pytest.raises(BundleError, match="SHA-256"):
        serve(copy, port=0, settings=quiet)
    with pytest.raises(ServeError, match="no bundle"):
        serve([], port=0, settings=quiet)
    with pytest.raises(ServeError, match="twice"):
        Registry.load([classifier, classifier], quiet)


def test_a_network_that_cannot_run_is_found_at_start(classifier, tmp_path: Path) -> None:
    from dataclasses import replace

    from medrail.bundle import Manifest

    manifest = Manifest.read(classifier)
    folder = tmp_path / "wrong"
    folder.mkdir()
    for name in ("model.onnx", "card.md"):
        (folder / name).write_bytes((classifier / name).read_bytes())
    replace(manifest, spec=replace(manifest.spec, channels=1)).write(folder)
    with pytest.raises(ServeError, match="does not run"):
        Registry.load([folder], Settings(log_to_stderr=False))


def test_not_ready_before_the_models_are_loaded(classifier) -> None:
    import asyncio

    app = create_app(classifier, Settings(log_to_stderr=False))

    async def ask(path: str) -> int:
        transport = httpx.ASGITransport(app=app)  # runs no lifespan: as a request that comes too early
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get(path)).status_code

    assert asyncio.run(ask("/readyz")) == 503
    assert asyncio.run(ask("/healthz")) == 200
    assert asyncio.run(ask("/v1/models")) == 503


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_folder_for_uploads_that_cannot_be_made(classifier, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="uploads"):
        serve(classifier, port=0, settings=Settings(temp_dir=tmp_path / "missing", log_to_stderr=False))
