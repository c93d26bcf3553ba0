"""The Python on the clients' pages runs as it stands there, against a service of its own."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec
from medrail.read import write_nifti
from medrail.serve import Settings, create_app
from medrail.types import Geometry, Image
from small_bundles import classifier_network, segmenter_network, write_bundle

PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
ADDRESS = "127.0.0.1:8000"
NEEDS = {".volume(": "/v1/predict/volume", ".batch(": "/v1/predict/batch", ".compare(": "/v1/compare"}


def blocks() -> list[tuple[str, str]]:
    return [
        (f"{page}-{number}", code)
        for page in ("python-client.md", "triton-clients.md")
        for number, code in enumerate(
            re.findall(r"^```python\n(.*?)^```", (PAGES / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        )
    ]


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, FastAPI]]:
    """A folder as the pages' reader has it, and the address and application of a service."""
    folder = tmp_path_factory.mktemp("desk")
    steps = ({"kind": "grey_to_rgb"}, {"kind": "resize", "size": [32, 32]})
    anything = InputKind(picture=None, channels=0, unit="")
    chest = NetworkSpec("classification", ("normal", "pneumonia"), 2, 3, steps, anything, grid=(32, 32))
    volumes = InputKind(picture=False, channels=1, unit="arbitrary")
    brain = NetworkSpec("segmentation", ("background", "brain"), 3, 1, ({"kind": "orient"},), volumes)
    bundles = [
        write_bundle(folder / "bundles", "chest", classifier_network(2), chest),
        write_bundle(folder / "bundles", "brain", segmenter_network(3, (2.0,)), brain),
    ]
    Picture.fromarray(np.arange(40 * 30, dtype=np.uint8).reshape(40, 30)).save(folder / "image.png")
    scan = np.arange(5 * 7 * 11, dtype=np.float32).reshape(1, 5, 7, 11)
    write_nifti(Image(scan, Geometry(np.diag([0.9, 0.7, 5.0, 1.0]))), folder / "scan.nii.gz")
    app = create_app(bundles, Settings(log_to_stderr=False, threads=1, temp_dir=folder))
    with running(app) as address:
        yield folder, address, app


@pytest.mark.parametrize(("name", "code"), blocks(), ids=[name for name, _ in blocks()])
def test_the_code_of_a_page_runs(desk, monkeypatch, capsys, name: str, code: str) -> None:
    folder, address, app = desk
    needed = [path for method, path in NEEDS.items() if method in code]
    if not set(needed) <= set(app.openapi()["paths"]):
        pytest.skip(f"this service has no {', '.join(needed)}")
    monkeypatch.chdir(folder)
    assert ADDRESS in code
    exec(compile(code.replace(ADDRESS, address), name, "exec"), {})
    assert capsys.readouterr().out
