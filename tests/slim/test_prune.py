"""Every network of the table can be pruned to the half, or is refused by name with a reason."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrail.bundle import onnx_backend
from medrail.config import ModelConfig, ModelName, SlimConfig
from medrail.errors import ConfigError
from medrail.export.onnx_file import write_onnx
from medrail.models import MODELS, build_model
from medrail.models.evidence import WithEvidence
from medrail.models.structure import apply_structure, structure_of
from medrail.slim.prune import REFUSED, VANISHING, _latency_ms, check_prunable, flush_vanishing, prune, resolved
from medrail.slim.size import size_of

CLASSES, WIDTH = 3, 16
SIZES = {2: (32, 48), 3: (16, 32, 24)}
PRUNABLE: list[tuple[ModelName, Any]] = [(name, dims) for name in MODELS if name not in REFUSED for dims in (2, 3)]
PLAIN: dict[str, Any] = {"by": "channels", "importance": "l2"}
TINY: ModelName = "tiny_cnn"
QUICK = (("tiny_cnn", 2), ("unet", 3))
LARGE = {("densenet121", 3), ("efficientnet_b0", 3), ("resnet50", 3), ("resenc_unet", 3)}
EACH = [
    one if one in QUICK else pytest.param(*one, marks=pytest.mark.nightly if one in LARGE else pytest.mark.slow)
    for one in PRUNABLE
]


def shape(name: ModelName, dims: int) -> tuple[int, ...]:
    """Anisotropic on purpose."""
    factor = MODELS[name].size_factor
    return (1, *(-(-max(size, MODELS[name].smallest) // factor) * factor for size in SIZES[dims]))


def fresh(name: ModelName, dims: Any) -> torch.nn.Module:
    model = ModelConfig(name=name, dims=dims, width=WIDTH)
    return build_model(model, MODELS[name].task, CLASSES, shape(name, dims)[1:])


def lived_in(name: ModelName, dims: Any) -> torch.nn.Module:
    """With batch statistics as after some training; as initialised, some networks answer 0 to everything."""
    torch.manual_seed(0)
    network = fresh(name, dims)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        network.train()(torch.randn(3, *shape(name, dims)))
    return network.eval()


def halved(name: ModelName, dims: Any, **settings: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    whole = lived_in(name, dims)
    return whole, prune(whole, name, shape(name, dims), 0.5, SlimConfig(**PLAIN | settings))


@pytest.mark.parametrize(("name", "dims"), EACH)
def test_every_network_can_be_halved(
    name: ModelName, dims: Any, tmp_path: Path, record_property: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that holds of it in one test, as making and exporting it takes the time."""
    whole, pruned = halved(name, dims)
    images = torch.randn(2, *shape(name, dims), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before, after = whole(images), pruned(images)
    assert after.shape == before.shape
    assert torch.isfinite(after).all()
    assert after.std() > 1e-5, "an answer that is all the same proves nothing"
    record_property("times_as_fast_in_torch", seconds_of(whole, images) / seconds_of(pruned, images))  # a report only
    check_half(name, dims, whole, pruned)
    check_data(name, dims, pruned, images, after)
    check_export(name, dims, pruned, tmp_path / "pruned.onnx")
    assert capfd.readouterr().out == ""


def check_half(name: ModelName, dims: Any, whole: torch.nn.Module, pruned: torch.nn.Module) -> None:
    was, now = (size_of(network, shape(name, dims)) for network in (whole, pruned))
    assert 0.35 < now.channels / was.channels < 0.68
    assert now.macs < 0.6 * was.macs
    assert now.parameters < 0.6 * was.parameters


def check_data(name: ModelName, dims: Any, pruned: torch.nn.Module, images: torch.Tensor, after: torch.Tensor) -> None:
    """It is rebuilt from its structure and its weights, and all of it learns."""
    again = fresh(name, dims)
    apply_structure(again, json.loads(json.dumps(structure_of(pruned))))
    again.load_state_dict(pruned.state_dict())
    with torch.inference_mode():
        assert torch.equal(again.eval()(images), after)
    again.train()(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())


def check_export(name: ModelName, dims: Any, pruned: torch.nn.Module, path: Path) -> None:
    """ONNX answers as it does, to every number of images, with exact evidence."""
    entry, (_, *grid) = MODELS[name], shape(name, dims)
    network = WithEvidence(pruned, entry.ending, (1, *grid))
    assert ("evidence" in network.outputs) == entry.pooled
    write_onnx(network, (1, *grid), path, network.outputs)
    engine = onnx_backend(path, threads=1)
    for count in (1, 3):
        images = torch.randn(count, 1, *grid, generator=torch.Generator().manual_seed(count))
        found = engine.fetch(images.numpy(), network.outputs)
        with torch.inference_mode():
            wanted = network(images)
        for output, tensor in zip(network.outputs, wanted, strict=True):
            limit = 1e-3 * max(1e-6, float(tensor.abs().max()))
            np.testing.assert_allclose(found[output], tensor.numpy(), atol=limit)
        if entry.pooled:
            means = found["evidence"].mean(axis=tuple(range(2, 2 + dims))) + network.bias.detach().numpy()
            np.testing.assert_allclose(means, found["logits"], atol=1e-3)


def seconds_of(network: torch.nn.Module, images: torch.Tensor) -> float:
    passes = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.inference_mode():
            network(images)
        passes.append(time.perf_counter() - began)
    return min(passes)


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_by_name_with_those_that_can(name: ModelName) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be pruned: ") as caught:
        check_prunable(name)
    assert "resnet18" in caught.value.needed
    assert name not in caught.value.needed


@pytest.mark.parametrize("importance", ["l1", "l2", "taylor", "lamp", "random"])
def test_every_importance_takes_as_many(importance: str) -> None:
    whole = lived_in(TINY, 2)
    whole(torch.randn(4, *shape(TINY, 2))).square().sum().backward()
    pruned = prune(whole, TINY, shape(TINY, 2), 0.5, SlimConfig(by="channels", importance=importance))
    was, now = (size_of(network, shape(TINY, 2)).channels for network in (whole, pruned))
    assert 0.4 < now / was < 0.65


def test_the_least_important_channels_go() -> None:
    """Channels that are made unimportant by hand, everywhere, are those that are missing afterwards."""
    whole = lived_in(TINY, 2)
    with torch.no_grad():
        for module in whole.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight[::2] *= 1e-4
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight[::2] = 1e-4
                module.bias[::2] = 0
    pruned = prune(whole, TINY, shape(TINY, 2), 0.5, SlimConfig(**PLAIN | {"round_to": 1}))
    kept = pruned.get_submodule("blocks.0").get_parameter("weight")
    assert torch.equal(kept, whole.get_submodule("blocks.0").get_parameter("weight")[1::2])
    images = torch.randn(2, *shape(TINY, 2))
    with torch.inference_mode():
        torch.testing.assert_close(pruned(images), whole(images), atol=1e-2, rtol=1e-2)


def test_the_network_that_is_pruned_stays_as_it_is() -> None:
    whole = lived_in(TINY, 2)
    before = {name: value.clone() for name, value in whole.state_dict().items()}
    prune(whole, TINY, shape(TINY, 2), 0.5, SlimConfig(**PLAIN))
    assert all(torch.equal(value, before[name]) for name, value in whole.state_dict().items())


@pytest.mark.parametrize(("name", "dims"), [("tiny_cnn", 2), ("unet", 3), ("resnet18", 2)])
def test_channels_are_multiples_of_what_they_are_rounded_to(name: ModelName, dims: Any) -> None:
    _, pruned = halved(name, dims, round_to=8)
    widths = [sizes["out_channels"] for sizes in structure_of(pruned).values() if "out_channels" in sizes]
    assert all(width % 8 == 0 or width == CLASSES for width in widths)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_share_of_the_multiplications_is_met(share: float) -> None:
    whole = lived_in(TINY, 2)
    pruned = prune(whole, TINY, shape(TINY, 2), share, SlimConfig(importance="l2", round_to=1))
    left = size_of(pruned, shape(TINY, 2)).macs / size_of(whole, shape(TINY, 2)).macs
    assert 0.85 * (1 - share) < left <= 1 - share


def test_a_share_of_the_time_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here its size stands for the time of an answer, as no test may judge times."""
    asked: list[int] = []

    def cost(network: torch.nn.Module, image: Any) -> float:
        asked.append(size_of(network, image).parameters)
        return float(asked[-1])

    monkeypatch.setattr("medrail.slim.prune._latency_ms", cost)
    whole = lived_in(TINY, 2)
    pruned = prune(whole, TINY, shape(TINY, 2), 0.3, SlimConfig(by="latency", importance="l2", round_to=1))
    was, now = (size_of(network, shape(TINY, 2)).parameters for network in (whole, pruned))
    assert now == max(one for one in asked if one <= 0.7 * was), "the largest that is quick enough"
    assert len(asked) == 8


@pytest.mark.slow
def test_the_time_of_an_answer_is_measured_in_the_engine_that_serves() -> None:
    assert _latency_ms(lived_in(TINY, 2), shape(TINY, 2)) > 0


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ConfigError, match="more than 0 and less than 1"):
        prune(lived_in(TINY, 2), TINY, shape(TINY, 2), ratio, SlimConfig(**PLAIN))


def test_what_cannot_be_reached_is_said() -> None:
    with pytest.raises(ConfigError, match="does not save 99%"):
        prune(lived_in(TINY, 2), TINY, shape(TINY, 2), 0.99, SlimConfig(importance="l2"))


def test_vanishing_weights_become_zero_and_no_others() -> None:
    network = lived_in(TINY, 2)
    weight = network.get_submodule("blocks.0").get_parameter("weight")
    with torch.no_grad():
        weight[0, 0, 0] = torch.tensor([1e-38, -1e-30, 2 * VANISHING])
    images = torch.randn(2, *shape(TINY, 2))
    with torch.inference_mode():
        before = network(images)
        assert flush_vanishing(network) == 2
        assert torch.equal(network(images), before)
    assert weight[0, 0, 0].tolist() == pytest.approx([0, 0, 2 * VANISHING], abs=0, rel=1e-6)


def test_auto_is_an_importance_for_the_task_and_what_is_chosen_stays() -> None:
    assert resolved(SlimConfig(), "classification").importance == "taylor"
    assert resolved(SlimConfig(), "segmentation").importance == "lamp"
    assert resolved(SlimConfig(importance="l1"), "segmentation").importance == "l1"
