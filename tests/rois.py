"""One region of interest stored in several ways, and a bundle whose answer depends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conftest import anisotropic_geometry
from medrail.bundle import InputKind, NetworkSpec
from medrail.types import Geometry, Image
from small_bundles import segmenter_network, write_bundle

STORED = ("as drawn", "flipped", "axes exchanged", "rounded")


def roi_segmenter(root: Path) -> Path:
    """Finds everything above 2, but sees only the region of interest."""
    spec = NetworkSpec(
        task="segmentation",
        classes=("background", "organ"),
        dims=3,
        channels=1,
        pipeline=({"kind": "crop_roi"},),
        input_kind=InputKind(picture=False, channels=1, unit="arbitrary"),
    )
    return write_bundle(root, "organ-in-roi", segmenter_network(3, (2.0,)), spec)


def bright_volume() -> Image:
    return Image(np.full((1, 5, 7, 11), 5, np.float32), anisotropic_geometry())


def region() -> Image:
    """A box in a corner, so that no flip of it is itself."""
    voxels = np.zeros((1, 5, 7, 11), np.uint8)
    voxels[0, :2, 1:4, 2:9] = 1
    return Image(voxels, anisotropic_geometry(), unit="label")


def stored(roi: Image, way: str) -> Image:
    """The same region as another program may have written it."""
    assert roi.geometry is not None
    voxels, affine = roi.voxels, np.array(roi.geometry.affine_ras_mm)
    if way == "flipped":
        for axis in range(3):
            affine[:, 3] += affine[:, axis] * (voxels.shape[axis + 1] - 1)
            affine[:, axis] *= -1
        voxels = voxels[:, ::-1, ::-1, ::-1]
    elif way == "axes exchanged":
        voxels, affine = voxels.transpose(0, 3, 1, 2), affine[:, [2, 0, 1, 3]]
    elif way == "rounded":
        affine[:3, 3] += 0.02
    elif way == "elsewhere":
        affine[:3, 3] += 4
    elif way == "smaller":
        voxels = voxels[..., :10]
    return Image(np.ascontiguousarray(voxels), Geometry(affine), unit="label")
