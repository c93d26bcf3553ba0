"""Curves against scikit-learn; evidence laid over an image."""

from __future__ import annotations

import io

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from medrail.evaluate.curves import MOST_POINTS, precision_recall, roc, shares_below, thinned
from medrail.evaluate.heat import heat_png
from medrail.types import Evidence, Geometry, Image

ANSWERS = st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=60)


@given(ANSWERS)
def test_roc_is_scikit_learns(answers: list[tuple[bool, int]]) -> None:
    positive, scores = (np.array(column) for column in zip(*answers, strict=True))
    curve = roc(positive, scores / 8)
    if positive.all() or not positive.any():
        assert curve == []
        return
    false, true, _ = sklearn.metrics.roc_curve(positive, scores / 8, drop_intermediate=False)
    np.testing.assert_allclose(curve, np.stack([false, true], axis=1), atol=1e-6)


@given(ANSWERS)
def test_precision_recall_is_scikit_learns(answers: list[tuple[bool, int]]) -> None:
    positive, scores = (np.array(column) for column in zip(*answers, strict=True))
    curve = precision_recall(positive, scores / 8)
    if not positive.any():
        assert curve == []
        return
    precision, recall, _ = sklearn.metrics.precision_recall_curve(positive, scores / 8)
    judge = np.stack([recall, precision], axis=1)[:-1][::-1]  # its last point stands for no case at all
    np.testing.assert_allclose(curve, judge, atol=1e-6)


@given(st.lists(st.floats(-5, 5) | st.just(float("nan")), max_size=50))
def test_shares_below_a_value(values: list[float]) -> None:
    for value, share in shares_below(values):
        defined = [one for one in values if one == one]
        assert share <= np.mean([round(one, 6) <= value for one in defined]) + 1e-6


def test_a_thinned_curve_keeps_its_ends() -> None:
    points = [(float(x), float(x) ** 2) for x in range(1000)]
    kept = thinned(points)
    assert len(kept) == MOST_POINTS
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert thinned(points[:5]) == points[:5]


def opened(image: Image, values: np.ndarray) -> np.ndarray:
    evidence = Evidence("ill", Image(values.astype(np.float32)[np.newaxis], image.geometry), exact=True, method="")
    with Picture.open(io.BytesIO(heat_png(image, evidence, "ill 0.9, truth: healthy"))) as picture:
        return np.asarray(picture).astype(int)


def test_red_speaks_for_and_blue_against() -> None:
    image = Image(np.full((1, 1, 20, 30), 128, np.uint8), unit="uint8")
    values = np.zeros((1, 20, 30))
    values[0, :, :10], values[0, :, 20:] = 1, -1
    pixels = opened(image, values)
    panel = pixels[:, 384 + 4 :][:256]
    left, middle, right = panel[128, 40], panel[128, 192], panel[128, 340]
    assert left[0] > left[2] + 50
    assert right[2] > right[0] + 50
    assert middle.tolist() == [128, 128, 128]
    assert pixels[128, 100].tolist() == [128, 128, 128], "the image itself stands beside it as it is"


def test_of_a_volume_the_strongest_slice_is_shown_with_its_true_shape() -> None:
    voxels = np.zeros((1, 4, 10, 10), np.float32)
    voxels[0, 2] = np.linspace(0, 1, 100).reshape(10, 10)
    values = np.zeros((4, 10, 10))
    values[2, 5, 5] = 3
    pixels = opened(Image(voxels, Geometry.from_spacing((5.0, 1.0, 2.0)), "arbitrary"), values)
    assert pixels.shape[:2] == (192 + 22, 2 * 384 + 4)
    assert pixels[:192, :384].std() > 30, "slice 2 is the one that is not black"


def test_no_evidence_at_all_colours_nothing() -> None:
    image = Image(np.full((3, 1, 8, 8), 60, np.uint8), unit="uint8")
    assert np.unique(opened(image, np.zeros((1, 8, 8)))[:384, 388:]).tolist() == [60]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_is_shown(channels: int) -> None:
    image = Image(np.zeros((channels, 1, 8, 8), np.float32), unit="arbitrary")
    assert opened(image, np.ones((1, 8, 8))).shape[2] == 3
