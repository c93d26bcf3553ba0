"""Whole slides, by OpenSlide: one tile, or the whole at a coarse resolution, in micrometres a pixel.

Comes in: a file that OpenSlide reads (Aperio, Hamamatsu, Leica, MIRAX, Philips, Sakura, Trestle, Ventana, Zeiss, tiled
pyramidal TIFF, or any DICOM file of a slide's folder), and an item as ``medrail.read.place`` writes it. Goes out: an
``Image`` of RGB, (3, 1, H, W) uint8. It has no geometry: a slide has no thickness and no place in the patient, and the
size of its pixels stands in the item.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read.averaging import area_average
from medrail.read.guard import Guard
from medrail.read.place import Place
from medrail.read.slide_kind import check_whole_tiff
from medrail.types import READ_AS_STORED, Image, ReadOptions

RGB = npt.NDArray[np.uint8]

# What may be read without saying which part: a few screens. Pixels.
MAX_WHOLE_PIXELS = 2**24
# What one reading may decode; a slide without coarse levels would otherwise keep a machine busy for minutes. Pixels.
MAX_DECODED_PIXELS = 2**30
_BLOCK_PX = 2048  # side of what is decoded at once: 16 MB, and 100 MB of running sums
_OPEN_SLIDES = 8
_CACHE_BYTES = 64 * 2**20
# Scanners make pixels between a tenth of a micrometre and a few; 72 or 96 dots an inch (265 to 353) is no scanner's.
_PLAUSIBLE_UM = (0.02, 20.0)
_CLOSE_ENOUGH = 1.02  # a level this much coarser than asked for is taken as it is
_FINEST_UPSAMPLED = 1.25


@dataclass(frozen=True)
class Level:
    """One resolution: its size, and how many pixels of the finest level one of its pixels is wide and high."""

    width: int
    height: int
    downsample: tuple[float, float]


@dataclass(frozen=True)
class SlideFacts:
    """What a slide's file says of it.

    width, height:
        Of the finest level, pixels.
    um_per_px:
        (across, down) of the finest level; None where the file does not say, or says what no scanner makes.
    vendor:
        As OpenSlide names the format.
    objective:
        Magnification, as "20"; "" where the file does not say.
    """

    width: int
    height: int
    levels: tuple[Level, ...]
    um_per_px: tuple[float, float] | None
    vendor: str
    objective: str = ""

    def um(self, scan_um_per_px: float | None = None) -> tuple[float, float]:
        """Micrometres a pixel of the finest level, as given or as the file says.

        Raises
        ------
        ReadError
            If neither says it.
        """
        if scan_um_per_px is not None:
            return scan_um_per_px, scan_um_per_px
        if self.um_per_px is None:
            raise ReadError(
                "does not say how large its pixels are",
                needed="micrometres a pixel of its finest level",
                remedy="Set data.slide.scan_um_per_px, or give data.labels a column um_per_px.",
            )
        return self.um_per_px

    def size_at(self, um_per_px: float, scan_um_per_px: float | None = None) -> tuple[int, int]:
        """(width, height) of the whole slide in pixels of ``um_per_px``, rounded up."""
        across, down = self.um(scan_um_per_px)
        width, height = self.width * across / um_per_px, self.height * down / um_per_px
        return max(1, math.ceil(width - 1e-6)), max(1, math.ceil(height - 1e-6))


def slide_facts(path: str | Path) -> SlideFacts:
    """Size, levels, resolution and vendor of a slide; no pixel is decoded.

    Raises
    ------
    ReadError
        If it cannot be opened, or OpenSlide is not installed (with the command that installs it).
    """
    path = Path(path)
    openslide = _openslide()
    with Guard(path, "slide"):
        return _opened(path, openslide).facts


def read_slide(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """A part of a slide -> RGB (3, 1, H, W), unit "uint8", no geometry; white where there is no slide.

    Pixels are means over their area of the nearest finer level. A slide of at most 16 million pixels may be read whole,
    without an item, as it is stored.

    Raises
    ------
    ReadError
        Without an item for a large slide; a place outside of it; a resolution finer than it was scanned at, or that the
        file does not tell; too many pixels. CorruptFile for what is broken, UnsupportedFormat for what is no slide.
    """
    openslide = _openslide()
    with Guard(path, "slide"):
        slide = _opened(path, openslide)
        try:
            rgb = _read_place(slide, Place.parse(item)) if item else _read_whole(slide)
        except openslide.OpenSlideError:
            _forget(path)  # after one error a handle answers with errors only
            raise CorruptFile(
                "is a slide of which a part cannot be decoded",
                needed="whole tiles in a compression that OpenSlide reads",
                remedy="Copy it again; if the scanner's own viewer opens it, please report it.",
            ) from None
        return Image(np.ascontiguousarray(np.moveaxis(rgb, -1, 0)[:, None]), unit="uint8", source=str(path))


class _Slide:
    """An open slide. OpenSlide reads from several threads at once; the handle closes when nobody holds this."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.facts = _facts(handle)
        self.downsamples = tuple(float(value) for value in handle.level_downsamples)

    def pixels(self, level: int, left: int, top: int, size: tuple[int, int]) -> tuple[RGB, tuple[float, float]]:
        """RGB (H, W, 3) from pixel (left, top) of a level on, white where there is none, and where it really begins.

        OpenSlide takes the corner in pixels of the finest level, so it may begin by a fraction of a pixel elsewhere.
        """
        across, down = self.facts.levels[level].downsample
        corner = round(left * across), round(top * down)
        rgba = np.asarray(self.handle.read_region(corner, level, size))
        alpha = rgba[..., 3:].astype(np.uint16)
        if int(alpha.min()) == 255:
            rgb = np.ascontiguousarray(rgba[..., :3])
        else:
            rgb = ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
        return rgb, (corner[0] / across, corner[1] / down)


def _read_whole(slide: _Slide) -> RGB:
    width, height = slide.facts.width, slide.facts.height
    if width * height > MAX_WHOLE_PIXELS:
        raise ReadError(
            f"is a whole slide of {width:,} x {height:,} pixels",
            needed="a part of it, or a coarser resolution",
            remedy="Give the item um=8 for all of it at 8 um a pixel; data.kind: slides cuts slides into tiles.",
        )
    return slide.pixels(0, 0, 0, (width, height))[0]


def _read_place(slide: _Slide, place: Place) -> RGB:
    facts = slide.facts
    um = facts.um(place.scan_um_per_px)
    if place.um_per_px * _FINEST_UPSAMPLED < max(um):
        raise ReadError(
            f"was scanned at {_shown(um)} um a pixel",
            needed=f"as fine as the {place.um_per_px:g} um a pixel that are asked for",
            remedy=f"Set data.slide.um_per_px to {max(um):.3g} or more, or leave this slide out.",
        )
    if place.x >= facts.width or place.y >= facts.height:
        raise ReadError(
            f"has no pixel in column {place.x:,} and row {place.y:,}",
            needed=f"a corner within {facts.width:,} x {facts.height:,} pixels",
            remedy="Correct x and y of the item; they count pixels of the finest level.",
        )
    size = place.size_px or facts.size_at(place.um_per_px, place.scan_um_per_px)
    level = _level(facts, place.um_per_px, um)
    downsample = facts.levels[level].downsample
    step = tuple(place.um_per_px / (um[axis] * downsample[axis]) for axis in (0, 1))
    start = (place.x / downsample[0], place.y / downsample[1])
    _check_effort(size, step)
    return _averaged(slide, level, start, (step[0], step[1]), size)


def _level(facts: SlideFacts, um_per_px: float, um: tuple[float, float]) -> int:
    """The coarsest level that is no coarser than asked for; 2 % are let pass, since 0.2525 um is called 0.25."""
    fine = [
        number
        for number, level in enumerate(facts.levels)
        if all(um[axis] * level.downsample[axis] <= um_per_px * _CLOSE_ENOUGH for axis in (0, 1))
    ]
    return max(fine, key=lambda number: facts.levels[number].downsample, default=0)


def _check_effort(size: tuple[int, int], step: tuple[float, ...]) -> None:
    decoded = size[0] * step[0] * size[1] * step[1]
    if decoded > MAX_DECODED_PIXELS or max(step) > _BLOCK_PX - 2 or size[0] * size[1] > MAX_WHOLE_PIXELS * 16:
        raise ReadError(
            f"would take {decoded:,.0f} pixels of its nearest finer level to make {size[0]:,} x {size[1]:,}",
            needed=f"at most {MAX_DECODED_PIXELS:,} at once",
            remedy="Ask for a smaller part; a slide without coarse levels must be saved anew as a pyramid.",
        )


def _averaged(
    slide: _Slide, level: int, start: tuple[float, float], step: tuple[float, float], size: tuple[int, int]
) -> RGB:
    """(height, width, 3): ``size`` cells of ``step`` level pixels each from ``start`` on, block by block."""
    width, height = size
    wide, high = (max(1, math.floor((_BLOCK_PX - 2) / each)) for each in step)
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, high):
        for left in range(0, width, wide):
            columns = start[0] + step[0] * np.arange(left, min(left + wide, width) + 1, dtype=np.float64)
            rows = start[1] + step[1] * np.arange(top, min(top + high, height) + 1, dtype=np.float64)
            rgb[top : top + high, left : left + wide] = _block(slide, level, columns, rows)
    return rgb


def _block(slide: _Slide, level: int, columns: npt.NDArray[Any], rows: npt.NDArray[Any]) -> RGB:
    left, top = math.floor(columns[0] + 1e-6), math.floor(rows[0] + 1e-6)
    size = (max(1, math.ceil(columns[-1] - 1e-6) - left), max(1, math.ceil(rows[-1] - 1e-6) - top))
    pixels, begin = slide.pixels(level, left, top, size)
    columns, rows = columns - begin[0], rows - begin[1]
    if size == (len(columns) - 1, len(rows) - 1) and max(abs(columns[0]), abs(rows[0])) < 1e-6:
        return pixels  # one cell a pixel
    means = area_average(pixels, np.clip(rows, 0, None), np.clip(columns, 0, None))
    return np.asarray(np.clip(np.floor(means + 0.5), 0, 255), dtype=np.uint8)


def _facts(handle: Any) -> SlideFacts:
    width, height = handle.dimensions
    levels = tuple(
        Level(w, h, (_factor(width, w), _factor(height, h))) for w, h in handle.level_dimensions if w > 0 and h > 0
    )
    properties = handle.properties
    um = _positive(properties.get("openslide.mpp-x")), _positive(properties.get("openslide.mpp-y"))
    plausible = all(_PLAUSIBLE_UM[0] <= value <= _PLAUSIBLE_UM[1] for value in um)
    objective = _positive(properties.get("openslide.objective-power"))
    vendor = str(properties.get("openslide.vendor", "unknown"))
    return SlideFacts(width, height, levels, um if plausible else None, vendor, f"{objective:g}" if objective else "")


def _factor(finest: int, size: int) -> float:
    """Levels are made by whole factors and cut to whole pixels: 4, where the sizes' quotient is 4.0003."""
    factor = round(finest / size)
    return float(factor) if abs(finest / factor - size) <= 1 else finest / size


def _positive(text: str | None) -> float:
    """A number above 0, or 0."""
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value > 0 else 0.0


def _shown(um: tuple[float, float]) -> str:
    return f"{um[0]:.4g}" if math.isclose(um[0], um[1], rel_tol=1e-3) else f"{um[0]:.4g} x {um[1]:.4g}"


def _openslide() -> Any:
    """The package, which is optional.

    Raises
    ------
    ReadError
        If it or its library is not installed.
    """
    try:
        import openslide
    except (ImportError, OSError):
        raise ReadError(
            "whole slides are read with OpenSlide, which is not installed",
            remedy="Install it with: pip install 'medrail[slides]'",
        ) from None
    return openslide


_Key = tuple[str, int, int]
_open: OrderedDict[_Key, _Slide] = OrderedDict()
_lock = threading.Lock()
_tile_cache: Any = None
_of_the_parent: list[Any] = []


def _opened(path: Path, openslide: Any) -> _Slide:
    """The open slide, of the last few; one that was replaced on the disk is opened anew."""
    global _tile_cache
    status = path.stat()
    key = (os.path.abspath(path), status.st_size, status.st_mtime_ns)  # noqa: PTH100 - resolve() would follow links
    with _lock:
        known = _open.get(key)
        if known is not None:
            _open.move_to_end(key)
            return known
        if _tile_cache is None:
            _tile_cache = openslide.OpenSlideCache(_CACHE_BYTES)
        cache = _tile_cache
    slide = _Slide(_open_file(path, openslide))
    slide.handle.set_cache(cache)  # one for all slides, so that memory does not grow with their number
    with _lock:
        known = _open.setdefault(key, slide)
        while len(_open) > _OPEN_SLIDES:
            _open.popitem(last=False)
    return known


def _open_file(path: Path, openslide: Any) -> Any:
    if path.stat().st_size == 0:
        raise CorruptFile("is empty (0 bytes)", needed="a slide", remedy="Copy it again.")
    check_whole_tiff(path)
    try:
        return openslide.OpenSlide(str(path))
    except openslide.OpenSlideUnsupportedFormatError:
        raise UnsupportedFormat(
            "is no slide that OpenSlide reads, or a broken one",
            needed="SVS, NDPI, MRXS (with its folder), SCN, BIF, CZI, tiled pyramidal TIFF or DICOM",
            remedy="Copy it again with all its files, or export it as a tiled pyramidal TIFF.",
        ) from None
    except openslide.OpenSlideError:
        raise CorruptFile(
            "cannot be opened as a slide",
            needed="a whole, valid slide with all its files",
            remedy="Copy it again with all its files; if the scanner's own viewer opens it, please report it.",
        ) from None


def _forget(path: Path) -> None:
    name = os.path.abspath(path)  # noqa: PTH100
    with _lock:
        for key in [key for key in _open if key[0] == name]:
            del _open[key]


def _after_fork() -> None:
    """A child must not read through its parent's handles: the two would move one file position."""
    global _open, _lock, _tile_cache
    _of_the_parent.append((_open, _tile_cache))  # kept: closing could wait for a lock that no thread here holds
    _open, _lock, _tile_cache = OrderedDict(), threading.Lock(), None


if hasattr(os, "register_at_fork"):  # not on Windows, where processes share nothing
    os.register_at_fork(after_in_child=_after_fork)
