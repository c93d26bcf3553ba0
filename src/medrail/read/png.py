"""Plain PNGs of 8 bits: inflated by libdeflate and unfiltered by a compiled loop, where numba is loaded.

Only what is right in every respect is read here (structure, checksums, sizes); whatever is not, Pillow reads or
refuses. Portable Network Graphics (PNG) Specification, third edition: sections 5 (chunks), 9 (filters), 10
(compression).
"""

from __future__ import annotations

import importlib
import importlib.util
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.read.inflate import inflate_whole
from medrail.read.planes import planes_of

Bytes = npt.NDArray[np.uint8]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 6: 4}  # a pixel, by colour type: grey, RGB, RGB with alpha
_ANCILLARY = 0x20  # this bit of a chunk's first letter says that it may be passed over
_KERNELS = "medrail.read.png_rows"


class _Header(NamedTuple):
    height: int
    width: int
    samples: int


def decode_png(content: bytes) -> Bytes | None:
    """A whole PNG file -> planes (1 or 3, H, W), alpha dropped; None where it is to be decoded otherwise.

    Read are grey, RGB and RGB with alpha of 8 bits a sample, not interlaced.
    """
    parts = _parts(content)
    if parts is None:
        return None
    header, compressed = parts
    if "numba" not in sys.modules:
        return _by_libspng(content, header)
    row_bytes = 1 + header.width * header.samples
    rows = inflate_whole(compressed, header.height * row_bytes)
    if rows is None:
        return None
    from medrail.read.png_rows import unfilter  # loads numba

    out = np.empty((min(header.samples, 3), header.height, header.width), np.uint8)
    return out if unfilter(np.frombuffer(rows, np.uint8).reshape(-1, row_bytes), out) else None


def _parts(content: bytes) -> tuple[_Header, bytes] | None:
    """Header and compressed rows, if every chunk of the file is whole, known and in its place; else None."""
    chunks = list(_chunks(content))
    kinds = [kind for kind, _ in chunks]
    first, count = kinds.index(b"IDAT") if b"IDAT" in kinds else 0, kinds.count(b"IDAT")
    # Nothing but the end may follow the rows: it might say how the picture is turned, or be another frame.
    if not first or kinds[0] != b"IHDR" or kinds[first:] != [b"IDAT"] * count + [b"IEND"]:
        return None
    if any(kind == b"acTL" or not kind[0] & _ANCILLARY for kind in kinds[1:first]):
        return None
    header = _header(chunks[0][1])
    return (header, b"".join(body for _, body in chunks[first:-1])) if header else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, data) of each chunk; one that is not whole or has a wrong checksum comes as b"\\0", and is the last."""
    import imagecodecs

    at = len(_SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at) if at + 12 <= len(content) else (len(content), b"")
        end = at + 8 + length
        body, checksum = content[at + 8 : end], content[end : end + 4]
        if len(checksum) < 4 or imagecodecs.deflate_crc32(kind + body) != int.from_bytes(checksum):
            yield b"\0", b""
            return
        yield kind, body
        at = end + 4


def _header(body: bytes) -> _Header | None:
    if len(body) != 13:
        return None
    width, height, bits, colour, *methods = struct.unpack(">IIBBBBB", body)
    if bits != 8 or colour not in _SAMPLES or methods != [0, 0, 0] or not width or not height:
        return None
    return _Header(height, width, _SAMPLES[colour])


def _by_libspng(content: bytes, header: _Header) -> Bytes | None:
    """In colour quicker than Pillow, grey not; imagecodecs' libpng would be, but prints its warnings."""
    import imagecodecs

    if header.samples == 1:
        return None
    try:
        pixels = np.asarray(imagecodecs.spng_decode(content)).reshape(*header)
    except (RuntimeError, ValueError):
        return None
    return planes_of(pixels[None])[:3, 0] if pixels.dtype == np.uint8 else None


def load_compiled() -> bool:
    """Load the compiled loop for this process, and say whether there is one (numba is installed).

    That takes half a second, and some seconds the very first time; it is worth it from a hundred pictures of a million
    pixels on. Where numba is not loaded, libspng and Pillow give the same pixels.
    """
    try:
        importlib.import_module(_KERNELS)
    except (ImportError, RuntimeError, OSError):  # not installed, or no folder for what it compiles
        return False
    return True
