"""What a sample of images and masks says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases.listing import Entry
from medrail.plan.fingerprint import image_facts, sample
from medrail.plan.mask_facts import MaskSample, mask_facts, sample_mask
from medrail.types import Geometry, Image

Maker = Callable[..., Path]
ENTRY = Entry(Path("none.nii.gz"), "none.nii.gz")


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["train", "test", None])), min_size=1, max_size=120),
    st.integers(9, 30),
)
def test_a_sample_is_small_repeatable_and_has_every_group(groups: list[tuple[str, str | None]], most: int) -> None:
    entries = [Entry(Path(f"{n}.png"), f"{n}.png", target=t, split=s) for n, (t, s) in enumerate(groups)]  # type: ignore[arg-type]
    chosen = sample(entries, most)
    assert 1 <= len(chosen) <= most
    assert len(set(chosen)) == len(chosen)
    assert {(entry.target, entry.split) for entry in chosen} == set(groups)
    assert sample(list(reversed(entries)), most) == chosen


def test_sizes_and_spacings_follow_the_patient_not_the_array(anisotropic_image: Image) -> None:
    facts = image_facts(anisotropic_image, ENTRY)
    assert facts.grid == (5, 7, 11)
    assert facts.spacing_mm == pytest.approx((5.0, 0.7, 0.9))
    turned = Image(
        anisotropic_image.voxels.transpose(0, 3, 1, 2).copy(),
        Geometry((anisotropic_image.geometry or Geometry(np.eye(4))).affine_ras_mm[:, [2, 0, 1, 3]]),
    )
    again = image_facts(turned, ENTRY)
    assert again.grid == facts.grid
    assert again.spacing_mm == pytest.approx(facts.spacing_mm)


@pytest.mark.parametrize(
    ("voxels", "unit", "geometry", "modality"),
    [
        (np.full((1, 4, 5, 6), -1000.0), "HU", True, "CT"),
        (np.full((1, 4, 5, 6), -1000.0), "arbitrary", True, "CT"),
        (np.full((1, 4, 5, 6), 5.0), "arbitrary", True, "volume"),
        (np.full((1, 4, 5, 6), 5.0), "SUV", True, "PET"),
        (np.full((1, 1, 5, 6), 5, np.uint8), "uint8", False, "grey picture"),
        (np.full((3, 1, 5, 6), 5, np.uint8), "uint8", False, "grey picture"),
        (np.arange(90, dtype=np.uint8).reshape(3, 1, 5, 6), "uint8", False, "colour picture"),
        (np.full((1, 4, 5, 6), np.nan), "arbitrary", True, "volume"),
    ],
)
def test_modalities(voxels: np.ndarray, unit: str, geometry: bool, modality: str) -> None:
    image = Image(voxels, Geometry.from_spacing((1, 1, 1)) if geometry else None, unit=unit)  # type: ignore[arg-type]
    assert image_facts(image, ENTRY).modality == modality


def test_the_modality_of_a_dicom_series_is_read(tmp_path: Path, series: Maker) -> None:
    from medrail.read import read

    folder = series(tmp_path / "s", slices=3)
    facts = image_facts(read(folder), Entry(folder, "s"))
    assert (facts.modality, facts.unit) == ("CT", "HU")


def _mask(values: tuple[int, ...], equal: float = 0.95) -> MaskSample:
    return MaskSample(values, equal, 0.2, same_grid=True)


@pytest.mark.parametrize(
    ("masks", "looks"),
    [
        ([_mask((1,)), _mask((1,))], "labels"),
        ([_mask((128, 255))], "labels"),
        ([_mask((1, 2, 3)), _mask((1,)), _mask((2,))], "labels"),
        ([_mask(tuple(range(1, 8))), _mask(tuple(range(1, 30))), _mask((1, 2))], "instances"),
        ([_mask(tuple(range(1, 117)))], "instances"),
        ([_mask(tuple(range(8, 134)), equal=0.12)], "grey"),
        ([_mask(())], "empty"),
    ],
)
def test_what_masks_look_like(masks: list[MaskSample], looks: str) -> None:
    facts = mask_facts(masks)
    assert facts is not None
    assert facts.looks == looks


def _drawn(*counts: tuple[int, int]) -> MaskSample:
    return MaskSample(tuple(v for v, _ in counts), 0.95, 0.2, same_grid=True, counts=tuple(n for _, n in counts))


@pytest.mark.parametrize(
    ("stray", "others", "rare"),
    [
        ([(1, 1000), (7, 3)], 23, ((7, 1, 3),)),
        ([(1, 1000), (7, 3)], 4, ((7, 1, 3),)),
        ([(1, 1000), (7, 3)], 3, ()),  # of four masks nothing is rare
        ([(1, 1000), (7, 30)], 23, ()),  # 0.125 % of the foreground
        ([(1, 1000), (-7, 3)], 23, ()),  # told otherwise
    ],
)
def test_a_value_in_very_few_masks_and_voxels_is_rare(
    stray: list[tuple[int, int]], others: int, rare: tuple[tuple[int, int, int], ...]
) -> None:
    facts = mask_facts([_drawn(*stray), *[_drawn((1, 1000))] * others])
    assert facts is not None
    assert facts.rare == rare


def test_a_small_value_in_many_masks_is_not_rare() -> None:
    facts = mask_facts([_drawn((1, 5000), (2, 1))] * 24)
    assert facts is not None
    assert facts.rare == ()


def test_voxels_of_each_value_are_counted(tmp_path: Path, picture_mask: Maker) -> None:
    image = Image(np.zeros((1, 1, 40, 48), np.uint8), unit="uint8")
    sample = sample_mask(str(picture_mask(tmp_path / "m.png", values=(3, 9))), image)
    assert (sample.values, sample.counts) == ((3, 9), (150, 150))


def test_a_mask_of_another_size_and_one_in_colours(tmp_path: Path, picture: Maker, picture_mask: Maker) -> None:
    image = Image(np.zeros((1, 1, 40, 48), np.uint8), unit="uint8")
    assert not sample_mask(str(picture_mask(tmp_path / "m.png", size=(40, 40))), image).same_grid
    assert sample_mask(str(picture_mask(tmp_path / "n.png")), image).same_grid
    assert "colours" in sample_mask(str(picture(tmp_path / "c.png", colour=True)), image).problem


def test_no_masks() -> None:
    assert mask_facts([]) is None
