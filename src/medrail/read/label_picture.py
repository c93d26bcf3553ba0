"""A mask kept as a picture over a whole slide: the values at given places, without holding a large one in memory."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.raster import read_indices

Array = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_TILES_KEPT = 64


class LabelPicture:
    """Whole numbers on a grid of (height, width); a palette picture gives its indices.

    A tiled TIFF (of a slide's full size, as annotation tools write) is decoded a tile at a time, the first page only;
    every other picture is kept as a whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._whole: Array | None = None
        self._tiles: OrderedDict[int, Array | None] = OrderedDict()
        with Guard(path, "picture"):
            self._page = _tiled_page(path)
            if self._page is None:
                self._whole = read_indices(path).voxels[0, 0]
                self.height, self.width = self._whole.shape
            else:
                self.height, self.width = int(self._page.imagelength), int(self._page.imagewidth)

    def values(self, rows: Indices, columns: Indices) -> Array:
        """(len(rows), len(columns)): the values where these rows and columns, each ascending, cross.

        Raises
        ------
        CorruptFile
            If a tile cannot be decoded.
        """
        if self._whole is not None:
            return self._whole[np.ix_(rows, columns)]
        with Guard(self.path, "tiled TIFF"):
            return self._from_tiles(rows, columns)

    def _from_tiles(self, rows: Indices, columns: Indices) -> Array:
        page: Any = self._page
        high, wide = int(page.tilelength), int(page.tilewidth)
        across = -(-self.width // wide)
        found = np.zeros((len(rows), len(columns)), dtype=page.dtype)
        for row in np.unique(rows // high):
            inside = np.flatnonzero(rows // high == row)
            for column in np.unique(columns // wide):
                beside = np.flatnonzero(columns // wide == column)
                tile = self._tile(int(row) * across + int(column))
                if tile is not None:
                    found[np.ix_(inside, beside)] = tile[np.ix_(rows[inside] % high, columns[beside] % wide)]
        return found

    def _tile(self, number: int) -> Array | None:
        """One tile (H, W), or None where the file leaves it out, which means 0."""
        if number in self._tiles:
            self._tiles.move_to_end(number)
            return self._tiles[number]
        page: Any = self._page
        offset, count = page.dataoffsets[number], page.databytecounts[number]
        tile: Array | None = None
        if count:
            with self.path.open("rb") as file:
                file.seek(offset)
                data = file.read(count)
            decoded, _, _ = page.decode(data, number, jpegtables=page.jpegtables)
            tile = None if decoded is None else np.asarray(decoded)[0, :, :, 0]
        self._tiles[number] = tile
        if len(self._tiles) > _TILES_KEPT:
            self._tiles.popitem(last=False)
        return tile


def open_label_picture(path: Path) -> LabelPicture:
    """As ``LabelPicture``; the last two are remembered, because thousands of tiles ask for the same one.

    Raises
    ------
    ReadError
        If it is no picture of one number a pixel.
    """
    with Guard(path, "picture"):
        status = path.stat()
    return _remembered(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2)
def _remembered(path: Path, size: int, mtime_ns: int) -> LabelPicture:
    return LabelPicture(path)


def _tiled_page(path: Path) -> Any:
    """The first page of a tiled TIFF, or None for other pictures."""
    with path.open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if not page.is_tiled:
            return None
        if page.samplesperpixel != 1 or page.dtype is None or page.dtype.kind not in "bui":
            raise UnsupportedFormat(
                f"is a tiled TIFF of {page.samplesperpixel} samples a pixel, {page.dtype}",
                needed="a mask with one whole number a pixel",
                remedy="Save the mask as grey, not as colours.",
            )
        page.dataoffsets, page.databytecounts  # noqa: B018 - read while the file is open
        return page
