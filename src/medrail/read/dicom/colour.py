"""Stored colours -> red, green, blue (DICOM PS3.3 C.7.6.3.1.2, palettes C.7.9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.processing import apply_color_lut

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom.elements import read_values

Array = npt.NDArray[Any]

# Luminance weights of red and blue (ITU-R BT.601), and from them what Cr and Cb add to red, green and blue.
_RED, _BLUE = 0.299, 0.114
_GREEN = 1 - _RED - _BLUE
_CR_TO_RED, _CB_TO_BLUE = 2 * (1 - _RED), 2 * (1 - _BLUE)
_CB_TO_GREEN, _CR_TO_GREEN = -_BLUE * _CB_TO_BLUE / _GREEN, -_RED * _CR_TO_RED / _GREEN

_MOST_ENTRIES = 1 << 20
# Kinds of segments: 0 is a run of values.
_LINE, _COPY = 1, 2


def to_rgb(values: Array, photometric: str, bits: int) -> Array:
    """(..., 3) of any photometric interpretation with three samples -> red, green, blue of the same type.

    Raises
    ------
    UnsupportedFormat
        For signed colours, and partial ranges of more than 8 bits.
    """
    if photometric == "RGB":
        return values
    if values.dtype.kind != "u" or (photometric.startswith("YBR_PARTIAL") and bits != 8):
        raise UnsupportedFormat(
            f"has {photometric} colours of {bits} bits, signed or with a partial range", remedy="Convert it to RGB."
        )
    luminance, blue, red = (values[..., channel].astype(np.float32) for channel in range(3))
    blue -= 1 << bits - 1
    red -= 1 << bits - 1
    if photometric.startswith("YBR_PARTIAL"):
        # 16 to 235 and 16 to 240 stand for the whole range.
        luminance, blue, red = (luminance - 16) * (255 / 219), blue * (255 / 224), red * (255 / 224)
    rgb = np.empty(values.shape, np.float32)
    rgb[..., 0] = luminance + _CR_TO_RED * red
    rgb[..., 1] = luminance + _CB_TO_GREEN * blue + _CR_TO_GREEN * red
    rgb[..., 2] = luminance + _CB_TO_BLUE * blue
    np.rint(rgb, out=rgb)
    return np.clip(rgb, 0, (1 << bits) - 1, out=rgb).astype(values.dtype)


def from_palette(indices: Array, dataset: pydicom.Dataset) -> Array:
    """(...,) indices -> (..., 3) of the palette's own depth, 8 or 16 bits; segmented palettes are expanded.

    Raises
    ------
    CorruptFile
        If the file lacks its palette, or it is broken.
    """
    _refuse_endless(dataset)
    try:
        colours: Array = apply_color_lut(indices, dataset)[..., :3]
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (a broken table raises anything)
        raise CorruptFile(
            f"its palette is missing or broken ({type(error).__name__})",
            needed="red, green and blue lookup tables",
            remedy="Export it again.",
        ) from None
    return colours


def _refuse_endless(dataset: pydicom.Dataset) -> None:
    """Segmented tables (C.7.9.2) are short programs: see that they write no more than a table holds."""
    for colour in ("Red", "Green", "Blue"):
        data = dataset.get(f"Segmented{colour}PaletteColorLookupTableData")
        if data is None:
            continue
        descriptor = read_values(dataset, f"{colour}PaletteColorLookupTableDescriptor")
        wide = len(descriptor) == 3 and int(descriptor[2]) > 8
        words = np.frombuffer(data, "<u2" if wide else np.uint8, len(data) // (2 if wide else 1))
        if _entries(words.tolist()) > _MOST_ENTRIES:
            raise CorruptFile(
                "its segmented palette has more entries than a palette can have",
                needed="at most 65,536",
                remedy="Export it again.",
            )


def _entries(words: list[int]) -> int:
    """An upper bound of the entries that a segmented table writes."""
    total = largest = at = 0
    while at + 1 < len(words):
        kind, count = words[at], words[at + 1]
        if kind == _COPY:
            total += count * largest
            at += 4
        else:
            total, largest = total + count, max(largest, count)
            at += 3 if kind == _LINE else 2 + count
    return total
