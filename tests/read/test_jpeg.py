"""JPEG by libjpeg-turbo: Pillow's pixels, Pillow's refusals, and at a reduced size nearly the same after a resize."""

from __future__ import annotations

import functools
import io
import random
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from PIL import ImageOps

from medrail.errors import CorruptFile, MedrailError
from medrail.prepare import Pipeline
from medrail.read import read, read_mask
from medrail.read.jpeg import applied_reduction, picture_box, reduced_size, reduction
from medrail.types import Image, ReadOptions

PHOTOGRAPHS = [Path(sklearn.datasets.__file__).parent / "images" / name for name in ("china.jpg", "flower.jpg")]
# After a resize, of 255 grey levels; measured on photographs and chest X-rays: 0.1 to 0.5 and 3 to 10.
MEAN_LEVELS, MOST_LEVELS = 0.6, 14


@functools.cache
def photograph(height: int, width: int) -> Pillow.Image:
    return Pillow.open(PHOTOGRAPHS[0]).resize((width, height))


def save(path: Path, picture: Pillow.Image, orientation: int = 1, **how: object) -> Path:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(path, "JPEG", exif=exif, **how)
    return path


def by_pillow(path: Path) -> np.ndarray:
    """(C, H, W), upright."""
    with Pillow.open(path) as picture:
        pixels = np.asarray(ImageOps.exif_transpose(picture))
    return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, 0)


def differences(path: Path, side: int, **more: object) -> np.ndarray:
    """By how many grey levels a picture resized to ``side`` differs when it was decoded at a reduced size."""
    pipeline = Pipeline.from_dict([{"kind": "resize", "size": [side, side], **more}])
    full, reduced = read(path), read(path, "", ReadOptions(jpeg_least_px=(2 * side, 2 * side)))
    assert min(reduced.grid[1:]) < min(full.grid[1:]), "it was to be reduced"
    return np.abs(pipeline(full).voxels.astype(int) - pipeline(reduced).voxels)


@pytest.mark.parametrize("how", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 30}])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(64, 48), (37, 61), (1, 9), (9, 1), (16, 17)])
def test_the_pixels_are_pillows(how, mode, size, tmp_path):
    path = save(tmp_path / "a.jpg", photograph(*size).convert(mode), **how)
    np.testing.assert_array_equal(read(path).voxels[:, 0], by_pillow(path))


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs_have_pillows_pixels(path):
    np.testing.assert_array_equal(read(path).voxels[:, 0], by_pillow(path))


@pytest.mark.shared
def test_chest_x_rays_have_pillows_pixels(shared_data):
    for path in sorted((shared_data / "chestxray").rglob("*.jpeg"))[::30]:
        np.testing.assert_array_equal(read(path).voxels[:, 0], by_pillow(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_orientation_is_applied_also_at_a_reduced_size(orientation, mode, tmp_path):
    """115 and 163 are no multiples of 2: where the fraction of a pixel lies depends on the orientation."""
    path = save(tmp_path / "a.jpg", photograph(115, 163).convert(mode), orientation, quality=95)
    full = read(path)
    np.testing.assert_array_equal(full.voxels[:, 0], by_pillow(path))
    assert full.history == ()
    wanted = full.grid[1] // 2, full.grid[2] // 2
    reduced = read(path, "", ReadOptions(jpeg_least_px=wanted))
    assert sorted(reduced.grid[1:]) == [58, 82]
    assert read(path, "", ReadOptions(jpeg_least_px=(wanted[0] + 1, wanted[1]))).grid == full.grid
    pipeline = Pipeline.from_dict([{"kind": "resize", "size": [20, 30]}])
    difference = np.abs(pipeline(full).voxels.astype(int) - pipeline(reduced).voxels)
    assert difference.mean() < MEAN_LEVELS
    assert difference.max() <= MOST_LEVELS


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize("side", [32, 64, 96])
@pytest.mark.parametrize("more", [{}, {"keep_aspect": True}], ids=["", "keep_aspect"])
def test_a_reduced_photograph_is_nearly_the_same_after_the_resize(path, side, more):
    difference = differences(path, side, **more)
    assert difference.mean() < MEAN_LEVELS
    assert difference.max() <= MOST_LEVELS


@pytest.mark.shared
def test_reduced_chest_x_rays_are_nearly_the_same_after_the_resize(shared_data):
    paths = [
        path for path in sorted((shared_data / "chestxray").rglob("*.jpeg")) if min(by_pillow(path).shape[1:]) > 900
    ]
    assert paths
    for path in paths[:8]:
        difference = differences(path, 224)
        assert difference.mean() < MEAN_LEVELS
        assert difference.max() <= MOST_LEVELS


sides = st.integers(1, 5000)


@given(st.tuples(sides, sides), st.tuples(sides, sides), st.integers(1, 8))
def test_never_less_is_left_than_was_asked_for(size, least, orientation):
    factor = reduction(size, orientation, least)
    applied = applied_reduction(size, orientation, factor)
    if factor > 1:
        assert all(end - begin >= wanted for (begin, end), wanted in zip(applied.params["box"], least, strict=True))
    assert sorted(applied.params["grid"][1:]) == sorted(reduced_size(size, factor))
    image = Image(np.broadcast_to(np.uint8(0), (1, *applied.params["grid"])), history=(applied,))
    for (begin, end), n in zip(picture_box(image), image.grid, strict=True):
        assert 0 <= begin < end <= n
        assert end - begin > n - 1
        assert begin == 0 or end == n


def test_a_mask_is_never_reduced(tmp_path):
    path = save(tmp_path / "a.jpg", Pillow.new("L", (160, 120), 1))
    assert read_mask(path).grid == (1, 120, 160)


def test_what_libjpeg_complains_about_is_left_to_pillow(tmp_path):
    path = save(tmp_path / "a.jpg", photograph(60, 80))
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"surplus" + content[-2:])
    np.testing.assert_array_equal(read(path).voxels[:, 0], by_pillow(path))
    assert read(path, "", ReadOptions(jpeg_least_px=(10, 10))).grid == (1, 60, 80)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptFile, match="truncated"):
        read(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("least_px", [None, (8, 8)])
def test_mutated_files_are_read_as_pillow_reads_them_or_refused(how, least_px, tmp_path):
    whole = save(tmp_path / "a.jpg", photograph(40, 56), **how).read_bytes()
    draw, path, outcomes = random.Random(5), tmp_path / "b.jpg", {"same": 0, "refused": 0}
    for _ in range(250):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            content[draw.randrange(2, len(content))] = draw.randrange(256)
        path.write_bytes(content[: draw.randint(3, len(content))] if draw.random() < 0.2 else content)
        try:
            found = read(path, "", ReadOptions(jpeg_least_px=least_px))
        except MedrailError:
            outcomes["refused"] += 1
            continue
        with Pillow.open(io.BytesIO(path.read_bytes())) as picture:
            picture.load()  # what Pillow refuses is refused
        if least_px is None:
            np.testing.assert_array_equal(found.voxels[:, 0], by_pillow(path))
        outcomes["same"] += 1
    assert min(outcomes.values()) > 20, outcomes
