"""`medrail loadtest` against a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec
from medrail.cli import main
from small_bundles import classifier_network, write_bundle


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running medrail service with a small classifier."""
    import socket
    import threading
    import time

    import uvicorn

    from medrail.serve import Settings, create_app

    spec = NetworkSpec(
        task="classification",
        classes=("a", "b"),
        dims=2,
        channels=3,
        pipeline=({"kind": "grey_to_rgb"}, {"kind": "resize", "size": [32, 32]}),
        input_kind=InputKind(picture=None, channels=0, unit=""),
        grid=(32, 32),
    )
    root = tmp_path_factory.mktemp("load")
    bundle = write_bundle(root, "chest", classifier_network(2), spec)
    app = create_app(bundle, Settings(log_dir=root / "logs", log_to_stderr=False, threads=1))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(30)
    listener.close()


def test_mixed_load_on_a_real_service_is_answered_as_it_must_be(url, tmp_path, capsys):
    out = tmp_path / "out"
    code = main(["loadtest", url, "--scenario", "mixed", "--users", "2", "--seconds", "1", "-o", str(out), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told == json.loads((out / "loadtest.json").read_text(encoding="utf-8"))
    (step,) = told["steps"]
    assert step["errors"] == 0, step["error_kinds"]
    assert set(step["by_kind"]) == {"image", "list", "bad"}
    assert step["users"] == 2
    assert step["rps"] > 0
    assert told["shared_machine"] is True
    assert told["capacity"]["sentence"]
    assert {path.name for path in out.iterdir()} == {"index.html", "loadtest.csv", "loadtest.json"}


def test_given_images_in_an_open_loop(url, tmp_path, capsys):
    image = tmp_path / "a.png"
    Picture.fromarray(np.zeros((40, 50), np.uint8)).save(image)
    out = str(tmp_path / "out")
    code = main(["loadtest", url, "--input", str(image), "--users", "20", "--every", "1", "--seconds", "1", "-o", out])
    said = capsys.readouterr().out
    assert code == 0
    assert "20/s (20 users)" in said
    assert "image: 1 given files" in said
    assert "Poisson" in said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-url"], 2),
        (["http://127.0.0.1:9"], 1),
        (["http://127.0.0.1:9", "--key-file", "/nowhere"], 2),
        (["https://127.0.0.1:9", "--ca-file", "/nowhere"], 2),
        (["http://127.0.0.1:9", "--input", "/nowhere"], 2),
    ],
)
def test_exit_codes(arguments, code, tmp_path, capsys):
    assert main(["loadtest", *arguments, "-o", str(tmp_path / "out")]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_the_key_comes_from_the_file_or_the_environment(tmp_path, monkeypatch):
    from medrail.cli_load import _key

    monkeypatch.setenv("MEDRAIL_API_KEY", "from-environment")
    assert _key(None) == "from-environment"
    file = Path(tmp_path / "key")
    file.write_text("from-file\n", encoding="utf-8")
    assert _key(str(file)) == "from-file"
