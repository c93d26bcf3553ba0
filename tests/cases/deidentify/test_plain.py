"""Files that are no DICOM: the metadata goes, the image stays."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image as Pillow
from PIL import PngImagePlugin

from medrail.cases.deidentify.plain import copy_of
from medrail.errors import MedrailError
from medrail.read import read, sniff

NAME = "Müllerová Ilse"
PLAIN = "Muellerova"


def secret_exif(orientation: int = 1) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112], exif[0x010E], exif[0x9286] = orientation, PLAIN, PLAIN
    return exif


def png(path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", PLAIN)
    text.add_itxt("Comment", NAME, zip=True)
    Pillow.fromarray(picture()).save(
        path, pnginfo=text, exif=secret_exif(6), icc_profile=b"profile of " + PLAIN.encode()
    )
    path.write_bytes(path.read_bytes() + PLAIN.encode())


def jpeg(path: Path, **options: object) -> None:
    Pillow.fromarray(picture()).save(path, exif=secret_exif(8), comment=PLAIN.encode(), quality=90, **options)
    path.write_bytes(path.read_bytes() + PLAIN.encode())


def progressive(path: Path) -> None:
    jpeg(path, progressive=True)


def tiff(path: Path, **options: object) -> None:
    frames = np.stack([picture()[..., 0], picture()[..., 1]]).astype(np.uint16)
    tifffile.imwrite(path, frames, description=PLAIN, software=PLAIN, datetime="2024:05:17 10:00:00", metadata=None,
                     extratags=[(315, "s", 0, PLAIN, False)], photometric="minisblack", **options)  # fmt: skip
    path.write_bytes(path.read_bytes() + PLAIN.encode())


def big_tiff(path: Path) -> None:
    tiff(path, bigtiff=True, byteorder=">", compression="zlib")


def bmp(path: Path) -> None:
    Pillow.fromarray(picture()).save(path)
    path.write_bytes(path.read_bytes() + PLAIN.encode())


def nifti(path: Path, kind: type = nib.Nifti1Image) -> None:
    image = kind(np.arange(5 * 7 * 11, dtype=np.int16).reshape(11, 7, 5), np.diag([0.9, 0.7, 5.0, 1]))
    image.header["descrip"], image.header["aux_file"] = PLAIN.encode(), PLAIN.encode()
    image.header["intent_name"] = PLAIN.encode()
    if kind is nib.Nifti1Image:
        image.header["db_name"] = PLAIN.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NAME.encode()))
    nib.save(image, path)


def nifti2(path: Path) -> None:
    nifti(path, nib.Nifti2Image)


def zipped(path: Path) -> None:
    plain = path.with_suffix("")
    nifti(plain)
    with path.open("wb") as out, gzip.GzipFile(filename=f"{PLAIN}.nii", fileobj=out, mode="wb") as file:
        file.write(plain.read_bytes() + PLAIN.encode())
    plain.unlink()


def itk(path: Path, *, compress: bool = False) -> None:
    image = SimpleITK.GetImageFromArray(np.arange(5 * 7 * 11, dtype=np.int16).reshape(5, 7, 11))
    image.SetSpacing((0.9, 0.7, 5.0))
    image.SetMetaData("PatientName", PLAIN)
    image.SetMetaData("content", PLAIN)
    SimpleITK.WriteImage(image, str(path), compress)


def packed(path: Path) -> None:
    itk(path, compress=True)


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (21, 34, 3), dtype=np.uint8)


MADE = {
    "a.png": png, "a.jpg": jpeg, "b.jpg": progressive, "a.tif": tiff, "b.tif": big_tiff, "a.bmp": bmp, "a.nii": nifti,
    "b.nii": nifti2, "a.nii.gz": zipped, "a.mha": itk, "b.mha": packed, "a.mhd": itk, "b.mhd": packed, "a.nrrd": itk,
    "b.nrrd": packed, "a.nhdr": itk, "b.nhdr": packed,
}  # fmt: skip


def failure(path: Path, kind: str) -> str:
    """What is said of a broken file; any other exception than one of ours ends the test."""
    try:
        copy_of(path, kind)
    except MedrailError as error:
        return str(error)
    return ""


def content_of(path: Path, content: bytes) -> bytes:
    """A file's bytes, and what is zipped in them."""
    if content[:2] == b"\x1f\x8b":
        return content[:64] + gzip.decompress(content)
    return content


@pytest.mark.parametrize("name", MADE)
def test_only_the_image_is_left(tmp_path, name):
    path = tmp_path / name
    MADE[name](path)
    before = read(path)
    ((suffix, content),) = copy_of(path, sniff(path))
    new = tmp_path / f"copy{suffix}"
    new.write_bytes(content)
    shown = content_of(new, content)
    for word in (PLAIN, NAME, "2024:05:17", "Müllerová", path.stem + "."):
        assert word.encode() not in shown
        assert zlib.compress(word.encode()) not in shown
    after = read(new)
    np.testing.assert_array_equal(before.voxels, after.voxels)
    assert before.unit == after.unit
    assert before.geometry is None or before.geometry.is_close(after.geometry)


def test_the_same_pixels_are_coded_the_same(tmp_path):
    jpeg(tmp_path / "a.jpg")
    ((_, content),) = copy_of(tmp_path / "a.jpg", "jpeg")
    original = (tmp_path / "a.jpg").read_bytes()
    scan = original.index(b"\xff\xda")
    assert content[content.index(b"\xff\xda") :] == original[scan : original.rindex(b"\xff\xd9") + 2]


def test_a_whole_slide_is_refused_by_name(shared_data):
    (slide,) = (shared_data / "slides").rglob("*.svs")
    with pytest.raises(MedrailError, match="whole slide"):
        copy_of(slide, "tiff")


def test_a_tiff_that_leads_back_or_out_of_itself_is_refused(tmp_path):
    tiff(tmp_path / "a.tif")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    struct.pack_into("<I", content, first + 2 + count * 12, first)
    (tmp_path / "loop.tif").write_bytes(content)
    (tmp_path / "cut.tif").write_bytes(content[: len(content) // 2])
    for name in ("loop.tif", "cut.tif"):
        with pytest.raises(MedrailError):
            copy_of(tmp_path / name, "tiff")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.nii", "a.mha", "a.nrrd"])
def test_broken_files_end_in_named_errors(tmp_path, name):
    path = tmp_path / name
    MADE[name](path)
    content, kind = path.read_bytes(), sniff(path)
    rng = np.random.default_rng(0)
    for number in range(60):
        broken = bytearray(content[: rng.integers(8, len(content))] if number % 2 else content)
        for at in rng.integers(4, len(broken), 4):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        assert PLAIN not in failure(path, kind)
