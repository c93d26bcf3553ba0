"""One pass over the slices: the same numbers compiled and by numpy, fused and step by step."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.prepare import kernels
from medrail.prepare.fused import fuse
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.resampling import linear_taps, resample_reference
from medrail.prepare.sampling import (
    Line,
    Sampling,
    _sample_compiled,
    _sample_with_numpy,
    as_halves,
)
from medrail.read import Slice
from medrail.types import Geometry, Image

AXIS = st.tuples(st.integers(1, 9), st.integers(1, 12), st.floats(0.2, 4), st.floats(-0.5, 0.5), st.booleans())
LINES = st.sampled_from([Line(), Line(30.0, 1 / 80, 0.0, 1.0), Line(-3.5, 0.7)])


def taps_of(axes):
    return tuple(
        linear_taps(np.arange(m) * scale + offset, n, max(1, scale) if widen else 1)
        for n, m, scale, offset, widen in axes
    )


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(AXIS, AXIS, AXIS),
    st.sampled_from(["float32", "int16", "uint8"]),
    LINES,
    LINES,
    st.sampled_from(["float32", "float16", "uint8"]),
)
def test_compiled_and_numpy_give_the_same_numbers(axes, dtype, before, after, kind):
    voxels = np.random.default_rng(0).integers(0, 255, [axis[0] for axis in axes]).astype(dtype)
    if kind == "uint8":
        before, after = Line(), Line(0, 1, 0, 255)
    sampling = Sampling(taps_of(axes), before, after, kind)
    results = []
    for way in (lambda *a: _sample_compiled(kernels, *a), _sample_with_numpy):
        out = np.empty(sampling.grid, kind)
        way((Slice(d, voxels[d], 7.0 if dtype == "int16" else 0.0) for d in sampling.needed), sampling, out)
        results.append(out)
    assert np.array_equal(*results)
    if kind == "float32":
        shifted = voxels.astype(np.float32) + (7 if dtype == "int16" else 0)
        judge = after(resample_reference(before(shifted)[None], sampling.taps)[0])
        np.testing.assert_allclose(results[0], judge, atol=2e-3 * max(1.0, after.multiply))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.floats(-65504, 65504, width=32), min_size=1, max_size=50))
def test_halves_are_those_of_numpy(numbers):
    values = np.array(numbers, np.float32)
    out = np.empty(len(values), np.uint16)
    kernels.halves(values, out)
    assert np.array_equal(out, values.astype(np.float16).view(np.uint16))


def test_every_half_and_the_middle_between_two():
    halves = np.arange(0x7BFF, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.concatenate([halves, (halves[1:] + halves[:-1]) / 2, -halves])
    out = np.empty(len(values), np.uint16)
    kernels.halves(values, out)
    assert np.array_equal(out, values.astype(np.float16).view(np.uint16))


GEOMETRIES = {
    "LPS": np.diag([1.0, 1.0, 1.0]),
    "turned over": np.diag([-1.0, 1.0, 1.0]),
}
WINDOW = {"kind": "window", "center_hu": 60, "width_hu": 180}
STEPS = [
    [{"kind": "orient"}, WINDOW, {"kind": "resample", "spacing_mm": [4, 1.4, 1.4]}, {"kind": "round"}],
    [{"kind": "orient"}, {"kind": "resample", "spacing_mm": [2, 1, 1]}, WINDOW, {"kind": "round"}],
    [WINDOW, {"kind": "resize", "size": [9, 4, 5], "antialias": False}, {"kind": "normalise"}],
    [{"kind": "resize", "size": [3, 9, 9]}, {"kind": "resample", "spacing_mm": 2}, {"kind": "round", "to": "float16"}],
    [WINDOW, {"kind": "normalise", "method": "custom", "mean": 0.2, "std": 0.4}, {"kind": "resize", "size": [4, 5, 6]}],
    [{"kind": "resize", "size": [5, 5]}, {"kind": "normalise", "method": "custom", "mean": 9, "std": 4}, WINDOW],
    [{"kind": "resize", "size": [5, 5, 5], "keep_aspect": True}, WINDOW],
    [{"kind": "resize", "size": [5, 5]}, {"kind": "clip_percentile"}, {"kind": "round", "to": "float16"}],
]


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "+".join(step["kind"] for step in steps))
@pytest.mark.parametrize("axes", GEOMETRIES)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_fused_equals_step_by_step(steps, axes, dtype):
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag([-0.9, -0.7, 5.0])) @ GEOMETRIES[axes]
    voxels = np.random.default_rng(3).integers(-100, 300, (1, 5, 7, 11)).astype(dtype)
    image = Image(voxels, Geometry(affine), unit="HU", source="made")
    pipeline = Pipeline.from_dict(steps)
    expected, applied = image, []
    for step in pipeline.steps:
        params = step.params(expected)
        expected = step.apply(expected, params)
        applied.append((step.kind, params))
    got = pipeline.compact(image)
    assert np.array_equal(got.image.voxels, expected.voxels)
    assert got.image.voxels.dtype == expected.voxels.dtype
    assert got.image.geometry.is_close(expected.geometry)
    assert got.image.unit == expected.unit
    assert [(one.step, dict(one.params)) for one in got.image.history] == applied


def test_what_is_fused():
    """So that the test above does not compare the step by step way with itself."""
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag([-0.9, -0.7, 5.0]))
    image = Image(np.zeros((1, 5, 7, 11), np.int16), Geometry(affine), unit="HU")
    counts = [len(found.applied) if (found := fuse(Pipeline.from_dict(s).steps, image)) else 0 for s in STEPS]
    assert counts == [4, 4, 2, 1, 0, 2, 0, 1]


def test_an_image_that_must_be_turned_is_not_fused():
    affine = np.eye(4)  # D to Right
    image = Image(np.zeros((1, 5, 7, 11), np.int16), Geometry(affine), unit="HU")
    assert fuse(Pipeline.from_dict(STEPS[0]).steps, image) is None


@pytest.mark.parametrize("unit", ["uint8", "uint16"])
def test_pictures_stay_whole_until_a_line_and_are_kept_so(unit):
    voxels = np.random.default_rng(0).integers(0, 255, (3, 1, 30, 40)).astype(unit)
    steps = [{"kind": "resize", "size": [12, 14]}, {"kind": "normalise", "method": "imagenet"}]
    found = Pipeline.from_dict(steps).compact(Image(voxels, unit=unit))
    assert found.image.voxels.dtype == np.dtype(unit)
    assert len(found.lines) == 3
    whole = Pipeline.from_dict(steps[:1])(Image(voxels, unit=unit))
    by_itself = Pipeline.from_dict(steps[1:])(whole)
    assert np.array_equal(found.decoded().voxels, by_itself.voxels)


def test_rounding_to_256_steps():
    voxels = np.random.default_rng(0).uniform(0, 1, (1, 3, 4, 5)).astype(np.float32)
    found = Pipeline.from_dict([{"kind": "round", "to": "uint8"}]).compact(Image(voxels))
    assert found.image.voxels.dtype == np.uint8
    decoded = found.decoded().voxels
    assert np.abs(decoded - voxels).max() <= 0.5 / 255 + 1e-6
    step = Pipeline.from_dict([{"kind": "round", "to": "uint8"}]).steps[0]
    assert np.array_equal(decoded, step.apply(Image(voxels), step.params(Image(voxels))).voxels)


def test_what_does_not_fit_into_halves_stays():
    voxels = np.array([1.5, 70000.0], np.float32).reshape(1, 1, 1, 2)
    assert Pipeline.from_dict([{"kind": "round"}]).compact(Image(voxels)).image.voxels.dtype == np.float32


def test_halves_of_an_array_are_numpys_casts(monkeypatch):
    values = np.random.default_rng(0).normal(0, 3000, (2, 3, 40, 50)).astype(np.float32)
    assert np.array_equal(as_halves(values), values.astype(np.float16))
    assert np.array_equal(as_halves(values[:, :, ::2]), values[:, :, ::2].astype(np.float16))
    monkeypatch.delitem(sys.modules, "medrail.prepare.kernels")
    assert np.array_equal(as_halves(values), values.astype(np.float16))


@pytest.mark.parametrize("kind", ["float16", "float32", "uint8"])
@pytest.mark.parametrize("depth", [4, 6])
def test_nothing_to_do_along_the_depth(kind, depth):
    voxels = np.random.default_rng(0).integers(0, 255, (6, 9, 8)).astype(np.int16)
    taps = (linear_taps(np.arange(float(depth)), 6), *taps_of([(9, 7, 1.3, 0.1, True), (8, 11, 0.7, -0.2, False)]))
    after = Line(20, 1 / 300, 0, 1) if kind != "uint8" else Line(0, 1, 0, 255)
    sampling, results = Sampling(taps, after=after, kind=kind), []
    for way in (lambda *a: _sample_compiled(kernels, *a), _sample_with_numpy):
        out = np.empty(sampling.grid, kind)
        way((Slice(d, voxels[d], 0.0) for d in sampling.needed), sampling, out)
        results.append(out)
    assert np.array_equal(*results)
