"""Stored pixels of one DICOM file -> numbers: decoded, colours as RGB, Modality LUT applied, pictures to be looked at.

``layout`` says how they are laid out, ``native`` reads uncompressed ones, ``fragments`` and ``decoders`` compressed
ones, ``colour`` turns them into RGB, ``display`` does what is for pictures only.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medrail.errors import CorruptFile, MedrailError, ReadError, UnsupportedFormat
from medrail.read.dicom.colour import from_palette, to_rgb
from medrail.read.dicom.decoders import DECODERS, decode_frame
from medrail.read.dicom.display import bits_of, blacken, invert, is_windowed, padding_of, windowed
from medrail.read.dicom.fragments import Frames
from medrail.read.dicom.header import Header
from medrail.read.dicom.layout import Layout, frames_declared, layout_of
from medrail.read.dicom.native import native_frames
from medrail.read.dicom.private import PRIVATE_TAGS
from medrail.read.dicom.tables import table_of
from medrail.read.limits import MAX_VOXEL_BYTES, check_voxels
from medrail.types import READ_AS_STORED, ReadOptions

Array = npt.NDArray[Any]

_CHUNK = 1 << 20
# Encapsulated Uncompressed Explicit VR Little Endian, which pydicom cannot name.
ENCAPSULATED = "1.2.840.10008.1.2.1.98"
UNCOMPRESSED = frozenset(
    {ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian}
)
_FLOATS = {"FloatPixelData": 4, "DoubleFloatPixelData": 8}
# What pydicom cannot name.
_NAMES = dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)), "JPEG XL")
_VIDEO = ("1.2.840.10008.1.2.4.10", "1.2.840.10008.1.2.7.")


def parse(path: Path, keywords: list[str] | None = None) -> pydicom.Dataset:
    """A DICOM file's data set; with ``keywords`` only those elements, and no pixels."""
    _refuse_deflate_bomb(path)
    tags: list[Any] | None = None if keywords is None else [*keywords, *PRIVATE_TAGS]
    return pydicom.dcmread(path, force=True, stop_before_pixels=keywords is not None, specific_tags=tags)


def parse_header(path: Path) -> pydicom.Dataset:
    """All of a DICOM file's data set that comes before its pixels."""
    _refuse_deflate_bomb(path)
    return pydicom.dcmread(path, force=True, stop_before_pixels=True)


def decode(
    dataset: pydicom.Dataset,
    header: Header,
    frames: Sequence[int] | None = None,
    options: ReadOptions = READ_AS_STORED,
) -> Array:
    """(C, N, H, W) for the file's N frames, or for the numbers in ``frames``: values before slope and intercept.

    Colours are red, green, blue. A Modality LUT is applied. In pictures (``display``) padding is black, MONOCHROME1 is
    turned, and the window or VOI LUT is applied where ``options`` ask for it; ``display.is_windowed`` tells whether:
    slope and intercept are then done already. A mosaic comes back as the one picture that it is stored as.

    Raises
    ------
    CorruptFile
        If there are no pixels, they are cut off, contradict the header, or no decoder can read them.
    UnsupportedFormat
        If they are compressed in a way that has no decoder, or of a kind that is not read.
    ReadError
        If they would be too large.
    """
    count = frames_declared(dataset)
    wanted = list(range(count)) if frames is None else [int(number) for number in frames]
    if any(not 0 <= number < count for number in wanted):
        raise ReadError(f"has {count} frame(s)", needed="frame numbers within them")
    shape = (count, int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0))
    check_voxels((*shape, header.samples), max(header.bits_allocated // 8, 1))
    if "PixelData" not in dataset:
        for keyword, size in _FLOATS.items():
            if keyword in dataset:
                big = _syntax(dataset) == ExplicitVRBigEndian
                return _floats(bytes(dataset.get(keyword)), shape, size, wanted, big=big)
        raise CorruptFile("has a picture's header and no pixels", remedy="Export it again with its pixels.")
    values, photometric = _stored_or_refused(dataset, header, count, wanted)
    return _meant(values, photometric, dataset, header, wanted, options)


def stored_values(dataset: pydicom.Dataset, header: Header) -> Array:
    """(N, H, W, S) of all frames as stored, grey, palette indices, or red, green, blue: no table, nothing turned.

    The value's highest bit is BitsStored - 1, whatever HighBit says; errors as ``decode``.
    """
    count = frames_declared(dataset)
    values, photometric = _stored_or_refused(dataset, header, count, range(count))
    return to_rgb(values, photometric, header.bits_stored) if header.samples > 1 else values


def syntax_name(uid: str) -> str:
    """The transfer syntax in words; an unknown one is not repeated."""
    name = _NAMES.get(uid) or UID(uid).name
    return str(name) if name != uid else "an unknown transfer syntax"


def _stored_or_refused(
    dataset: pydicom.Dataset, header: Header, count: int, wanted: Sequence[int]
) -> tuple[Array, str]:
    """As ``_stored``; whatever a decoder raises becomes one of our errors."""
    check_voxels((count, int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), header.samples), 1)
    layout = layout_of(dataset, header)
    try:
        return _stored(dataset, layout, count, wanted)
    except (MedrailError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  (each decoder has its own exceptions, and their texts may quote the header)
        raise CorruptFile(
            f"its pixels ({syntax_name(_syntax(dataset))}) cannot be decoded ({type(error).__name__})",
            needed="whole pixel data that fits its header",
            remedy="Copy or export it again.",
        ) from None


def _stored(dataset: pydicom.Dataset, layout: Layout, count: int, wanted: Sequence[int]) -> tuple[Array, str]:
    """(N, H, W, S) values and their photometric interpretation by now."""
    uid, data = _syntax(dataset), dataset.get("PixelData")
    if uid in UNCOMPRESSED:
        big = uid == ExplicitVRBigEndian
        swapped = big and layout.bits_allocated <= 8 and dataset["PixelData"].VR == "OW"
        return native_frames(data, layout, count, wanted, big=big, swapped=swapped)
    if uid not in DECODERS and uid != ENCAPSULATED:
        raise UnsupportedFormat(
            f"its pixels are compressed as {syntax_name(uid)}, which has no decoder here",
            needed="a transfer syntax that is read",
            remedy=_remedy(uid),
        )
    streams = Frames(data, count, dataset.get("ExtendedOffsetTable") or b"")
    if uid == ENCAPSULATED:
        parts = [native_frames(streams[number], layout, 1, [0], big=False, swapped=False) for number in wanted]
        return np.concatenate([part for part, _ in parts]), parts[0][1]
    values = np.empty((len(wanted), layout.rows, layout.columns, layout.samples), layout.dtype)
    photometric = layout.photometric
    for place, number in enumerate(wanted):
        values[place], photometric = decode_frame(streams[number], DECODERS[uid], layout)
    return values, photometric


def _meant(
    values: Array, photometric: str, dataset: Any, header: Header, wanted: list[int], options: ReadOptions
) -> Array:
    """(N, H, W, S) stored values -> (C, N, H, W) as the header means them."""
    if header.samples > 1:
        return np.moveaxis(to_rgb(values, photometric, header.bits_stored), -1, 0)
    planes = values[..., 0]
    if photometric == "PALETTE COLOR":
        return np.moveaxis(from_palette(planes, dataset), -1, 0)
    padding = padding_of(planes, dataset, header)
    if header.has_lut:
        big = _syntax(dataset) == ExplicitVRBigEndian
        planes = table_of(dataset.get("ModalityLUTSequence")[0], signed=header.signed, big=big)(planes)
    bits = bits_of(planes, header)
    if is_windowed(dataset, header, options):
        planes, bits = windowed(planes, dataset, header, wanted)
    if header.inverted:
        planes = invert(planes, bits)
    if padding is not None:
        blacken(planes, padding)
    return planes[None]


def _floats(data: bytes, shape: tuple[int, int, int], size: int, wanted: list[int], *, big: bool) -> Array:
    """Float or Double Float Pixel Data (C.7.6.24, C.7.6.25): one sample, no coding."""
    if len(data) < size * int(np.prod(shape)):
        raise CorruptFile("its pixel data end too early", needed="all pixels", remedy="Copy or export it again.")
    stored = np.frombuffer(data, f"{'>' if big else '<'}f{size}", int(np.prod(shape))).reshape(shape)
    return stored[wanted].astype(f"f{size}")[None]


def _remedy(uid: str) -> str:
    if uid.startswith(_VIDEO):
        return "It is a film: export its frames as single pictures, or as a multi-frame object of another syntax."
    return "Decompress it first, as with dcmdjpeg or gdcmconv --raw."


def _syntax(dataset: pydicom.Dataset) -> str:
    """Files without meta information do not name their transfer syntax; the parser has found it out."""
    uid = getattr(dataset, "file_meta", None) and dataset.file_meta.get("TransferSyntaxUID")
    if uid:
        return str(uid)
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _refuse_deflate_bomb(path: Path) -> None:
    """The deflated transfer syntax is inflated whole by the parser: see first that it stays within the limit."""
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return
        file.seek(0)
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        file.seek(132 + 12 + int(meta.get("FileMetaInformationGroupLength", 0)))
        engine, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while chunk := file.read(_CHUNK):
            while chunk:
                inflated += len(engine.decompress(chunk, 8 * _CHUNK))
                if inflated > MAX_VOXEL_BYTES:
                    raise ReadError(
                        "inflates to more than 4 GiB", remedy="It is broken, or made to harm: leave it out."
                    )
                chunk = engine.unconsumed_tail
