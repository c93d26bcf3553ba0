"""A predicted mask as a file that every viewer opens."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from medrail.bundle.overlay import COLOURS
from medrail.read import write_nifti
from medrail.types import Image


def write_mask(mask: Image, folder: str | Path, name: str) -> Path:
    """Write class indices: NIfTI for a volume or anything with a place in space, palette PNG for a picture.

    The PNG shows the classes in the overlay's colours, and its stored values are the class indices themselves.

    Parameters
    ----------
    mask:
        Unit "label", voxels uint8 (1, D, H, W).
    folder, name:
        The file becomes ``folder/name.nii.gz`` or ``folder/name.png``.

    Returns
    -------
    The file's path.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if mask.geometry is not None or mask.grid[0] > 1:
        path = folder / f"{name}.nii.gz"
        write_nifti(mask, path)
        return path
    path = folder / f"{name}.png"
    picture = Picture.fromarray(np.ascontiguousarray(mask.voxels[0, 0], dtype=np.uint8))
    picture.putpalette([0, 0, 0, *(value for index in range(255) for value in COLOURS[index % len(COLOURS)])])
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            picture.save(file, format="PNG")
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
