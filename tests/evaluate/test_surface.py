"""Surface distances: MONAI as the judge, hand cases, empty masks, and the time a big volume takes."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medrail.evaluate.surface import normalised_surface_distance, surface_distances, surface_distances_of_classes

monai_warns = pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
SPACING_MM = (5.0, 0.7, 0.9)


def blobs(seed: int, shape: tuple[int, ...] = (9, 15, 21)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.digitize(noise, np.quantile(noise, [0.6, 0.85])).astype(np.uint8)


@monai_warns
@pytest.mark.parametrize("seed", range(4))
def test_as_monai_in_3d(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import SurfaceDiceMetric

    truth, predicted = blobs(seed), blobs(seed + 100)
    tolerances = [1.3, 5.2]
    one_hot = [
        torch.from_numpy(np.stack([mask == k for k in range(3)])[None].astype(np.float32))
        for mask in (predicted, truth)
    ]
    metric = SurfaceDiceMetric(class_thresholds=tolerances, include_background=False, reduction="none")
    theirs = metric(*one_hot, spacing=SPACING_MM)[0].numpy()
    mine = [
        normalised_surface_distance(truth == k + 1, predicted == k + 1, SPACING_MM, tolerances[k]) for k in range(2)
    ]
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    of_classes = surface_distances_of_classes(truth, predicted, SPACING_MM, 3)
    assert [one.within(t) for one, t in zip(of_classes, tolerances, strict=True)] == mine


@monai_warns
def test_a_picture_as_monai_in_2d() -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_surface_dice

    truth, predicted = blobs(1, (15, 21)) > 0, blobs(2, (15, 21)) > 0
    both = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, truth)]
    theirs = compute_surface_dice(*both, class_thresholds=[1.0], include_background=True, spacing=(0.7, 0.9))
    mine = normalised_surface_distance(truth[None], predicted[None], (5.0, 0.7, 0.9), 1.0)
    assert mine == pytest.approx(float(theirs), rel=1e-5)


@settings(deadline=None, max_examples=80)
@given(hnp.arrays(np.bool_, (3, 4, 6)), hnp.arrays(np.bool_, (3, 4, 6)), st.floats(0, 12))
def test_as_a_distance_map_of_the_whole_array(truth: np.ndarray, predicted: np.ndarray, tolerance: float) -> None:
    found = surface_distances(truth, predicted, SPACING_MM)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, predicted)]
    assert [len(one) for one in found] == [edge.sum() for edge in edges]
    if truth.any() and predicted.any():
        for mine, (of, to) in zip(found, (edges, edges[::-1]), strict=True):
            plain = ndimage.distance_transform_edt(~to, sampling=SPACING_MM)[of]
            np.testing.assert_allclose(np.sort(mine), np.sort(plain), atol=1e-9)
    assert 0 <= found.within(tolerance) <= 1
    assert surface_distances(predicted, truth, SPACING_MM).within(tolerance) == found.within(tolerance)
    assert found.within(tolerance) <= found.within(tolerance + 1)


def test_a_shifted_box_by_hand() -> None:
    """A shift by one voxel along W (0.9 mm): two faces of each box lie 0.9 mm away, the rest of the shells overlap."""
    truth = np.zeros((7, 9, 14), bool)
    truth[2:5, 3:6, 4:8] = True
    predicted = np.roll(truth, 1, axis=2)
    assert normalised_surface_distance(truth, predicted, SPACING_MM, 0.9) == 1
    # 34 surface voxels each, of which the far face (9 voxels) and, beside the near one, its inner voxel stand apart.
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, predicted)]
    common = (edges[0] & edges[1]).sum()
    assert normalised_surface_distance(truth, predicted, SPACING_MM, 0.5) == pytest.approx(
        2 * common / (edges[0].sum() + edges[1].sum())
    )
    assert edges[0].sum() == 34
    assert common == 24


def test_a_distance_of_just_the_tolerance_is_within() -> None:
    truth, predicted = np.zeros((1, 1, 9), bool), np.zeros((1, 1, 9), bool)
    truth[..., 1], predicted[..., 4] = True, True
    assert 3 * 0.1 > 0.3, "in floating point"
    assert normalised_surface_distance(truth, predicted, (1, 1, 0.1), 0.3) == 1
    assert normalised_surface_distance(truth, predicted, (1, 1, 0.1), 0.29) == 0


@pytest.mark.parametrize(
    ("truth", "predicted", "near", "distance"),
    [(False, False, 1.0, 0.0), (True, False, 0.0, math.nan), (False, True, 0.0, math.nan), (True, True, 1.0, 0.0)],
)
def test_rules_for_empty_masks(truth: bool, predicted: bool, near: float, distance: float) -> None:
    found = surface_distances(np.full((3, 4, 5), truth), np.full((3, 4, 5), predicted), (1, 1, 1))
    assert found.within(2.0) == near
    assert found.hd95() == pytest.approx(distance, nan_ok=True)


def test_a_big_volume_is_cropped() -> None:
    """Two small organs in 256 x 512 x 512 voxels: the time is that of their box, not of 67 million voxels."""
    truth = np.zeros((256, 512, 512), bool)
    truth[100:140, 200:260, 200:260] = True
    predicted = np.roll(truth, 2, axis=1)
    begin = time.process_time()
    found = normalised_surface_distance(truth, predicted, (1, 1, 1), 2.0)
    assert found == 1
    assert time.process_time() - begin < 5, "a distance map of the whole volume takes a minute"
