"""Orient, resample, resize, crops: every voxel stays where it was in the patient, and ITK agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from medrail.errors import GeometryError, PrepareError
from medrail.prepare.pipeline import Pipeline
from medrail.types import Geometry, Image


def ramp(image: Image, world) -> Image:
    """The same grid with the value of a linear function of the position in the patient."""
    return replace(image, voxels=(world(image) @ [1.0, -2.0, 0.5])[None].astype(np.float32))


SPATIAL = [
    {"kind": "orient", "axes": "ASR"},
    {"kind": "resample", "spacing_mm": [2.3, 1.0, 0.45], "antialias": False},
    {"kind": "resize", "size": [7, 5, 23], "antialias": False},
    {"kind": "resize", "size": [20, 20], "keep_aspect": True},
    {"kind": "crop_pad", "size": [3, 9, 8]},
    {"kind": "crop_foreground", "threshold": 100, "margin_mm": 1.0},
    {"kind": "crop_roi", "margin_mm": 0.8},
]


@pytest.mark.parametrize("step", SPATIAL, ids=lambda s: s["kind"])
def test_geometry_law(step, volume, roi, world):
    """Values that say where they are in the patient still say so afterwards."""
    pipeline = Pipeline.from_dict([step])
    history = pipeline(volume, roi).history
    moved = pipeline.steps[0].apply(ramp(volume, world), history[0].params)
    expected = world(moved) @ [1.0, -2.0, 0.5]
    index = np.linalg.solve(volume.geometry.affine_ras_mm, np.insert(world(moved), 3, 1, axis=-1)[..., None])[..., 0]
    inside = ((index[..., :3] > -1e-6) & (index[..., :3] < np.array(volume.grid) - 1 + 1e-6)).all(axis=-1)
    assert inside.sum() > 20
    np.testing.assert_allclose(moved.voxels[0][inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("step", SPATIAL, ids=lambda s: s["kind"])
def test_spacing_is_the_distance_of_neighbours(step, volume, roi, world):
    moved = Pipeline.from_dict([step])(volume, roi)
    for axis, spacing_mm in enumerate(moved.geometry.spacing_mm):
        distance_mm = np.linalg.norm(np.diff(world(moved), axis=axis), axis=-1)
        np.testing.assert_allclose(distance_mm, spacing_mm, atol=1e-9)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAL", "PIR", "ILA"])
def test_orient_judged_by_itk(axes, volume, to_itk, from_itk):
    got = Pipeline.from_dict([{"kind": "orient", "axes": axes}])(volume)
    judge = from_itk(SimpleITK.DICOMOrient(to_itk(volume), axes))
    assert np.array_equal(got.voxels, judge.voxels)
    assert got.geometry.is_close(judge.geometry, 1e-6)
    assert "".join(reversed(got.geometry.axis_codes)) == axes


def test_orient_keeps_integers_and_the_picture_without_geometry():
    picture = Image(np.arange(12, dtype=np.uint8).reshape(1, 1, 3, 4), unit="uint8")
    got = Pipeline.from_dict([{"kind": "orient"}])(picture)
    assert got.voxels.dtype == np.uint8
    assert np.array_equal(got.voxels, picture.voxels)


def usual_script(itk: SimpleITK.Image, spacing_mm: tuple[float, ...]) -> SimpleITK.Image:
    size = [round(n * old / new) for n, old, new in zip(itk.GetSize(), itk.GetSpacing(), spacing_mm, strict=True)]
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetSize(size)
    resampler.SetOutputSpacing(spacing_mm)
    resampler.SetOutputOrigin(itk.GetOrigin())
    resampler.SetOutputDirection(itk.GetDirection())
    resampler.SetInterpolator(SimpleITK.sitkLinear)
    resampler.UseNearestNeighborExtrapolatorOn()
    return resampler.Execute(itk)


@pytest.mark.parametrize("spacing_mm", [(3.0, 1.0, 1.0), (2.0, 0.35, 0.3), (7.5, 2.0, 3.1), (5.0, 0.7, 0.9)])
def test_resample_judged_by_itk(spacing_mm, volume, to_itk, from_itk):
    noisy = volume.with_voxels(np.random.default_rng(0).normal(size=volume.voxels.shape).astype(np.float32))
    step = {"kind": "resample", "spacing_mm": list(spacing_mm), "antialias": False}
    got = Pipeline.from_dict([step])(noisy)
    judge = from_itk(usual_script(to_itk(noisy), spacing_mm[::-1]))
    assert got.grid == judge.grid
    assert got.geometry.is_close(judge.geometry, 1e-6)
    # ITK's extrapolator takes the nearest voxel in all axes at once beyond the last one; compare where it interpolates.
    pairs = zip(noisy.grid, (5.0, 0.7, 0.9), spacing_mm, strict=True)
    last = [int((n - 1) * old / new + 1e-6) + 1 for n, old, new in pairs]
    box = (0, *(slice(None, n) for n in last))
    np.testing.assert_allclose(got.voxels[box], judge.voxels[box], atol=1e-4)


def test_antialias_is_the_default_and_uses_every_voxel(volume):
    """A checkerboard of single columns shrinks to its mean, not to one of its two values."""
    stripes = volume.with_voxels(np.broadcast_to(np.arange(11) % 2, volume.voxels.shape).astype(np.float32))
    smooth = Pipeline.from_dict([{"kind": "resample", "spacing_mm": [5.0, 0.7, 3.6]}])(stripes)
    aliased = Pipeline.from_dict([{"kind": "resample", "spacing_mm": [5.0, 0.7, 3.6], "antialias": False}])(stripes)
    assert abs(smooth.voxels[..., 1] - 0.5).max() < 0.1
    assert set(np.unique(aliased.voxels[..., :2].round(3))) <= {0.0, 1.0}


def test_resample_of_a_single_slice_keeps_it(oblique):
    slice_ = Image(np.ones((1, 1, 8, 9), np.float32), oblique)
    got = Pipeline.from_dict([{"kind": "resample", "spacing_mm": 1.4}])(slice_)
    assert got.grid == (1, 4, 6)
    assert got.geometry.spacing_mm == pytest.approx((5.0, 1.4, 1.4))


def test_resample_size_does_not_hang_on_the_last_digit():
    for spacing_mm in (0.9, float(np.float32(0.9))):
        image = Image(np.zeros((1, 3, 3, 5), np.float32), Geometry.from_spacing((1.0, 1.0, spacing_mm)))
        assert Pipeline.from_dict([{"kind": "resample", "spacing_mm": 1}])(image).grid == (3, 3, 4)


def test_resample_of_a_picture_names_the_remedy():
    with pytest.raises(PrepareError, match=r"cat\.png, step 1 \(resample\).*no geometry.*`resize`"):
        Pipeline.from_dict([{"kind": "resample", "spacing_mm": 1}])(Image(np.ones((1, 1, 4, 4)), source="cat.png"))


def test_keep_aspect_pads_around_the_centre():
    wide = Image(np.full((1, 1, 10, 40), 9, np.float32))
    step = {"kind": "resize", "size": [20, 20], "keep_aspect": True, "pad_value": -1}
    got = Pipeline.from_dict([step])(wide).voxels[0, 0]
    assert (got[:8] == -1).all()
    assert (got[8:13] == 9).all()
    assert (got[13:] == -1).all()


@pytest.mark.parametrize("sizes", [(16, 12, 11), (12, 13, 11), (14, 13, 11), (12, 11), (20, 11)])
def test_padding_and_cutting_back_loses_nothing(sizes, volume):
    steps = [{"kind": "crop_pad", "size": [7, n]} for n in sizes]
    assert np.array_equal(Pipeline.from_dict(steps)(volume).voxels, volume.voxels)


def test_probabilities_on_a_finer_grid_come_back_as_their_mean(volume):
    """An answer that alternates on the enlarged grid is one half on the raw one: no voxel is skipped on the way."""
    pipeline = Pipeline.from_dict([{"kind": "resize", "size": [7, 44]}])
    prepared = pipeline(volume)
    answer = np.broadcast_to(np.tile(np.float32([1, 0, 0, 1]), 11), (1, 5, 7, 44))
    back = pipeline.invert(prepared.with_voxels(answer), prepared.history).voxels
    np.testing.assert_allclose(back[..., 1:-1], 0.5, atol=0.01)


def test_crop_foreground_finds_the_box_and_the_margin(oblique):
    voxels = np.zeros((1, 5, 7, 11), np.float32)
    voxels[0, 2, 3:5, 4:8] = 50
    image = Image(voxels, oblique)
    assert Pipeline.from_dict([{"kind": "crop_foreground"}])(image).grid == (1, 2, 4)
    grown = Pipeline.from_dict([{"kind": "crop_foreground", "threshold": 10, "margin_mm": 1.4, "margin_px": 1}])(image)
    assert grown.grid == (5, 7, 10)  # 2, 3 and 3 voxels on each side, within 5 x 7 x 11


def test_crops_name_what_is_missing(volume, roi):
    for step, words in (
        ({"kind": "crop_foreground", "threshold": 1e6}, "no voxel is above.*Lower"),
        ({"kind": "crop_roi"}, "no region-of-interest mask.*crop_foreground"),
    ):
        with pytest.raises(PrepareError, match=words):
            Pipeline.from_dict([step])(volume)
    with pytest.raises(PrepareError, match="mask is empty"):
        Pipeline.from_dict([{"kind": "crop_roi"}])(volume, roi.with_voxels(np.zeros_like(roi.voxels)))
    with pytest.raises(PrepareError, match="margin_px"):
        Pipeline.from_dict([{"kind": "crop_foreground", "threshold": 1, "margin_mm": 2}])(Image(volume.voxels))


def test_roi_goes_through_the_steps_before_the_crop(volume, roi):
    steps = [{"kind": "orient", "axes": "RAS"}, {"kind": "crop_pad", "size": [7, 9, 13]}, {"kind": "crop_roi"}]
    got = Pipeline.from_dict(steps)(volume, roi)
    assert got.grid == (3, 3, 6)
    assert sorted(got.voxels.ravel()) == sorted(volume.voxels[roi.voxels > 0])


def test_roi_in_another_place_is_refused(volume, roi):
    pipeline = Pipeline.from_dict([{"kind": "crop_roi"}])
    shifted = np.array(roi.geometry.affine_ras_mm)
    shifted[0, 3] += 5
    with pytest.raises(GeometryError, match="region of interest has its image's size but lies elsewhere"):
        pipeline(volume, Image(roi.voxels, Geometry(shifted), unit="label"))
    with pytest.raises(GeometryError, match="5 x 7 x 10"):
        pipeline(volume, Image(roi.voxels[..., :10], unit="label"))


def test_crop_pad_takes_its_value_and_the_smallest(volume):
    padded = Pipeline.from_dict([{"kind": "crop_pad", "size": [5, 7, 13], "pad_value": -1000}])(volume)
    assert (padded.voxels[..., [0, -1]] == -1000).all()
    smallest = Pipeline.from_dict([{"kind": "crop_pad", "size": [9, 13], "pad_value": "min"}])(volume)
    assert smallest.voxels[0, 0, 0, 0] == volume.voxels.min()
    integers = volume.with_voxels(volume.voxels.astype(np.int16))
    assert Pipeline.from_dict([{"kind": "crop_pad", "size": [9, 13]}])(integers).voxels.dtype == np.int16
    unfit = Pipeline.from_dict([{"kind": "crop_pad", "size": [9, 13], "pad_value": 0.5}])(integers)
    assert unfit.voxels.dtype == np.float32
    assert unfit.voxels.min() == 0
