"""Real bundles with small ONNX networks whose answers are known, for tests of what is above the bundle."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import Calibration, Manifest, NetworkSpec

EVIDENCE_BIAS = 0.25


def _network(nodes: list[Any], weights: dict[str, np.ndarray], channels: int, dims: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *["d", "h", "w"][3 - dims :]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def classifier_network(classes: int, channels: int = 3, dims: int = 2, scale: float = 1.0) -> bytes:
    """Logits from the mean of each colour (of each channel); of a scale that is no number, none are."""
    from onnx import helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["y"]),
    ]
    weight = scale * np.random.default_rng(7).normal(size=(channels, classes))
    return _network(nodes, {"weight": weight.astype(np.float32)}, channels, dims)


def evidence_network(classes: int = 2, channels: int = 1, dims: int = 2) -> bytes:
    """Logits, features (the mean of each channel) and evidence, whose mean plus ``EVIDENCE_BIAS`` is the logit.

    Class k counts each channel (k - 0.5) times: of two classes the bright places speak for the second.
    """
    from onnx import TensorProto, helper, numpy_helper

    weight = np.repeat(np.arange(classes, dtype=np.float32)[:, None] - 0.5, channels, axis=1)
    weights = {
        "weight": weight,
        "bias": np.full(classes, EVIDENCE_BIAS, np.float32),
        "kernel": weight.reshape(classes, channels, *[1] * dims),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("Conv", ["x", "kernel"], ["evidence"]),
    ]
    graph = helper.make_graph(
        nodes,
        "explained",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", channels, *["d", "h", "w"][3 - dims :]])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("logits", "features", "evidence")],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def segmenter_network(dims: int, thresholds: tuple[float, ...], reach: int = 0) -> bytes:
    """Class k where the mean within ``reach`` voxels lies above threshold k and below the next."""
    from onnx import helper

    slopes = np.arange(len(thresholds) + 1, dtype=np.float32)
    offsets = np.concatenate([[0], -np.cumsum(thresholds)]).astype(np.float32)
    width = 2 * reach + 1
    kernel = np.tile((8 * slopes / width**dims).reshape(-1, 1, *[1] * dims), (1, 1, *[width] * dims))
    nodes = [helper.make_node("Conv", ["x", "kernel", "bias"], ["y"], pads=[reach] * (2 * dims))]
    return _network(nodes, {"kernel": kernel.astype(np.float32), "bias": 8 * offsets}, 1, dims)


def write_bundle(
    root: Path, name: str, network: bytes, spec: NetworkSpec, version: str = "1", calibration: Calibration | None = None
) -> Path:
    """``calibration`` is written as one of this network, whatever network it names."""
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(network)
    (folder / "card.md").write_text(f"# {name} {version}\n\nMade by a test. 测试用。\n", encoding="utf-8")
    metric = "accuracy" if spec.task == "classification" else "dice"
    metrics = {metric: {"value": 0.953, "low": 0.941, "high": 0.962, "n": 40, "method": "bootstrap by patient"}}
    names = ["model.onnx", "card.md"]
    if calibration:
        calibration = replace(calibration, network_sha256=hashlib.sha256(network).hexdigest())
        calibration.write(folder / "calibration.json")
        names.append("calibration.json")
    Manifest(name, version, spec, metrics=metrics).write(folder, names)
    return folder
