"""Tiles cut from a picture and stitched again are that picture, whatever their size and overlap."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail import stitch as stitch_module
from medrail.cases.layouts.tiles import TileGrid
from medrail.stitch import centre_weight, stitch


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    tile = draw(st.integers(1, 40))
    return TileGrid(draw(st.integers(1, 150)), draw(st.integers(1, 150)), tile, draw(st.integers(0, tile - 1)))


def places(grid: TileGrid) -> list[tuple[int, int]]:
    return [(int(left), int(top)) for top in grid.tops for left in grid.lefts]


def cut(picture: np.ndarray, grid: TileGrid, left: int, top: int) -> np.ndarray:
    """(K, tile, tile) with something else outside of the picture."""
    tile = np.full((len(picture), grid.tile_px, grid.tile_px), 99, np.float32)
    part = picture[:, top : top + grid.tile_px, left : left + grid.tile_px]
    tile[:, : part.shape[1], : part.shape[2]] = part
    return tile


@given(grids())
def test_tiles_cover_everything_and_none_lies_outside(grid: TileGrid) -> None:
    covered = np.zeros((grid.height, grid.width), int)
    for left, top in places(grid):
        assert left < grid.width
        assert top < grid.height
        covered[top : top + grid.tile_px, left : left + grid.tile_px] += 1
    assert covered.min() >= 1
    if len(grid.lefts) > 1:
        assert grid.lefts[-2] + grid.tile_px < grid.width, "the last one is needed"


@settings(max_examples=150, deadline=None)
@given(grid=grids(), seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("block", [16, 1024])
def test_cut_and_stitched_is_the_same(grid: TileGrid, seed: int, block: int) -> None:
    picture = np.random.default_rng(seed).random((2, grid.height, grid.width)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stitch_module, "_BLOCK_PX", block)
        answer = lambda left, top: cut(picture, grid, left, top)  # noqa: E731
        values = np.concatenate(list(stitch(grid, 2, places(grid), answer, lambda means: means[1])))
        labels = np.concatenate(
            list(stitch(grid, 2, places(grid), answer, lambda m: m.argmax(axis=0).astype(np.uint8)))
        )
    assert values.shape == labels.shape == (grid.height, grid.width)
    assert np.abs(values - picture[1]).max() < 1e-5
    clear = np.abs(picture[0] - picture[1]) > 1e-4
    assert (labels == picture.argmax(axis=0))[clear].all()


@settings(max_examples=100, deadline=None)
@given(grid=grids(), seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_where_no_tile_lies_there_is_nothing(grid: TileGrid, seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    chosen = [place for place in places(grid) if random.random() < share]
    covered = np.zeros((grid.height, grid.width), bool)
    for left, top in chosen:
        covered[top : top + grid.tile_px, left : left + grid.tile_px] = True
    picture = np.full((1, grid.height, grid.width), 5, np.float32)
    bands = stitch(grid, 1, chosen, lambda left, top: cut(picture, grid, left, top), lambda means: means[0])
    assert np.allclose(np.concatenate(list(bands)), np.where(covered, 5, 0))


def test_the_middle_of_a_tile_counts_most() -> None:
    grid = TileGrid(12, 8, 8, 4)
    answers = {0: 0.0, 4: 1.0}
    bands = stitch(grid, 1, places(grid), lambda left, _: np.full((1, 8, 8), answers[left], np.float32), lambda m: m[0])
    row = np.concatenate(list(bands))[3]
    assert (row[:4] == 0).all()
    assert (row[8:] == 1).all()
    assert (np.diff(row[3:9]) > 0).all(), "from one tile's answer to the other's without a seam"
    weight = centre_weight(8)
    assert weight.max() == 1
    assert weight.min() > 0
    assert np.array_equal(weight, weight[::-1, ::-1])


def test_memory_does_not_grow_with_the_slide() -> None:
    """A grid of 100,000 x 100,000: tissue in every 20th tile of a row and of a column."""
    grid = TileGrid(100_000, 100_000, 256, 64)
    tops, lefts = grid.tops[::20].tolist(), grid.lefts[::20].tolist()
    tile = np.ones((3, 256, 256), np.float32)
    tracemalloc.start()
    rows = 0
    for band in stitch(
        grid,
        3,
        ((left, top) for top in tops[:6] for left in lefts),
        lambda left, top: tile,
        lambda means: means.argmax(axis=0).astype(np.uint8),
    ):
        rows += len(band)
        if rows > 20_000:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * 2**20
