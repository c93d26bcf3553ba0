"""What stands out of a set is said, with its evidence; an even set is left in peace."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest

from cases.near.test_near import image, scene
from medrail.cases.look.unlike import unlike_the_rest
from medrail.cases.near.pairs import signature_of


@dataclass(frozen=True)
class Known:
    shape: tuple[int, ...] = (1, 1, 120, 150)
    spacing_mm: tuple[float, ...] = ()
    unit: str = "uint8"
    low: float = 0
    high: float = 255
    blank: bool = False
    signature: str = ""


def known(picture: np.ndarray) -> Known:
    one = image(picture)
    signature = signature_of(one)
    return Known(tuple(one.voxels.shape), signature=signature.to_text() if signature else "", blank=signature is None)


def chest(seed: int) -> np.ndarray:
    """Like all others of its kind as it lies, and each a little different."""
    picture = np.full((120, 150), 40, np.uint8)
    shift = np.random.default_rng(seed).integers(-4, 5, 4)
    cv2.ellipse(picture, (45 + int(shift[0]), 60 + int(shift[1])), (22, 45), 0, 0, 360, 180, -1)
    cv2.ellipse(picture, (105 + int(shift[2]), 66 + int(shift[3])), (20, 36), 0, 0, 360, 210, -1)
    return (picture // 2 + scene(seed) // 8).astype(np.uint8)


@pytest.fixture
def chests() -> dict[str, Known]:
    return {f"chest {seed}": known(chest(seed)) for seed in range(24)}


def said(facts: dict[str, Known], **more: dict[str, str]) -> dict[str, str]:
    return {finding.where: finding.what for finding in unlike_the_rest(facts, **more)}


def test_an_even_set_is_left_in_peace(chests: dict[str, Known]) -> None:
    assert said(chests) == {}
    assert said({str(seed): known(scene(seed)) for seed in range(40)}) == {}


def test_a_negative_is_named_and_a_turned_picture_is_not(chests: dict[str, Known]) -> None:
    found = said({**chests, "negative": known(255 - chest(99)), "turned": known(np.rot90(chest(98)).copy())})
    assert set(found) == {"negative"}
    assert "negative" in found["negative"]


def test_colour_among_grey_and_nearly_blank_ones(chests: dict[str, Known]) -> None:
    colour = np.stack([scene(1), scene(2), scene(3)], axis=-1)
    marked = np.full((120, 150), 9, np.uint8)
    marked[4:9, 5:12] = 255
    found = said({**chests, "colour": known(colour), "marked": known(marked)})
    assert set(found) == {"colour", "marked"}
    assert "a colour picture" in found["colour"]
    assert "95 %" in found["marked"]


def test_units_modalities_sizes_and_ranges() -> None:
    volume = Known((1, 20, 128, 128), (5.0, 0.9, 0.9), "arbitrary", 0, 900)
    facts = {str(n): replace(volume, high=900 + 20 * n) for n in range(20)}
    facts["hu"] = replace(volume, unit="HU", low=-1000, high=1500)
    facts["far"] = replace(volume, high=90_000)
    facts["coarse"] = replace(volume, spacing_mm=(60.0, 9.0, 9.0))
    facts["ct"] = volume
    modalities = {name: "CT" if name == "ct" else "MR" for name in facts}
    found = said(facts, modalities=modalities)
    assert set(found) == {"hu", "far", "coarse", "ct"}
    assert "HU" in found["hu"]
    assert "CT" in found["ct"]


def test_a_second_source_is_one_finding(chests: dict[str, Known]) -> None:
    large = {f"large {n}": replace(one, shape=(1, 1, 1200, 1500)) for n, one in enumerate(list(chests.values())[:7])}
    (finding,) = unlike_the_rest({**chests, **large})
    assert "large 1" in finding.what
    assert "and 3 more" in finding.what


def test_small_sets_are_not_judged(chests: dict[str, Known]) -> None:
    few = dict(list(chests.items())[:8])
    assert said({**few, "negative": known(255 - chest(99))}) == {}
