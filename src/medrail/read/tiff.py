"""TIFFs that Pillow does not keep whole: floating point colour, 64 bits, many bits where 0 is white, stacks of pages.

tifffile parses and imagecodecs decodes. Definition: TIFF 6.0 (Adobe, 1992), and its tags NewSubfileType (254),
PhotometricInterpretation (262), Orientation (274), ExtraSamples (338).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.limits import check_picture, check_voxels

if TYPE_CHECKING:  # loaded with the first TIFF that needs it
    import tifffile

Array = npt.NDArray[Any]

_MOST_PAGES = 20_000
_REDUCED = 1  # bit of NewSubfileType: a smaller version of another page
_MASK = 4  # bit of NewSubfileType: a transparency mask
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # of PhotometricInterpretation
_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}
_REMEDY = "Save each page as a file of its own, or the stack as NIfTI; a whole slide is read with data.kind: slides."


def decode_tiff(path: Path) -> Array:
    """All full-size pages of a TIFF -> (D, H, W, 1 or 3) in the stored type, not yet turned upright.

    Raises
    ------
    UnsupportedFormat
        Pages of different sizes or kinds, colours that are neither grey nor RGB, 0 is white in floating point.
    CorruptFile
        If a page cannot be decoded.
    ReadError
        If it declares too many pixels.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = _full_size_pages(file)
        first = pages[0]
        _check_alike(pages)
        channels = _channels(first)
        check_picture(first.imagewidth, first.imagelength)
        shape = (len(pages), first.imagelength, first.imagewidth, first.samplesperpixel)
        check_voxels(shape, np.dtype(first.dtype).itemsize)
        stack = np.empty((*shape[:3], channels), first.dtype)
        for index, page in enumerate(pages):
            stack[index] = _pixels(page, channels)
    if first.photometric == _WHITE_IS_ZERO:
        if stack.dtype.kind != "u":
            raise UnsupportedFormat(f"is a TIFF of {stack.dtype.name} samples where 0 is white", remedy=_REMEDY)
        stack = ((1 << int(first.bitspersample)) - 1) - stack
    return stack


def orientation_of(path: Path) -> int:
    """The tag Orientation of the first page, 1 (upright) where there is none."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        tag = _page(file, 0).tags.get(274)
        return int(tag.value) if tag is not None else 1


def _page(file: tifffile.TiffFile, index: int) -> tifffile.TiffPage:
    import tifffile

    page = file.pages[index]
    if not isinstance(page, tifffile.TiffPage):
        raise UnsupportedFormat("keeps its pages in a way that is not read", needed="a plain TIFF", remedy=_REMEDY)
    return page


def _full_size_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    pages = []
    for index in range(_MOST_PAGES):
        try:
            page = _page(file, index)
        except IndexError:
            break
        if not int(page.subfiletype) & (_REDUCED | _MASK):
            pages.append(page)
    else:
        raise UnsupportedFormat(f"holds more than {_MOST_PAGES:,} pages", needed="one picture or stack", remedy=_REMEDY)
    if not pages:
        raise CorruptFile("is a TIFF without a full-size page", remedy="Save it again.")
    return pages


def _check_alike(pages: list[tifffile.TiffPage]) -> None:
    kinds = {(p.imagelength, p.imagewidth, p.samplesperpixel, str(p.dtype), int(p.photometric)) for p in pages}
    if len(kinds) > 1:
        sizes = ", ".join(sorted({f"{height} x {width}" for height, width, *_ in kinds})[:5])
        raise UnsupportedFormat(
            f"holds {len(pages)} pages of different sizes or kinds ({sizes})",
            needed="one picture, or pages of one size and kind",
            remedy=_REMEDY,
        )


def _channels(page: tifffile.TiffPage) -> int:
    channels = _SAMPLES.get(int(page.photometric))
    if channels is None or page.dtype is None or page.samplesperpixel not in (channels, channels + 1):
        raise UnsupportedFormat(
            f"is a TIFF of photometric interpretation {int(page.photometric)}, {page.samplesperpixel} samples a pixel",
            needed="grey or RGB, with or without alpha",
            remedy="Save it as RGB or grey, one file a channel.",
        )
    return channels


def _pixels(page: tifffile.TiffPage, channels: int) -> Array:
    """(H, W, channels): alpha dropped, planes put behind each other."""
    pixels = np.asarray(page.asarray())
    size, samples = (page.imagelength, page.imagewidth), page.samplesperpixel
    if pixels.shape == size:
        pixels = pixels[..., None]
    elif pixels.shape == (samples, *size):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.shape != (*size, samples):
        raise CorruptFile(f"its pixels have the shape {pixels.shape}", needed=f"{(*size, samples)}")
    return pixels[..., :channels]
