"""The pipeline on real heads and a real CT, with ITK as the judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medrail.prepare import Pipeline
from medrail.read import read, read_mask
from medrail.types import Image

pytestmark = pytest.mark.shared


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("planes", [[], ["axial", "coronal", "sagittal"]], ids=["volume", "planes"])
def test_brain_mask_there_and_back(shared_data: Path, planes):
    folder = shared_data / "brain" / "colin27"
    head, brain = read(folder / "ch2.nii.gz"), read_mask(folder / "ch2bet.nii.gz")
    brain = brain.with_voxels((brain.voxels > 0).astype(np.uint8))
    steps = [
        {"kind": "orient"},
        {"kind": "resample", "spacing_mm": 2},
        {"kind": "clip_percentile"},
        {"kind": "crop_foreground", "margin_mm": 4},
        {"kind": "normalise", "foreground": "otsu"},
    ]
    if planes:
        steps.append({"kind": "slices", "planes": planes, "size": [128, 128], "pad_value": "min"})
    pipeline = Pipeline.from_dict(steps)
    prepared = pipeline(head)
    there = pipeline.replay(brain, prepared.history)
    labels = pipeline.invert(there, prepared.history, labels=True)
    assert labels.geometry.is_close(head.geometry, 1e-9)
    assert dice(labels.voxels > 0, brain.voxels > 0) > 0.975
    both = np.concatenate([there.voxels == 0, there.voxels == 1]).astype(np.float32)
    linear = pipeline.invert(Image(both, prepared.geometry), prepared.history).voxels.argmax(axis=0)
    assert dice(linear > 0, brain.voxels[0] > 0) > 0.98


def test_ct_to_1_mm_equals_itk(shared_data: Path):
    path = next(iter(sorted((shared_data / "ct").rglob("*ct*.nii.gz"))))
    ct = read(path)
    step = {"kind": "resample", "spacing_mm": 1, "antialias": False}
    got = Pipeline.from_dict([{"kind": "window", "preset": "soft_tissue"}, step])(ct)
    itk = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    itk = SimpleITK.IntensityWindowing(itk, -150, 250, 0, 1)
    size = [round(n * mm) for n, mm in zip(itk.GetSize(), itk.GetSpacing(), strict=True)]
    place = (SimpleITK.Transform(), SimpleITK.sitkLinear, itk.GetOrigin(), (1, 1, 1), itk.GetDirection(), 0.0)
    judge = SimpleITK.GetArrayFromImage(SimpleITK.Resample(itk, size, *place))
    assert got.grid == judge.shape
    inside = tuple(slice(None, -3) for _ in range(3))  # beyond the last voxel ITK writes 0, medrail repeats it
    np.testing.assert_allclose(got.voxels[0][inside], judge[inside], atol=1e-4)
