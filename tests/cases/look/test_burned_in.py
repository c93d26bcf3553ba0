"""Burned-in text: found where it is drawn, not found in anatomy; and the rules of the header."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.near.test_near import image, scene
from medrail.cases.look.burned_in import find_text, outside_regions, rule_for, text_in


def burned(text: str, size_px: int, at: tuple[int, int], value: int = 255) -> np.ndarray:
    picture = (scene(5, 256, 320) // 2).astype(np.uint8)
    thick = max(1, round(size_px / 16))
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size_px / 22, value, thick, cv2.LINE_AA)
    return picture


@pytest.mark.parametrize("size_px", [12, 16, 20, 28])
def test_text_is_found_where_it_stands(size_px: int) -> None:
    picture = burned("DOE^JANE 1961", size_px, (6, 40))
    assert text_in(image(picture)).startswith(("1 row of text-like marks at the upper", "2 rows"))
    box = find_text(image(picture))[0]
    assert 40 - 1.5 * size_px <= box.y <= 40
    assert box.x <= 6 + 2 * size_px


def test_text_in_sixteen_bits_far_above_the_image_is_found() -> None:
    picture = burned("ID 4483920", 16, (6, 240)).astype(np.int16) * 4
    assert "lower" in text_in(image(picture))


@pytest.mark.parametrize("seed", range(6))
def test_no_text_in_textures_and_none_in_blank_images(seed: int) -> None:
    assert text_in(image(scene(seed))) == ""
    assert text_in(image(np.zeros((64, 64), np.uint8))) == ""


def test_a_side_marker_is_no_text() -> None:
    assert text_in(image(burned("R", 28, (10, 40)))) == ""
    assert text_in(image(burned("AP", 28, (10, 40)))) == ""


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 200), (23, 23)])
def test_small_images_are_no_trouble(shape: tuple[int, int]) -> None:
    assert text_in(image(np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8))) == ""


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"burned_in": "YES", "modality": "CT"}, "Burned In Annotation is YES"),
        ({"modality": "US"}, "ultrasound"),
        ({"kind": "Secondary Capture Image Storage", "burned_in": "NO"}, "screen"),
        ({"kind": "X-Ray Radiation Dose SR Storage"}, "dose"),
        ({"modality": "XA"}, "angiography"),
        ({"kind": "CT Image Storage", "modality": "CT"}, ""),
        ({"kind": "MR Image Storage", "modality": "MR", "burned_in": "NO"}, ""),
        ({}, ""),
    ],
)
def test_rules_of_the_header(facts: dict[str, str], said: str) -> None:
    rule = rule_for(**facts)
    assert (said in rule) if said else rule == ""


sides = st.integers(0, 40)


@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.tuples(sides, sides, sides, sides), min_size=1, max_size=3))
def test_outside_the_regions_is_everything_but_their_box(
    rows: int, columns: int, corners: list[tuple[int, int, int, int]]
) -> None:
    regions = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in corners]
    covered = np.zeros((rows, columns), int)
    for x, y, w, h in outside_regions((rows, columns), regions):
        covered[y : y + h, x : x + w] += 1
    inside = np.zeros((rows, columns), bool)
    inside[min(r[1] for r in regions) : max(r[3] for r in regions) + 1, :] = True
    inside[:, : min(r[0] for r in regions)] = False
    inside[:, max(r[2] for r in regions) + 1 :] = False
    if min(r[0] for r in regions) < columns and min(r[1] for r in regions) < rows:
        assert (covered == ~inside).all()


@pytest.mark.shared
def test_few_false_alarms_on_real_images(shared_data: Path) -> None:
    from medrail.read import read

    files = [*sorted((shared_data / "chestxray/train").rglob("*.jpeg"))[::4]]
    files += [*sorted((shared_data / "wbc/dataset2/images").iterdir())[::4]]
    assert sum(bool(text_in(read(file))) for file in files) <= 1
