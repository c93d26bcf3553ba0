"""Every network of the table: its contract, in both dimensions. Its export is tested with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
import torch

from medrail.bundle import onnx_backend
from medrail.config import ModelConfig, ModelName
from medrail.errors import ConfigError
from medrail.export.onnx_file import write_onnx
from medrail.models import MODELS, build_model
from medrail.models.build import CHOOSES_NORM
from medrail.models.transformer import patch_of

# Anisotropic on purpose: an axis taken for another gives another shape.
SIZES = {2: (32, 48), 3: (16, 32, 24)}
CLASSES = 3
EVERY = [(name, dims) for name in MODELS for dims in (2, 3)]


def network(name: ModelName, dims: Any, channels: int = 1, width: int = 8, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = ModelConfig(name=name, dims=dims, channels=channels, width=width)
    return build_model(model, MODELS[name].task, CLASSES, size(name, dims))


def size(name: ModelName, dims: int) -> tuple[int, ...]:
    return tuple(max(length, MODELS[name].smallest) for length in SIZES[dims])


def batch(name: ModelName, dims: int, count: int, channels: int = 1) -> torch.Tensor:
    return torch.randn(count, channels, *size(name, dims), generator=torch.Generator().manual_seed(count))


def lived_in(net: torch.nn.Module, name: ModelName, dims: int) -> torch.nn.Module:
    """Batch statistics as after some training; as initialised, some networks answer 0 to everything."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = None  # the plain average
    with torch.no_grad():
        net.train()
        net(batch(name, dims, 3))
    return net.eval()


def test_the_table_has_exactly_the_names_of_the_configuration() -> None:
    assert set(MODELS) == set(get_args(ModelName))


def test_every_network_says_when_to_choose_it_in_one_line() -> None:
    for entry in MODELS.values():
        assert 20 < len(entry.when) < 100
        assert "\n" not in entry.when
    assert len({entry.when for entry in MODELS.values()}) == len(MODELS)


@pytest.mark.parametrize(("name", "dims"), EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_have_the_shape_of_the_task(name: ModelName, dims: int, channels: int) -> None:
    with torch.inference_mode():
        logits = network(name, dims, channels).eval()(batch(name, dims, 2, channels))
    spatial = size(name, dims) if MODELS[name].task == "segmentation" else ()
    assert logits.shape == (2, CLASSES, *spatial)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("name", "dims"), EVERY)
def test_every_weight_gets_a_gradient_and_the_seed_decides(name: ModelName, dims: int) -> None:
    first, again, other = network(name, dims), network(name, dims), network(name, dims, seed=1)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(mine, same) for mine, same in pairs)
    weights = [(value, other.state_dict()[key]) for key, value in first.state_dict().items() if value.ndim > 1]
    assert any(not torch.equal(mine, different) for mine, different in weights)
    first(batch(name, dims, 2)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(
    ("grid", "stride"), [((28, 28), (1, 1)), ((64, 224), (2, 2)), ((), (2, 2)), ((32, 96), (1, 2))]
)
def test_a_resnet_halves_large_pictures_in_its_first_layer(
    name: ModelName, grid: tuple[int, ...], stride: tuple[int, int]
) -> None:
    net = build_model(ModelConfig(name=name, dims=2), "classification", 2, grid)
    first = next(module for module in net.modules() if isinstance(module, torch.nn.Conv2d))
    assert first.stride == stride


@pytest.mark.parametrize("name", list(MODELS))
def test_a_network_for_the_other_task_is_refused_with_those_that_fit(name: ModelName) -> None:
    other: Any = "segmentation" if MODELS[name].task == "classification" else "classification"
    with pytest.raises(ConfigError, match=name) as caught:
        build_model(ModelConfig(name=name, dims=2), other, 2)
    assert all((key in caught.value.needed) == (entry.task == other) for key, entry in MODELS.items())


def test_a_width_that_segresnet_cannot_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Set it to 16"):
        build_model(ModelConfig(name="segresnet", dims=2, width=13), "segmentation", 2)


@pytest.mark.parametrize("name", ["unet", "dynunet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_batch_normalisation_is_folded_away_when_the_network_is_exported(
    name: ModelName, dims: Any, tmp_path: Path
) -> None:
    model = ModelConfig(name=name, dims=dims, width=8, norm="batch")
    net = build_model(model, "segmentation", 2).eval()
    shape = (1, *[16] * dims)
    write_onnx(net, shape, tmp_path / "network.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "network.onnx").graph.node}
    assert "Conv" in kinds
    assert not kinds & {"BatchNormalization", "InstanceNormalization"}
    batch = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    answered = onnx_backend(tmp_path / "network.onnx")(batch.numpy())
    assert abs(answered - net(batch).detach().numpy()).max() < 1e-4


@pytest.mark.parametrize("name", [name for name in MODELS if name not in CHOOSES_NORM])
def test_a_network_that_has_a_normalisation_of_its_own_takes_no_other(name: ModelName) -> None:
    with pytest.raises(ConfigError, match=f"norm batch for {name}") as caught:
        build_model(ModelConfig(name=name, dims=2, norm="batch"), MODELS[name].task, 2)
    assert "unet, dynunet" in caught.value.needed


def test_tiny_cnn_is_tiny_and_takes_any_size() -> None:
    net = network("tiny_cnn", 2)
    assert sum(parameter.numel() for parameter in net.parameters()) < 120_000
    for spatial in ((8, 8), (9, 31), (100, 64)):
        assert net(torch.zeros(2, 1, *spatial)).shape == (2, CLASSES)


def test_the_page_about_training_has_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text(encoding="utf-8")
    rows = [f"| `{name}` | {entry.task} | {entry.when} |" for name, entry in MODELS.items()]
    assert "\n".join(rows) in page


@pytest.mark.parametrize(
    ("grid", "patch"),
    [
        ((224, 224), (16, 16)),
        ((28, 28), (4, 4)),
        ((64, 96, 32), (16, 16, 8)),
        ((8, 24), (1, 3)),
        ((225, 250), (15, 10)),
    ],
)
def test_vit_cuts_into_the_largest_patches_that_leave_enough(grid: tuple[int, ...], patch: tuple[int, ...]) -> None:
    assert patch_of(grid) == patch


def test_vit_refuses_a_size_without_divisors() -> None:
    with pytest.raises(ConfigError, match=r"63,001 patches for vit.*at most 1,024"):
        build_model(ModelConfig(name="vit", dims=2), "classification", 2, (251, 251))
