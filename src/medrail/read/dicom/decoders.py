"""One compressed frame -> its cells. One decoder a transfer syntax, each behind a check of the stream's own header.

Which decoder, and why (measured on mutated streams, see docs/reference/dicom.md): libjpeg-turbo (3.x: 8 and 12 bits,
lossless) and OpenJPEG and CharLS never crashed; the lossless-only JPEG decoders, the HTJ2K decoder and the DICOM RLE
decoder of the same package do, so they are not used: OpenJPEG reads HTJ2K too, and RLE is taken apart here. The package
is loaded with the first compressed picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    JPEG2000MC,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom.codestream import END, Kind, Stream, complete, stream_of
from medrail.read.dicom.layout import Layout, sign_extended, values_of

Array = npt.NDArray[Any]

_REMEDY = "Copy or export it again."
# Enough varied bits that a decoder which runs into them must write something else than nothing.
_FILLER = bytes((37 * number + 11) % 251 for number in range(64))


@dataclass(frozen=True)
class Decoder:
    """Of one transfer syntax.

    name:
        Of the library, for the docs.
    kinds:
        Codestreams that may stand in it.
    read:
        (stream's bytes, its header, layout) -> cells (H, W) or (H, W, S); None: RLE, which has no stream header.
    """

    name: str
    kinds: tuple[Kind, ...]
    read: Callable[[bytes, Stream, Layout], Array]
    lossy: bool = False


def decode_frame(data: bytes, decoder: Decoder, layout: Layout) -> tuple[Array, str]:
    """One frame's stream -> values (H, W, S) of the layout's type, and their photometric interpretation by now.

    Raises
    ------
    CorruptFile
        If the stream is broken, cut off, or of another size, depth or process than the header declares.
    UnsupportedFormat
        If it uses transforms of JPEG 2000 part 2.
    """
    if not decoder.kinds:
        return values_of(_run_lengths(data, layout), layout), layout.photometric
    stream = _checked(stream_of(data), decoder, layout)
    if stream.kind == "ls" and not complete(data):
        # CharLS takes seconds to notice that there is no end.
        raise CorruptFile("its JPEG-LS stream has no end", needed="the whole stream", remedy=_REMEDY)
    cells = decoder.read(data, stream, layout)
    if cells.shape[:2] != (layout.rows, layout.columns) or cells.size != layout.cells:
        raise CorruptFile(f"its stream decodes to the shape {cells.shape}", remedy=_REMEDY)
    cells = cells.reshape(layout.rows, layout.columns, layout.samples)
    values = _as_declared(cells, stream, layout, lossy=decoder.lossy)
    # The decoder undoes the colour transforms of JPEG and JPEG 2000; where the latter has none, its header errs.
    undone = stream.kind == "dct" or stream.rgb_ids or stream.mixed or layout.photometric in ("YBR_ICT", "YBR_RCT")
    return values, "RGB" if layout.samples > 1 and undone else layout.photometric


def _checked(stream: Stream | None, decoder: Decoder, layout: Layout) -> Stream:
    if stream is None or stream.kind not in decoder.kinds:
        raise CorruptFile(
            f"its compressed stream is broken, or not what its transfer syntax names ({decoder.name})", remedy=_REMEDY
        )
    if stream.part_2:
        raise UnsupportedFormat("uses transforms of JPEG 2000 part 2", remedy="Decompress it first.")
    found = (stream.rows, stream.columns, stream.samples)
    if found != (layout.rows, layout.columns, layout.samples) or stream.bits > layout.bits_allocated:
        raise CorruptFile(
            f"its stream holds {_size(*found)} of {stream.bits} bits, its header declares "
            f"{_size(layout.rows, layout.columns, layout.samples)} in {layout.bits_allocated}",
            needed="a stream that fits its header",
            remedy=_REMEDY,
        )
    return stream


def _size(rows: int, columns: int, samples: int) -> str:
    return f"{rows} x {columns} x {samples}"


def _as_declared(cells: Array, stream: Stream, layout: Layout, *, lossy: bool) -> Array:
    """The stream's numbers as the header's type.

    JPEG and JPEG-LS streams have no sign, and some writers of JPEG 2000 leave it out: where the header has one, the
    stream's bits are two's complement of the stream's own depth.
    """
    dtype = layout.dtype
    if stream.signed != layout.signed:
        cells = sign_extended(cells, stream.bits, dtype)
    elif cells.dtype != dtype:
        cells = cells.astype(dtype)
    if stream.bits <= layout.bits_stored:
        return cells
    return values_of(cells, layout, lossy=lossy)


def _jpeg(data: bytes, stream: Stream, layout: Layout) -> Array:
    """Libjpeg-turbo. It fills up what is missing without a word, so that has to be found out."""
    pixels = _libjpeg(data, stream, layout)
    if not complete(data) or _may_have_run_out(pixels, stream):
        end = data.rfind(END)
        longer = data[: end if end > 0 else len(data)].rstrip(b"\xff") + _FILLER + END
        if not np.array_equal(pixels, _libjpeg(longer, stream, layout)):
            raise CorruptFile("its JPEG stream ends before its picture does", needed="the whole stream", remedy=_REMEDY)
    return pixels


def _libjpeg(data: bytes, stream: Stream, layout: Layout) -> Array:
    import imagecodecs

    if stream.samples == 1:
        return np.asarray(imagecodecs.jpeg8_decode(data))
    if stream.kind == "dct":
        space = "YCBCR" if _is_ybr(stream, layout, data) else "RGB"
        return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace="RGB"))
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace="RGB", outcolorspace="RGB"))


def _is_ybr(stream: Stream, layout: Layout, data: bytes) -> bool:
    """Components called R, G, B are that; else the header decides, unless the stream's own marks contradict its RGB."""
    if stream.rgb_ids:
        return False
    return layout.photometric.startswith("YBR") or stream.adobe == 1 or b"JFIF\0" in data[:32]


def _may_have_run_out(pixels: Array, stream: Stream) -> bool:
    """Without data a decoder repeats: the last blocks are flat, the last differences 0 (T.81, H.1.2.1 predictor 1)."""
    if stream.kind == "lossless" and stream.predictor != 1:
        return True
    corner = pixels[-2:, -2:] if stream.kind == "dct" else pixels[-1:, -2:]
    return bool((corner == corner[-1, -1]).all())


def _jpeg_ls(data: bytes, stream: Stream, layout: Layout) -> Array:
    import imagecodecs

    return np.asarray(imagecodecs.jpegls_decode(data))


def _jpeg_2000(data: bytes, stream: Stream, layout: Layout) -> Array:
    import imagecodecs

    return np.asarray(imagecodecs.jpeg2k_decode(data))


def _run_lengths(data: bytes, layout: Layout) -> Array:
    """DICOM RLE (PS3.5 G): a header of offsets, then one PackBits segment a byte of a sample, the highest first."""
    width = layout.bits_allocated // 8
    pixels = layout.rows * layout.columns
    offsets = np.frombuffer(data[:64] if len(data) >= 64 else b"", "<u4")
    count = layout.samples * width
    if len(offsets) != 16 or int(offsets[0]) != count or layout.bits_allocated == 1:
        raise CorruptFile("its RLE header is broken, or not of its samples and bits", remedy=_REMEDY)
    starts = [int(offset) for offset in offsets[1 : count + 1]]
    if starts != sorted(starts) or starts[0] < 64 or starts[-1] > len(data):
        raise CorruptFile("its RLE segments lie outside of its data", remedy=_REMEDY)
    if count == 2 and width == 2:
        ends = [starts[1], len(data)]
        high, low = (_segment(data[start:stop], pixels) for start, stop in zip(starts, ends, strict=True))
        whole = np.left_shift(high, 8, dtype=np.uint16)
        np.bitwise_or(whole, low, out=whole)
        return whole.view(layout.dtype).reshape(layout.rows, layout.columns, 1)
    cells = np.empty((pixels, layout.samples, width), np.uint8)
    for index, (start, stop) in enumerate(zip(starts, [*starts[1:], len(data)], strict=True)):
        # The highest byte first here, the lowest first in memory.
        cells[:, index // width, width - 1 - index % width] = _segment(data[start:stop], pixels)
    return cells.view(f"<{layout.dtype.str[1:]}").reshape(layout.rows, layout.columns, layout.samples)


def _segment(data: bytes, length: int) -> npt.NDArray[np.uint8]:
    """One PackBits segment of ``length`` bytes; a byte of padding may follow it, packed or unpacked."""
    import imagecodecs

    for content in (data, data[:-1]):
        try:
            unpacked = imagecodecs.packbits_decode(content)
        except imagecodecs.PackbitsError:
            continue
        if length <= len(unpacked) <= length + 1:
            return np.frombuffer(unpacked, np.uint8, length)
    raise CorruptFile("an RLE segment is broken or of another size than its header declares", remedy=_REMEDY)


_TURBO, _CHARLS, _OPENJPEG = "libjpeg-turbo", "CharLS", "OpenJPEG"
_LOSSY_2000 = Decoder(_OPENJPEG, ("j2k",), _jpeg_2000, lossy=True)
_LOSSLESS_2000 = Decoder(_OPENJPEG, ("j2k",), _jpeg_2000)

# Transfer syntaxes without an entry here are uncompressed (read by numpy) or refused by name.
DECODERS: Mapping[str, Decoder] = {
    JPEGBaseline8Bit: Decoder(_TURBO, ("dct",), _jpeg, lossy=True),
    JPEGExtended12Bit: Decoder(_TURBO, ("dct",), _jpeg, lossy=True),
    JPEGLossless: Decoder(_TURBO, ("lossless",), _jpeg),
    JPEGLosslessSV1: Decoder(_TURBO, ("lossless",), _jpeg),
    JPEGLSLossless: Decoder(_CHARLS, ("ls",), _jpeg_ls),
    JPEGLSNearLossless: Decoder(_CHARLS, ("ls",), _jpeg_ls, lossy=True),
    JPEG2000Lossless: _LOSSLESS_2000,
    JPEG2000: _LOSSY_2000,
    JPEG2000MCLossless: _LOSSLESS_2000,
    JPEG2000MC: _LOSSY_2000,
    HTJ2KLossless: _LOSSLESS_2000,
    HTJ2KLosslessRPCL: _LOSSLESS_2000,
    HTJ2K: _LOSSY_2000,
    RLELossless: Decoder("numpy, PackBits of imagecodecs", (), _jpeg),
}
