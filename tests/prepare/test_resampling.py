"""The fast resampling against its own definition, and resize against Pillow and torch."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.prepare.pipeline import Pipeline
from medrail.prepare.resampling import (
    linear_taps,
    nearest_index,
    resample_nearest,
    resample_reference,
)
from medrail.prepare.sampling import resample
from medrail.types import Geometry, Image

AXIS = st.tuples(st.integers(1, 9), st.integers(1, 12), st.floats(0.2, 4), st.floats(-0.5, 0.5), st.booleans())


@settings(deadline=None, max_examples=60)
@given(st.tuples(AXIS, AXIS, AXIS), st.sampled_from(["float32", "int16", "uint8"]), st.integers(1, 3))
def test_fast_equals_reference(axes, dtype, channels):
    shape = (channels, *(axis[0] for axis in axes))
    voxels = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    taps = tuple(
        linear_taps(np.arange(m) * scale + offset, n, max(1, scale) if widen else 1)
        for n, m, scale, offset, widen in axes
    )
    got = resample(voxels, taps)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, resample_reference(voxels, taps), atol=1e-3)


@given(st.integers(1, 20), st.lists(st.floats(-5, 30), min_size=1, max_size=9), st.floats(1, 6))
@settings(deadline=None)
def test_weights_are_a_mean(n_in, positions, support):
    taps = linear_taps(np.array(positions), n_in, support)
    assert taps.index.min() >= 0
    assert taps.index.max() < n_in
    assert (taps.weight >= 0).all()
    np.testing.assert_allclose(taps.weight.sum(axis=1), 1, atol=1e-6)


def test_identity_is_exact():
    voxels = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    taps = tuple(linear_taps(np.arange(float(n)), n) for n in voxels.shape[1:])
    assert np.array_equal(resample(voxels, taps), voxels)
    assert np.array_equal(resample_nearest(voxels, tuple(np.arange(float(n)) for n in voxels.shape[1:])), voxels)


def test_a_cut_is_not_an_identity():
    voxels = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    taps = tuple(linear_taps(np.arange(2.0), n) for n in voxels.shape[1:])
    assert np.array_equal(resample(voxels, taps), voxels[:, :2, :2, :2])


def test_nearest_ties_go_up_and_stay_inside():
    assert nearest_index(np.array([-3.0, 0.49, 0.5, 1.5, 9.0]), 3).tolist() == [0, 0, 1, 2, 2]


def test_nearest_keeps_dtype_and_values():
    voxels = np.array([0, 7, 200], np.uint8).reshape(1, 1, 1, 3)
    got = resample_nearest(voxels, (np.zeros(1), np.zeros(1), np.arange(6) / 2 - 0.25))
    assert got.dtype == np.uint8
    assert got.ravel().tolist() == [0, 0, 7, 7, 200, 200]


@pytest.mark.parametrize("size", [(224, 224), (37, 90), (300, 200), (1, 1)])
def test_resize_judged_by_torch(size):
    voxels = np.random.default_rng(1).normal(size=(3, 1, 131, 157)).astype(np.float32)
    got = Pipeline.from_dict([{"kind": "resize", "size": list(size)}])(Image(voxels)).voxels
    judge = torch.nn.functional.interpolate(
        torch.from_numpy(voxels[:, 0])[None], size=size, mode="bilinear", antialias=True, align_corners=False
    )
    np.testing.assert_allclose(got[:, 0], judge[0].numpy(), atol=1e-4)


def test_resize_without_antialias_judged_by_torch():
    voxels = np.random.default_rng(1).normal(size=(1, 6, 13, 15)).astype(np.float32)
    step = {"kind": "resize", "size": [9, 7, 31], "antialias": False}
    got = Pipeline.from_dict([step])(Image(voxels)).voxels
    judge = torch.nn.functional.interpolate(torch.from_numpy(voxels)[None], size=(9, 7, 31), mode="trilinear")
    np.testing.assert_allclose(got, judge[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("unit", ["arbitrary", "uint8"])
def test_resize_judged_by_pillow(unit):
    voxels = np.random.default_rng(1).integers(0, 256, (1, 1, 120, 95)).astype(np.uint8)
    got = Pipeline.from_dict([{"kind": "resize", "size": [40, 64]}])(Image(voxels, unit=unit)).voxels
    judge = PIL.Image.fromarray(voxels[0, 0].astype(np.float32)).resize((64, 40), PIL.Image.Resampling.BILINEAR)
    if unit == "arbitrary":
        np.testing.assert_allclose(got[0, 0], np.asarray(judge), atol=1e-3)
        return
    assert got.dtype == np.uint8
    assert np.abs(got[0, 0] - np.asarray(judge)).max() <= 0.501
    whole = PIL.Image.fromarray(voxels[0, 0]).resize((64, 40), PIL.Image.Resampling.BILINEAR)
    assert np.abs(got[0, 0].astype(int) - np.asarray(whole, int)).max() <= 1, "Pillow rounds after each of two passes"


@pytest.mark.parametrize("step", [{"kind": "resize", "size": [9, 30]}, {"kind": "resample", "spacing_mm": 1.3}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_pictures_stay_whole_numbers_rounded_to_the_nearest(step, dtype):
    most = np.iinfo(dtype).max
    voxels = np.random.default_rng(3).integers(0, most + 1, (3, 1, 21, 17)).astype(dtype)
    voxels[:, :, :9] = most  # a plain part must neither overflow nor lose its last digit
    pipeline, geometry = Pipeline.from_dict([step]), Geometry.from_spacing((1.0, 0.7, 0.9))
    fractions = pipeline(Image(voxels, geometry)).voxels
    whole = pipeline(Image(voxels, geometry, unit=dtype))
    assert (fractions.dtype, whole.voxels.dtype, whole.unit) == (np.float32, np.dtype(dtype), dtype)
    np.testing.assert_array_equal(whole.voxels, np.rint(fractions))
    assert whole.voxels.max() == most


def test_what_is_no_longer_whole_is_not_rounded():
    voxels = np.random.default_rng(3).integers(0, 256, (3, 1, 21, 17)).astype(np.uint8)
    steps = [{"kind": "clip_percentile"}, {"kind": "resize", "size": [9, 30]}]
    assert Pipeline.from_dict(steps)(Image(voxels, unit="uint8")).voxels.dtype == np.float32


def test_resize_of_labels_judged_by_torch():
    mask = np.random.default_rng(2).integers(0, 5, (1, 1, 50, 41)).astype(np.uint8)
    pipeline = Pipeline.from_dict([{"kind": "resize", "size": [33, 77]}])
    got = pipeline.replay(Image(mask, unit="label"), pipeline(Image(mask)).history).voxels
    judge = torch.nn.functional.interpolate(torch.from_numpy(mask.astype(np.float32)), (33, 77), mode="nearest-exact")
    assert np.array_equal(got, judge.numpy())
