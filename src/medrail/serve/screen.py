"""The look at an upload before it is decoded: is its kind served, is it whole in itself, how large does it say it is?

The readers check everything again; this keeps what is too much for a service, or refers to files beside it, from them.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read import sniff
from medrail.read.guard import Guard
from medrail.serve.problems import Refusal

ELSEWHERE = -1
_HEADER_BYTES = 64 * 1024
_DEFLATED_DICOM = b"1.2.840.10008.1.2.1.99"


def screen(path: Path, max_values: int) -> str:
    """The kind of an uploaded file, told by its content.

    Raises
    ------
    Refusal
        If it is of a kind that is not served, refers to other files, or declares more than ``max_values`` values.
    DataError
        If it is of no kind that medrail reads, or its header is broken.
    """
    try:
        kind = sniff(path)
    except UnsupportedFormat as error:
        error.needed = ""  # it lists what the readers know; what is served is in the problem's remedy
        raise
    if kind not in SCREENS:
        raise Refusal("unsupported-format", f"The file is of the kind {kind}.")
    with Guard(path, kind.upper()):
        values = SCREENS[kind](path, max_values)
    if values == ELSEWHERE:
        raise Refusal(
            "unsupported-format",
            "The file is only a header; its voxels are in another file.",
            "Save the image as one file: .mha, .nrrd or .nii.gz.",
        )
    if values > max_values:
        raise Refusal(
            "too-many-voxels",
            f"The file declares {values / 1e6:,.1f} million values; the limit is {max_values / 1e6:,.1f} million.",
        )
    return kind


def screen_slices(paths: Sequence[Path], max_values: int) -> None:
    """The same for the files of an archive (``archive.unpacked``), which together make one image.

    Raises
    ------
    Refusal
        "too-many-voxels" for all of them together.
    DataError
        If a header is broken.
    """
    values = 0
    for path in paths:
        with Guard(path, "DICOM"):
            values += _dicom(path, max_values)
        if values > max_values:
            raise Refusal(
                "too-many-voxels", f"The archive declares more than {max_values / 1e6:,.1f} million values, the limit."
            )


def _picture(path: Path, max_values: int) -> int:
    from PIL import Image as Picture
    from PIL import UnidentifiedImageError

    try:
        with Picture.open(path) as picture:
            frames = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            return picture.width * picture.height * len(picture.getbands()) * frames
    except (Picture.DecompressionBombError, Picture.DecompressionBombWarning):
        return max_values + 1
    except UnidentifiedImageError:
        raise CorruptFile("the header of the picture cannot be read", needed="a whole picture") from None


def _dicom(path: Path, max_values: int) -> int:
    from pydicom import dcmread

    if _DEFLATED_DICOM in _head(path) and _inflated_bytes(path, 2 * max_values) > 2 * max_values:
        return max_values + 1
    header = dcmread(path, force=True, stop_before_pixels=True)
    sizes = (header.get(name) or 1 for name in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"))
    return prod(int(size) for size in sizes)


def _nifti(path: Path, max_values: int) -> int:
    head = _head(path)
    if head.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 600)
    little = head[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0")
    order = "<" if little else ">"
    is_first = struct.unpack(f"{order}i", head[:4])[0] == 348
    extents = struct.unpack(f"{order}8h", head[40:56]) if is_first else struct.unpack(f"{order}8q", head[16:80])
    count = min(max(extents[0], 0), 7)
    return prod(max(extent, 1) for extent in extents[1 : count + 1])


def _nrrd(path: Path, max_values: int) -> int:
    header = re.split(rb"\r?\n\r?\n", _head(path), maxsplit=1)[0]
    if re.search(rb"^data ?file\s*:", header, re.IGNORECASE | re.MULTILINE):
        return ELSEWHERE
    return _declared(rb"^sizes\s*:([\d ]+)", header)


def _metaimage(path: Path, max_values: int) -> int:
    head = _head(path)
    data = re.search(rb"^\s*ElementDataFile\s*=\s*(.*?)\s*$", head, re.IGNORECASE | re.MULTILINE)
    if data and data[1].upper() != b"LOCAL":
        return ELSEWHERE
    header = head[: data.end()] if data else head
    return _declared(rb"^\s*DimSize\s*=([\d ]+)", header) * _declared(
        rb"^\s*ElementNumberOfChannels\s*=([\d ]+)", header
    )


def _declared(pattern: bytes, header: bytes) -> int:
    """The product of the numbers that the header gives; 1 where it gives none, which the reader will refuse."""
    found = re.search(pattern, header, re.IGNORECASE | re.MULTILINE)
    return prod(int(number) for number in found[1].split()) if found else 1


def _inflated_bytes(path: Path, max_bytes: int) -> int:
    """Size of a deflated data set, counted up to a little above ``max_bytes``; its reader inflates it as a whole."""
    content = path.read_bytes()
    (group_bytes,) = struct.unpack("<I", content[140:144])
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    pending = content[144 + group_bytes :]
    inflated = 0
    while pending and not engine.eof and inflated <= max_bytes:
        inflated += len(engine.decompress(pending, 1 << 20))
        pending = engine.unconsumed_tail
    return inflated


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER_BYTES)


# Kind -> the number of values that a file declares (any number above the limit will do), or ELSEWHERE.
SCREENS: Mapping[str, Callable[[Path, int], int]] = {
    "png": _picture,
    "jpeg": _picture,
    "tiff": _picture,
    "bmp": _picture,
    "dicom": _dicom,
    "nifti": _nifti,
    "nrrd": _nrrd,
    "metaimage": _metaimage,
}
