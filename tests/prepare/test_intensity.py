"""Windows, clips, normalisation and colours against their formulas and against peers."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import SimpleITK

from medrail.errors import PrepareError
from medrail.prepare.intensity import WINDOW_PRESETS
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.thresholds import otsu_threshold
from medrail.types import Image


def run(step, image: Image) -> Image:
    return Pipeline.from_dict([step])(image)


def picture(channels: int = 3, dtype: type = np.uint8) -> Image:
    voxels = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (channels, 1, 19, 23), endpoint=True)
    return Image(voxels.astype(dtype), unit="uint8" if dtype is np.uint8 else "uint16", source="a.png")


def test_window_is_the_dicom_formula():
    hu = Image(np.array([-1000, -160, 40, 140, 240, 3000], np.int16).reshape(1, 1, 1, 6), unit="HU")
    got = run({"kind": "window", "center_hu": 40, "width_hu": 400}, hu)
    assert got.voxels.dtype == np.float32
    np.testing.assert_allclose(got.voxels.ravel(), [0, 0, 0.5, 0.75, 1, 1], atol=1e-6)
    assert got.unit == "arbitrary"


@pytest.mark.parametrize("name", WINDOW_PRESETS)
def test_presets_are_their_numbers(name):
    center_hu, width_hu = WINDOW_PRESETS[name]
    by_name = Pipeline.from_dict([{"kind": "window", "preset": name}])
    by_number = Pipeline.from_dict([{"kind": "window", "center_hu": center_hu, "width_hu": width_hu}])
    assert by_name == by_number
    assert by_name.fingerprint == by_number.fingerprint


@pytest.mark.parametrize("spelling", ["soft tissue", "soft-tissue", "Soft Tissue", " soft_tissue "])
def test_a_preset_may_be_spelt_as_people_do(spelling):
    as_spelt = Pipeline.from_dict([{"kind": "window", "preset": spelling}])
    assert as_spelt.fingerprint == Pipeline.from_dict([{"kind": "window", "preset": "soft_tissue"}]).fingerprint


def test_window_refuses_a_picture():
    with pytest.raises(PrepareError, match=r"unit is uint8.*minmax"):
        run({"kind": "window", "preset": "lung"}, picture(1))


def test_clip_percentile_over_all_and_over_the_foreground():
    values = np.concatenate([np.zeros(1000), np.arange(1, 1001)]).astype(np.float32).reshape(1, 2, 10, 100)
    everything = run({"kind": "clip_percentile", "low": 1, "high": 99}, Image(values)).voxels
    assert (everything.min(), everything.max()) == pytest.approx(tuple(np.percentile(values, [1, 99])))
    inside = run({"kind": "clip_percentile", "low": 10, "high": 90, "foreground": True}, Image(values)).voxels
    assert (inside.min(), inside.max()) == pytest.approx(tuple(np.percentile(np.arange(1, 1001), [10, 90])))


def test_zscore_over_all_and_over_the_foreground(volume):
    got = run({"kind": "normalise"}, volume).voxels
    assert got.mean() == pytest.approx(0, abs=1e-5)
    assert got.std() == pytest.approx(1, abs=1e-5)
    above = volume.voxels > 200
    got = run({"kind": "normalise", "foreground": 200}, volume).voxels
    assert got[above].mean() == pytest.approx(0, abs=1e-5)
    assert got[above].std() == pytest.approx(1, abs=1e-5)
    assert got.mean() < -0.5


def test_minmax_per_channel():
    image = Image(np.array([[0, 5, 10], [100, 150, 200]], np.float32).reshape(2, 1, 1, 3))
    got = run({"kind": "normalise", "method": "minmax"}, image).voxels
    np.testing.assert_allclose(got.reshape(2, 3), [[0, 0.5, 1], [0, 0.5, 1]], atol=1e-6)


def test_custom_takes_a_number_or_one_a_channel():
    image = picture(3)
    got = run({"kind": "normalise", "method": "custom", "mean": [10, 20, 30], "std": 2}, image).voxels
    np.testing.assert_allclose(got[2], (image.voxels[2] - 30.0) / 2)
    with pytest.raises(PrepareError, match=r"3 channels.*grey_to_rgb"):
        run({"kind": "normalise", "method": "custom", "mean": [1, 2], "std": [1, 2]}, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_imagenet_scales_pictures_first(dtype):
    image = picture(3, dtype)
    got = run({"kind": "normalise", "method": "imagenet"}, image).voxels
    unit = image.voxels / np.iinfo(dtype).max
    expected = (unit - np.reshape([0.485, 0.456, 0.406], (3, 1, 1, 1))) / np.reshape(
        [0.229, 0.224, 0.225], (3, 1, 1, 1)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_imagenet_names_the_step_that_is_missing():
    with pytest.raises(PrepareError, match="grey_to_rgb"):
        run({"kind": "normalise", "method": "imagenet"}, picture(1))
    voxels = np.linspace(0, 700, 3 * 12, dtype=np.float32).reshape(3, 1, 3, 4)
    with pytest.raises(PrepareError, match=r"from 0 to 700.*`window`"):
        run({"kind": "normalise", "method": "imagenet"}, Image(voxels))


@pytest.mark.parametrize("value", [0.1, 1e6])
@pytest.mark.parametrize("method", ["zscore", "minmax"])
def test_a_blank_image_is_refused(method, value):
    with pytest.raises(PrepareError, match="same value everywhere"):
        run({"kind": "normalise", "method": method}, Image(np.full((1, 3, 50, 70), value, np.float32)))


def test_colours():
    grey, colour = picture(1), picture(3)
    assert np.array_equal(run({"kind": "grey_to_rgb"}, grey).voxels, np.repeat(grey.voxels, 3, axis=0))
    assert np.array_equal(run({"kind": "grey_to_rgb"}, colour).voxels, colour.voxels)
    assert np.array_equal(run({"kind": "rgb_to_grey"}, grey).voxels, grey.voxels)
    judge = np.asarray(PIL.Image.fromarray(colour.voxels[:, 0].transpose(1, 2, 0)).convert("L"))
    got = run({"kind": "rgb_to_grey"}, colour).voxels
    np.testing.assert_allclose(got[0, 0], judge, atol=0.51)
    with pytest.raises(PrepareError, match="2 channels"):
        run({"kind": "rgb_to_grey"}, picture(2))


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_otsu_judged_by_itk(dtype):
    generator = np.random.default_rng(5)
    values = np.concatenate([generator.normal(100, 60, 4000), generator.normal(300, 90, 2000)]).astype(dtype)
    judge = SimpleITK.OtsuThresholdImageFilter()
    judge.SetNumberOfHistogramBins(256)
    judge.Execute(SimpleITK.GetImageFromArray(values[None].astype(np.float32)))
    bin_width = float(values.max() - values.min()) / 256
    assert otsu_threshold(values) == pytest.approx(judge.GetThreshold(), abs=0.1 * bin_width)


def test_otsu_of_two_values_lies_between_them():
    assert 3 <= otsu_threshold(np.array([3, 3, 3, 8, 8], np.uint8)) < 8
    with pytest.raises(PrepareError, match="every voxel is 4"):
        otsu_threshold(np.full(9, 4.0))
