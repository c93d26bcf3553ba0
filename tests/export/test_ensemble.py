"""An ensemble as ONNX answers as its members in torch do, on average."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from medrail.bundle import onnx_backend
from medrail.config import ModelConfig
from medrail.export.onnx_file import write_onnx
from medrail.models import build_model
from medrail.models.ensemble import Ensemble


@pytest.mark.parametrize(
    ("name", "dims", "shape"), [("tiny_cnn", 2, (1, 16, 16)), ("unet", 2, (1, 16, 32)), ("unet", 3, (1, 16, 16, 32))]
)
def test_the_exported_ensemble_answers_with_the_mean_probability(
    name: str, dims: int, shape: tuple[int, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = ModelConfig(name=name, dims=dims, width=4)
    task = "classification" if name == "tiny_cnn" else "segmentation"
    members = [build_model(model, task, 3, shape[1:]).eval() for _ in range(2)]
    write_onnx(Ensemble(members).eval(), shape, tmp_path / "network.onnx")
    images = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    with torch.inference_mode():
        logits = np.stack([member(torch.from_numpy(images)).numpy() for member in members])
    found = softmax(onnx_backend(tmp_path / "network.onnx")(images), axis=1)
    assert found == pytest.approx(softmax(logits, axis=2).mean(axis=0), abs=1e-5)
    assert np.abs(softmax(logits[0], axis=1) - softmax(logits[1], axis=1)).max() > 1e-3, "the members differ"
