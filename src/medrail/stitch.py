"""Answers for overlapping tiles -> one answer for the whole, band by band: memory does not grow with its height.

Where tiles overlap, the mean is weighted: most at a tile's middle, least at its edge, where a network sees half of the
surroundings only. Tiles cut from a picture and stitched again are that picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.cases.layouts.tiles import TileGrid

FloatArray = npt.NDArray[np.float32]

_BLOCK_PX = 1024  # columns that are kept together; where no tile lies, nothing is kept


Finish = Callable[[FloatArray], npt.NDArray[Any]]


@dataclass
class _Blocks:
    """Weighted sums of the next rows, in blocks of columns that come into being when a tile needs them."""

    channels: int
    rows: int
    sums: dict[int, FloatArray] = field(default_factory=dict)

    def add(self, left: int, values: FloatArray, weight: FloatArray) -> None:
        """``values`` (K, h, w) and ``weight`` (h, w) from column ``left`` and the first row on."""
        high, wide = weight.shape
        for block in range(left // _BLOCK_PX, (left + wide - 1) // _BLOCK_PX + 1):
            start, end = max(left, block * _BLOCK_PX), min(left + wide, (block + 1) * _BLOCK_PX)
            inside, here = slice(start - left, end - left), slice(start - block * _BLOCK_PX, end - block * _BLOCK_PX)
            sums = self.sums.setdefault(block, np.zeros((self.channels + 1, self.rows, _BLOCK_PX), np.float32))
            sums[:-1, :high, here] += values[:, :, inside] * weight[:, inside]
            sums[-1, :high, here] += weight[:, inside]

    def take(self, count: int, width: int, finish: Finish) -> npt.NDArray[Any]:
        """The first ``count`` rows, finished, which are then forgotten; 0 where no tile was."""
        rows = np.zeros((count, width), finish(np.zeros((self.channels, 1, 1), np.float32)).dtype)
        for block, sums in list(self.sums.items()):
            start = block * _BLOCK_PX
            end = min(width, start + _BLOCK_PX)
            weight = sums[-1, :count, : end - start]
            means = (sums[:-1, :count, : end - start] / np.where(weight > 0, weight, 1)).astype(np.float32)
            rows[:, start:end] = np.where(weight > 0, finish(means), 0)
            sums[:, : self.rows - count] = sums[:, count:]
            sums[:, self.rows - count :] = 0
            if not sums[-1].any():
                del self.sums[block]
        return rows


def stitch(
    grid: TileGrid,
    channels: int,
    tiles: Iterable[tuple[int, int]],
    answer: Callable[[int, int], FloatArray],
    finish: Finish,
) -> Iterator[npt.NDArray[Any]]:
    """Every row of the whole once, from the top, in bands (rows, width) of at most ``grid.tile_px`` rows.

    Parameters
    ----------
    channels:
        K of the answers.
    tiles:
        (left, top) of each tile in pixels of the grid, row by row from the top.
    answer:
        (left, top) -> (K, tile_px, tile_px); what lies outside of the grid is not used.
    finish:
        (K, h, w) weighted means -> (h, w), as the class with the highest; where no tile lies there is 0.
    """
    weight = centre_weight(grid.tile_px)
    blocks, done = _Blocks(channels, grid.tile_px), 0
    for top, row in groupby(tiles, key=lambda tile: tile[1]):
        while done < top:
            count = min(top - done, grid.tile_px)
            yield blocks.take(count, grid.width, finish)
            done += count
        for left, _ in row:
            high, wide = min(grid.tile_px, grid.height - top), min(grid.tile_px, grid.width - left)
            blocks.add(left, answer(left, top)[:, :high, :wide], weight[:high, :wide])
    while done < grid.height:
        count = min(grid.height - done, grid.tile_px)
        yield blocks.take(count, grid.width, finish)
        done += count


def centre_weight(tile_px: int) -> FloatArray:
    """(tile_px, tile_px): falls in a straight line along each axis from the middle to the edge, never to 0."""
    along = np.minimum(np.arange(1, tile_px + 1), np.arange(tile_px, 0, -1)).astype(np.float32)
    along /= along.max()
    return np.multiply.outer(along, along).astype(np.float32)
