"""A network's structure as data: it makes another network of the kind into the same one, and nothing else of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.config import ModelConfig, ModelName
from medrail.models import MODELS, build_model
from medrail.models.classifiers import TinyCnn
from medrail.models.structure import apply_structure, structure_of

WIDE, NARROW = 32, 16
SEGMENTERS: list[tuple[ModelName, Any]] = [
    (name, dims) for name, entry in MODELS.items() if entry.task == "segmentation" for dims in (2, 3)
]


def segmenter(name: ModelName, dims: Any, width: int) -> torch.nn.Module:
    return build_model(ModelConfig(name=name, dims=dims, width=width), "segmentation", 3).eval()


@pytest.mark.parametrize(("name", "dims"), SEGMENTERS)
def test_a_wide_network_becomes_the_narrow_one(name: ModelName, dims: Any) -> None:
    """The widths that a pruned network has are no others than those of a network that was built narrow."""
    narrow, wide = segmenter(name, dims, NARROW), segmenter(name, dims, WIDE)
    apply_structure(wide, json.loads(json.dumps(structure_of(narrow))))
    wide.load_state_dict(narrow.state_dict())
    assert structure_of(wide) == structure_of(narrow)
    images = torch.randn(2, 1, *(32,) * dims)
    with torch.inference_mode():
        assert torch.equal(wide(images), narrow(images))


@given(st.integers(1, 16), st.sampled_from([2, 3]), st.integers(1, 3), st.integers(2, 4))
@settings(max_examples=15, deadline=None)
def test_any_width_comes_out_again(width: int, dims: int, channels: int, classes: int) -> None:
    narrow, wide = TinyCnn(dims, channels, classes, width).eval(), TinyCnn(dims, channels, classes, 16).eval()
    apply_structure(wide, structure_of(narrow))
    wide.load_state_dict(narrow.state_dict())
    images = torch.randn(2, channels, *(8,) * dims)
    assert torch.equal(wide(images), narrow(images))


def test_the_same_structure_changes_nothing() -> None:
    network = TinyCnn(2, 1, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    apply_structure(network, structure_of(network))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "sizes", "said"),
    [
        ("blocks.0", {"in_channels": 1, "out_channels": 17, "groups": 1}, "does not fit"),
        ("blocks.0", {"in_channels": 1, "out_channels": 10**12, "groups": 1}, "does not fit"),
        ("blocks.0", {"in_channels": 1, "out_channels": 0, "groups": 1}, "does not fit"),
        ("blocks.0", {"in_channels": 1, "out_channels": 8.0, "groups": 1}, "not the sizes"),
        ("blocks.0", {"in_channels": True, "out_channels": 8, "groups": 1}, "not the sizes"),
        ("blocks.0", {"in_channels": 1, "out_channels": 8}, "not the sizes"),
        ("blocks.0", {"in_channels": 1, "out_channels": 8, "weight": 1}, "not the sizes"),
        ("blocks.99", {"in_channels": 1, "out_channels": 8, "groups": 1}, "layers of another network"),
        ("", {"training": 1}, "layers of another network"),
    ],
)
def test_sizes_that_no_such_network_can_have_are_refused(layer: str, sizes: dict[str, Any], said: str) -> None:
    network = TinyCnn(2, 1, 2)
    structure: dict[str, Any] = {**structure_of(network), layer: sizes}
    with pytest.raises(ValueError, match=said):
        apply_structure(network, structure)
