"""What every reader owes: the law of geometry, the voxels, and the kinds of errors."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import CorruptFile, MedrailError, ReadError
from medrail.read import READERS, read, sniff
from medrail.types import Geometry, Image

IN_SPACE = ("dicom", "nifti", "metaimage", "nrrd")
PICTURES = ("png", "jpeg", "tiff", "bmp")


def positions_ras_mm(image: Image) -> np.ndarray:
    """(D, H, W, 3): where each voxel lies."""
    assert image.geometry is not None
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in image.grid), indexing="ij"), axis=-1)
    affine = image.geometry.affine_ras_mm
    return indices @ affine[:3, :3].T + affine[:3, 3]


def test_every_reader_is_under_contract(writers):
    assert set(writers) == set(READERS)
    assert set(IN_SPACE) | set(PICTURES) | {"npz", "slide"} == set(READERS)


@pytest.mark.parametrize("kind", IN_SPACE)
def test_neighbours_are_as_far_apart_as_the_spacing_says(kind, writers, anisotropic_image, tmp_path):
    image = read(*writers[kind](anisotropic_image, tmp_path))
    where = positions_ras_mm(image)
    for axis, expected_mm in enumerate((5.0, 0.7, 0.9)):
        distances = np.linalg.norm(np.diff(where, axis=axis), axis=-1)
        np.testing.assert_allclose(distances, expected_mm, atol=1e-5)
        assert image.geometry.spacing_mm[axis] == pytest.approx(expected_mm, abs=1e-6)


@pytest.mark.parametrize("kind", IN_SPACE)
def test_every_voxel_keeps_its_value_and_its_place(kind, writers, anisotropic_image, tmp_path):
    image = read(*writers[kind](anisotropic_image, tmp_path))
    assert image.grid == (5, 7, 11)
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)
    np.testing.assert_allclose(positions_ras_mm(image), positions_ras_mm(anisotropic_image), atol=2e-4)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_have_rows_and_columns_and_no_space(kind, writers, tmp_path):
    rows, columns = np.mgrid[0:7, 0:11]
    picture = Image((20 * rows + 3 * columns).astype(np.uint8)[None, None])
    path, item = writers[kind](picture, tmp_path)
    image = read(path, item)
    assert image.geometry is None
    assert image.unit == "uint8"
    assert image.voxels.shape == (1, 1, 7, 11)
    assert np.abs(image.voxels.astype(int) - picture.voxels).max() <= (3 if kind == "jpeg" else 0)


def test_npz_member_has_its_axes(writers, anisotropic_image, tmp_path):
    image = read(*writers["npz"](anisotropic_image, tmp_path))
    assert image.geometry is None
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_the_format_is_told_by_content_not_by_name(kind, writers, anisotropic_image, tmp_path):
    image = anisotropic_image
    if kind in PICTURES:
        image = Image(np.arange(77, dtype=np.uint8).reshape(1, 1, 7, 11))
    path, item = writers[kind](image, tmp_path)
    if path.is_dir():
        path = next(path.iterdir())
    renamed = path.rename(tmp_path / "image.of-some-kind")
    assert sniff(renamed) == kind
    assert read(renamed, item).voxels.size


@settings(max_examples=15, deadline=None)
@given(
    kind=st.sampled_from(IN_SPACE),
    shape=st.tuples(*[st.integers(2, 5)] * 3).filter(lambda s: len(set(s)) == 3),
    spacing_mm=st.tuples(*[st.floats(0.2, 8).map(lambda x: round(x, 3))] * 3),
    seed=st.integers(0, 10_000),
)
def test_any_grid_survives(writers, kind, shape, spacing_mm, seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation[:, 0] *= np.sign(np.linalg.det(rotation))
    # D must be row direction x column direction for DICOM to give the slices back in the same order: in LPS and in RAS
    # alike, (W, H, D) is right-handed, so (D, H, W) has determinant -1.
    rotation[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array(spacing_mm)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    image = Image(rng.integers(-1000, 2000, (1, *shape)).astype(np.int16), Geometry(affine))
    with tempfile.TemporaryDirectory() as folder:
        back = read(*writers[kind](image, Path(folder)))
    np.testing.assert_array_equal(back.voxels, image.voxels)
    np.testing.assert_allclose(positions_ras_mm(back), positions_ras_mm(image), atol=1e-3)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_a_truncated_file_is_refused_by_name(kind, writers, anisotropic_image, tmp_path):
    image = anisotropic_image
    if kind in PICTURES:
        image = Image(np.random.default_rng(0).integers(0, 255, (1, 1, 60, 40)).astype(np.uint8))
    path, item = writers[kind](image, tmp_path)
    if path.is_dir():
        path = next(path.iterdir())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.8)])
    with pytest.raises(ReadError) as caught:
        read(path, item)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("kind", sorted(READERS))
@pytest.mark.parametrize("way", ["cut", "flip", "noise"])
def test_a_damaged_file_never_raises_anything_else(kind, way, writers, anisotropic_image, tmp_path):
    image = anisotropic_image
    if kind in PICTURES:
        image = Image(np.random.default_rng(0).integers(0, 255, (1, 1, 9, 13)).astype(np.uint8))
    path, item = writers[kind](image, tmp_path)
    if path.is_dir():
        path = next(path.iterdir())
    content = path.read_bytes()
    rng = np.random.default_rng(len(kind))
    refusals = []
    for _ in range(60):
        damaged = bytearray(content)
        if way == "cut":
            damaged = damaged[: rng.integers(0, len(damaged))]
        elif way == "flip":
            for at in rng.integers(0, min(len(damaged), 600), 4):
                damaged[at] ^= 1 << rng.integers(0, 8)
        else:
            start = int(rng.integers(0, len(damaged)))
            damaged[start : start + 16] = rng.bytes(16)
        path.write_bytes(damaged)
        try:
            image = read(path, item)
        except MedrailError as error:
            refusals.append(error)
        else:
            assert image.voxels.size
    assert all(error.found and str(path) in error.where for error in refusals)
    assert way != "cut" or refusals


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReadError, match="no such file"):
        read(tmp_path / "nowhere.nii.gz")


def test_an_item_makes_no_sense_for_a_single_image(writers, anisotropic_image, tmp_path):
    path, _ = writers["nifti"](anisotropic_image, tmp_path)
    with pytest.raises(ReadError, match="has no items"):
        read(path, "something")


def test_errors_of_threads_do_not_disturb_each_other(writers, anisotropic_image, tmp_path):
    import warnings
    from concurrent.futures import ThreadPoolExecutor

    path, _ = writers["nifti"](anisotropic_image, tmp_path)
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"")

    def work(n: int) -> bool:
        if n % 2:
            return read(path).voxels.size == 385
        try:
            read(broken)
        except CorruptFile:
            return True
        return False

    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(64)))
    assert warnings.filters == before


def test_decoders_are_loaded_with_the_first_image_that_needs_them():
    slow = {"imagecodecs", "tifffile", "nibabel", "cv2", "openslide", "dicomanonymizer", "torch"}
    code = f"import sys, medrail.read; print(sorted({slow!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
