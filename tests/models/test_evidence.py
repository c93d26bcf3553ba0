"""Features and evidence of every network of the table: exact where they are said to be, through ONNX Runtime, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121

from medrail.bundle import ENGINES, Choice
from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, Engine
from medrail.bundle.engines import open_engine
from medrail.config import ModelConfig, ModelName
from medrail.errors import BundleError
from medrail.export.onnx_file import write_onnx
from medrail.export.quantise import quantise
from medrail.models import MODELS, build_model
from medrail.models.cells import cell_places
from medrail.models.evidence import WithEvidence

# Large enough that every network's last map has several cells along each axis; no two axes alike.
SIZES = {2: (64, 96), 3: (64, 32, 48)}
DEEPER = {"densenet121", "efficientnet_b0"}  # /32 in all
CLASSES = 3
EVERY = [(name, dims) for name in MODELS for dims in (2, 3)]
LARGE = {("densenet121", 3), ("efficientnet_b0", 3), ("resnet50", 3)}
EACH_ENGINE = [pytest.param(*one, marks=pytest.mark.nightly if one in LARGE else pytest.mark.slow) for one in EVERY]
EXACT = [(name, dims) for name, dims in EVERY if MODELS[name].ending == "pooled_linear"]


def size_of(name: str, dims: int) -> tuple[int, ...]:
    return (64, 64, 96)[-dims:] if name in DEEPER else SIZES[dims]


def with_evidence(name: ModelName, dims: int) -> WithEvidence:
    """A network whose statistics are those of some images, as after training."""
    torch.manual_seed(0)
    size = size_of(name, dims)
    net = build_model(ModelConfig(name=name, dims=dims, width=8), MODELS[name].task, CLASSES, size)  # type: ignore[arg-type]
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        net.train()(images(name, dims, 2))
    return WithEvidence(net.eval(), MODELS[name].ending, (1, *size)).eval()


def images(name: str, dims: int, count: int) -> torch.Tensor:
    return torch.randn(count, 1, *size_of(name, dims), generator=torch.Generator().manual_seed(count))


def gap(logits: np.ndarray, evidence: np.ndarray, bias: np.ndarray) -> float:
    """Of the larger of 1 and the largest logit: untrained networks have logits of any size."""
    means = evidence.reshape(*evidence.shape[:2], -1).mean(axis=2, dtype=np.float64)
    return float(np.abs(means + bias - logits).max() / max(1, np.abs(logits).max()))


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_every_network_gives_features_and_the_same_logits(name: ModelName, dims: int) -> None:
    explained = with_evidence(name, dims)
    batch = images(name, dims, 2)
    with torch.inference_mode():
        logits, features, *more = explained(batch)
        assert torch.equal(logits, explained.network(batch))
        alone = explained(batch[1:])[1]
    assert features.ndim == 2
    assert len(features) == 2
    assert features.shape[1] >= 8
    assert not torch.allclose(features[0], features[1], rtol=1e-3), "all images alike prove nothing"
    assert torch.allclose(alone[0], features[1], rtol=1e-3, atol=1e-3 * float(features.abs().max()))
    assert len(more) == (MODELS[name].ending == "pooled_linear")
    assert explained.outputs == (LOGITS, FEATURES, EVIDENCE)[: 2 + len(more)]
    again = with_evidence(name, dims)
    assert (again._source, again._pool) == (explained._source, explained._pool)


@pytest.mark.parametrize(("name", "dims"), EXACT)
def test_the_mean_of_the_evidence_plus_the_bias_is_the_logit(name: ModelName, dims: int) -> None:
    explained = with_evidence(name, dims)
    with torch.no_grad():
        explained.network.get_submodule(explained._source).bias.copy_(torch.tensor([0.5, -2.0, 3.0]))
        logits, features, evidence = explained(images(name, dims, 2))
    assert evidence.shape[:2] == (2, CLASSES)
    assert evidence.ndim == dims + 2
    assert evidence[0, 0].numel() > 1, "a single cell proves nothing"
    assert float(evidence.flatten(2).std(2).min()) > 0
    assert gap(logits.numpy(), evidence.numpy(), explained.bias.detach().numpy()) < 1e-4
    linear = explained.network.get_submodule(explained._source)
    assert torch.allclose(linear(features), logits, rtol=1e-4, atol=1e-4)


def test_the_evidence_lies_where_the_image_says_something() -> None:
    """A network that looks only at brightness: evidence is there and nowhere else, and the axes are in their places."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1, bias=False), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2, 2)
    )
    image = torch.zeros(1, 1, 5, 7)
    image[0, 0, 1, 5] = 3
    with torch.no_grad():
        _, _, evidence = WithEvidence(net.eval(), "pooled_linear", (1, 5, 7)).eval()(image)
    assert (evidence[0].abs() > 0).nonzero()[:, 1:].unique(dim=0).tolist() == [[1, 5]]


FIRST = {
    "tiny_cnn": (16, 0),
    "resnet18": (32, 0),
    "resnet50": (32, 0),
    "densenet121": (32, 14),
    "efficientnet_b0": (32, 31),
}
"""Stride and first centre for large images, by hand: first = sum over the layers of (stride so far) * ((taps - 1) / 2 -
padding at the low end), which in EfficientNet is one less than at the high end."""


@pytest.mark.parametrize(("name", "dims"), EXACT)
def test_the_cells_lie_where_the_arithmetic_of_the_layers_says(name: ModelName, dims: int) -> None:
    size = size_of(name, dims)
    explained = with_evidence(name, dims)
    before = {key: value.clone() for key, value in explained.state_dict().items()}
    found = cell_places(explained, (1, *size))
    stride, first = FIRST[name]
    halved = [name.startswith("resnet") and length < 64 for length in size]  # there the first layer does not halve
    assert found == tuple((stride / 2 if half else stride, first) for half in halved)
    assert all(torch.equal(value, before[key]) for key, value in explained.state_dict().items())


def test_a_bright_spot_is_seen_by_the_cell_that_is_nearest() -> None:
    """The network itself as the judge: what changes most when one voxel changes is the cell whose place is nearest."""
    explained = with_evidence("tiny_cnn", 2)
    places = cell_places(explained, (1, *size_of("tiny_cnn", 2)))
    image = images("tiny_cnn", 2, 1)
    hits = []
    for row, column in ((20, 35), (48, 64), (30, 80), (1, 50), (34, 2)):
        touched = image.clone()
        touched[0, 0, row, column] += 0.5
        with torch.inference_mode():
            change = (explained(touched)[2] - explained(image)[2])[0].abs().sum(0)
        cell = divmod(int(change.argmax()), change.shape[1])
        away = [
            abs(first + stride * i - at) for (stride, first), i, at in zip(places, cell, (row, column), strict=True)
        ]
        hits.append(max(away) <= 16)
    assert all(hits)


def test_a_network_without_a_pool_is_not_taken_for_one_with_it() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(35, 2)).eval()
    with pytest.raises(ValueError, match="AdaptiveAvgPool"):
        WithEvidence(net, "pooled_linear", (1, 5, 7))
    explained = WithEvidence(net, "linear", (1, 5, 7))
    assert explained.outputs == (LOGITS, FEATURES)
    assert explained(torch.zeros(2, 1, 5, 7))[1].shape == (2, 35)


def test_no_hook_is_left_on_the_network_and_its_mode_is_kept() -> None:
    net = build_model(ModelConfig(name="tiny_cnn", dims=2), "classification", 2).train()
    explained = WithEvidence(net, "pooled_linear", (1, 16, 16))
    explained(torch.zeros(2, 1, 16, 16))
    assert net.training
    assert explained.training
    assert not WithEvidence(net.eval(), "pooled_linear", (1, 16, 16)).training
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(("name", "dims"), EACH_ENGINE)
def test_the_outputs_are_the_same_through_every_engine(
    name: ModelName, dims: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    explained = with_evidence(name, dims)
    path = tmp_path / "network.onnx"
    write_onnx(explained, (1, *size_of(name, dims)), path, explained.outputs)
    assert capfd.readouterr().out == ""
    for choice in possible("fp32"):
        engine = open_engine(path.read_bytes(), choice, threads=1)
        assert engine.outputs == explained.outputs
        for count in (1, 2, 5):
            batch = images(name, dims, count)
            found = engine.fetch(batch.numpy(), engine.outputs)
            with torch.inference_mode():
                wanted = dict(zip(explained.outputs, explained(batch), strict=True))
            assert wanted[LOGITS].std() > 1e-4, "an answer that is all the same proves nothing"
            for output, value in wanted.items():
                assert found[output].shape == tuple(value.shape)
                atol = 2e-3 * float(value.abs().max())
                np.testing.assert_allclose(found[output], value, atol=atol, err_msg=f"{choice}: {output}")
            np.testing.assert_array_equal(engine(batch.numpy()), found[LOGITS])
            if EVIDENCE in found:
                assert gap(found[LOGITS], found[EVIDENCE], explained.bias.detach().numpy()) < 1e-4
    if dims == 2:
        check_quantised(explained, path, [images(name, dims, 1 + count).numpy() for count in range(4)])


def possible(precision: str) -> list[Choice]:
    return [choice for engine in ENGINES if not (choice := Choice(engine, precision)).problem]


def opened(content: bytes, choice: Choice) -> Engine | str:
    """The engine, or why there is none."""
    try:
        return open_engine(content, choice, threads=1)
    except BundleError as error:
        return error.found


def check_quantised(explained: WithEvidence, path: Path, batches: list[Any]) -> None:
    """Smaller, and the evidence as exact as it was, in every engine. How near the answers are is for trained ones."""
    out = path.with_name("quantised.onnx")
    quantise(path, out, batches)
    assert out.stat().st_size < 0.45 * path.stat().st_size, "these are narrow: scales and names weigh more"
    for choice in possible("int8"):
        engine = opened(out.read_bytes(), choice)
        if isinstance(engine, str):
            assert "crashes while it compiles" in engine, "the one known fault of OpenVINO: told, and survived"
            assert choice.engine == "openvino"
            assert isinstance(explained.network, DenseNet121)
            continue
        assert engine.outputs == explained.outputs
        found = engine.fetch(batches[1], engine.outputs)
        assert all(np.isfinite(value).all() for value in found.values()), str(choice)
        if EVIDENCE in found:
            assert gap(found[LOGITS], found[EVIDENCE], explained.bias.detach().numpy()) < 1e-4, str(choice)
