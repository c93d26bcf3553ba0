"""What on_defect: resample and accept make of broken series, against what is known analytically."""

from __future__ import annotations

import numpy as np
import pytest

from faults import FAULTS, good_series, voxels_of, write_files
from medrail.errors import MedrailError
from medrail.read import read, series_in
from medrail.types import ReadOptions

RESAMPLE, ACCEPT = ReadOptions(on_defect="resample"), ReadOptions(on_defect="accept")
SEEDS = range(12)


def linear_hu(points_ras_mm):
    """A field that linear interpolation reproduces exactly, up to the rounding to whole HU."""
    x, y, z = np.moveaxis(points_ras_mm, -1, 0)
    return 300 + 3.0 * x - 2.0 * y + 4.0 * z


def world(affine, grid):
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), axis=-1)
    return index @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def fill(slices):
    """Give each slice the field's values at its own place: the truth is known everywhere."""
    for dataset in slices:
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            continue
        axes = np.array(dataset.ImageOrientationPatient, float)
        rows_mm, columns_mm = map(float, dataset.PixelSpacing)
        h, w = np.meshgrid(np.arange(dataset.Rows), np.arange(dataset.Columns), indexing="ij")
        lps = np.array(dataset.ImagePositionPatient, float) + h[..., None] * rows_mm * axes[3:]
        lps = lps + w[..., None] * columns_mm * axes[:3]
        dataset.PixelData = np.rint(linear_hu(lps * [-1, -1, 1]) + 1024).astype("<i2").tobytes()
    return slices


def read_broken(name, seed, tmp_path, options, filled=True):
    rng = np.random.default_rng(seed)
    slices = good_series(rng)
    fault = FAULTS[name](slices, rng)
    folder = write_files(fill(fault.slices) if filled else fault.slices, tmp_path / "series", rng, kept=fault.kept)
    series = series_in(folder, options)
    return slices, fault, series, lambda: read(folder, options=options)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["gantry_tilt", "shifted_slice"])
def test_a_leaning_stack_is_put_upright(name, seed, tmp_path):
    """A field that is linear in space is the same after the shear is undone, wherever a slice covers the grid."""
    slices, fault, (series,), call = read_broken(name, seed, tmp_path, RESAMPLE)
    image = call()
    assert series.verdict == "accepted"
    assert [defect.name for defect in image.defects] == [fault.defect]
    assert image.voxels.shape == series.shape
    direction = image.geometry.direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    truth = linear_hu(world(image.geometry.affine_ras_mm, image.grid))
    lowest = image.voxels.min()
    covered = image.voxels[0] != lowest
    # One row and column of each slice may lie outside after a shift by a fraction of a pixel.
    rows, columns = slices[0].Rows - 1, slices[0].Columns - 1
    assert covered.sum() >= len(slices) * rows * columns - 1
    assert np.abs(image.voxels[0] - truth)[covered].max() <= 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tilted_ball_is_round_again(seed, tmp_path):
    """The centre of mass of a ball lies where it was put, which a wrong sign or axis of the shear would move."""
    rng = np.random.default_rng(seed)
    slices = good_series(rng)
    for dataset in slices:
        dataset.Rows, dataset.Columns = 40, 50
    fault = FAULTS["gantry_tilt"](slices, rng)
    middle = fault.slices[len(slices) // 2]
    axes = np.array(middle.ImageOrientationPatient, float)
    spacing = np.array(middle.PixelSpacing, float)
    centre = np.array(middle.ImagePositionPatient, float) + middle.Rows / 2 * spacing[0] * axes[3:]
    centre = centre + middle.Columns / 2 * spacing[1] * axes[:3]
    for dataset in fault.slices:
        h, w = np.meshgrid(np.arange(dataset.Rows), np.arange(dataset.Columns), indexing="ij")
        lps = np.array(dataset.ImagePositionPatient, float) + h[..., None] * spacing[0] * axes[3:]
        lps = lps + w[..., None] * spacing[1] * axes[:3]
        weight = 1000 * np.exp(-(((lps - centre) / 2.5) ** 2).sum(axis=-1))
        dataset.PixelData = np.rint(weight).astype("<i2").tobytes()
    image = read(write_files(fault.slices, tmp_path / "series", rng), options=RESAMPLE)
    weights = image.voxels[0] - image.voxels.min()
    found = np.average(world(image.geometry.affine_ras_mm, image.grid).reshape(-1, 3), axis=0, weights=weights.ravel())
    np.testing.assert_allclose(found * [-1, -1, 1], centre, atol=0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["missing_slices", "uneven_moved", "uneven_regions"])
def test_slices_are_interpolated_onto_an_even_grid(name, seed, tmp_path):
    slices, fault, (series,), call = read_broken(name, seed, tmp_path, RESAMPLE)
    image = call()
    assert image.voxels.shape == series.shape
    assert [defect.name for defect in image.defects] == [fault.defect]
    assert "interpolated" in image.defects[0].action
    truth = linear_hu(world(image.geometry.affine_ras_mm, image.grid))
    # Positions are rounded to 0.01 mm at worst, and so is the field by at most 0.1 HU; the rest is rounding to HU.
    assert np.abs(image.voxels[0] - truth).max() <= 1.5
    if name == "missing_slices":
        assert image.grid[0] == len(slices)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tilted_stack_is_accepted_with_its_own_affine(seed, tmp_path):
    slices, _, (series,), call = read_broken("gantry_tilt", seed, tmp_path, ACCEPT, filled=False)
    image = call()
    np.testing.assert_array_equal(image.voxels[0], voxels_of(slices))
    assert series.verdict == "accepted"
    assert "sheared" in image.defects[0].action


@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_are_accepted_with_the_median_step(seed, tmp_path):
    slices, _, (series,), call = read_broken("missing_slices", seed, tmp_path, ACCEPT, filled=False)
    image = call()
    assert image.grid[0] < len(slices)
    assert "median" in image.defects[0].action
    np.testing.assert_allclose(image.geometry.affine_ras_mm, series.affine_ras_mm)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["duplicate_identical", "duplicate_renumbered"])
def test_equal_copies_are_dropped(name, seed, tmp_path):
    slices, _, (series,), call = read_broken(name, seed, tmp_path, RESAMPLE, filled=False)
    np.testing.assert_array_equal(call().voxels[0], voxels_of(slices))
    assert series.shape[1] == len(slices)


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_with_other_pixels_stay_refused(seed, tmp_path):
    slices, fault, _, call = read_broken("duplicate_different", seed, tmp_path, RESAMPLE, filled=False)
    with pytest.raises(MedrailError, match=r"duplicate slices: 2 slices .* differ"):
        call()
    # To choose one of them, slice by slice, could mix contrasts in one volume.
    with pytest.raises(MedrailError, match=r"duplicate slices: 2 slices .* differ"):
        read(write_files(fault.slices, tmp_path / "a", np.random.default_rng(1)), options=ACCEPT)
    assert len(fault.slices) > len(slices)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["truncated", "undecodable"])
def test_a_lost_slice_is_a_missing_slice(name, seed, tmp_path):
    slices, fault, (series,), call = read_broken(name, seed, tmp_path, RESAMPLE)
    image = call()
    assert fault.defect in {defect.name for defect in image.defects}
    assert image.grid[0] in (len(slices), len(slices) - 1, len(slices) - 2)
    truth = linear_hu(world(image.geometry.affine_ras_mm, image.grid))
    assert np.abs(image.voxels[0] - truth).max() <= 1.5
    assert series.item


@pytest.mark.parametrize("seed", SEEDS)
def test_a_localiser_is_set_apart(seed, tmp_path):
    slices, _, series, call = read_broken("localiser", seed, tmp_path, RESAMPLE, filled=False)
    image = call()
    np.testing.assert_array_equal(image.voxels[0], voxels_of(slices))
    assert [defect.name for defect in image.defects] == ["localiser_in_series"]
    volume = max(series, key=lambda one: one.shape[1])
    assert (volume.verdict, volume.shape) == ("accepted", image.voxels.shape)
    np.testing.assert_array_equal(read(tmp_path / "series", volume.item).voxels, image.voxels)


# Refused when their pixels are seen; and what interpolation does not mend.
DIFFERENT = ("undecodable", "duplicate_different", "cine_phases")
TORN = ("mixed_patients", "mixed_image_type", "mixed_frame", "mixed_values", "mixed_reconstruction")


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in DIFFERENT])
@pytest.mark.parametrize("options", [RESAMPLE, ACCEPT], ids=["resample", "accept"])
def test_what_is_promised_is_what_is_read(name, options, tmp_path):
    """Shape, affine and unit by headers alone equal those of the image, for every part."""
    for seed in range(4):
        folder = tmp_path / str(seed)
        _, _, series, _ = read_broken(name, seed, folder, options, filled=False)
        for one in series:
            if name in TORN and options == RESAMPLE:
                assert one.verdict == "refused"
                continue
            image = read(folder / "series", one.item, options)
            if name == "truncated":
                continue  # the loss is known, its slices are not counted
            assert image.voxels.shape == one.shape
            np.testing.assert_array_equal(image.geometry.affine_ras_mm, one.affine_ras_mm)
            assert image.unit == one.unit
            assert {defect.name for defect in image.defects} == {defect.name for defect in one.defects}
