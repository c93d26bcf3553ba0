"""Small real ONNX networks whose answers can be told by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrail.bundle import InputKind, Manifest, NetworkSpec, Predictor, onnx_backend, write_network
from medrail.types import Image

onnx = pytest.importorskip("onnx")


def onnx_bytes(node_list: list[Any], weights: dict[str, np.ndarray], channels: int, dims: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    spatial = ["d", "h", "w"][3 - dims :]
    graph = helper.make_graph(
        node_list,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", channels, *spatial])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def classifier(channels: int = 1, dims: int = 2, n_classes: int = 2) -> bytes:
    """logit k = k * (mean of the image)."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    weight = np.tile(np.arange(n_classes, dtype=np.float32), (channels, 1)) / channels
    return onnx_bytes(nodes, {"weight": weight}, channels, dims)


def thresholder(dims: int = 2, threshold: float = 0.5, sharpness: float = 20.0) -> bytes:
    """Two logits a voxel, 0 and sharpness * (value - threshold): the mask is where the value is above the threshold."""
    from onnx import helper

    weight = np.array([0, sharpness], np.float32).reshape(2, 1, *[1] * dims)
    bias = np.array([0, -sharpness * threshold], np.float32)
    nodes = [helper.make_node("Conv", ["image", "weight", "bias"], ["logits"])]
    return onnx_bytes(nodes, {"weight": weight, "bias": bias}, 1, dims)


def spec_of(task: str = "classification", **changes: Any) -> NetworkSpec:
    values: dict[str, Any] = {
        "task": task,
        "classes": ("background", "organ") if task == "segmentation" else ("no", "yes"),
        "dims": 2,
        "channels": 1,
        "pipeline": (),
        "input_kind": InputKind(picture=True, channels=1, unit="arbitrary"),
    }
    return NetworkSpec(**(values | changes))


@pytest.fixture
def make_predictor() -> Callable[..., Predictor]:
    """(spec fields) -> Predictor with one of the small networks, one thread."""

    def make(task: str = "classification", **changes: Any) -> Predictor:
        spec = spec_of(task, **changes)
        if task == "classification":
            content = classifier(spec.channels, spec.dims, len(spec.classes))
        else:
            content = thresholder(spec.dims)
        return Predictor(spec, onnx_backend(content, threads=1), "tiny")

    return make


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A complete bundle's folder."""
    folder = tmp_path / "bundles" / "tiny" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(classifier())
    (folder / "card.md").write_text("# tiny\n", encoding="utf-8")
    spec = spec_of(pipeline=({"kind": "resize", "size": [8, 8]},), grid=(8, 8))
    Manifest("tiny", "1", spec, metrics={"accuracy": {"value": 0.5, "low": None}}, parity={"cases": 4}).write(folder)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with network.onnx and network.json."""
    folder = tmp_path / "runs" / "tiny-001"
    folder.mkdir(parents=True)
    (folder / "network.onnx").write_bytes(classifier())
    write_network(folder, spec_of(), {"cases": 1, "max_abs_difference": 0.0}, checkpoint="ab" * 32)
    return folder


@pytest.fixture
def picture() -> Image:
    return Image(np.full((1, 1, 7, 11), 2.0, np.float32))
