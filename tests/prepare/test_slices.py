"""slices: the planes of a volume, found from its geometry, and back."""

from __future__ import annotations

import numpy as np
import pytest

from medrail.errors import PrepareError
from medrail.prepare.pipeline import Pipeline
from medrail.types import Image

PLANES = ("axial", "coronal", "sagittal")


def sliced(planes=PLANES, size=(12, 12), **more) -> Pipeline:
    return Pipeline.from_dict([{"kind": "slices", "planes": list(planes), "size": list(size), **more}])


@pytest.mark.parametrize(
    ("plane", "axes"),
    [("axial", "LPS"), ("coronal", "LIP"), ("sagittal", "PIL")],
)
def test_planes_lie_as_a_radiologist_looks_at_them(plane, axes, volume):
    """Slices of an arbitrarily turned volume are the planes of the volume oriented with columns, rows, normal named."""
    turned = Pipeline.from_dict([{"kind": "orient", "axes": "AIR"}])(volume)
    expected = Pipeline.from_dict([{"kind": "orient", "axes": axes}])(volume)
    got = sliced([plane], expected.grid[1:])(turned)
    assert got.geometry is None
    assert np.array_equal(got.voxels, expected.voxels)


def test_stack_holds_every_plane_centred(volume):
    got = sliced(pad_value=-7)(volume)
    assert got.grid == (5 + 7 + 11, 12, 12)
    axial = got.voxels[0, :5]
    assert np.array_equal(axial[:, 2:9, 0:11], volume.voxels[0]) or np.array_equal(
        axial[:, 3:10, 1:12], volume.voxels[0]
    )
    assert (got.voxels == -7).sum() == 23 * 144 - 3 * volume.voxels.size


def test_mask_comes_back_exactly(volume):
    mask = Image(np.random.default_rng(0).integers(0, 4, volume.voxels.shape).astype(np.uint8), volume.geometry)
    pipeline = sliced()
    history = pipeline(volume).history
    there = pipeline.replay(mask, history)
    assert there.unit == "label"
    back = pipeline.invert(there, history, labels=True)
    assert back.voxels.dtype == np.uint8
    assert np.array_equal(back.voxels, mask.voxels)
    assert back.geometry.is_close(volume.geometry, 1e-9)


def test_probabilities_are_averaged_over_the_planes(volume):
    pipeline = sliced()
    prepared = pipeline(volume)
    answer = np.zeros((2, 23, 12, 12), np.float32)
    answer[1, :5], answer[1, 5:12], answer[1, 12:] = 0.9, 0.6, 0.3
    back = pipeline.invert(prepared.with_voxels(answer), prepared.history)
    assert back.voxels.shape == (2, 5, 7, 11)
    np.testing.assert_allclose(back.voxels[1], 0.6, atol=1e-6)


def test_what_a_plane_did_not_see_does_not_count(volume):
    pipeline = sliced(["axial", "coronal"], (12, 5))  # cuts columns: 3 to 7 of 11 are seen
    prepared = pipeline(volume)
    answer = np.ones((1, 12, 12, 5), np.float32)
    back = pipeline.invert(prepared.with_voxels(answer), prepared.history).voxels[0]
    assert (back[..., 3:8] == 1).all()
    assert (back[..., :3] == 0).all()
    assert (back[..., 8:] == 0).all()


def test_what_one_plane_saw_is_not_diluted_by_the_other(volume):
    pipeline = sliced(["axial", "sagittal"], (12, 5))  # axial slices lose columns, sagittal ones rows of the volume
    prepared = pipeline(volume)
    answer = np.ones((1, 5 + 11, 12, 5), np.float32)
    back = pipeline.invert(prepared.with_voxels(answer), prepared.history).voxels[0]
    assert set(np.unique(back)) == {0, 1}
    assert (back[:, 1:6, :] == 1).all()
    assert (back[:, :, 3:8] == 1).all()
    assert (back[:, 0, :3] == 0).all()


def test_labels_take_the_majority(volume):
    pipeline = sliced()
    prepared = pipeline(volume)
    answer = np.zeros((1, 23, 12, 12), np.uint8)
    answer[:, :5], answer[:, 5:12], answer[:, 12:] = 2, 1, 2
    back = pipeline.invert(prepared.with_voxels(answer), prepared.history, labels=True)
    assert (back.voxels == 2).all()
    answer[:, 12:] = 3
    tie = pipeline.invert(prepared.with_voxels(answer), prepared.history, labels=True)
    assert (tie.voxels == 1).all()


def test_a_picture_has_no_planes():
    with pytest.raises(PrepareError, match="Leave `slices` out"):
        sliced()(Image(np.ones((1, 1, 4, 4), np.float32)))
