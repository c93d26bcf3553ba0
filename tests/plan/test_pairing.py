"""Images and masks brought together by folders and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from medrail.plan.listing import FolderListing, stem
from medrail.plan.pairing import pair_images


def listing(*names: str) -> FolderListing:
    pictures = tuple(sorted(name for name in names if name.endswith((".png", ".jpg"))))
    volumes = tuple(sorted(name for name in names if name not in pictures))
    return FolderListing(Path("/data"), pictures, volumes)


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["images/1.png", "masks/1.png"], [("images/1.png", "masks/1.png")]),
        (["img/a.jpg", "GT/a.png"], [("img/a.jpg", "GT/a.png")]),
        (["a.png", "masks/a.png"], [("a.png", "masks/a.png")]),
        (["images/a.png", "masks/a_mask.png"], [("images/a.png", "masks/a_mask.png")]),
        (["images/image01.png", "masks/mask01.png"], [("images/image01.png", "masks/mask01.png")]),
        (
            ["imagesTr/la_001_0000.nii.gz", "labelsTr/la_001.nii.gz", "imagesTs/la_002_0000.nii.gz"],
            [("imagesTr/la_001_0000.nii.gz", "labelsTr/la_001.nii.gz")],
        ),
        (
            ["train/images/1.png", "train/masks/1.png", "test/images/1.png", "test/masks/1.png"],
            [("test/images/1.png", "test/masks/1.png"), ("train/images/1.png", "train/masks/1.png")],
        ),
        (["a.nii.gz", "a_seg.nii.gz"], [("a.nii.gz", "a_seg.nii.gz")]),
        (["p1/image.nii.gz", "p1/mask.nii.gz"], [("p1/image.nii.gz", "p1/mask.nii.gz")]),
        (["brain1_image.nrrd", "brain1_label.nrrd"], [("brain1_image.nrrd", "brain1_label.nrrd")]),
        (["ct_sm.nii.gz", "seg_subset.nii.gz"], [("ct_sm.nii.gz", "seg_subset.nii.gz")]),
        (["T1_2mm.nii.gz", "T1_2mm_brain_mask.nii.gz"], [("T1_2mm.nii.gz", "T1_2mm_brain_mask.nii.gz")]),
        (["ch2.nii.gz", "ch2bet.nii.gz", "aal.nii.gz"], [("ch2.nii.gz", "ch2bet.nii.gz")]),
    ],
)
def test_pairs(names: list[str], pairs: list[tuple[str, str]]) -> None:
    found = pair_images(listing(*names))
    assert found is not None
    assert list(found.pairs) == pairs
    assert found.why


@pytest.mark.parametrize(
    "names",
    [
        ["a/1.png", "a/2.png", "b/3.png"],
        ["IM-0467-0001.jpg", "IM-0467-0001-0002.jpg", "IM-0468-0001.jpg"],
        ["img1.png", "img10.png", "img100.png"],
        ["only.nii.gz"],
        [],
    ],
)
def test_no_pairs(names: list[str]) -> None:
    assert pair_images(listing(*names)) is None


def test_of_several_images_of_a_mask_the_first_is_taken_and_said() -> None:
    found = pair_images(listing("p1/p1_t1.nii.gz", "p1/p1_t2.nii.gz", "p1/p1_seg.nii.gz"))
    assert found is not None
    assert found.pairs == (("p1/p1_t1.nii.gz", "p1/p1_seg.nii.gz"),)
    assert not found.certain
    assert "t1, t2" in found.why


def test_an_image_without_mask_is_told() -> None:
    found = pair_images(listing("images/1.png", "images/2.png", "masks/1.png"))
    assert found is not None
    assert found.alone == ("images/2.png",)


@pytest.mark.parametrize(
    ("name", "wanted"), [("a/b.nii.gz", "b"), ("CT.1.2.840", "CT.1.2.840"), ("x.tar.PNG", "x.tar")]
)
def test_stem(name: str, wanted: str) -> None:
    assert stem(name) == wanted
