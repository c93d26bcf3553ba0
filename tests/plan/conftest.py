"""Small made data of every kind: pictures, volumes, DICOM series, npz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from medrail.plan import Machine
from medrail.read import write_nifti
from medrail.types import Geometry, Image

Maker = Callable[..., Path]


def save_picture(path: Path, size: tuple[int, int] = (40, 48), colour: bool = False, seed: int = 0) -> Path:
    """A PNG of (H, W) grey values or colours that differ everywhere."""
    source = np.random.default_rng(seed)
    shape = (*size, 3) if colour else size
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(source.integers(10, 250, shape, dtype=np.uint8)).save(path)
    return path


def save_picture_mask(path: Path, size: tuple[int, int] = (40, 48), values: tuple[int, ...] = (255,)) -> Path:
    """A PNG with a stripe for each value."""
    mask = np.zeros(size, np.uint8)
    for number, value in enumerate(values):
        mask[5:30, 4 + 8 * number : 10 + 8 * number] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(mask).save(path)
    return path


def save_volume(
    path: Path,
    grid: tuple[int, int, int] = (20, 33, 45),
    spacing_mm: tuple[float, float, float] = (3.0, 1.7, 1.9),
    seed: int = 0,
) -> Path:
    """A NIfTI of different sizes and spacings along each axis."""
    voxels = np.random.default_rng(seed).normal(100, 20, (1, *grid)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(Image(voxels, Geometry.from_spacing(spacing_mm)), path)
    return path


def save_volume_mask(
    path: Path,
    grid: tuple[int, int, int] = (20, 33, 45),
    spacing_mm: tuple[float, float, float] = (3.0, 1.7, 1.9),
    values: tuple[int, ...] = (1,),
) -> Path:
    """A NIfTI mask with a box for each value."""
    voxels = np.zeros((1, *grid), np.uint8)
    for number, value in enumerate(values):
        voxels[0, 2:6, 5:15, 5 + 9 * number : 12 + 9 * number] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(Image(voxels, Geometry.from_spacing(spacing_mm), unit="label"), path)
    return path


def save_series(folder: Path, slices: int = 10, seed: int = 0) -> Path:
    """A CT series made of pydicom's CT_small.dcm (128 x 128), 5 mm apart."""
    folder.mkdir(parents=True, exist_ok=True)
    series, frame = generate_uid(entropy_srcs=[str(folder)]), generate_uid(entropy_srcs=[str(folder), "frame"])
    for number in range(slices):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.StudyInstanceUID = f"{series[:60]}.1"
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = series, frame
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(number)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number + 1
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, -50.0 + 5.0 * number]
        dataset.SliceThickness = 5.0
        dataset.PixelData = np.roll(dataset.pixel_array, (number + seed) % 7, axis=0).tobytes()
        dataset.save_as(folder / f"IM{number:04d}.dcm")
    return folder


@pytest.fixture(scope="session")
def laptop() -> Machine:
    """A machine that does not depend on where the tests run."""
    return Machine(cores=2, memory_gb=8, gpu=False)


@pytest.fixture
def picture() -> Maker:
    return save_picture


@pytest.fixture
def picture_mask() -> Maker:
    return save_picture_mask


@pytest.fixture
def volume() -> Maker:
    return save_volume


@pytest.fixture
def volume_mask() -> Maker:
    return save_volume_mask


@pytest.fixture
def series() -> Maker:
    return save_series
