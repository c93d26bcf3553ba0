"""The other usual script for NIfTI: nibabel reads, scipy's ``zoom`` resamples (half-pixel aligned), numpy stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import zoom


@contextmanager
def serial(options: Mapping[str, Any]) -> Iterator[Any]:
    def work(paths: Sequence[Path], out: Path) -> None:
        for path in paths:
            _one(options, out, path)

    yield work


def _one(options: Mapping[str, Any], out: Path, path: Path) -> None:
    image = nibabel.load(path)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS"))
    image = image.as_reoriented(turn)
    low, high = options["window"]
    voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
    voxels = np.clip((voxels - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    factors = [new / old for new, old in zip(options["size"], voxels.shape, strict=True)]
    voxels = zoom(voxels, factors, order=1, mode="nearest", grid_mode=True)
    np.save(out / f"{path.name.partition('.')[0]}.npy", voxels.T)
