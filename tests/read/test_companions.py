"""The files that an image is made of: what is read is what is hashed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from medrail.cases import source_fingerprint
from medrail.errors import MedrailError
from medrail.read import READERS, files_of, read
from medrail.read.digests import content_of_file
from medrail.types import Case, Image

PICTURES = ("png", "jpeg", "tiff", "bmp")


def write_mhd(image: Image, folder: Path, make_itk: Callable) -> Path:
    SimpleITK.WriteImage(make_itk(image), str(folder / "image.mhd"))
    return folder / "image.mhd"


def write_nhdr(image: Image, folder: Path, make_itk: Callable) -> Path:
    SimpleITK.WriteImage(make_itk(image), str(folder / "image.nhdr"))
    return folder / "image.nhdr"


def write_pair(image: Image, folder: Path, make_itk: Callable) -> Path:
    nibabel.save(nibabel.Nifti1Pair(image.voxels[0].T, np.eye(4)), folder / "image.hdr")
    return folder / "image.hdr"


DETACHED = {"metaimage": write_mhd, "nrrd": write_nhdr, "nifti": write_pair}


def with_every_byte_changed(files: list[Path]) -> list[tuple[Path, int]]:
    """Places spread over the files, the last bytes among them: those are voxels in most formats."""
    return [
        (file, int(at))
        for file in files
        for at in np.unique(np.linspace(0, file.stat().st_size - 1, 40 if len(files) < 3 else 8).astype(int))
    ]


def changes_follow(case: Case, files: list[Path]) -> None:
    """Law: no byte of an image's files can change without its fingerprint."""
    before = source_fingerprint(case)
    for file, at in with_every_byte_changed(files):
        content = file.read_bytes()
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert source_fingerprint(case) != before, f"byte {at} of {file.name}"
        file.write_bytes(content)
    assert source_fingerprint(case) == before


@pytest.mark.parametrize("role", ["image", "mask", "roi"])
@pytest.mark.parametrize("kind", sorted(READERS))
def test_no_byte_changes_without_the_fingerprint(kind, role, writers, anisotropic_image, tmp_path):
    image = anisotropic_image
    if kind in PICTURES:
        image = Image(np.arange(77, dtype=np.uint8).reshape(1, 1, 7, 11))
    path, item = writers[kind](image, tmp_path)
    case = in_role(role, path, item)
    changes_follow(case, sorted(file for file in tmp_path.rglob("*") if file.is_file()))


def in_role(role: str, path: Path, item: str = "") -> Case:
    if role == "image":
        return Case("a", "p", (str(path),), "label", item=item)
    return Case("a", "p", (), str(path) if role == "mask" else "label", roi=str(path) if role == "roi" else None)


@pytest.mark.parametrize("role", ["image", "mask", "roi"])
@pytest.mark.parametrize("kind", sorted(DETACHED))
def test_no_voxel_in_a_file_of_its_own_changes_without_the_fingerprint(
    kind, role, make_itk, anisotropic_image, tmp_path
):
    path = DETACHED[kind](anisotropic_image, tmp_path, make_itk)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert sorted(files_of(path)) == files
    assert files_of(path)[0] == path
    assert not content_of_file(path).alone
    np.testing.assert_array_equal(read(path).voxels, anisotropic_image.voxels)
    changes_follow(in_role(role, path), files)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_other_files_stand_alone(kind, writers, anisotropic_image, tmp_path):
    image = anisotropic_image
    if kind in PICTURES:
        image = Image(np.arange(77, dtype=np.uint8).reshape(1, 1, 7, 11))
    path, _ = writers[kind](image, tmp_path)
    if path.is_file():
        assert content_of_file(path).alone
    assert files_of(path) == (path,)


def test_what_stands_alone_is_told_from_the_beginning(make_itk, anisotropic_image, tmp_path):
    """Where it is not said there, the answer is no, and ``files_of`` looks."""
    packed = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(anisotropic_image.voxels[0].T, np.eye(4)), packed)
    assert content_of_file(packed).alone
    (tmp_path / "pair.hdr").write_bytes(gzip.compress(bytes(344) + b"ni1\0" + bytes(10)))
    (tmp_path / "slide.mrxs").write_bytes(b"\xff\xd8\xff" + bytes(200))
    slide = bytes(128) + b"DICM" + b"1.2.840.10008.5.1.4.1.1.77.1.6" + bytes(100)
    (tmp_path / "slide.dcm").write_bytes(slide)
    (tmp_path / "cut.gz").write_bytes(packed.read_bytes()[:40])
    (tmp_path / "long.nrrd").write_bytes(b"NRRD0004\n" + b"# comment\n" * 1000 + b"data file: a.raw\n\n")
    (tmp_path / "twice.mhd").write_text("NDims = 3\n\x0bElementDataFile = a.raw\nElementDataFile = LOCAL\n")
    (tmp_path / "long.mhd").write_text("NDims = 3\n" + "Comment = x\n" * 1000 + "ElementDataFile = a.raw\n")
    for name in ("pair.hdr", "slide.mrxs", "slide.dcm", "cut.gz", "long.nrrd", "twice.mhd", "long.mhd"):
        assert not content_of_file(tmp_path / name).alone, name


@pytest.mark.parametrize("kind", sorted(DETACHED))
def test_a_data_file_that_is_gone_is_left_to_the_reader(kind, make_itk, anisotropic_image, tmp_path):
    path = DETACHED[kind](anisotropic_image, tmp_path, make_itk)
    files_of(path)[1].unlink()
    assert files_of(path) == (path,)
    with pytest.raises(MedrailError):
        read(path)


@pytest.mark.parametrize(
    "name", ["../secret", "{root}/secret", "sub/../../secret", "LIST", "a%03d.raw 0 5 1", "\0", ""]
)
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_a_header_from_a_stranger_opens_nothing_else(kind, name, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(385 * 4))
    (tmp_path / "sub").mkdir()
    name = name.format(root=tmp_path)
    header = tmp_path / "sub" / f"image.{kind}"
    if kind == "mhd":
        text = f"NDims = 3\nDimSize = 11 7 5\nElementType = MET_FLOAT\nElementDataFile = {name}\n"
    else:
        text = (
            f"NRRD0004\ntype: float\ndimension: 3\nsizes: 11 7 5\nendian: little\nencoding: raw\ndata file: {name}\n\n"
        )
    header.write_text(text)
    assert files_of(header) == (header,)
    with pytest.raises(MedrailError):
        read(header)


def test_whatever_is_not_an_image_is_itself(tmp_path):
    (tmp_path / "broken.mhd").write_bytes(b"NDims = 3\nDimSize = \xff\n")
    (tmp_path / "broken.nhdr").write_bytes(b"NRRD0005\n\n")
    (tmp_path / "broken.hdr").write_bytes(bytes(344) + b"ni1\0" + bytes(10))
    (tmp_path / "empty").touch()
    (tmp_path / "text.txt").write_text("hello")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "x\0y", *tmp_path.iterdir()):
        assert files_of(path) == (path,)
