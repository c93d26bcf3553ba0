"""TorchIO: ``ScalarImage`` of a folder, ``ToCanonical``, the window as tensor arithmetic, ``Resize`` or ``Resample``.

``Resample`` is told the grid that the other contenders use: its own for a spacing lies half a voxel apart from theirs.
The window is not ``RescaleIntensity``, which takes percentiles of all voxels even where the range is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchio


@contextmanager
def serial(options: Mapping[str, Any]) -> Iterator[Any]:
    def work(paths: Sequence[Path], out: Path) -> None:
        for path in paths:
            _one(options, out, path)

    yield work


def _one(options: Mapping[str, Any], out: Path, path: Path) -> None:
    image = torchio.ToCanonical()(torchio.ScalarImage(path))
    low, high = options["window"]
    voxels = image.data.to(torch.float32).sub_(low).div_(high - low).clamp_(0, 1)
    image = torchio.ScalarImage(tensor=voxels, affine=image.affine)
    image = torchio.Resize(tuple(options["size"]))(image) if "size" in options else _resampled(image, options)
    np.save(out / f"{path.name.partition('.')[0]}.npy", image.numpy()[0])


def _resampled(image: Any, options: Mapping[str, Any]) -> Any:
    """The last voxel of the two axes that ToCanonical has turned is the first voxel of the others' grid."""
    new = options["spacing_mm"]
    shape = [round(n * old / new) for n, old in zip(image.spatial_shape, image.spacing, strict=True)]
    unit = image.affine[:3, :3] / np.array(image.spacing)
    first = image.affine[:3, 3].copy()
    for axis in (0, 1):
        shift = (image.spatial_shape[axis] - 1) * image.spacing[axis] - (shape[axis] - 1) * new
        first += unit[:, axis] * shift
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = unit * new, first
    return torchio.Resample((shape, affine))(image)
