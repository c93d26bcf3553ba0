"""The small picture of a case: whole, small, the right way up, with the mask's outline."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.cases.look.thumbnail import thumbnail
from medrail.types import Geometry, Image


def seen(content: bytes) -> np.ndarray[Any, Any]:
    picture = Picture.open(io.BytesIO(content))
    assert picture.format == "WEBP"
    return np.asarray(picture.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 1, 200, 100), (96, 48)), ((3, 1, 28, 28), (96, 96)), ((1, 1, 1, 4000), (1, 96))]
)
def test_the_longer_side_is_96_px(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    image = Image(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), unit="uint8")
    assert seen(thumbnail(image)).shape[:2] == size
    assert len(thumbnail(image)) < 12_000


def test_pixels_have_their_true_aspect_ratio() -> None:
    """5 x 7 x 11 voxels of 5.0 x 0.7 x 0.9 mm: across the coarsest axis, 7 x 0.7 by 11 x 0.9 mm."""
    image = Image(np.zeros((1, 5, 7, 11), np.float32), Geometry.from_spacing((5.0, 0.7, 0.9)))
    assert seen(thumbnail(image)).shape[:2] == (round(96 * 4.9 / 9.9), 96)


@pytest.mark.parametrize("flip", [(), (0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_a_volume_is_the_right_way_up_however_it_is_stored(order: tuple[int, ...], flip: tuple[int, ...]) -> None:
    """Bright in the patient's front and right: at the top and the left of an axial slice."""
    voxels = np.zeros((1, 4, 20, 20), np.float32)
    voxels[0, :, 10:, 10:] = 100  # (S, A, R) grow
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 6, 1, 1, 1
    affine[0, 2] = 1  # W grows to the right (RAS+)
    stored, columns = voxels[0], [affine[:, axis] for axis in range(3)]
    for axis in flip:
        stored = np.flip(stored, axis)
        affine[:, 3] += columns[axis] * (stored.shape[axis] - 1)
        columns[axis] = -columns[axis]
    stored = stored.transpose(order)
    turned = np.stack([*(columns[axis] for axis in order), affine[:, 3]], axis=1)
    turned[3] = (0, 0, 0, 1)
    picture = seen(thumbnail(Image(np.ascontiguousarray(stored)[None], Geometry(turned))))
    half = 48
    assert picture[:half, :half].mean() > 200
    assert picture[half:, :].mean() < 40
    assert picture[:half, half:].mean() < 40


def test_ct_is_windowed_to_soft_tissue() -> None:
    voxels = np.full((1, 1, 64, 64), -1000.0, np.float32)
    voxels[..., 32:] = 2000
    voxels[..., :8, :] = 40
    picture = seen(thumbnail(Image(voxels, unit="HU")))
    assert picture[60, 5].max() < 12
    assert picture[60, 90].min() > 243
    assert abs(picture[5, 5].mean() - 127) < 12


def test_the_slice_with_most_of_the_mask_is_shown_with_its_outline() -> None:
    voxels = np.zeros((1, 5, 40, 40), np.uint8)
    voxels[0, 3] = 90
    labels = np.zeros((1, 5, 40, 40), np.uint8)
    labels[0, 3, 10:30, 10:30] = 1
    picture = seen(thumbnail(Image(voxels, unit="uint8"), Image(labels, unit="label")))
    assert abs(picture[5, 5] - 90).max() < 12, "the slice of the mask"
    assert picture[24, 48, 0] - picture[24, 48, 2] > 60, "orange at the border"
    assert abs(picture[48, 48] - 90).max() < 12, "the inside stays as it is"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_odd_values_give_a_picture(value: float) -> None:
    voxels = np.full((1, 3, 8, 8), value, np.float32)
    assert seen(thumbnail(Image(voxels))).shape == (96, 96, 3)
