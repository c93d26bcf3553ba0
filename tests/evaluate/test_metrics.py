"""Metrics against scikit-learn and MONAI, and their rules for empty masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from answers import answers
from medrail.evaluate.bootstrap import point
from medrail.evaluate.metrics import (
    classification_statistics,
    dice,
    hd95,
    iou,
    mean_over_patients,
    slice_confusion,
    volume_error_ml,
)
from medrail.types import Geometry

# MONAI 1.6 calls itself in a way that it warns about.
monai_warns = pytest.mark.filterwarnings("ignore:monai.metrics.utils get_mask_edges:FutureWarning")
sklearn_metrics = pytest.importorskip("sklearn.metrics")


def named(n_classes: int) -> list[str]:
    return [f"class {index}" for index in range(n_classes)]


@settings(deadline=None, max_examples=150)
@given(answers())
def test_as_scikit_learn(answer: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answer
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    mine = {
        name: point(statistic, len(truth))
        for name, statistic in classification_statistics(truth, probabilities, named(n_classes)).items()
    }
    assert mine["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, predicted))
    assert mine["f1"] == pytest.approx(sklearn_metrics.f1_score(truth, predicted, average="macro", zero_division=0.0))
    sensitivities = sklearn_metrics.recall_score(
        truth, predicted, labels=range(n_classes), average=None, zero_division=np.nan
    )
    assert [mine[f"sensitivity/{name}"] for name in named(n_classes)] == pytest.approx(list(sensitivities), nan_ok=True)
    assert mine["balanced_accuracy"] == pytest.approx(np.nanmean(sensitivities))


@settings(deadline=None, max_examples=150)
@given(answers())
def test_balanced_accuracy_and_auc_as_scikit_learn(answer: tuple[np.ndarray, np.ndarray]) -> None:
    truth, probabilities = answer
    n_classes = probabilities.shape[1]
    assume(len(np.unique(truth)) == n_classes)
    statistics = classification_statistics(truth, probabilities, named(n_classes))
    scores = probabilities[:, 1] if n_classes == 2 else probabilities
    auc = sklearn_metrics.roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert point(statistics["auc"], len(truth)) == pytest.approx(auc)
    balanced = sklearn_metrics.balanced_accuracy_score(truth, probabilities.argmax(axis=1))
    assert point(statistics["balanced_accuracy"], len(truth)) == pytest.approx(balanced)


@settings(deadline=None, max_examples=60)
@given(answers(), st.data())
def test_a_weight_is_a_repetition(answer: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
    """The statistics of weighted cases are those of the cases repeated: what the bootstrap builds on."""
    truth, probabilities = answer
    times = data.draw(hnp.arrays(np.int64, len(truth), elements=st.integers(0, 3)))
    assume(times.sum() > 0)
    names = named(probabilities.shape[1])
    weighted = classification_statistics(truth, probabilities, names)
    repeated = classification_statistics(np.repeat(truth, times), np.repeat(probabilities, times, axis=0), names)
    for name, statistic in weighted.items():
        found = float(statistic(times[None].astype(float))[0])
        assert found == pytest.approx(point(repeated[name], int(times.sum())), nan_ok=True), name


def test_auc_of_one_class_only_is_undefined() -> None:
    statistics = classification_statistics([1, 1], [[0.2, 0.8], [0.4, 0.6]], ["no", "yes"])
    assert math.isnan(point(statistics["auc"], 2))
    assert point(statistics["accuracy"], 2) == 1


def blobs(seed: int, shape: tuple[int, ...] = (9, 15, 21)) -> np.ndarray:
    """Two to three connected regions of class 0, 1, 2."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.digitize(noise, np.quantile(noise, [0.6, 0.85])).astype(np.uint8)


@monai_warns
@pytest.mark.parametrize("seed", range(6))
def test_masks_as_monai(seed: int) -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

    spacing_mm = (5.0, 0.7, 0.9)
    truth, predicted = blobs(seed), blobs(seed + 100)
    predicted[truth == 2] = 2  # overlap, so that the numbers are not all near 0
    as_one_hot = [
        torch.from_numpy(np.stack([mask == k for k in range(3)])[None].astype(np.float32))
        for mask in (predicted, truth)
    ]
    counts = slice_confusion(truth, predicted, 3)
    assert counts.sum() == truth.size
    assert counts.shape == (9, 3, 3)
    np.testing.assert_allclose(
        dice(counts.sum(axis=0)), compute_dice(*as_one_hot, include_background=False)[0], rtol=1e-6
    )
    np.testing.assert_allclose(
        iou(counts.sum(axis=0)), compute_iou(*as_one_hot, include_background=False)[0], rtol=1e-6
    )
    theirs = compute_hausdorff_distance(*as_one_hot, include_background=False, percentile=95, spacing=spacing_mm)[0]
    mine = [hd95(truth == label, predicted == label, spacing_mm) for label in (1, 2)]
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-5)


@monai_warns
def test_a_picture_as_monai_in_2d() -> None:
    torch = pytest.importorskip("torch")
    from monai.metrics import compute_hausdorff_distance

    truth, predicted = blobs(1, (15, 21)) > 0, blobs(2, (15, 21)) > 0
    both = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, truth)]
    theirs = compute_hausdorff_distance(*both, include_background=True, percentile=95, spacing=(0.7, 0.9))
    for axis in range(3):
        spacing = np.insert([0.7, 0.9], axis, 5.0)
        mine = hd95(np.expand_dims(truth, axis), np.expand_dims(predicted, axis), spacing)
        assert mine == pytest.approx(float(theirs), rel=1e-5)


def test_a_shift_of_one_voxel_is_one_spacing() -> None:
    truth = np.zeros((9, 12, 14), bool)
    truth[3:6, 4:8, 5:9] = True
    for axis, spacing in enumerate((5.0, 0.7, 0.9)):
        assert hd95(truth, np.roll(truth, 1, axis), (5.0, 0.7, 0.9)) == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("truth", "predicted", "overlap", "distance"),
    [(False, False, 1.0, 0.0), (True, False, 0.0, math.nan), (False, True, 0.0, math.nan), (True, True, 1.0, 0.0)],
)
def test_rules_for_empty_masks(truth: bool, predicted: bool, overlap: float, distance: float) -> None:
    true, found = (np.full((3, 4, 5), value, np.uint8) for value in (truth, predicted))
    counts = slice_confusion(true, found, 2).sum(axis=0)
    assert dice(counts).tolist() == iou(counts).tolist() == [overlap]
    assert hd95(true > 0, found > 0, (1, 1, 1)) == pytest.approx(distance, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(
    hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 2)),
    hnp.arrays(np.uint8, (2, 3, 4), elements=st.integers(0, 2)),
)
def test_dice_and_iou_obey_their_law(truth: np.ndarray, predicted: np.ndarray) -> None:
    counts = slice_confusion(truth, predicted, 3).sum(axis=0)
    d, j = dice(counts), iou(counts)
    np.testing.assert_allclose(d, 2 * j / (1 + j))
    assert ((j >= 0) & (j <= d) & (d <= 1)).all()
    swapped = slice_confusion(predicted, truth, 3).sum(axis=0)
    np.testing.assert_allclose(dice(swapped), d)


def test_volume_error_in_millilitres() -> None:
    truth = np.zeros((4, 10, 10), np.uint8)
    predicted = truth.copy()
    truth[:2], predicted[:3] = 1, 1
    geometry = Geometry.from_spacing((5.0, 0.7, 0.9))
    error = volume_error_ml(slice_confusion(truth, predicted, 2).sum(axis=0), geometry)
    assert error.tolist() == pytest.approx([100 * 5 * 0.7 * 0.9 / 1000])


def test_every_patient_counts_the_same_and_nan_is_left_out() -> None:
    statistic = mean_over_patients([0.0, 0.0, 0.0, 1.0, math.nan], ["a", "a", "a", "b", "b"])
    assert point(statistic, 5) == pytest.approx(0.5)
    assert math.isnan(point(mean_over_patients([math.nan], ["a"]), 1))
