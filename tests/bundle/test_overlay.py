"""What a person sees: the right way round, in the right proportions, with the mask where it is."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.bundle import overlay_png, write_mask
from medrail.bundle.overlay import COLOURS
from medrail.errors import GeometryError
from medrail.read import read_mask
from medrail.types import Geometry, Image


def pixels(png: bytes) -> np.ndarray:
    picture = Picture.open(io.BytesIO(png))
    assert picture.format == "PNG"
    return np.array(picture)


def turned(axes: tuple[int, ...], signs: tuple[int, ...]) -> Image:
    """One head of 8 x 12 x 16 voxels (S, A, R; 4, 2, 1 mm), stored with its axes in another order and direction.

    One corner block is bright: the patient's right, anterior, superior.
    """
    canonical = np.zeros((8, 12, 16), np.float32)
    canonical[4:, 6:, 8:] = 1
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 4, 2, 1, 1
    voxels = canonical.transpose(axes)
    columns = affine[:, [*axes, 3]].copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            columns[:3, 3] += columns[:3, axis] * (voxels.shape[axis] - 1)
            columns[:3, axis] *= -1
    voxels = voxels[tuple(slice(None, None, sign) for sign in signs)]
    return Image(np.ascontiguousarray(voxels)[None], Geometry(columns))


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_every_storage_order_looks_the_same(axes: tuple[int, ...]) -> None:
    reference = overlay_png(turned((0, 1, 2), (1, 1, 1)))
    for signs in itertools.product((1, -1), repeat=3):
        assert overlay_png(turned(axes, signs)) == reference


def test_radiological_display() -> None:
    """Axial: right-anterior block at the top left. Coronal: right-superior at the top left. Sagittal: anterior left."""
    image = turned((0, 1, 2), (1, 1, 1))
    seen = pixels(overlay_png(image, image, panel_px=320))[..., 0].astype(int)
    # 16 x 24 mm axial, 16 x 32 coronal, 24 x 32 sagittal: 10 px a mm
    widths, gap = (160, 160, 240), 4
    assert seen.shape == (320, sum(widths) + 2 * gap)
    lefts = (0, 164, 328)
    for left, width, height in zip(lefts, widths, (240, 320, 320), strict=True):
        top = (320 - height) // 2
        panel = seen[top : top + height, left : left + width]
        bright = [
            [panel[r * height // 2 + height // 4, c * width // 2 + width // 4] for c in range(2)] for r in range(2)
        ]
        assert bright[0][0] > 150, (left, bright)
        assert max(bright[0][1], bright[1][0], bright[1][1]) < 100, (left, bright)


def test_the_mask_is_tinted_and_outlined_where_it_is() -> None:
    image = Image(np.full((1, 1, 50, 100), 100, np.uint8), unit="uint8")
    labels = np.zeros((1, 1, 50, 100), np.uint8)
    labels[0, 0, 10:40, 10:40], labels[0, 0, 10:40, 60:90] = 1, 2
    seen = pixels(overlay_png(image, Image(labels, unit="label"), panel_px=100))
    assert seen.shape == (50, 100, 3)
    for label, column in ((1, 10), (2, 60)):
        np.testing.assert_array_equal(seen[20, column], COLOURS[label - 1])
        np.testing.assert_allclose(seen[25, column + 15], 0.65 * 100 + 0.35 * np.array(COLOURS[label - 1]), atol=1)
    np.testing.assert_array_equal(seen[labels[0, 0] == 0], 100)


def test_the_reference_is_a_white_line() -> None:
    image = Image(np.full((1, 1, 50, 100), 100, np.uint8), unit="uint8")
    labels = np.zeros((1, 1, 50, 100), np.uint8)
    labels[0, 0, 10:40, 10:40] = 1
    seen = pixels(overlay_png(image, truth=Image(labels, unit="label"), panel_px=100))
    assert (seen[20, 10] == 255).all()
    assert (seen[20, 11] == 0).all()
    assert (seen[25, 25] == 100).all()


def test_the_plane_with_most_of_the_mask_is_shown() -> None:
    voxels = np.zeros((1, 20, 20, 20), np.uint8)
    voxels[0, 3] = 200
    labels = np.zeros_like(voxels)
    labels[0, 3, 5:9, 5:9] = 1
    seen = pixels(overlay_png(Image(voxels, unit="uint8"), Image(labels, unit="label"), panel_px=100))
    assert (seen[70:90, 70:90] == 200).all()  # the first panel is plane 3, not the black middle one


def test_colour_pictures_keep_their_colours_and_captions_add_a_line() -> None:
    rgb = np.zeros((3, 1, 20, 40), np.uint8)
    rgb[0], rgb[1], rgb[2] = 10, 120, 230
    seen = pixels(overlay_png(Image(rgb, unit="uint8"), panel_px=40))
    assert (seen == [10, 120, 230]).all()
    with_caption = pixels(overlay_png(Image(rgb, unit="uint8"), caption="yes 0.9", panel_px=40))
    assert with_caption.shape[0] > seen.shape[0]
    assert with_caption[20:, 45:].any()  # a caption wider than the picture is not cut


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan, np.inf])
def test_blank_and_broken_images_are_still_drawn(value: float) -> None:
    assert pixels(overlay_png(Image(np.full((1, 3, 4, 5), value, np.float32)))).shape[2] == 3


def test_one_voxel_is_enough() -> None:
    assert pixels(overlay_png(Image(np.ones((1, 1, 1, 1), np.int16), unit="HU"))).size


def test_a_mask_on_another_grid_is_refused(anisotropic_image: Image) -> None:
    with pytest.raises(GeometryError, match="mask"):
        overlay_png(anisotropic_image, Image(np.zeros((1, 5, 7, 10), np.uint8), unit="label"))


def test_masks_are_files_that_read_back(anisotropic_image: Image, tmp_path) -> None:  # type: ignore[no-untyped-def]
    labels = np.random.default_rng(0).integers(0, 12, (1, 5, 7, 11)).astype(np.uint8)
    volume = Image(labels, anisotropic_image.geometry, unit="label")
    path = write_mask(volume, tmp_path / "predictions", "case")
    back = read_mask(path)
    assert path.name == "case.nii.gz"
    np.testing.assert_array_equal(back.voxels, labels)
    assert back.geometry is not None
    assert volume.geometry is not None
    assert back.geometry.is_close(volume.geometry)

    picture = Image(labels[:, :1], unit="label")
    path = write_mask(picture, tmp_path / "predictions", "case")
    assert path.name == "case.png"
    np.testing.assert_array_equal(read_mask(path).voxels, labels[:, :1])
    shown = np.array(Picture.open(path).convert("RGB"))
    np.testing.assert_array_equal(shown[labels[0, 0] == 2], np.tile(COLOURS[1], ((labels[0, 0] == 2).sum(), 1)))
    assert sorted(path.parent.iterdir()) == [path.parent / "case.nii.gz", path]
