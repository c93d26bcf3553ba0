"""Pictures as they are meant to be seen: padding black, window or VOI LUT, MONOCHROME1 turned.

Only for pictures (X-ray, ultrasound, secondary capture): the numbers of CT, MR and PET are quantities and stay as they
are. Order of the transformations: modality, VOI, presentation (DICOM PS3.4 N.2; PS3.3 C.11.1, C.11.2, C.7.5.1.1.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import first_item, read_numbers, read_text, read_values
from medrail.read.dicom.header import Header
from medrail.read.dicom.tables import table_of
from medrail.types import ReadOptions

Array = npt.NDArray[Any]

# Modalities whose grey values serve to be looked at.
PICTURES = frozenset({"CR", "DX", "MG", "RF", "XA", "IO", "PX", "RG", "US", "IVUS", "OT", "SC", "XC", "ES", "GM", "OP"})
_QUANTITATIVE = frozenset({"CT", "MR", "PT", "NM", "RTDOSE"})


def is_windowed(dataset: Any, header: Header, options: ReadOptions) -> bool:
    """Whether decoding applies the file's VOI LUT or window, and so its slope and intercept before it.

    The caller must not scale such values again.
    """
    wanted = options.voi_lut == "apply" and header.modality in PICTURES and header.samples == 1
    return wanted and header.photometric != "PALETTE COLOR" and _voi(dataset, 0) is not None


def padding_of(values: Array, dataset: Any, header: Header) -> npt.NDArray[np.bool_] | None:
    """Where a picture's stored values are padding (PixelPaddingValue, up to its range limit); None where nowhere."""
    if header.modality in _QUANTITATIVE or values.dtype.kind not in "iu":
        return None
    first = read_numbers(dataset, "PixelPaddingValue", 1)
    if first is None:
        return None
    last = read_numbers(dataset, "PixelPaddingRangeLimit", 1) or first
    low, high = sorted(_as_stored(int(number[0]), values.dtype) for number in (first, last))
    padding: npt.NDArray[np.bool_] = (values >= low) & (values <= high)
    return padding if padding.any() else None


def _as_stored(number: int, dtype: np.dtype[Any]) -> int:
    """The element's sign may have been read otherwise than that of the pixels: the same bits, with their sign."""
    limits = np.iinfo(dtype)
    if limits.min <= number <= limits.max:
        return number
    return int(np.array(number & ((1 << 8 * dtype.itemsize) - 1), dtype=f"u{dtype.itemsize}").astype(dtype))


def blacken(values: Array, padding: npt.NDArray[np.bool_]) -> None:
    """Padding takes 0, or in signed pictures the lowest value of the others; in place."""
    others = values[~padding]
    values[padding] = 0 if values.dtype.kind == "u" or not others.size else others.min()


def invert(values: Array, bits: int) -> Array:
    """MONOCHROME1: white for black over the range of ``bits``, lowest + highest - value (C.7.6.3.1.2)."""
    if values.dtype.kind not in "iu":
        return values
    total = -1 if values.dtype.kind == "i" else (1 << bits) - 1
    return np.asarray(total - values.astype(np.int64), dtype=values.dtype)


def windowed(frames: Array, dataset: Any, header: Header, wanted: list[int]) -> tuple[Array, int]:
    """(N, H, W) values -> VOI LUT or window applied, in uint8 or uint16, and the bits of their range.

    A LUT goes before a window where there are both, the first of several is taken.

    Raises
    ------
    CorruptFile
        If the LUT is broken, or the window has no width.
    """
    planes = [_one_window(frame, dataset, header, number) for frame, number in zip(frames, wanted, strict=True)]
    if len({bits for _, bits in planes}) != 1:
        raise CorruptFile("VOI LUTs of several depths in one file", needed="one depth", remedy="Use voi_lut: ignore.")
    return np.stack([plane for plane, _ in planes]), planes[0][1]


def _one_window(frame: Array, dataset: Any, header: Header, number: int) -> tuple[Array, int]:
    voi = _voi(dataset, number)
    plane = header.planes[number] if number < len(header.planes) else header.planes[0]
    real = frame if header.has_lut else frame * np.float64(plane.slope) + plane.intercept
    bits = min(max(header.bits_stored, 8), 16)
    item = first_item(voi, "VOILUTSequence")
    if item is not None:
        table = table_of(item, signed=(header.signed and not header.has_lut) or plane.intercept < 0)
        return table(np.rint(real)), table.bits
    centre, width = (float(read_values(voi, key)[0]) for key in ("WindowCenter", "WindowWidth"))
    function = read_text(voi, "VOILUTFunction").upper() or "LINEAR"
    share = _share(real.astype(np.float64), centre, width, function)
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.rint(share * ((1 << bits) - 1)).astype(dtype), bits


def _share(values: Array, centre: float, width: float, function: str) -> Array:
    """0 to 1 within the window: the three functions of C.11.2.1.2 and C.11.2.1.3."""
    if not np.isfinite([centre, width]).all() or width < (1 if function == "LINEAR" else 0) or width == 0:
        raise CorruptFile("its window has no width", needed="a positive width", remedy="Use voi_lut: ignore.")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise CorruptFile("its VOI LUT function is none that DICOM knows", remedy="Use voi_lut: ignore.")
    if width == 1:
        return np.asarray(values > centre - 0.5, dtype=np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _voi(dataset: Any, number: int) -> Any:
    """Where the VOI LUT or window of frame ``number`` stands: its own group, the shared one, the data set; or None."""
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    own = groups[number] if groups and number < len(groups) else None
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    for place in (first_item(own, "FrameVOILUTSequence"), first_item(shared, "FrameVOILUTSequence"), dataset):
        if place is None:
            continue
        window = all(read_values(place, keyword) for keyword in ("WindowCenter", "WindowWidth"))
        if window or place.get("VOILUTSequence"):
            return place
    return None


def bits_of(values: Array, header: Header) -> int:
    """Bits of the range over which a picture is turned."""
    if header.has_lut and values.dtype.kind == "u":
        return 8 * int(values.dtype.itemsize)
    return header.bits_stored
