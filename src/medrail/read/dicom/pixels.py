"""Stored pixels of one DICOM file -> numbers: decoded, colours as RGB, MONOCHROME1 turned, Modality LUT applied."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medrail.errors import CorruptFile, ReadError
from medrail.read.dicom.header import Header
from medrail.read.dicom.jpeg import lossless_size
from medrail.read.limits import MAX_VOXEL_BYTES, check_voxels
from medrail.read.scaling import native

Array = npt.NDArray[Any]

_CHUNK = 1 << 20
_COLOUR_CHANNELS = 3

# One decoder a syntax: GDCM, pydicom's first choice, ends the whole process on some damaged streams (an exception of
# C++ that nobody catches), so it is asked only where there is no other of a free licence.
_DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEGLossless: "gdcm",
    JPEGLosslessSV1: "gdcm",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000: "pylibjpeg",
    JPEG2000Lossless: "pylibjpeg",
    RLELossless: "pylibjpeg",
}

# GDCM prints to stderr what it thinks of a stream; what matters comes back as an error.
gdcm.Trace.ErrorOff()
gdcm.Trace.WarningOff()


def parse(path: Path, keywords: list[str] | None = None) -> pydicom.Dataset:
    """A DICOM file's data set; with ``keywords`` only those elements, and no pixels."""
    _refuse_deflate_bomb(path)
    return pydicom.dcmread(path, force=True, stop_before_pixels=keywords is not None, specific_tags=keywords)


def decode(dataset: pydicom.Dataset, header: Header) -> Array:
    """(C, N, H, W) for the file's N frames: stored values, before slope and intercept.

    Raises
    ------
    CorruptFile
        If there are no pixels, they are truncated, or no decoder can read them.
    ReadError
        If they would be too large, or compressed in a way that has no decoder.
    """
    frames = len(header.planes)
    shape = (frames, header.rows, header.columns)
    check_voxels((*shape, header.samples), max(header.bits_allocated // 8, 1))
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise CorruptFile("has a picture's header and no pixels", remedy="Export it again with its pixels.")
    _name_transfer_syntax(dataset)
    stored = _decode_stored(dataset)
    if header.photometric == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)[..., :_COLOUR_CHANNELS]
    elif header.has_lut:
        stored = apply_modality_lut(stored, dataset)
    channels = stored.size // int(np.prod(shape))
    if channels not in (1, _COLOUR_CHANNELS) or stored.size != channels * int(np.prod(shape)):
        raise CorruptFile(f"its pixels have the shape {stored.shape}", needed=f"{shape}", remedy="Export it again.")
    planes = native(np.moveaxis(stored.reshape(*shape, channels), -1, 0))
    return _invert(planes, header) if header.inverted else planes


def _decode_stored(dataset: pydicom.Dataset) -> Array:
    try:
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax in (JPEGLossless, JPEGLosslessSV1):
            _check_lossless(dataset)
        stored: Array = pixel_array(dataset, decoding_plugin=_DECODERS.get(syntax, ""))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  (each decoder has its own exceptions, and their texts may quote the header)
        if isinstance(error, NotImplementedError) or _without_decoder(dataset):
            raise ReadError(
                f"its pixels are compressed as {_syntax_name(dataset)}, which has no decoder here",
                needed="a transfer syntax that is read",
                remedy="Decompress it first, as with dcmdjpeg or gdcmconv --raw.",
            ) from None
        raise CorruptFile(
            f"its pixels ({_syntax_name(dataset)}) cannot be decoded ({type(error).__name__})",
            needed="whole pixel data that fits its header",
            remedy="Copy or export it again.",
        ) from None
    return stored


def _check_lossless(dataset: pydicom.Dataset) -> None:
    """Let only a well-formed stream of the declared size reach GDCM."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    expected = (int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel))
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        if lossless_size(frame) != expected:
            raise CorruptFile(
                "its JPEG stream is broken or of another size than its header",
                needed=f"{expected[0]} x {expected[1]} pixels",
                remedy="Copy or export it again.",
            )


def _without_decoder(dataset: pydicom.Dataset) -> bool:
    """JPEG Extended is decoded up to 8 bits; the decoders for 12 are under the GPL."""
    return bool(dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit and dataset.get("BitsStored", 8) > 8)


def _syntax_name(dataset: pydicom.Dataset) -> str:
    uid = dataset.file_meta.TransferSyntaxUID
    return str(uid.name) if uid.name != uid else "an unknown transfer syntax"


def _name_transfer_syntax(dataset: pydicom.Dataset) -> None:
    """Files without meta information do not name their transfer syntax; the parser has found it out."""
    meta = getattr(dataset, "file_meta", None)
    if meta is None:
        meta = dataset.file_meta = pydicom.dataset.FileMetaDataset()
    if "TransferSyntaxUID" in meta:
        return
    implicit, little = dataset.original_encoding
    if implicit:
        meta.TransferSyntaxUID = ImplicitVRLittleEndian
    else:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _invert(planes: Array, header: Header) -> Array:
    """Black for white over the stored range: lowest + highest - value."""
    if planes.dtype.kind not in "iu":
        return planes
    if header.has_lut:
        total = int(np.iinfo(planes.dtype).max)
    else:
        total = -1 if header.signed else (1 << header.bits_stored) - 1
    return np.asarray(total - planes.astype(np.int64), dtype=planes.dtype)


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
