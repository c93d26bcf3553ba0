"""A mask comes back as class indices on its image's grid, or is refused by file and reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases import read_roi, read_target_mask
from medrail.config import Config
from medrail.errors import CaseError, GeometryError
from medrail.read import on_grid
from medrail.types import Case, Geometry, Image

Configure = Callable[..., Config]
Write = Callable[..., Path]
THREE = {"classes": ["background", "cytoplasm", "nucleus"]}


def data(configure: Configure, **values: Any) -> Any:
    return configure("segmentation", {"kind": "pairs", "path": ".", "mask_suffix": "_m", **values}).data


def flat(array: Any) -> Image:
    return Image(np.asarray(array)[None, None], unit="uint8", source="image.png")


def test_values_become_class_indices(tmp_path: Path, picture: Write, configure: Configure) -> None:
    array = np.array([[0, 128, 255], [255, 0, 0]], np.uint8)
    path = picture(tmp_path / "m.png", array=array)
    config = data(configure, **THREE, mask_values=[0, 128, 255])
    mask = read_target_mask(Case("a", "a", ("image.png",), str(path)), flat(array), config)
    assert mask.unit == "label"
    assert mask.voxels.dtype == np.uint8
    assert mask.voxels[0, 0].tolist() == [[0, 1, 2], [2, 0, 0]]


def test_the_order_of_mask_values_is_the_order_of_the_classes(
    tmp_path: Path, picture: Write, configure: Configure
) -> None:
    array = np.array([[7, 3], [3, 5]], np.uint8)
    path = picture(tmp_path / "m.png", array=array)
    config = data(configure, **THREE, mask_values=[7, 5, 3])
    mask = read_target_mask(Case("a", "a", ("image.png",), str(path)), flat(array), config)
    assert mask.voxels[0, 0].tolist() == [[0, 2], [2, 1]]


def test_instances_are_foreground(tmp_path: Path, picture: Write, configure: Configure) -> None:
    array = np.array([[0, 1000], [65535, 1]], np.uint16)
    path = picture(tmp_path / "m.png", array=array)
    config = data(configure, classes=["background", "cell"], foreground_nonzero=True)
    mask = read_target_mask(Case("a", "a", ("image.png",), str(path)), flat(array), config)
    assert mask.voxels[0, 0].tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("values", "classes", "remedy"),
    [
        ([[0, 255]], ["background", "cell"], r"data\.mask_values: \[0, 255\]"),
        ([[0, 3, 900]], ["background", "cell"], r"data\.foreground_nonzero: true"),
        ([[0, 1, 3]], ["background", "a", "b"], r"data\.mask_values: \[0, 1, 3\]"),
        ([[0, 1, 2, 7]], ["background", "a", "b"], "add the missing classes"),
    ],
)
def test_unknown_values_are_refused_with_the_setting_that_helps(
    values: Any, classes: list[str], remedy: str, tmp_path: Path, picture: Write, configure: Configure
) -> None:
    array = np.array(values, np.uint16)
    path = picture(tmp_path / "m.png", array=array)
    with pytest.raises(CaseError, match=remedy) as caught:
        read_target_mask(Case("a", "a", ("i",), str(path)), flat(array), data(configure, classes=classes))
    assert str(path) in str(caught.value)


def test_another_size_is_refused(tmp_path: Path, picture: Write, configure: Configure) -> None:
    path = picture(tmp_path / "m.png", array=np.zeros((7, 11), np.uint8))
    with pytest.raises(GeometryError, match=r"the mask is 11 x 7 and its image 7 x 11.*exchanged") as caught:
        read_target_mask(Case("a", "a", ("i",), str(path)), flat(np.zeros((11, 7))), data(configure, **THREE))
    assert "image.png" in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_mask_is_named(tmp_path: Path, configure: Configure) -> None:
    case = Case("a", "a", ("i",), str(tmp_path / "m.png"))
    with pytest.raises(CaseError, match=r"m\.png: there is no such mask file"):
        read_target_mask(case, flat(np.zeros((2, 2))), data(configure, **THREE))
    with pytest.raises(CaseError, match="no mask"):
        read_target_mask(Case("a", "a", ("i",)), flat(np.zeros((2, 2))), data(configure, **THREE))


def test_the_same_grid_in_space(tmp_path: Path, nifti: Write, configure: Configure, anisotropic_image: Image) -> None:
    assert anisotropic_image.geometry is not None
    labels = np.random.default_rng(1).integers(0, 3, anisotropic_image.grid, dtype=np.uint8)
    path = nifti(tmp_path / "m.nii.gz", labels, anisotropic_image.geometry)
    mask = read_target_mask(Case("a", "a", ("i",), str(path)), anisotropic_image, data(configure, **THREE))
    assert np.array_equal(mask.voxels[0], labels)
    assert mask.geometry is anisotropic_image.geometry


@given(st.permutations(range(3)), st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(deadline=None)
def test_other_axes_over_the_same_voxels_are_turned(order: list[int], flips: tuple[bool, bool, bool]) -> None:
    """Turn an image's axes and its affine in any of 48 ways: what comes back is the image."""
    affine = np.array([[0.02, 0.1, -0.9, 4], [0.3, -0.7, 0.1, 5], [5, 0.1, 0.1, 6], [0, 0, 0, 1.0]])
    original = Geometry(affine)
    voxels = np.arange(5 * 7 * 11).reshape(1, 5, 7, 11)
    image = Image(np.zeros(voxels.shape), original)
    turned_affine, turned = affine.copy(), voxels
    for axis, flip in enumerate(flips):
        if flip:
            turned = np.flip(turned, axis + 1)
            turned_affine[:, 3] += turned_affine[:, axis] * (voxels.shape[axis + 1] - 1)
            turned_affine[:, axis] *= -1
    turned = turned.transpose(0, *(axis + 1 for axis in order))
    turned_affine = turned_affine[:, [*order, 3]]
    back = on_grid(Image(turned, Geometry(turned_affine)), image)
    assert np.array_equal(back.voxels, voxels)
    assert back.geometry is original


@pytest.mark.parametrize("change", ["shift", "spacing", "rotation"])
def test_another_place_is_refused(
    change: str, tmp_path: Path, nifti: Write, configure: Configure, anisotropic_image: Image
) -> None:
    assert anisotropic_image.geometry is not None
    affine = anisotropic_image.geometry.affine_ras_mm.copy()
    if change == "shift":
        affine[:3, 3] += 2.5
    elif change == "spacing":
        affine[:3, 0] *= 1.1
    else:
        affine[:3, :3] = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ affine[:3, :3]
    path = nifti(tmp_path / "m.nii.gz", np.zeros(anisotropic_image.grid, np.uint8), Geometry(affine))
    with pytest.raises(GeometryError, match="lies elsewhere"):
        read_target_mask(Case("a", "a", ("i",), str(path)), anisotropic_image, data(configure, **THREE))


def test_rounding_in_a_header_is_no_other_grid(
    tmp_path: Path, nifti: Write, configure: Configure, anisotropic_image: Image
) -> None:
    assert anisotropic_image.geometry is not None
    affine = anisotropic_image.geometry.affine_ras_mm + np.array([0, 0, 0, 1e-2])
    affine[3] = (0, 0, 0, 1)
    path = nifti(tmp_path / "m.nii.gz", np.ones(anisotropic_image.grid, np.uint8), Geometry(affine))
    read_target_mask(Case("a", "a", ("i",), str(path)), anisotropic_image, data(configure, **THREE))


def test_a_region_is_zero_and_one(tmp_path: Path, picture: Write) -> None:
    array = np.array([[0, 128, 255]], np.uint8)
    case = Case("a", "a", ("i",), roi=str(picture(tmp_path / "r.png", array=array)))
    roi = read_roi(case, flat(array))
    assert roi is not None
    assert roi.voxels[0, 0].tolist() == [[0, 1, 1]]
    assert read_roi(Case("a", "a", ("i",)), flat(array)) is None
