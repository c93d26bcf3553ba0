"""Uncompressed pixel data -> values (DICOM PS3.5 8.1, 8.2.1; C.7.6.3.1.2 and .3 of PS3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile
from medrail.read.dicom.layout import Layout, values_of

Array = npt.NDArray[Any]

_HALF = "YBR_FULL_422", "YBR_PARTIAL_422"


def native_frames(
    data: bytes, layout: Layout, count: int, wanted: Sequence[int], *, big: bool, swapped: bool
) -> tuple[Array, str]:
    """Values (N, H, W, S) of the ``wanted`` ones of ``count`` frames, and their photometric interpretation by now.

    big:
        Cells in big endian.
    swapped:
        Bytes stand in 16-bit words of big endian (8-bit and 1-bit cells with the value representation OW).

    Raises
    ------
    CorruptFile
        If the data end before the frames do, or YBR_FULL_422 has an odd number of columns.
    """
    halved = layout.photometric in _HALF and len(data) < count * layout.cells * layout.bits_allocated // 8
    needed = layout.cells * 2 // 3 if halved else layout.cells
    bits = needed * layout.bits_allocated
    if len(data) * 8 < count * bits:
        raise CorruptFile(
            f"its pixel data are {len(data):,} bytes long, its header declares {-(-count * bits // 8):,}",
            needed="all pixels",
            remedy="Copy or export it again.",
        )
    if swapped:
        data = np.frombuffer(data, ">u2", len(data) // 2).astype("<u2").tobytes()
    frames = np.empty((len(wanted), layout.rows, layout.columns, layout.samples), layout.dtype)
    for place, frame in enumerate(wanted):
        cells = _cells(data, layout, frame, needed, big=big)
        if halved:
            frames[place] = _spread(cells, layout)
        elif layout.planar:
            frames[place] = np.moveaxis(cells.reshape(layout.samples, layout.rows, layout.columns), 0, -1)
        else:
            frames[place] = cells.reshape(frames[place].shape)
    photometric = layout.photometric.replace("_422", "").replace("_420", "")
    return values_of(frames, layout), photometric


def _cells(data: bytes, layout: Layout, frame: int, count: int, *, big: bool) -> Array:
    """One frame's cells in a row. Frames of 1-bit cells follow one another within a byte, lowest bit first."""
    if layout.bits_allocated == 1:
        first = frame * count
        packed = np.frombuffer(data, np.uint8)[first // 8 : -(-(first + count) // 8)]
        return np.unpackbits(packed, bitorder="little")[first % 8 : first % 8 + count]
    dtype = layout.dtype.newbyteorder(">" if big else "<")
    return np.frombuffer(data, dtype, count, frame * count * dtype.itemsize)


def _spread(cells: Array, layout: Layout) -> Array:
    """Y1 Y2 Cb Cr for two neighbours -> (H, W, 3); both get the colour of the left one, as the standard places it."""
    if layout.columns % 2:
        raise CorruptFile(
            f"has {layout.photometric} and {layout.columns} columns",
            needed="an even number of columns",
            remedy="Export it again.",
        )
    pairs = cells.reshape(layout.rows, layout.columns // 2, 4)
    pixels = np.empty((layout.rows, layout.columns, 3), cells.dtype)
    pixels[:, 0::2, 0], pixels[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    pixels[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    return pixels
