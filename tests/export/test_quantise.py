"""A quantised network: a quarter of the size, per channel, as near as was asked for, its ending in float."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from medrail.bundle import Choice, onnx_backend
from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, Engine, fetch
from medrail.bundle.engines import open_engine
from medrail.bundle.reference import gap_between
from medrail.errors import BundleError, ExportError
from medrail.export.onnx_file import write_onnx
from medrail.export.quantise import layers_of, quantise, quantise_within
from medrail.models.evidence import WithEvidence

SHAPE = (1, 24, 32)


class Small(nn.Module):
    """A classifier that ends in a mean and a linear layer; ``spread``: how unlike its channels' weights are."""

    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.norm = nn.BatchNorm2d(32)
        self.second = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.third = nn.Conv2d(64, 64, 3, padding=1)
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 3)
        with torch.no_grad():
            self.second.weight *= torch.logspace(0, -spread, 64).reshape(-1, 1, 1, 1)
            self.last.weight *= 20

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.norm(self.first(image)))
        seen = torch.relu(self.second(seen))
        seen = torch.relu(seen + self.third(seen))
        out: torch.Tensor = self.last(self.pool(seen).flatten(1))
        return out


def inputs(count: int, seed: int, shape: Sequence[int] = SHAPE) -> list[np.ndarray]:
    source = np.random.default_rng(seed)
    blocks = source.normal(size=(count, shape[0], *(-(-size // 4) for size in shape[1:])))
    for axis in range(2, blocks.ndim):
        blocks = np.repeat(blocks, 4, axis=axis)
    return [one[np.newaxis].astype(np.float32) for one in blocks]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = WithEvidence(Small(2.0).eval(), "pooled_linear", SHAPE)
    path = tmp_path_factory.mktemp("small") / "network.onnx"
    write_onnx(network, SHAPE, path, network.outputs)
    return path


def opened(network: Path, choice: Choice) -> Engine | None:
    """None where the engine is not there, or refuses the network because it would crash at it."""
    if choice.problem:
        return None
    try:
        return open_engine(network.read_bytes(), choice, 1)
    except BundleError as error:
        if choice.engine == "openvino" and "crashes" in error.found:
            return None
        raise


def gap(one: Path, other: Path, batches: Sequence[np.ndarray]) -> float:
    exact, found = (onnx_backend(path, 1) for path in (one, other))
    return gap_between(*(np.concatenate([engine(batch) for batch in batches]) for engine in (exact, found)))


def test_a_quarter_of_the_size_and_nearly_the_same_answers(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    quantise(small, out, inputs(16, 0))
    assert out.stat().st_size <= 0.3 * small.stat().st_size
    assert gap(small, out, inputs(8, 1)) < 0.05
    first = out.read_bytes()
    quantise(small, out, inputs(16, 0))
    assert out.read_bytes() == first, "the same inputs give the same bytes"
    assert str(small.parent).encode() not in first


def test_weights_are_bytes_with_a_scale_a_channel(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    quantise(small, out, inputs(8, 0))
    graph = onnx.load(out).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    scales = {node.input[0]: held[node.input[1]] for node in graph.node if node.op_type == "DequantizeLinear"}
    kernels = {name: array for name, array in held.items() if array.ndim == 4}
    assert {array.shape[1]: array.dtype.name for array in kernels.values()} == {1: "float32", 32: "int8", 64: "int8"}
    quantised = {name: array for name, array in kernels.items() if array.dtype == np.int8}
    assert all(scales[name].shape == (array.shape[0],) for name, array in quantised.items())


@pytest.mark.slow
def test_channels_that_are_unlike_each_other_keep_their_accuracy(tmp_path: Path) -> None:
    """With one scale for all of a layer's weights the small channels would be gone."""
    torch.manual_seed(1)
    network = Small(4.0).eval()
    write_onnx(network, SHAPE, tmp_path / "network.onnx")
    quantise(tmp_path / "network.onnx", tmp_path / "out.onnx", inputs(16, 0))
    weights = network.second.weight.detach().numpy()
    held = {tensor.name: tensor for tensor in onnx.load(tmp_path / "out.onnx").graph.initializer}
    found = next(numpy_helper.to_array(one) for one in held.values() if list(one.dims) == list(weights.shape))
    assert np.abs(found).reshape(64, -1).max(axis=1).min() > 100, "each channel uses its bytes"


def test_evidence_is_as_exact_as_it_was_in_every_engine(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    quantise(small, out, inputs(16, 0))
    torch.manual_seed(0)
    bias = Small(2.0).last.bias.detach().numpy()
    for name in ("onnxruntime", "openvino"):
        engine = opened(out, Choice(name, "int8"))
        if engine is None:
            continue
        assert engine.outputs == (LOGITS, FEATURES, EVIDENCE)
        for batch in inputs(3, 2):
            found = fetch(engine, batch, engine.outputs)
            means = found[EVIDENCE].mean(axis=(2, 3)) + bias
            assert np.abs(means - found[LOGITS]).max() <= 1e-4 * max(1.0, np.abs(found[LOGITS]).max()), name


def test_excluded_layers_keep_their_floats(small: Path, tmp_path: Path) -> None:
    layers = layers_of(small)
    assert len(layers) == 2, "what reads the image, the last layer and the evidence are never quantised"
    out = tmp_path / "out.onnx"
    quantise(small, out, inputs(8, 0), exclude=layers[:1])
    kernels = [array for array in map(numpy_helper.to_array, onnx.load(out).graph.initializer) if array.ndim == 4]
    kinds = {array.shape[:2]: array.dtype.name for array in kernels}
    assert kinds == {(32, 1): "float32", (64, 32): "float32", (64, 64): "int8"}
    with pytest.raises(ExportError, match="no layer absent"):
        quantise(small, out, inputs(1, 0), exclude=["absent"])


def test_all_layers_are_quantised_where_that_is_near_enough(small: Path, tmp_path: Path) -> None:
    found = quantise_within(small, tmp_path / "out.onnx", inputs(16, 0), inputs(8, 1))
    assert (found.layers, found.in_float) == (2, ())
    assert 0 < found.gap < 0.05
    assert found.gap == pytest.approx(gap(small, tmp_path / "out.onnx", inputs(8, 1)), rel=1e-3)


class Wild(Small):
    """One layer answers with a few huge numbers among small ones that matter, which 8 bits cannot hold together."""

    def __init__(self) -> None:
        super().__init__(0.0)
        with torch.no_grad():
            self.third.weight[0] *= 3000

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = torch.relu(self.norm(self.first(image)))
        seen = torch.relu(self.second(seen))
        wild = self.third(seen)
        calm = torch.cat([torch.tanh(wild[:, :1] / 1000), wild[:, 1:]], dim=1)
        out: torch.Tensor = self.last(self.pool(torch.relu(calm)).flatten(1))
        return out


@pytest.mark.slow
def test_the_layer_that_costs_most_stays_in_float_by_itself(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = tmp_path / "network.onnx"
    write_onnx(Wild().eval(), SHAPE, network)
    whole = tmp_path / "whole.onnx"
    quantise(network, whole, inputs(16, 0))
    far = gap(network, whole, inputs(8, 1))
    found = quantise_within(network, tmp_path / "out.onnx", inputs(16, 0), inputs(8, 1), largest_gap=far / 4)
    assert found.gap <= far / 4
    assert found.in_float == (layers_of(network)[1],)


def test_what_cannot_be_reached_costs_no_layer_for_nothing(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    found = quantise_within(small, out, inputs(8, 0), inputs(4, 1), largest_gap=1e-9)
    assert found.gap == pytest.approx(gap(small, out, inputs(4, 1)), rel=1e-3)
    assert len(found.in_float) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("dims", [2, 3])
def test_segmenters_answer_in_every_engine(dims: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    conv, up, norm = (
        (nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d)
        if dims == 2
        else (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d)
    )
    network = nn.Sequential(
        conv(1, 16, 3, padding=1), norm(16), nn.LeakyReLU(0.1), conv(16, 32, 3, stride=2, padding=1), norm(32),
        nn.LeakyReLU(0.1), up(32, 16, 2, stride=2), conv(16, 2, 1),
    ).eval()  # fmt: skip
    shape: tuple[int, ...] = (1, 16, 16) if dims == 2 else (1, 8, 8, 12)
    write_onnx(network, shape, tmp_path / "network.onnx")
    quantise(tmp_path / "network.onnx", tmp_path / "out.onnx", inputs(8, 0, shape))
    batches = inputs(4, 1, shape)
    exact = np.concatenate([onnx_backend(tmp_path / "network.onnx", 1)(batch) for batch in batches])
    for name in ("onnxruntime", "openvino"):
        engine = opened(tmp_path / "out.onnx", Choice(name, "int8"))
        if engine is not None:
            assert gap_between(exact, np.concatenate([engine(batch) for batch in batches])) < 0.1, name


def test_what_cannot_be_quantised_is_an_export_error(tmp_path: Path, small: Path) -> None:
    with pytest.raises(ExportError, match="no inputs"):
        quantise(small, tmp_path / "out.onnx", [])
    wrong: Any = [np.zeros((1, 1, 5), np.float32)]
    with pytest.raises(ExportError, match="cannot be quantised"):
        quantise(small, tmp_path / "out.onnx", wrong)
    assert not (tmp_path / "out.onnx").exists()
