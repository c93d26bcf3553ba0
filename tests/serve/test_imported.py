"""A network that was trained elsewhere, in the same service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrail.adopt import Given, Label, adopt
from strangers_networks import SIZE, answer, network


def test_an_imported_network_answers_over_http_as_its_file(tmp_path: Path, start: Any, encode: Any) -> None:
    path = tmp_path / "theirs.onnx"
    path.write_bytes(network("softmax"))
    service = start(adopt(path, Given(("a", "b", "c"), "NHWC", "0..1"), tmp_path, Label("theirs")).folder)
    pixels = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    found = service.predict(encode(pixels)).json()
    theirs = answer(path.read_bytes(), pixels[None].astype(np.float32) / 255)[0]
    assert [found["probabilities"][name] for name in "abc"] == pytest.approx(theirs.tolist(), abs=1e-6)
    (model,) = service.client.get("/v1/models").json()["models"]
    assert model["metrics"] == {}
    assert "not evaluated here" in service.client.get("/v1/models/theirs/card").text
