"""What can identify inside of pixel data: rectangles to blank, overlays in unused bits, comments in codestreams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from medrail.cases.deidentify.options import Options, Rectangle
from medrail.errors import ReadError
from medrail.read.dicom.header import header_of
from medrail.read.dicom.pixels import stored_values

Array = npt.NDArray[Any]

_PIXEL_DATA = 0x7FE00010


def rectangles_for(dataset: Dataset, options: Options) -> tuple[Rectangle, ...]:
    """The rectangles that the rules name for this picture."""
    if "PixelData" not in dataset:
        return ()
    modality, maker, model = (
        str(dataset.get(name) or "") for name in ("Modality", "Manufacturer", "ManufacturerModelName")
    )
    columns, rows = int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
    return tuple(
        r for rule in options.rules if rule.fits(modality, maker, model, columns, rows) for r in rule.rectangles
    )


def blank(dataset: Dataset, rectangles: tuple[Rectangle, ...]) -> None:
    """Make the rectangles one plain value in every frame. Compressed pixels are stored uncompressed afterwards.

    Raises
    ------
    ReadError
        For single-bit pixels, and pixels that cannot be decoded.
    """
    if int(dataset.BitsAllocated) == 1:
        raise ReadError("has pixels of one bit", needed="8 or more to blank a rectangle", remedy="Leave it out.")
    if dataset.file_meta.TransferSyntaxUID.is_compressed or "422" in str(dataset.PhotometricInterpretation):
        _decompress(dataset)
    stored = pixel_array(dataset, raw=True)
    frames = stored.copy().reshape(_frame_shape(dataset))
    for rectangle in rectangles:
        rows = slice(rectangle.y, rectangle.y + rectangle.height)
        columns = slice(rectangle.x, rectangle.x + rectangle.width)
        for frame in frames:
            frame[rows, columns] = _plain(dataset, frame)
    if "PlanarConfiguration" in dataset:
        dataset.PlanarConfiguration = 0
    little = dataset.file_meta.TransferSyntaxUID.is_little_endian
    content = frames.astype(frames.dtype.newbyteorder("<" if little else ">")).tobytes()
    # Bytes, not words: big endian words would be swapped.
    dataset[_PIXEL_DATA].VR = "OB" if frames.dtype.itemsize == 1 and not little else dataset[_PIXEL_DATA].VR
    dataset[_PIXEL_DATA].value = content + bytes(len(content) % 2)
    dataset.BurnedInAnnotation = "NO"


def _decompress(dataset: Dataset) -> None:
    """Stored values without compression; colours as red, green, blue."""
    values = stored_values(dataset, header_of(dataset, Path()))
    little = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = little + bytes(len(little) % 2)
    dataset[_PIXEL_DATA].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    dataset[_PIXEL_DATA].is_undefined_length = False
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.HighBit = int(dataset.BitsStored) - 1
    if values.shape[-1] > 1:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian


def _frame_shape(dataset: Dataset) -> tuple[int, ...]:
    samples = int(dataset.get("SamplesPerPixel") or 1)
    colours = (samples,) if samples > 1 else ()
    return (-1, int(dataset.Rows), int(dataset.Columns), *colours)


def _plain(dataset: Dataset, frame: Array) -> Any:
    """Black: the darkest value in the frame, or the colour black."""
    photometric = str(dataset.PhotometricInterpretation)
    if photometric.startswith("YBR"):
        return np.array([0, 128, 128], frame.dtype)
    if photometric == "MONOCHROME1":
        return frame.max()
    return frame.min() if photometric == "MONOCHROME2" else 0


def clear_unused_bits(dataset: Dataset) -> bool:
    """Clear overlay planes kept in unused bits of native pixels (retired, PS3.5 section 8.1.2); True if there were any.

    Raises
    ------
    ReadError
        Where such planes are declared and the pixels are compressed.
    """
    planes = [
        group for group in range(0x6000, 0x6020, 2) if (group, 0x0010) in dataset and (group, 0x3000) not in dataset
    ]
    allocated, used = int(dataset.get("BitsAllocated") or 0), int(dataset.get("BitsStored") or 0)
    if not planes or "PixelData" not in dataset or allocated not in (8, 16, 32) or used >= allocated:
        return False
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        raise ReadError("keeps drawings in the unused bits of compressed pixels", remedy="Decompress it first.")
    high = int(dataset.get("HighBit") or used - 1)
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    content: bytes = dataset.PixelData
    words = np.frombuffer(content, f"{order}u{allocated // 8}", count=len(content) // (allocated // 8)).copy()
    low = high - used + 1
    mask = ((1 << used) - 1) << low
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    sign = (words >> high) & 1 if signed else np.zeros_like(words)
    above = ((1 << allocated) - 1) & ~((1 << (high + 1)) - 1)
    words &= mask
    words |= (sign * words.dtype.type(above)).astype(words.dtype)
    dataset[_PIXEL_DATA].value = words.tobytes() + content[words.nbytes :]
    return True


def trim(dataset: Dataset) -> bool:
    """Cut what stands behind the last pixel of native pixel data; True if there was more than the padding byte."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if "PixelData" not in dataset or syntax.is_compressed or "422" in str(dataset.get("PhotometricInterpretation")):
        return False
    names = ("Rows", "Columns", "BitsAllocated")
    if not all(dataset.get(name) for name in names):
        return False
    rows, columns, bits = (int(dataset[name].value) for name in names)
    pixels = rows * columns * int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("NumberOfFrames") or 1)
    expected = (pixels * bits + 7) // 8
    content: bytes = dataset.PixelData
    expected += expected % 2  # the padding byte; in big endian words it is not the last
    if len(content) <= expected:
        return False
    dataset[_PIXEL_DATA].value = content[:expected]
    return True


def clear_comments(dataset: Dataset) -> bool:
    """Blank comments and foreign application segments inside of encapsulated JPEG and JPEG 2000; lengths stay.

    Also what stands before the first and between later items of the encapsulation is data of the stream and stays.
    """
    if "PixelData" not in dataset or not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return False
    content = bytearray(dataset.PixelData)
    changed = False
    for start, end in _fragments(content):
        if content[start : start + 2] == b"\xff\xd8":
            changed |= blank_jpeg(content, start, end)
        elif content[start : start + 4] == b"\xff\x4f\xff\x51":
            changed |= _blank_j2k(content, start, end)
    if changed:
        dataset[_PIXEL_DATA].value = bytes(content)
    return changed


def _fragments(content: bytearray) -> list[tuple[int, int]]:
    found, position = [], 0
    while position + 8 <= len(content) and content[position : position + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(content[position + 4 : position + 8], "little")
        found.append((position + 8, min(position + 8 + length, len(content))))
        position += 8 + length
    return found


def blank_jpeg(content: bytearray, start: int, end: int) -> bool:
    """COM and APP1-7, 9-13, 15; JFIF, SPIFF/colour transform (APP8) and Adobe tell the colours."""
    position, changed = start + 2, False
    while position + 4 <= end and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xDA or length < 2:
            break
        if marker == 0xFE or (0xE1 <= marker <= 0xEF and marker not in (0xE8, 0xEE)):
            changed |= _zero(content, position + 4, min(position + 2 + length, end))
        position += 2 + length
    return changed


def _blank_j2k(content: bytearray, start: int, end: int) -> bool:
    """COM segments of the main header (ISO/IEC 15444-1 section A.9.2)."""
    position, changed = start + 2, False
    while position + 4 <= end and content[position] == 0xFF and content[position + 1] not in (0x90, 0x93, 0xD9):
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        if content[position + 1] == 0x64:
            changed |= _zero(content, position + 6, min(position + 2 + length, end))
        if length < 2:
            break
        position += 2 + length
    return changed


def _zero(content: bytearray, start: int, end: int) -> bool:
    before = bytes(content[start:end])
    content[start:end] = bytes(max(end - start, 0))
    return any(before)
