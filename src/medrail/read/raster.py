"""Pictures: PNG, JPEG, TIFF, BMP with 8, 16 or 32 bits, grey, colour or palette; stacks of TIFF pages.

Plain JPEGs and PNGs of 8 bits go through quicker decoders (``medrail.read.jpeg``, ``medrail.read.png``). Pillow
decodes all else that it keeps whole, and says what is broken. Colour PNGs of 16 bits a channel, which it squeezes to 8,
go through OpenCV; such TIFFs, and those with doubles or several pages, through tifffile.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.jpeg import applied_reduction, decode_jpeg, reduction
from medrail.read.limits import MAX_PICTURE_PIXELS, check_picture
from medrail.read.planes import planes_of
from medrail.read.png import decode_png
from medrail.read.scaling import native
from medrail.read.tiff import decode_tiff, orientation_of
from medrail.types import READ_AS_STORED, Applied, Image, ReadOptions, Unit

Array = npt.NDArray[Any]
_Decoded = tuple[Array, tuple[Applied, ...]]  # planes (C, D, H, W), and what was done in decoding them

_DECODERS = ("PNG", "JPEG", "TIFF", "BMP")
_UNITS: dict[str, Unit] = {"uint8": "uint8", "uint16": "uint16"}
_ORIENTATION = 0x0112  # EXIF and TIFF 6.0: 1 is upright, 2-8 are the other quarter turns and mirrors
_WHITE_IS_ZERO = 0
_TIFF, _JPEG, _PNG = (b"II", b"MM"), b"\xff\xd8", b"\x89P"
# No PNG or JPEG of as many pixels as are read is longer; a longer file is not taken into memory whole.
_MAX_WHOLE_BYTES = 8 * MAX_PICTURE_PIXELS
_SAMPLE_KINDS = {1: "u", 2: "i", 3: "f"}  # TIFF 6.0, SampleFormat


@dataclass(frozen=True)
class _Stored:
    """How the file keeps a sample: its bits, its numpy kind (u, i, f), and whether 0 is white."""

    bits: int = 8
    kind: str = "u"
    white_is_zero: bool = False


def read_picture(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A picture -> (1 or 3, D, H, W), upright (EXIF orientation applied), without physical space.

    D is 1; a TIFF whose pages are all alike is a stack of them. ``options.jpeg_least_px`` lets a JPEG be decoded at a
    reduced size, which its history then says (``medrail.read.jpeg``).

    Grey and black-and-white give one channel, everything else three (R, G, B); palettes are looked up, alpha is
    dropped, a TIFF whose 0 is white is inverted. Unit "uint8" or "uint16" as stored; signed and float TIFF are
    "arbitrary".

    Raises
    ------
    ReadError
        CorruptFile (truncated, broken), UnsupportedFormat (animated, pages of several sizes, exotic samples), or too
        many pixels.
    """
    with Guard(path, "picture"):
        planes, history = _decode(path, indices=False, least_px=options.jpeg_least_px)
        voxels = np.ascontiguousarray(planes)
        unit = _UNITS.get(voxels.dtype.name, "arbitrary")
        return Image(voxels, unit=unit, source=str(path), history=history)


def read_indices(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A mask kept as a picture -> (1, D, H, W): a palette's *indices*, 0/1 of black and white, else the stored numbers.

    Raises
    ------
    ReadError
        As ``read_picture``; and for a mask in colours, which has no one number a pixel.
    """
    with Guard(path, "picture"):
        voxels, _ = _decode(path, indices=True)
        if len(voxels) == 3 and not (voxels == voxels[:1]).all():
            raise ReadError(
                "is a mask in colours",
                needed="one number a pixel (grey, or a palette)",
                remedy="Save it as a grey or palette PNG.",
            )
        return Image(np.ascontiguousarray(voxels[:1]), unit="label", source=str(path))


def _decode(path: Path, *, indices: bool, least_px: tuple[int, int] | None = None) -> _Decoded:
    """(1 or 3, D, H, W)."""
    # Given a path, Pillow maps raw TIFFs into memory with the sizes of the turned picture: garbage for orientation 5-8.
    with _stream(path) as file:
        if not _is_for_tifffile(file):
            return _decode_stream(path, file, indices=indices, least_px=least_px)
    return _upright(planes_of(native(decode_tiff(path))), orientation_of(path)), ()


def _decode_stream(path: Path, file: BinaryIO, *, indices: bool, least_px: tuple[int, int] | None) -> _Decoded:
    with _open(file) as picture:
        check_picture(*picture.size)
        _check_frames(picture)
        quick = _decode_quickly(file, picture, least_px)
        if quick is not None:
            return quick
        stored = _stored(picture, file)
        _load(picture)
        if stored.bits == 16 and picture.mode in ("RGB", "RGBA", "RGBX", "CMYK"):
            pixels = _decode_deep_colour(path, picture)
        else:
            pixels = _as_stored(_to_array(picture, indices=indices), stored)
        # Both decoders turn a TIFF upright by themselves, and nothing else.
        orientation = 1 if picture.format == "TIFF" else _orientation(picture)
    return _upright(planes_of(pixels[None]), orientation), ()


def _stream(path: Path) -> BinaryIO:
    """The file, in memory where it is a PNG or JPEG: two decoders look at it."""
    file = path.open("rb")
    if file.read(2) in (_JPEG, _PNG) and os.fstat(file.fileno()).st_size <= _MAX_WHOLE_BYTES:
        with file:
            file.seek(0)
            return BytesIO(file.read())
    file.seek(0)
    return file


def _decode_quickly(file: BinaryIO, picture: Pillow.Image, least_px: tuple[int, int] | None) -> _Decoded | None:
    """(1 or 3, 1, H, W) of a plain, whole file; None for all else, which Pillow knows to decode or to refuse."""
    if picture.format not in ("JPEG", "PNG") or not isinstance(file, BytesIO):
        return None
    if picture.format == "PNG":
        planes = decode_png(file.getvalue()) if picture.mode in ("L", "RGB", "RGBA") else None
        if planes is None:
            return None
        # Nothing stands behind the pixels of such files: the orientation is known without Pillow decoding them.
        return _upright(planes[:, None], int(Pillow.Image.getexif(picture).get(_ORIENTATION, 1))), ()
    size, orientation = (picture.height, picture.width), _orientation(picture)
    factor = reduction(size, orientation, least_px)
    pixels = decode_jpeg(file.getvalue(), picture.mode, size, factor)
    if pixels is None:
        return None
    history = (applied_reduction(size, orientation, factor),) if factor > 1 else ()
    return _upright(planes_of(pixels[None]), orientation), history


def _orientation(picture: Pillow.Image) -> int:
    return int(picture.getexif().get(_ORIENTATION, 1))


def _load(picture: Pillow.Image) -> None:
    try:
        picture.load()
    except (OSError, SyntaxError) as error:
        if "truncated" not in str(error):
            raise
        raise CorruptFile(
            "is truncated: the file ends before its pixels do", needed="the whole file", remedy="Copy it again."
        ) from None


def _is_for_tifffile(file: BinaryIO) -> bool:
    """Several pages, or samples that Pillow refuses or squeezes; what it does not even open is tifffile's too."""
    is_tiff = file.read(2) in _TIFF
    file.seek(0)
    if not is_tiff:
        return False
    try:
        picture = Pillow.open(file, formats=("TIFF",))
        stored = _stored(picture, file)
        wide_colour = stored.bits > 8 and picture.mode in ("RGB", "RGBA", "RGBX")
        white_is_zero = stored.white_is_zero and (stored.bits, stored.kind) != (16, "u")
        return getattr(picture, "n_frames", 1) > 1 or wide_colour or white_is_zero
    except Pillow.DecompressionBombError:
        return False
    except UnidentifiedImageError:
        return True
    finally:
        file.seek(0)


def _open(file: BinaryIO) -> Pillow.Image:
    try:
        return Pillow.open(file, formats=_DECODERS)
    except UnidentifiedImageError:
        file.seek(0)
        raise _unidentified(file.read(2)) from None
    except Pillow.DecompressionBombError:
        raise ReadError(
            f"declares more than {MAX_PICTURE_PIXELS:,} pixels",
            remedy="Cut it into tiles or scale it down, unless its header is broken.",
        ) from None


def _unidentified(magic: bytes) -> ReadError:
    if magic in (b"II", b"MM"):
        return UnsupportedFormat(
            "is a TIFF of a kind that is not read, or a broken one",
            needed="8 or 16 bit, or 32 bit grey",
            remedy="Save it again as 16 bit TIFF or PNG, or as NIfTI.",
        )
    return CorruptFile("has the beginning of a picture and no valid header", remedy="Copy or export it again.")


def _check_frames(picture: Pillow.Image) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format == "PNG":
        raise UnsupportedFormat(
            f"is an animation of {frames} frames", needed="one picture", remedy="Save the frame that is meant as PNG."
        )


def _stored(picture: Pillow.Image, file: BinaryIO) -> _Stored:
    if picture.format == "PNG":
        place = file.tell()
        file.seek(24)  # IHDR is always first
        bits = file.read(1)[0]
        file.seek(place)
        return _Stored(bits)
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return _Stored()
    bits = int(tags.get(258, (1,))[0])
    kind = _SAMPLE_KINDS.get(int(tags.get(339, (1,))[0]), "u")
    # Pillow inverts white-is-zero itself up to 8 bits.
    white_is_zero = tags.get(262) == _WHITE_IS_ZERO and bits > 8
    return _Stored(bits, kind, white_is_zero)


def _to_array(picture: Pillow.Image, *, indices: bool) -> Array:
    mode = picture.mode
    if mode == "1":
        pixels = np.asarray(picture).astype(np.uint8) * (1 if indices else 255)
    elif mode in ("L", "I", "F") or mode.startswith("I;16") or (mode == "P" and indices):
        pixels = np.asarray(picture)
    elif mode in ("LA", "La") or (mode == "PA" and indices):
        pixels = np.asarray(picture)[..., 0]
    elif mode in ("P", "PA"):
        pixels = np.asarray(picture.convert("RGBA"))[..., :3]
    else:
        pixels = np.asarray(picture if mode == "RGB" else picture.convert("RGB"))
    return native(pixels if pixels.ndim == 3 else pixels[..., None])


def _as_stored(pixels: Array, stored: _Stored) -> Array:
    """Back to the file's own sample type: Pillow keeps 16 bit signed and all 32 bit integers as int32."""
    if stored.white_is_zero:
        return np.asarray(65535 - pixels, dtype=np.uint16)
    if pixels.dtype == np.uint8 and stored.kind == "i" and stored.bits == 8:
        return pixels.view(np.int8)
    if pixels.dtype == np.int32 and stored.bits in (16, 32) and stored.kind in "ui":
        return pixels.astype(f"{stored.kind}{stored.bits // 8}")
    return pixels


def _decode_deep_colour(path: Path, checked: Pillow.Image) -> Array:
    """16 bits a channel by OpenCV; Pillow has already decoded it once, which finds what is truncated."""
    import cv2

    pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or checked.mode == "CMYK":
        raise UnsupportedFormat(
            "keeps 16 bit colour in a way that is not read", needed="16 bit RGB", remedy="Save it as 16 bit RGB PNG."
        )
    pixels = pixels[..., :3][..., ::-1]  # OpenCV's order is blue, green, red
    return pixels[..., :1] if checked.format == "PNG" and _is_grey_png(path) else pixels


def _is_grey_png(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(26)[25] in (0, 4)


def _upright(planes: Array, orientation: int) -> Array:
    """(C, D, H, W) turned as EXIF orientation 1-8 asks."""
    turns = {
        2: lambda a: a[..., ::-1],
        3: lambda a: a[..., ::-1, ::-1],
        4: lambda a: a[..., ::-1, :],
        5: lambda a: a.swapaxes(-2, -1),
        6: lambda a: a.swapaxes(-2, -1)[..., ::-1],
        7: lambda a: a[..., ::-1, ::-1].swapaxes(-2, -1),
        8: lambda a: a.swapaxes(-2, -1)[..., ::-1, :],
    }
    return turns[orientation](planes) if orientation in turns else planes
