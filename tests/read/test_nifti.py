"""NIfTI in and out, with nibabel as judge."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from medrail.errors import CorruptFile, GeometryError, ReadError, UnsupportedFormat
from medrail.read import read, read_mask, write_nifti
from medrail.types import Geometry, Image, ReadOptions

AFFINE = np.array([[-0.9, 0.1, 0.0, 12.0], [0.1, 0.7, 0.2, -30.0], [0.0, -0.2, 5.0, 7.0], [0, 0, 0, 1]])


def save(path, data, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(data, affine, dtype=data.dtype), path)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_voxels_keep_their_type(dtype, ending, tmp_path):
    data = np.arange(11 * 7 * 5, dtype=dtype).reshape(11, 7, 5)
    image = read(save(tmp_path / f"a{ending}", data))
    assert image.voxels.dtype == dtype
    np.testing.assert_array_equal(image.voxels[0], data.transpose(2, 1, 0))
    np.testing.assert_allclose(image.geometry.affine_ras_mm, AFFINE[:, [2, 1, 0, 3]], atol=1e-6)


def test_big_endian_becomes_native(tmp_path):
    data = np.arange(24, dtype=">i2").reshape(4, 3, 2)
    image = nibabel.Nifti1Image(data, AFFINE, nibabel.Nifti1Header(endianness=">"), dtype=np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    back = read(tmp_path / "a.nii")
    assert back.voxels.dtype.isnative
    np.testing.assert_array_equal(back.voxels[0], data.transpose(2, 1, 0))


def test_nifti_2_and_pairs(tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    nibabel.save(nibabel.Nifti2Image(data, AFFINE), tmp_path / "two.nii.gz")
    nibabel.save(nibabel.Nifti1Pair(data, AFFINE), tmp_path / "pair.hdr")
    for name in ("two.nii.gz", "pair.hdr"):
        np.testing.assert_array_equal(read(tmp_path / name).voxels[0], data.transpose(2, 1, 0))
    (tmp_path / "pair.img").unlink()
    with pytest.raises(CorruptFile, match="header of a NIfTI pair"):
        read(tmp_path / "pair.hdr")


@pytest.mark.parametrize("shape", [(11, 7, 5, 3), (11, 7, 5, 1, 3)])
def test_further_dimensions_are_channels(shape, tmp_path):
    data = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    image = read(save(tmp_path / "a.nii.gz", data))
    assert image.voxels.shape == (3, 5, 7, 11)
    np.testing.assert_array_equal(image.voxels[2, 4, 6, 10], data.reshape(11, 7, 5, 3, order="F")[10, 6, 4, 2])


def test_a_plane_has_depth_1(tmp_path):
    image = read(save(tmp_path / "a.nii", np.arange(77, dtype=np.uint8).reshape(11, 7)))
    assert image.voxels.shape == (1, 1, 7, 11)


def test_two_further_dimensions_are_refused(tmp_path):
    with pytest.raises(UnsupportedFormat, match="5 dimensions"):
        read(save(tmp_path / "a.nii", np.zeros((4, 3, 2, 2, 3), np.int16)))


def test_rgb_becomes_three_channels(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (4, 3, 2, 3), dtype=np.uint8)
    data = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    image = read(save(tmp_path / "a.nii.gz", data))
    np.testing.assert_array_equal(image.voxels, rgb.transpose(3, 2, 1, 0))


def test_complex_is_refused(tmp_path):
    with pytest.raises(UnsupportedFormat, match="complex64"):
        read(save(tmp_path / "a.nii", np.zeros((4, 3, 2), np.complex64)))


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, "int16"), (2, 0, "int16"), (0.5, 3, "float32"), (1, 40_000, "int32")]
)
def test_scaling_is_applied_as_nibabel_does(slope, intercept, dtype, tmp_path):
    data = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    plain = save(tmp_path / "a.nii", data)
    content = bytearray(plain.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    plain.write_bytes(content)
    image = read(plain)
    assert image.voxels.dtype == dtype
    np.testing.assert_array_equal(image.voxels[0], nibabel.load(plain).get_fdata().transpose(2, 1, 0))


def test_units_become_mm(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.uint8), np.diag([0.002, 0.003, 0.005, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(tmp_path / "a.nii").geometry.spacing_mm, (5, 3, 2), rtol=1e-6)


def test_without_codes_only_the_spacing_is_believed(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.uint8), None)
    image.header.set_zooms((0.9, 0.7, 5.0))
    nibabel.save(image, tmp_path / "a.nii")
    geometry = read(tmp_path / "a.nii").geometry
    np.testing.assert_allclose(geometry.spacing_mm, (5.0, 0.7, 0.9), rtol=1e-6)
    assert geometry.axis_codes == ("S", "A", "R")


def test_the_qform_is_used_when_there_is_no_sform(tmp_path):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.9, 0.7, 5]
    image = nibabel.Nifti1Image(np.zeros((4, 3, 2), np.uint8), None)
    image.set_qform(affine, 1)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(read(tmp_path / "a.nii").geometry.affine_ras_mm, affine[:, [2, 1, 0, 3]], atol=1e-5)


def test_a_singular_affine_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((4, 3, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[280:296] = bytes(16)  # srow_x
    path.write_bytes(content)
    with pytest.raises(GeometryError, match="no grid") as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_wrong_checksum_is_found(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(4, 3, 2))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        read(path)


def test_gzip_members_are_joined(tmp_path):
    path = save(tmp_path / "a.nii", np.arange(240, dtype=np.int16).reshape(12, 10, 2))
    content = path.read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(b"".join(gzip.compress(content[at : at + 100]) for at in range(0, len(content), 100)))
    np.testing.assert_array_equal(read(path).voxels, read(tmp_path / "a.nii").voxels)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_huge_declared_size_is_refused_before_it_is_allocated(ending, tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((4, 3, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    path = tmp_path / f"b{ending}"
    path.write_bytes(gzip.compress(content) if ending == ".nii.gz" else content)
    with pytest.raises(ReadError, match="GiB"):
        read(path)


def test_a_size_that_the_stream_cannot_hold_is_refused(tmp_path):
    path = save(tmp_path / "a.nii", np.zeros((4, 3, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([1000, 1000, 1000], "<i2").tobytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(CorruptFile, match="truncated"):
        read(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64"])
def test_written_images_come_back_and_nibabel_agrees(channels, dtype, anisotropic_image, tmp_path):
    voxels = np.repeat(anisotropic_image.voxels % 251, channels, axis=0).astype(dtype)
    image = Image(voxels, anisotropic_image.geometry)
    path = tmp_path / "new" / "a.nii.gz"
    write_nifti(image, path)
    back = read(path)
    assert back.voxels.dtype == dtype
    np.testing.assert_array_equal(back.voxels, voxels)
    assert back.geometry.is_close(image.geometry)
    judge = nibabel.load(path)
    assert judge.shape == (11, 7, 5) + ((channels,) if channels > 1 else ())
    np.testing.assert_allclose(judge.affine[:, [2, 1, 0, 3]], image.geometry.affine_ras_mm, atol=1e-5)
    np.testing.assert_allclose(judge.header.get_qform()[:, [2, 1, 0, 3]], image.geometry.affine_ras_mm, atol=1e-4)


def test_writing_is_atomic_and_repeatable(anisotropic_image, tmp_path):
    path = tmp_path / "a.nii.gz"
    write_nifti(anisotropic_image, path)
    first = path.read_bytes()
    write_nifti(anisotropic_image, path)
    assert path.read_bytes() == first
    with pytest.raises(UnsupportedFormat):
        write_nifti(Image(np.zeros((1, 2, 3, 4), np.complex64)), path)
    assert path.read_bytes() == first
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nii.gz"]


def test_writing_without_space_or_a_known_ending(tmp_path):
    write_nifti(Image(np.ones((1, 2, 3, 4), bool)), tmp_path / "a.nii")
    assert read(tmp_path / "a.nii").geometry.is_close(Geometry.from_spacing((1, 1, 1)))
    with pytest.raises(UnsupportedFormat, match="ending"):
        write_nifti(Image(np.zeros((1, 2, 3, 4))), tmp_path / "a.img")


def test_masks_are_whole_numbers(tmp_path):
    data = np.zeros((4, 3, 2), np.float32)
    data[1, 1, 1] = 3
    mask = read_mask(save(tmp_path / "a.nii.gz", data))
    assert mask.voxels.dtype == np.uint8
    assert mask.unit == "label"
    assert mask.voxels[0, 1, 1, 1] == 3
    with pytest.raises(ReadError, match="no whole numbers"):
        read_mask(save(tmp_path / "b.nii.gz", data / 2))
    with pytest.raises(ReadError, match="3 channels"):
        read_mask(save(tmp_path / "c.nii.gz", np.zeros((4, 3, 2, 3), np.uint8)))


def save_forms(path, sform, qform, codes=("scanner", "scanner")):
    image = nibabel.Nifti1Image(np.arange(11 * 7 * 5, dtype=np.int16).reshape(11, 7, 5), sform)
    image.set_sform(sform, codes[0])
    image.set_qform(qform, codes[1], strip_shears=True)
    nibabel.save(image, path)
    return path


RIGID = np.array([[-0.9, 0, 0, 12.0], [0, 0.7, 0, -30.0], [0, 0, 5.0, 7.0], [0, 0, 0, 1]])


@given(shift_mm=st.floats(-50, 50), axis=st.integers(0, 2))
def test_forms_that_disagree_are_said_with_how_far(shift_mm, axis, tmp_path_factory):
    assume(abs(abs(shift_mm) - 0.07) > 1e-5)  # the file's float32 decides there
    moved = RIGID.copy()
    moved[axis, 3] += shift_mm
    image = read(save_forms(tmp_path_factory.mktemp("forms") / "a.nii", RIGID, moved))
    np.testing.assert_allclose(image.geometry.affine_ras_mm, RIGID[:, [2, 1, 0, 3]], atol=1e-5)
    assert [defect.name for defect in image.defects] == ["sform_qform_disagree"] * (abs(shift_mm) > 0.07)
    if image.defects and abs(shift_mm) > 1:
        assert f"{abs(shift_mm):.3g}"[:2] in image.defects[0].evidence


def test_forms_that_disagree_about_left_and_right_are_refused(tmp_path):
    mirrored = RIGID @ np.diag([-1, 1, 1, 1])
    path = save_forms(tmp_path / "a.nii", RIGID, mirrored)
    with pytest.raises(GeometryError, match="which side is left"):
        read(path)
    accepted = read(path, options=ReadOptions(on_defect="accept"))
    assert "mirrored" in accepted.defects[0].evidence
    np.testing.assert_allclose(accepted.geometry.affine_ras_mm, RIGID[:, [2, 1, 0, 3]], atol=1e-5)


def test_one_form_alone_cannot_disagree(tmp_path):
    assert read(save_forms(tmp_path / "a.nii", RIGID, RIGID * 2, ("scanner", "unknown"))).defects == ()
