"""Tissue is found, glass is not; the same every time, at any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.read import Tissue, find_tissue, slide_facts
from medrail.read.tissue import tissue_mask
from slides import GLASS, PINK, PURPLE, tissue_slide, write_slide


def picture(*rectangles: tuple[slice, slice, tuple[int, int, int]], size: tuple[int, int] = (120, 160)) -> np.ndarray:
    rgb = np.full((*size, 3), GLASS, np.uint8)
    for rows, columns, colour in rectangles:
        rgb[rows, columns] = colour
    return rgb


def test_stained_pieces_are_tissue_and_glass_is_not() -> None:
    rgb = picture((slice(20, 60), slice(30, 90), PINK), (slice(80, 110), slice(10, 40), PURPLE))
    expected = (rgb != GLASS).any(axis=-1)
    found = tissue_mask(rgb)
    assert (found != expected).mean() < 0.02
    assert np.array_equal(found, tissue_mask(rgb))


@pytest.mark.parametrize("colour", [(0, 0, 0), (25, 25, 30), (40, 20, 30)])
def test_black_ink_and_the_edge_of_the_field_are_none(colour: tuple[int, int, int]) -> None:
    rgb = picture((slice(20, 60), slice(30, 90), PINK), (slice(0, 120), slice(150, 160), colour))
    rgb[70:76, 20:120] = colour
    found = tissue_mask(rgb, 20)
    assert found[25:55, 35:85].all()
    assert not found[:, 153:].any()
    assert not found[72:74, 22:118].any()


@pytest.mark.parametrize("grey", [255, 240, 128, 0])
def test_an_empty_slide_has_none(grey: int) -> None:
    random = np.random.default_rng(0).integers(-2, 3, (90, 70, 3))
    rgb = np.clip(grey + random, 0, 255).astype(np.uint8)
    assert tissue_mask(rgb, 10).mean() < 0.01


def test_a_slide_that_is_nothing_but_tissue_is_all_of_it() -> None:
    rgb = picture((slice(None), slice(None), PINK))
    rgb[40:80] = PURPLE
    assert tissue_mask(rgb).all()


def test_small_fragments_and_holes_are_filled() -> None:
    rgb = picture((slice(20, 80), slice(20, 80), PINK), (slice(100, 103), slice(100, 103), PURPLE))
    rgb[40:44, 40:44] = GLASS
    rgb[60:72, 50:70] = GLASS
    found = tissue_mask(rgb, 60)
    assert not found[95:, 95:].any(), "a fragment of 9 pixels"
    assert found[40:44, 40:44].all(), "a hole of 16"
    assert not found[62:70, 52:68].any(), "a hole of 240 stays"


@settings(max_examples=50, deadline=None)
@given(
    mask=st.integers(0, 2**32 - 1),
    left=st.floats(-20, 80),
    top=st.floats(-20, 80),
    size=st.tuples(st.floats(1, 60), st.floats(1, 60)),
)
def test_shares_are_counts_over_areas(mask: int, left: float, top: float, size: tuple[float, float]) -> None:
    bits = np.random.default_rng(mask).random((31, 23)) < 0.5
    tissue = Tissue(bits, 2.0)
    (share,) = tissue.shares(np.array([left]), np.array([top]), size)
    x, y = int(np.rint(left / 2)), int(np.rint(top / 2))
    wide, high = (max(1, round(edge / 2)) for edge in size)
    inside = bits[max(0, y) : max(0, y + high), max(0, x) : max(0, x + wide)]
    assert share == pytest.approx(inside.sum() / (wide * high))


def test_sizes_are_in_micrometres_at_any_resolution(tmp_path: Path) -> None:
    """A piece of 400 x 300 um has that area whether it was scanned at 0.5 or at 1 um."""
    for um, factor in ((0.5, 2), (1.0, 1)):
        rgb = tissue_slide(
            500 * factor, 700 * factor, ((100 * factor, 200 * factor, 400 * factor, 600 * factor), "pink")
        )
        path = write_slide(tmp_path / f"{um}.tif", rgb, um)
        found = find_tissue(path, slide_facts(path), 128)
        assert found.area_mm2 == pytest.approx(0.4 * 0.3, rel=0.05)


@pytest.mark.shared
def test_a_real_slide(shared_data: Path) -> None:
    """Judged against the plain rule "not near to white" on the finest level: both mean the stained piece."""
    path = shared_data / "slides" / "cmu_small_region.svs"
    found = find_tissue(path, slide_facts(path), 128)
    assert (found.um_per_px, found.mask.shape) == (8.0, (186, 139))
    assert 0.28 < found.mask.mean() < 0.38
    assert not found.mask[:, :5].any(), "glass at the left edge"
    assert found.mask[130, 60], "dermis"
    assert np.array_equal(found.mask, find_tissue(path, slide_facts(path), 128).mask)
