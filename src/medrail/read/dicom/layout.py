"""How the pixels of one file are laid out (DICOM PS3.3 C.7.6.3.1, PS3.5 8.1), checked for contradictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom.elements import read_whole
from medrail.read.dicom.header import Header

Array = npt.NDArray[Any]

_GREY = frozenset({"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"})
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420"})
_RETIRED = frozenset({"HSV", "ARGB", "CMYK"})
_REMEDY = "Export it again."


@dataclass(frozen=True)
class Layout:
    """Cells of ``bits_allocated``; a value's highest bit is ``high_bit``, it has ``bits_stored``.

    planar:
        Colours one plane after the other instead of one pixel after the other; only of uncompressed and RLE pixels.
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one value, in this machine's byte order; 1-bit values take a byte."""
        return np.dtype(f"{'i' if self.signed else 'u'}{max(self.bits_allocated // 8, 1)}")

    @property
    def cells(self) -> int:
        """Values of one frame."""
        return self.rows * self.columns * self.samples


def frames_declared(dataset: Any) -> int:
    """Number of Frames; 1 where it is missing."""
    return max(read_whole(dataset, "NumberOfFrames", 1), 1)


def layout_of(dataset: Any, header: Header) -> Layout:
    """What the header says about its integer pixels.

    Raises
    ------
    CorruptFile
        If samples and photometric interpretation, or the numbers of bits, contradict one another.
    UnsupportedFormat
        If the colours are of a kind that DICOM has retired, or the cells of a size that is not read.
    """
    photometric, samples = header.photometric, header.samples
    if photometric in _RETIRED:
        raise UnsupportedFormat(
            f"its colours are stored as {photometric}, which DICOM has retired",
            needed="MONOCHROME, PALETTE COLOR, RGB or YBR",
            remedy="Convert it to RGB first.",
        )
    if (samples, photometric) not in {(1, name) for name in _GREY} | {(3, name) for name in _COLOUR}:
        known = photometric if photometric in _GREY | _COLOUR else "an unknown" if photometric else "no"
        raise CorruptFile(
            f"has {samples} sample(s) a pixel and {known} photometric interpretation",
            needed="1 with MONOCHROME or PALETTE COLOR, 3 with RGB or YBR",
            remedy=_REMEDY,
        )
    allocated, stored = header.bits_allocated, header.bits_stored
    high = read_whole(dataset, "HighBit", stored - 1)
    if allocated not in (1, 8, 16, 32):
        raise UnsupportedFormat(f"has cells of {allocated} bits", needed="1, 8, 16 or 32", remedy=_REMEDY)
    if not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise CorruptFile(
            f"its bits contradict one another: {allocated} allocated, {stored} stored, the highest is bit {high}",
            needed="stored bits that fit into the allocated ones",
            remedy=_REMEDY,
        )
    planar = samples > 1 and read_whole(dataset, "PlanarConfiguration", 0) == 1
    return Layout(
        *(read_whole(dataset, "Rows"), read_whole(dataset, "Columns"), samples, allocated, stored, high),
        signed=header.signed,
        photometric=photometric,
        planar=planar,
    )


def values_of(cells: Array, layout: Layout, *, lossy: bool = False) -> Array:
    """Cells -> values: what lies beside the stored bits (overlays, garbage) is taken away, the sign is extended.

    ``cells`` is of ``layout.dtype`` and may be written to. A lossy decoder may leave the stored range by a little:
    then values are clipped to it, where dropping their upper bits would turn white into black.

    Raises
    ------
    CorruptFile
        If the header places the value in the upper bits of a cell, and the values evidently lie in the lower ones.
    """
    stored, allocated = layout.bits_stored, layout.bits_allocated
    if stored == allocated:
        return cells
    if lossy:
        low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if layout.signed else (0, (1 << stored) - 1)
        return np.clip(cells, low, high, out=cells)
    below = layout.high_bit + 1 - stored
    if below:
        _refuse_lower_bits(cells.view(f"u{cells.itemsize}"), stored, below)
    if not layout.signed:
        cells >>= below
        cells &= (1 << stored) - 1
        return cells
    cells <<= allocated - 1 - layout.high_bit
    cells >>= allocated - stored
    return cells


def _refuse_lower_bits(cells: Array, stored: int, below: int) -> None:
    if not (cells >> stored).any() and (cells & ((1 << below) - 1)).any():
        raise CorruptFile(
            f"HighBit places its values in bits {below} to {below + stored - 1}, and they lie in the lowest {stored}",
            needed="HighBit one less than BitsStored",
            remedy=_REMEDY,
        )


def sign_extended(values: Array, bits: int, dtype: np.dtype[Any]) -> Array:
    """Two's complement numbers of ``bits`` bits -> the same bits read with the sign that ``dtype`` has, or without."""
    if dtype.kind == "u":
        return (values.astype(np.int64) & ((1 << bits) - 1)).astype(dtype)
    shift = 8 * dtype.itemsize - bits
    whole = np.array(values, dtype=f"u{dtype.itemsize}").view(dtype)
    return whole if shift <= 0 else (whole << shift) >> shift
