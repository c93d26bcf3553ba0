"""What the tests of prepare/ share: one example of every step, an oblique volume, and ITK as a judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import SimpleITK

from medrail.types import Geometry, Image

# Each applies to a grey volume with geometry and a region of interest; together they are the whole table.
EXAMPLES: dict[str, dict[str, Any]] = {
    "orient": {"kind": "orient", "axes": "RAS"},
    "resample": {"kind": "resample", "spacing_mm": [3.0, 1.1, 0.8]},
    "window": {"kind": "window", "preset": "soft_tissue"},
    "clip_percentile": {"kind": "clip_percentile", "low": 2, "high": 90},
    "crop_foreground": {"kind": "crop_foreground", "threshold": 60, "margin_mm": 1},
    "crop_roi": {"kind": "crop_roi", "margin_px": 1},
    "crop_pad": {"kind": "crop_pad", "size": [9, 6, 10]},
    "resize": {"kind": "resize", "size": [16, 12], "keep_aspect": True},
    "slices": {"kind": "slices", "planes": ["coronal", "axial"], "size": [8, 9]},
    "normalise": {"kind": "normalise", "method": "zscore"},
    "grey_to_rgb": {"kind": "grey_to_rgb"},
    "rgb_to_grey": {"kind": "rgb_to_grey"},
    "round": {"kind": "round", "to": "float16"},
}


@pytest.fixture(scope="session")
def examples() -> dict[str, dict[str, Any]]:
    return EXAMPLES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``example`` runs once for every step."""
    if "example" in metafunc.fixturenames:
        metafunc.parametrize("example", list(EXAMPLES.values()), ids=list(EXAMPLES))


@pytest.fixture(scope="session")
def oblique() -> Geometry:
    """Nearly axial, 5.0 x 0.7 x 0.9 mm, D to Superior, H to Posterior, W to Left."""
    near_axial = np.array([[0.05, 0.1, -0.99], [0.15, -0.98, -0.1], [0.98, 0.1, 0.1]])
    left, _, right = np.linalg.svd(near_axial)
    affine = np.eye(4)
    affine[:3, :3] = (left @ right) * np.array((5.0, 0.7, 0.9))
    affine[:3, 3] = (-12.5, 30.25, 7.0)
    return Geometry(affine)


@pytest.fixture(scope="session")
def volume(oblique: Geometry) -> Image:
    """(1, 5, 7, 11), every voxel of another value."""
    voxels = np.arange(5 * 7 * 11, dtype=np.float32).reshape(1, 5, 7, 11)
    return Image(voxels, oblique, unit="HU", source="made by a test")


@pytest.fixture(scope="session")
def roi(oblique: Geometry) -> Image:
    """A box of ones inside ``volume``'s grid."""
    voxels = np.zeros((1, 5, 7, 11), np.uint8)
    voxels[:, 1:4, 2:5, 3:9] = 1
    return Image(voxels, oblique, unit="label")


@pytest.fixture(scope="session")
def world() -> Callable[[Image], np.ndarray]:
    """Image -> the RAS+ position in mm of every voxel's centre, (D, H, W, 3)."""

    def positions(image: Image) -> np.ndarray:
        assert image.geometry is not None
        index = np.stack([*np.indices(image.grid), np.ones(image.grid)], axis=-1)
        return (index @ image.geometry.affine_ras_mm.T)[..., :3]

    return positions


@pytest.fixture(scope="session")
def to_itk() -> Callable[[Image], SimpleITK.Image]:
    """Image -> SimpleITK: RAS+ becomes LPS+, (D, H, W) becomes (x, y, z) = (W, H, D)."""

    def convert(image: Image) -> SimpleITK.Image:
        assert image.geometry is not None
        itk = SimpleITK.GetImageFromArray(image.voxels[0].astype(np.float32))
        to_lps = np.diag([-1.0, -1.0, 1.0])
        itk.SetSpacing(image.geometry.spacing_mm[::-1])
        itk.SetOrigin((to_lps @ image.geometry.origin_mm).tolist())
        itk.SetDirection((to_lps @ image.geometry.direction)[:, ::-1].flatten().tolist())
        return itk

    return convert


@pytest.fixture(scope="session")
def from_itk() -> Callable[[SimpleITK.Image], Image]:
    """The inverse of ``to_itk``."""

    def convert(itk: SimpleITK.Image) -> Image:
        to_ras = np.diag([-1.0, -1.0, 1.0])
        affine = np.eye(4)
        affine[:3, :3] = (to_ras @ np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing())[:, ::-1]
        affine[:3, 3] = to_ras @ itk.GetOrigin()
        return Image(SimpleITK.GetArrayFromImage(itk)[None], Geometry(affine))

    return convert
