"""Members of a MedMNIST archive."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read import read


@pytest.fixture
def archive(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 256, (4, 7, 11), dtype=np.uint8),
        "val_images": rng.integers(0, 256, (4, 7, 11, 3), dtype=np.uint8),
        "test_images": rng.integers(0, 256, (4, 5, 7, 11), dtype=np.uint8),
        "train_labels": np.zeros((4, 1), np.uint8),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz", arrays


def test_grey_colour_and_volumes(archive):
    path, arrays = archive
    np.testing.assert_array_equal(read(path, "train_images/2").voxels[0, 0], arrays["train_images"][2])
    np.testing.assert_array_equal(read(path, "val_images/3").voxels[:, 0], arrays["val_images"][3].transpose(2, 0, 1))
    np.testing.assert_array_equal(read(path, "test_images/0").voxels[0], arrays["test_images"][0])
    assert read(path, "train_images/2").unit == "uint8"


@pytest.mark.parametrize("item", ["", "train_images", "train_images/four", "train_images/-1", "/1"])
def test_without_a_member_the_error_lists_them(archive, item):
    with pytest.raises(ReadError, match="test_images/0, train_images/0, val_images/0"):
        read(archive[0], item)


def test_unknown_members_and_indices_are_named(archive):
    with pytest.raises(ReadError, match="no array 'test'"):
        read(archive[0], "test/1")
    with pytest.raises(ReadError, match="holds 4 pictures"):
        read(archive[0], "train_images/4")
    with pytest.raises(UnsupportedFormat, match="train_labels"):
        read(archive[0], "train_labels/0")


def test_the_array_handed_out_can_be_changed_without_harm(archive):
    path, arrays = archive
    first = read(path, "train_images/1").voxels
    if first.flags.writeable:
        first[:] = 0
    np.testing.assert_array_equal(read(path, "train_images/1").voxels[0, 0], arrays["train_images"][1])


def test_a_replaced_file_is_read_anew(archive):
    path, _ = archive
    read(path, "train_images/0")
    np.savez(path, train_images=np.full((4, 7, 11), 9, np.uint8))
    assert (read(path, "train_images/0").voxels == 9).all()


def test_python_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", train_images=np.array([[[{}]]], dtype=object))
    with pytest.raises(UnsupportedFormat, match="object"):
        read(tmp_path / "a.npz", "train_images/0")


def test_huge_declared_arrays_are_refused(tmp_path):
    import io

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (90_000, 3000, 3000)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    with pytest.raises(ReadError, match="GiB"):
        read(tmp_path / "a.npz", "train_images/0")


def test_a_broken_archive_is_corrupt(archive):
    path, _ = archive
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        read(path, "train_images/0")
