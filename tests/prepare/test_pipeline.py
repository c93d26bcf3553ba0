"""Laws of the pipeline: as data and back, and every mask back on the raw grid."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import PrepareError
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.steps import STEPS
from medrail.types import Applied, Image

size = st.integers(3, 14)
spacing = st.floats(0.4, 6).map(lambda value: round(value, 2))
fill = st.one_of(st.just("min"), st.integers(-5, 5))
SPATIAL_LOSSLESS = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("orient")}, optional={"axes": st.sampled_from(["LPS", "RAS", "SAR", "PIL", "IRA"])}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("crop_pad"), "size": st.lists(size, min_size=2, max_size=3)},
        optional={"pad_value": fill},
    ),
)
SPATIAL_LOSSY = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("resample"), "spacing_mm": st.one_of(spacing, st.lists(spacing, min_size=3, max_size=3))},
        optional={"antialias": st.booleans()},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("resize"), "size": st.lists(size, min_size=2, max_size=3)},
        optional={"keep_aspect": st.booleans(), "antialias": st.booleans(), "pad_value": fill},
    ),
)
INTENSITY = st.one_of(
    st.just({"kind": "clip_percentile", "low": 1}),
    st.just({"kind": "normalise", "method": "custom", "mean": 3, "std": [2.5]}),
    st.just({"kind": "grey_to_rgb"}),
    st.just({"kind": "rgb_to_grey"}),
)
LAST = st.one_of(
    st.just([]),
    st.fixed_dictionaries(
        {"kind": st.just("slices"), "size": st.just([64, 64])},
        optional={"planes": st.permutations(["axial", "coronal", "sagittal"]).map(lambda planes: planes[:2])},
    ).map(lambda step: [step]),
)
LOSSLESS = st.tuples(st.lists(st.one_of(SPATIAL_LOSSLESS, INTENSITY), max_size=5), LAST).map(lambda t: t[0] + t[1])
ANY = st.tuples(st.lists(st.one_of(SPATIAL_LOSSLESS, SPATIAL_LOSSY, INTENSITY), max_size=5), LAST).map(
    lambda t: t[0] + t[1]
)


def in_yaml_order(steps, reverse):
    return [dict(sorted(step.items(), reverse=reverse)) for step in steps]


@settings(deadline=None, max_examples=80)
@given(ANY, st.booleans())
def test_as_data_and_back(steps, reverse):
    pipeline = Pipeline.from_dict(steps)
    again = Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict())))
    assert again == pipeline
    assert again.to_dict() == pipeline.to_dict()
    # the fingerprint knows neither key order, nor whether a default is spelt out, nor 1 from 1.0
    assert again.fingerprint == pipeline.fingerprint == Pipeline.from_dict(in_yaml_order(steps, reverse)).fingerprint


@settings(deadline=None, max_examples=60)
@given(ANY, ANY)
def test_fingerprint_tells_pipelines_apart(one, other):
    one, other = Pipeline.from_dict(one), Pipeline.from_dict(other)
    assert (one.fingerprint == other.fingerprint) == (one == other)


@settings(deadline=None, max_examples=100)
@given(ANY)
def test_mask_and_probabilities_land_on_the_raw_grid(volume, steps):
    pipeline = Pipeline.from_dict(steps)
    prepared = pipeline(volume)
    mask = Image((volume.voxels > 150).astype(np.uint8), volume.geometry, unit="label")
    there = pipeline.replay(mask, prepared.history)
    assert there.grid == prepared.grid
    assert there.voxels.dtype == np.uint8
    assert (there.geometry is None) == (prepared.geometry is None)
    assert there.geometry is None or there.geometry.is_close(prepared.geometry, 1e-9)
    for answer in (
        pipeline.invert(there, prepared.history, labels=True),
        pipeline.invert(prepared.with_voxels(np.ones((3, *prepared.grid), np.float32)), prepared.history),
    ):
        assert answer.grid == volume.grid
        assert np.array_equal(answer.geometry.affine_ras_mm, volume.geometry.affine_ras_mm)
        assert answer.voxels.min() >= 0
        assert answer.voxels.max() <= 1 + 1e-5


@settings(deadline=None, max_examples=80)
@given(LOSSLESS, st.integers(0, 2**32 - 1))
def test_lossless_steps_come_back_exactly(volume, steps, seed):
    """Whatever is not cut away: crops keep what lies inside."""
    pipeline = Pipeline.from_dict(steps)
    prepared = pipeline(volume)
    ones = Image(np.ones(volume.voxels.shape, np.uint8), volume.geometry, unit="label")
    seen = pipeline.invert(pipeline.replay(ones, prepared.history), prepared.history, labels=True).voxels
    assert seen.mean() > 0.02
    if not any(step["kind"] == "crop_pad" for step in steps):
        assert seen.all()
    voxels = np.random.default_rng(seed).integers(0, 4, volume.voxels.shape).astype(np.uint8) * seen
    mask = Image(voxels, volume.geometry, unit="label")
    back = pipeline.invert(pipeline.replay(mask, prepared.history), prepared.history, labels=True)
    assert np.array_equal(back.voxels, voxels)


def ball(oblique_geometry, grid=(24, 60, 50)):
    d, h, w = np.indices(grid)
    inside = ((d - 11) / 9) ** 2 + ((h - 30) / 22) ** 2 + ((w - 25) / 18) ** 2 < 1
    return Image(inside[None].astype(np.uint8), oblique_geometry, unit="label")


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize(
    "steps",
    [
        [{"kind": "resample", "spacing_mm": [4.0, 1.3, 1.3]}, {"kind": "crop_pad", "size": [40, 40]}],
        [{"kind": "orient", "axes": "SAR"}, {"kind": "resample", "spacing_mm": 1.2}],
        [{"kind": "resize", "size": [40, 40], "keep_aspect": True}],
        [
            {"kind": "resample", "spacing_mm": [3.0, 1.0, 1.0]},
            {"kind": "slices", "size": [64, 64], "planes": ["axial", "coronal", "sagittal"]},
        ],
    ],
    ids=["coarser", "finer", "resize", "slices"],
)
def test_resampled_masks_come_back_nearly(steps, oblique):
    mask = ball(oblique)
    pipeline = Pipeline.from_dict(steps)
    prepared = pipeline(replace(mask, voxels=mask.voxels.astype(np.float32), unit="HU"))
    there = pipeline.replay(mask, prepared.history)
    back = pipeline.invert(there, prepared.history, labels=True)
    assert dice(back.voxels > 0, mask.voxels > 0) > 0.95
    probabilities = np.concatenate([there.voxels == 0, there.voxels == 1]).astype(np.float32)
    linear = pipeline.invert(prepared.with_voxels(probabilities), prepared.history).voxels.argmax(axis=0)
    assert dice(linear > 0, mask.voxels[0] > 0) > 0.97


def test_each_step_alone(example, volume, roi):
    """Contract of the table: JSON history, pure, float32 or the input's own type, back on the raw grid."""
    before = volume.voxels.copy()
    pipeline = Pipeline.from_dict([example])
    prepared = pipeline(volume, roi)
    assert np.array_equal(volume.voxels, before)
    assert prepared.voxels.dtype == np.float32
    assert prepared.voxels.flags["C_CONTIGUOUS"]
    (applied,) = prepared.history
    assert applied.step == example["kind"]
    params = json.loads(json.dumps(dict(applied.params), allow_nan=False))
    assert params == dict(applied.params)
    again = pipeline.steps[0].apply(volume, params)
    assert np.array_equal(again.voxels, prepared.voxels)
    mask = pipeline.replay(roi, (Applied(applied.step, params),))
    assert mask.voxels.dtype == np.uint8
    back = pipeline.invert(mask, prepared.history, labels=True)
    assert back.grid == volume.grid
    assert back.geometry.is_close(volume.geometry, 1e-9)
    if example["kind"] not in ("resample", "resize"):
        assert np.array_equal(back.voxels, roi.voxels)


def test_each_step_on_a_picture_works_or_names_a_remedy(example):
    picture = Image(np.arange(1, 1 + 9 * 13, dtype=np.uint8).reshape(1, 1, 9, 13), unit="uint8")
    roi = Image((picture.voxels > 50).astype(np.uint8), unit="label")
    without_mm = {key: value for key, value in example.items() if key != "margin_mm"}
    pipeline = Pipeline.from_dict([without_mm])
    if example["kind"] in ("resample", "slices", "window"):
        with pytest.raises(PrepareError) as caught:
            pipeline(picture, roi)
        assert caught.value.remedy
    else:
        assert pipeline(picture, roi).geometry is None


def test_every_kind_has_a_docstring():
    for step in STEPS.values():
        assert len(step.__doc__ or "") > 40


def test_pickles_for_worker_processes(examples):
    pipeline = Pipeline.from_dict(list(examples.values())[:-4])
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_refused(bad, volume):
    voxels = volume.voxels.copy()
    voxels[0, 2, 3, 4] = bad
    with pytest.raises(
        PrepareError,
        match=rf"{'1 voxel is' if np.isnan(bad) else '0 voxels are'} NaN and {int(np.isinf(bad))} infinite",
    ):
        Pipeline.from_dict([])(replace(volume, voxels=voxels))
    with pytest.raises(PrepareError, match="complex64"):
        Pipeline.from_dict([])(replace(volume, voxels=voxels.astype(np.complex64)))


def test_doubles_are_taken_as_floats(volume):
    got = Pipeline.from_dict([])(volume.with_voxels(volume.voxels.astype(np.float64)))
    assert got.voxels.dtype == np.float32


def test_history_of_another_pipeline_is_refused(volume):
    pipeline, other = (Pipeline.from_dict([{"kind": kind}]) for kind in ("orient", "normalise"))
    with pytest.raises(PrepareError, match="history of the steps normalise"):
        pipeline.invert(volume, other(volume).history)
    with pytest.raises(PrepareError, match=r"history of the steps \(none\)"):
        pipeline.replay(volume, ())


def test_mask_on_another_grid_is_refused(volume):
    pipeline = Pipeline.from_dict([{"kind": "crop_pad", "size": [4, 4]}])
    history = pipeline(volume).history
    with pytest.raises(PrepareError, match=r"\[5, 7, 10\].*\[5, 7, 11\]"):
        pipeline.replay(volume.with_voxels(volume.voxels[..., :10]), history)
    with pytest.raises(PrepareError, match=r"\[5, 7, 11\].*\[5, 4, 4\]"):
        pipeline.invert(volume, history)
