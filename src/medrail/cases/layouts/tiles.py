"""A whole slide -> the tiles that cover its tissue, the same ones in training and in prediction."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.cases.fingerprint import FileHashes, image_fingerprint
from medrail.config import SlideConfig
from medrail.read import Place, SlideFacts, Tissue, find_tissue, slide_facts
from medrail.types import Case

Numbers = npt.NDArray[np.int64]

# Raise it when what is kept of a slide changes meaning.
_VERSION = 1


@dataclass(frozen=True)
class TileGrid:
    """Squares of ``tile_px`` that cover (width, height) pixels; neighbours share ``overlap_px``.

    The first begins at 0; the last may reach over the edge, never lies outside of it.
    """

    width: int
    height: int
    tile_px: int
    overlap_px: int = 0

    @property
    def stride_px(self) -> int:
        return self.tile_px - self.overlap_px

    @property
    def lefts(self) -> Numbers:
        """The first column of each column of tiles, ascending."""
        return _starts(self.width, self.tile_px, self.stride_px)

    @property
    def tops(self) -> Numbers:
        return _starts(self.height, self.tile_px, self.stride_px)


def _starts(length: int, tile: int, stride: int) -> Numbers:
    count = 1 + max(0, math.ceil((length - tile) / stride))
    return np.arange(count, dtype=np.int64) * stride


@dataclass(frozen=True, eq=False)
class SlideTiles:
    """The tiles of one slide with enough tissue, row by row.

    um:
        (across, down) micrometres a pixel of the finest level.
    left_px, top_px:
        Of each tile, in pixels of ``um_per_px``.
    tissue:
        Share of each tile that is tissue, 0 to 1.
    """

    facts: SlideFacts
    um: tuple[float, float]
    um_per_px: float
    grid: TileGrid
    mask: Tissue
    left_px: Numbers
    top_px: Numbers
    tissue: npt.NDArray[np.float64]
    scan_um_per_px: float | None = None

    def __len__(self) -> int:
        return len(self.left_px)

    def place(self, index: int) -> Place:
        """Where one tile lies on the finest level."""
        x, y = (round(int(edge[index]) * self.um_per_px / um) for edge, um in self._edges())
        size = (self.grid.tile_px, self.grid.tile_px)
        x, y = min(x, self.facts.width - 1), min(y, self.facts.height - 1)
        return Place(self.um_per_px, x, y, size, self.scan_um_per_px)

    def shares(self, mask: Tissue) -> npt.NDArray[np.float64]:
        """Share of each tile that another mask on the same grid as ``mask`` holds."""
        size_um = self.grid.tile_px * self.um_per_px
        return mask.shares(self.left_px * self.um_per_px, self.top_px * self.um_per_px, (size_um, size_um))

    def _edges(self) -> tuple[tuple[Numbers, float], tuple[Numbers, float]]:
        return (self.left_px, self.um[0]), (self.top_px, self.um[1])


def tiles_of(
    path: Path, settings: SlideConfig, scan_um_per_px: float | None = None, hashes: FileHashes | None = None
) -> SlideTiles:
    """The tiles of a slide.

    Parameters
    ----------
    scan_um_per_px:
        Micrometres a pixel of the finest level, instead of what the file says.
    hashes:
        Where the tissue is remembered; None: it is looked for.

    Raises
    ------
    ReadError
        If the slide cannot be read, or does not say (and nobody else does) how large its pixels are.
    """
    facts = slide_facts(path)
    if scan_um_per_px is None and facts.um_per_px is None and settings.scan_um_per_px:
        scan_um_per_px = settings.scan_um_per_px
    um, um_per_px = facts.um(scan_um_per_px), settings.um_per_px
    width, height = facts.size_at(um_per_px, scan_um_per_px)
    grid = TileGrid(width, height, settings.tile_px, settings.overlap_px)
    tile_um = settings.tile_px * um_per_px
    mask = _tissue(path, facts, tile_um, scan_um_per_px, hashes)
    top, left = (axis.ravel() for axis in np.meshgrid(grid.tops, grid.lefts, indexing="ij"))
    shares = mask.shares(left * um_per_px, top * um_per_px, (tile_um, tile_um))
    kept = shares >= settings.min_tissue
    return SlideTiles(facts, um, um_per_px, grid, mask, left[kept], top[kept], shares[kept], scan_um_per_px)


def _tissue(
    path: Path, facts: SlideFacts, tile_um: float, scan_um_per_px: float | None, hashes: FileHashes | None
) -> Tissue:
    if hashes is None:
        return find_tissue(path, facts, tile_um, scan_um_per_px)
    content = image_fingerprint(Case(str(path), str(path), (str(path),)), hashes)
    asked = json.dumps(["tissue", _VERSION, content, tile_um, scan_um_per_px])
    key = hashlib.sha256(asked.encode()).hexdigest()
    kept = hashes.fact(key)
    if kept is not None:
        return _unpacked(kept)
    found = find_tissue(path, facts, tile_um, scan_um_per_px)
    hashes.keep(key, _packed(found))
    return found


def _packed(tissue: Tissue) -> str:
    bits = base64.b85encode(zlib.compress(np.packbits(tissue.mask).tobytes(), 6)).decode()
    return json.dumps([tissue.um_per_px, *tissue.mask.shape, bits])


def _unpacked(text: str) -> Tissue:
    um_per_px, height, width, bits = json.loads(text)
    packed = np.frombuffer(zlib.decompress(base64.b85decode(bits)), np.uint8)
    return Tissue(np.unpackbits(packed, count=height * width).reshape(height, width).astype(bool), um_per_px)
