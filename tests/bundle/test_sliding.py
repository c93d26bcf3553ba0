"""The sliding window against MONAI's, and its laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.bundle import sliding_window
from medrail.bundle.sliding import calls_of, gaussian_weight


def _position_dependent(batch: np.ndarray) -> np.ndarray:
    """A 'network' whose answer depends on where in the patch a voxel lies, so that the blending shows."""
    ramp = np.arange(batch[0, 0].size, dtype=np.float32).reshape(batch.shape[2:])
    return np.stack([batch[:, 0] + ramp, batch.mean(axis=1) * 2 - 0.1 * ramp], axis=1).astype(np.float32)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize(
    ("grid", "patch"), [((5, 7, 11), (4, 5, 6)), ((5, 7, 11), (8, 8, 8)), ((9, 13, 6), (4, 13, 6))]
)
def test_as_monai_in_3d(grid: tuple[int, ...], patch: tuple[int, ...], overlap: float) -> None:
    torch = pytest.importorskip("torch")
    from monai.inferers import sliding_window_inference

    voxels = np.random.default_rng(0).normal(size=(2, *grid)).astype(np.float32)
    mine = sliding_window(voxels, patch, overlap, _position_dependent)
    theirs = sliding_window_inference(
        torch.from_numpy(voxels)[None],
        roi_size=patch,
        sw_batch_size=1,
        predictor=lambda batch: torch.from_numpy(_position_dependent(batch.numpy())),
        overlap=overlap,
        mode="gaussian",
    )[0].numpy()
    assert mine.shape == (2, *grid)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-3)


def test_as_monai_in_2d_slice_by_slice() -> None:
    torch = pytest.importorskip("torch")
    from monai.inferers import sliding_window_inference

    voxels = np.random.default_rng(1).normal(size=(1, 5, 17, 11)).astype(np.float32)
    mine = sliding_window(voxels, (8, 6), 0.5, _position_dependent)
    theirs = sliding_window_inference(
        torch.from_numpy(np.moveaxis(voxels, 1, 0).copy()),
        roi_size=(8, 6),
        sw_batch_size=4,
        predictor=lambda batch: torch.from_numpy(_position_dependent(batch.numpy())),
        overlap=0.5,
        mode="gaussian",
    ).numpy()
    np.testing.assert_allclose(mine, np.moveaxis(theirs, 0, 1), rtol=1e-4, atol=1e-3)


@settings(deadline=None, max_examples=30)
@given(
    grid=st.tuples(*[st.integers(1, 9)] * 3),
    patch=st.tuples(*[st.integers(1, 6)] * 3),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
)
def test_a_voxelwise_network_is_not_changed_by_the_window(
    grid: tuple[int, int, int], patch: tuple[int, int, int], overlap: float
) -> None:
    voxels = np.arange(np.prod(grid), dtype=np.float32).reshape(1, *grid)
    answer = sliding_window(voxels, patch, overlap, lambda batch: np.concatenate([batch, -batch], axis=1))
    np.testing.assert_allclose(answer, np.concatenate([voxels, -voxels]), rtol=1e-5, atol=1e-4)


def test_weights_are_highest_in_the_middle_and_never_zero() -> None:
    weight = gaussian_weight((5, 7, 11))
    assert weight[2, 3, 5] == weight.max() == 1
    assert weight.min() > 0
    np.testing.assert_array_equal(weight, weight[::-1, ::-1, ::-1])


@given(
    st.tuples(*[st.integers(1, 12)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3) | st.tuples(*[st.integers(1, 6)] * 2),
    st.sampled_from([0.0, 0.5, 0.7]),
)
def test_the_number_of_calls_is_known_beforehand(grid, patch, overlap) -> None:
    calls = []

    def backend(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return batch

    sliding_window(np.zeros((1, *grid), np.float32), patch, overlap, backend)
    assert len(calls) == calls_of(grid, patch, overlap)
