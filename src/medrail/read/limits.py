"""How large an image may declare itself to be; asked before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from medrail.errors import CorruptFile, ReadError

# A whole-body CT of 2,500 slices of 512 x 512 in 16 bit is 1.3 GB. What declares more is a broken header, an attack, or
# needs a machine and a workflow that these readers are not made for.
MAX_VOXEL_BYTES = 4 * 2**30

# Pillow's own line for "decompression bomb"; a mammogram has 2e7 pixels, what is larger is a whole slide.
MAX_PICTURE_PIXELS = 178_956_970


def check_voxels(shape: Sequence[int], bytes_per_voxel: int, where: str = "") -> int:
    """The number of bytes of an array of ``shape``, when that is a size one may allocate.

    Raises
    ------
    CorruptFile
        If a dimension is not positive.
    ReadError
        If it is more than ``MAX_VOXEL_BYTES``.
    """
    size = " x ".join(str(extent) for extent in shape)
    if not shape or min(shape) < 1:
        raise CorruptFile(
            f"declares a grid of {size or 'no'} voxels", needed="at least one along each axis", where=where
        )
    declared = prod(int(extent) for extent in shape) * bytes_per_voxel
    if declared > MAX_VOXEL_BYTES:
        raise ReadError(
            f"declares {size} voxels, {declared / 2**30:.1f} GiB",
            needed=f"at most {MAX_VOXEL_BYTES / 2**30:.0f} GiB",
            where=where,
            remedy="Crop or split it, unless its header is broken.",
        )
    return declared


def check_picture(width: int, height: int, where: str = "") -> None:
    """Refuse a picture of more than ``MAX_PICTURE_PIXELS`` (ReadError)."""
    if width * height > MAX_PICTURE_PIXELS:
        raise ReadError(
            f"declares {width} x {height} pixels",
            needed=f"at most {MAX_PICTURE_PIXELS:,} pixels",
            where=where,
            remedy="Cut it into tiles or scale it down, unless its header is broken.",
        )
