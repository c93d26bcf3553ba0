"""Checkpoints in both forms hold the same, and neither runs code or believes a damaged file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from medrail.errors import RunError
from medrail.models.classifiers import TinyCnn
from medrail.train.checkpoint import load, save
from medrail.train.weights import tensors_sha256

ABOUT = {"task": "classification", "classes": ["left", "right"], "grid": [16, 24], "epoch": 3, "structure": {}}


def content() -> dict[str, Any]:
    torch.manual_seed(0)
    weights = TinyCnn(2, 1, 2).state_dict()
    weights["blocks.0.weight"] = weights["blocks.0.weight"].contiguous(memory_format=torch.channels_last)
    return {**ABOUT, "weights": weights}


@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
def test_what_is_written_comes_back(name: str, tmp_path: Path) -> None:
    given = content()
    save(tmp_path / name, given)
    found = load(tmp_path / name)
    assert {key: found[key] for key in ABOUT} == ABOUT
    assert found["weights"].keys() == given["weights"].keys()
    assert tensors_sha256(found["weights"]) == tensors_sha256(given["weights"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        save(tmp_path / name, content())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_weights_with_two_names_are_written_once(tmp_path: Path) -> None:
    one, other = torch.randn(100, 100), torch.randn(100, 100)
    weights = {"a": one, "skip.a": one, "b": other, "turned": one.T}
    save(tmp_path / "best.safetensors", {"weights": weights})
    assert (tmp_path / "best.safetensors").stat().st_size < 3.2 * one.nbytes
    found = load(tmp_path / "best.safetensors")["weights"]
    assert all(torch.equal(found[name], value) for name, value in weights.items())


@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
def test_rubbish_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    save(path, content())
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-50], pickle.dumps({"format": 1}), b"\xff" * 500):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="not a checkpoint"):
            load(path)
    path.unlink()
    with pytest.raises(RunError, match="there is no such file"):
        load(path)


def test_weights_of_another_program_are_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(content()["weights"] | {"blocks.0.weight": torch.zeros(1)}, tmp_path / "best.safetensors")
    with pytest.raises(RunError, match="not a checkpoint"):
        load(tmp_path / "best.safetensors")
