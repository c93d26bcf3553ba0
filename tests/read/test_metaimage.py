"""MetaImage, with SimpleITK as judge."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import SimpleITK

from medrail.errors import CorruptFile, ReadError, UnsupportedFormat
from medrail.read import read

HEADER = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 0 1 0 0 0 1 1 0 0
Offset = 1 2 3
ElementSpacing = 0.9 0.7 5
DimSize = 4 3 2
ElementType = MET_SHORT
"""
VOXELS = np.arange(24, dtype="<i2").reshape(2, 3, 4)
STORED = VOXELS.tobytes()


def judge(path):
    itk = SimpleITK.ReadImage(str(path))
    columns = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns[:, ::-1], itk.GetOrigin()
    return SimpleITK.GetArrayFromImage(itk), np.diag([-1, -1, 1, 1]) @ affine


def check(path):
    voxels, affine = judge(path)
    image = read(path)
    np.testing.assert_array_equal(image.voxels[0], voxels)
    np.testing.assert_allclose(image.geometry.affine_ras_mm, affine, atol=1e-9)
    return image


def write(path, header=HEADER, data=STORED, file="LOCAL"):
    path.write_bytes(f"{header}ElementDataFile = {file}\n".encode() + (data if file == "LOCAL" else b""))
    return path


def test_a_permuted_direction_is_read_as_itk_does(tmp_path):
    check(write(tmp_path / "a.mha"))


def test_zlib_data_here_and_beside(anisotropic_image, make_itk, tmp_path):
    for name in ("a.mha", "b.mhd"):
        SimpleITK.WriteImage(make_itk(anisotropic_image), str(tmp_path / name), True)
        assert b"CompressedData = True" in (tmp_path / name).read_bytes()
        check(tmp_path / name)
    assert (tmp_path / "b.zraw").is_file()


def test_raw_data_beside_with_a_header_to_skip(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"HEADERHEADER" + VOXELS.tobytes())
    for skip in ("12", "-1"):
        image = read(write(tmp_path / "a.mhd", HEADER + f"HeaderSize = {skip}\n", file="a.raw"))
        np.testing.assert_array_equal(image.voxels[0], VOXELS)


def test_most_significant_byte_first(tmp_path):
    header = HEADER.replace("MSB = False", "MSB = True")
    np.testing.assert_array_equal(
        check(write(tmp_path / "a.mha", header, VOXELS.astype(">i2").tobytes())).voxels[0], VOXELS
    )


def test_channels_and_time_are_channels(tmp_path):
    itk = SimpleITK.GetImageFromArray(np.arange(72, dtype=np.uint8).reshape(2, 3, 4, 3), isVector=True)
    SimpleITK.WriteImage(itk, str(tmp_path / "a.mha"))
    image = read(tmp_path / "a.mha")
    np.testing.assert_array_equal(image.voxels, SimpleITK.GetArrayFromImage(itk).transpose(3, 0, 1, 2))
    itk = SimpleITK.GetImageFromArray(np.arange(72, dtype=np.uint8).reshape(3, 2, 3, 4), isVector=False)
    itk.SetSpacing((0.9, 0.7, 5.0, 1.0))
    SimpleITK.WriteImage(itk, str(tmp_path / "b.mha"))
    image = read(tmp_path / "b.mha")
    assert image.voxels.shape == (3, 2, 3, 4)
    np.testing.assert_allclose(image.geometry.spacing_mm, (5.0, 0.7, 0.9))


def test_a_plane_has_depth_1(tmp_path):
    itk = SimpleITK.GetImageFromArray(np.arange(77, dtype=np.float32).reshape(7, 11))
    itk.SetSpacing((0.9, 0.7))
    SimpleITK.WriteImage(itk, str(tmp_path / "a.mha"))
    image = read(tmp_path / "a.mha")
    assert image.voxels.shape == (1, 1, 7, 11)
    np.testing.assert_allclose(image.geometry.spacing_mm, (1, 0.7, 0.9))


@pytest.mark.parametrize(
    ("file", "error"),
    [
        ("LIST", "one file a slice"),
        ("slice%03d.raw 1 2 1", "one file a slice"),
        ("../secret.raw", "outside"),
        ("/etc/hostname", "outside"),
        ("missing.raw", "missing"),
    ],
)
def test_data_elsewhere_is_refused(file, error, tmp_path):
    (tmp_path / "secret.raw").write_bytes(VOXELS.tobytes())
    (tmp_path / "below").mkdir()
    with pytest.raises(ReadError, match=error):
        read(write(tmp_path / "below" / "a.mhd", file=file))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("DimSize = 4 3 2", "DimSize = 4 3 2000"), CorruptFile),
        (("DimSize = 4 3 2", "DimSize = 40000 30000 20000"), ReadError),
        (("DimSize = 4 3 2", "DimSize = 4 3 -2"), CorruptFile),
        (("DimSize = 4 3 2", "DimSize = 4 3"), CorruptFile),
        (("DimSize = 4 3 2", "DimSize = four 3 2"), CorruptFile),
        (("MET_SHORT", "MET_STRING"), UnsupportedFormat),
        (("BinaryData = True", "BinaryData = False"), UnsupportedFormat),
        (("ElementType = MET_SHORT\n", ""), CorruptFile),
        (("Offset = 1 2 3", "Offset = 1 2"), CorruptFile),
        (("CompressedData = False", "CompressedData = True"), CorruptFile),
    ],
)
def test_broken_headers_are_named(change, error, tmp_path):
    with pytest.raises(error):
        read(write(tmp_path / "a.mha", HEADER.replace(*change)))


def test_a_truncated_zlib_stream_is_found(tmp_path):
    header = HEADER.replace("CompressedData = False", "CompressedData = True")
    data = zlib.compress(VOXELS.tobytes())
    read(write(tmp_path / "a.mha", header, data))
    for cut in (1, 4, 10):
        with pytest.raises(CorruptFile):
            read(write(tmp_path / "b.mha", header, data[:-cut]))
