"""What the tests of this room share: a configuration in a line, and small pictures and volumes on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as Picture

from medrail.config import Config, parse
from medrail.types import Geometry
from medrail.workspace import Workspace

Array = npt.NDArray[Any]


def make_config(task: str, data: dict[str, Any], **stages: Any) -> Config:
    model = {"name": "unet" if task == "segmentation" else "tiny_cnn", "dims": 2}
    return parse({"task": task, "data": data, "model": model, **stages})


@pytest.fixture
def configure() -> Callable[..., Config]:
    return make_config


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "project")


@pytest.fixture
def picture() -> Callable[..., Path]:
    """Writes a small picture of noise (another one for each seed), or the given array."""

    def write(path: Path, seed: int = 0, array: Array | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).integers(0, 256, (7, 11), dtype=np.uint8)
        Picture.fromarray(noise if array is None else array).save(path)
        return path

    return write


@pytest.fixture
def nifti() -> Callable[..., Path]:
    """Writes a (D, H, W) array with a Geometry as NIfTI, in nibabel's own axis order."""

    def write(path: Path, array: Array, geometry: Geometry) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        affine = geometry.affine_ras_mm[:, [2, 1, 0, 3]]
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), path)
        return path

    return write
