"""Single DICOM files: slices, pictures, colours, multi-frame objects, and what holds no picture."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file, get_testdata_files

from medrail.errors import CorruptFile, GeometryError, MedrailError, ReadError, UnsupportedFormat
from medrail.read import read
from medrail.read.dicom import pixels


def save(dataset, path):
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def radiograph(slices):
    """An X-ray picture: 12 of 16 bits, no position."""
    dataset = slices[0]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.Modality, dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = "DX", 0, 12, 11
    dataset.PixelData = (np.arange(77, dtype="<u2") * 50).tobytes()
    return dataset


def test_monochrome1_is_turned_over_the_stored_range(radiograph, tmp_path):
    plain = read(save(radiograph, tmp_path / "a.dcm"))
    radiograph.PhotometricInterpretation = "MONOCHROME1"
    turned = read(save(radiograph, tmp_path / "b.dcm"))
    assert plain.geometry is None
    assert plain.voxels.shape == (1, 1, 7, 11)
    np.testing.assert_array_equal(turned.voxels, 4095 - plain.voxels)
    assert turned.voxels.dtype == np.uint16


def test_monochrome1_of_signed_pixels(radiograph, tmp_path):
    radiograph.PixelRepresentation, radiograph.PhotometricInterpretation = 1, "MONOCHROME1"
    radiograph.PixelData = np.arange(-38, 39, dtype="<i2").tobytes()
    image = read(save(radiograph, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.voxels.ravel(), -1 - np.arange(-38, 39))


def test_monochrome1_leaves_quantities_alone(slices, tmp_path, anisotropic_image):
    slices[0].PhotometricInterpretation = "MONOCHROME1"
    image = read(save(slices[0], tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels[:, :1])


def test_bits_beyond_those_stored_are_no_part_of_the_value(radiograph, tmp_path):
    stored = np.frombuffer(radiograph.PixelData, "<u2")
    radiograph.PixelData = (stored | 0x8000).tobytes()
    np.testing.assert_array_equal(read(save(radiograph, tmp_path / "a.dcm")).voxels.ravel(), stored)


def test_a_modality_table_is_looked_up(radiograph, tmp_path):
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.ModalityLUTType = "US"
    table.add_new("LUTData", "OW", (60_000 - 10 * np.arange(4096)).astype("<u2").tobytes())
    stored = np.frombuffer(radiograph.PixelData, "<u2")
    radiograph.ModalityLUTSequence = [table]
    image = read(save(radiograph, tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.voxels.ravel(), 60_000 - 10 * stored.astype(int))


def test_an_enhanced_object_is_the_same_volume(slices, make_enhanced, tmp_path, anisotropic_image):
    image = read(save(make_enhanced(slices), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)
    assert image.geometry.is_close(anisotropic_image.geometry)
    assert image.unit == "HU"


def test_an_enhanced_object_is_found_in_a_folder(slices, make_enhanced, tmp_path, anisotropic_image):
    save(make_enhanced(slices), tmp_path / "IM1")
    np.testing.assert_array_equal(read(tmp_path).voxels, anisotropic_image.voxels)


def test_an_enhanced_slope_is_each_frames_own(slices, make_enhanced, tmp_path, anisotropic_image):
    multi = make_enhanced(slices)
    mapping = multi.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    mapping.RescaleSlope, mapping.RescaleIntercept = 2, 100
    image = read(save(multi, tmp_path / "a.dcm"))
    stored = anisotropic_image.voxels[0, 4] + 1024
    np.testing.assert_array_equal(image.voxels[0, 4], 2 * stored + 100)
    np.testing.assert_array_equal(image.voxels[0, :4], anisotropic_image.voxels[0, :4])


@pytest.mark.parametrize(
    ("defect", "error", "match"),
    [
        ("duplicate", GeometryError, "duplicate slices"),
        ("unplaced", GeometryError, "without position"),
        ("ungrouped", GeometryError, "without position"),
        ("turned", GeometryError, "mixed orientation"),
        ("count", CorruptFile, "declares 5 frames and describes 4"),
        ("gap", GeometryError, "missing slices"),
    ],
)
def test_an_enhanced_object_that_is_no_volume_is_refused(defect, error, match, slices, make_enhanced, tmp_path):
    multi = make_enhanced(slices)
    groups = multi.PerFrameFunctionalGroupsSequence
    if defect == "duplicate":
        groups[1].PlanePositionSequence = groups[0].PlanePositionSequence
    elif defect == "unplaced":
        del groups[1].PlanePositionSequence
    elif defect == "ungrouped":
        del multi.PerFrameFunctionalGroupsSequence
    elif defect == "turned":
        groups[1].PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    elif defect == "count":
        del groups[-1]
    else:
        del groups[2]
        multi.NumberOfFrames = 4
        multi.PixelData = multi.PixelData[: 4 * 7 * 11 * 2]
    with pytest.raises(error, match=match):
        read(save(multi, tmp_path / "a.dcm"))


@pytest.mark.parametrize(
    ("uid", "name"), [("1.2.840.10008.5.1.4.1.1.66.4", "SEG"), ("1.2.840.10008.5.1.4.1.1.77.1.6", "slide")]
)
def test_objects_of_another_kind_are_named(uid, name, slices, tmp_path):
    slices[0].SOPClassUID = slices[0].file_meta.MediaStorageSOPClassUID = uid
    with pytest.raises(ReadError, match=name):
        read(save(slices[0], tmp_path / "a.dcm"))


def test_a_mosaic_is_refused(slices, tmp_path):
    slices[0].ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    with pytest.raises(UnsupportedFormat, match="mosaic"):
        read(save(slices[0], tmp_path / "a.dcm"))


def test_huge_declared_frames_are_refused_before_decoding(slices, tmp_path):
    slices[0].Rows = slices[0].Columns = 65_535
    with pytest.raises(ReadError, match="GiB"):
        read(save(slices[0], tmp_path / "a.dcm"))


def test_a_deflate_bomb_is_refused(slices, tmp_path, monkeypatch):
    slices[0].file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = save(slices[0], tmp_path / "a.dcm")
    assert read(path).voxels.size
    monkeypatch.setattr(pixels, "MAX_VOXEL_BYTES", 10_000)
    content = path.read_bytes()
    start = 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(content[:start] + engine.compress(bytes(10**6)) + engine.flush())
    with pytest.raises(ReadError, match="inflates to more"):
        read(path)


def test_colours_are_rgb_whatever_the_file_stores():
    expected = read(get_testdata_file("SC_rgb_dcmtk_+eb+cr.dcm")).voxels
    assert expected.shape == (3, 1, 100, 100)
    assert expected[:, 0, 5, 50].tolist() == [255, 0, 0]
    for name in (
        "SC_rgb_rle.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
    ):
        found = read(get_testdata_file(name)).voxels
        assert np.abs(found[:, 0, 5, 50].astype(int) - [255, 0, 0]).max() <= 2, name
    deep = read(get_testdata_file("SC_rgb_rle_16bit.dcm"))
    assert (deep.unit, deep.voxels[:, 0, 5, 50].tolist()) == ("uint16", [65_535, 0, 0])


def test_dose_is_scaled_and_lies_at_its_offsets():
    path = get_testdata_file("rtdose.dcm")
    dose, dataset = read(path), pydicom.dcmread(path)
    np.testing.assert_allclose(dose.voxels[0], dataset.pixel_array * float(dataset.DoseGridScaling), rtol=1e-6)
    itk = SimpleITK.ReadImage(path)
    np.testing.assert_allclose(dose.geometry.spacing_mm, itk.GetSpacing()[::-1], rtol=1e-6)


COMPRESSED = (
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle_16bit.dcm",
    "image_dfl.dcm",
)


@pytest.mark.parametrize("name", COMPRESSED)
def test_damaged_compressed_pixels_never_raise_anything_else(name, tmp_path):
    content = Path(get_testdata_file(name)).read_bytes()
    path, rng, refusals = tmp_path / "a.dcm", np.random.default_rng(len(name)), 0
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(MedrailError):
            read(path)
    for _ in range(25):
        damaged = bytearray(content)
        for at in rng.integers(0, len(damaged), 6):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read(path)
        except MedrailError:
            refusals += 1
    assert refusals > 0


KEPT = sorted(path for path in get_testdata_files("**/*") if not path.endswith((".json", ".txt", ".py")))
FILES = [path for path in KEPT if Path(path).is_file()]
FOLDERS = [path for path in KEPT if Path(path).is_dir()]


def right_or_refused(path):
    """The image; or None after an error of ours that names the file."""
    try:
        return read(path)
    except MedrailError as error:
        refusal = error
    assert refusal.found
    assert path in str(refusal)
    return None


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.split("/")[-2:]))
def test_every_file_of_pydicom_is_right_or_refused(path):
    """No other exception, no warning (they are errors here), and the same numbers as ITK where ITK reads them."""
    image = right_or_refused(path)
    if image is None or len(image.voxels) == 3 or "rtdose" in path:
        return  # colours and dose are checked above; ITK swaps 16 bit RLE, and leaves dose and palettes as stored
    equals_itk(image, SimpleITK.ReadImage(path))


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: "-".join(path.split("/")[-2:]))
def test_every_folder_of_pydicom_is_right_or_refused(path):
    image = right_or_refused(path)
    if image is not None:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(path))
        equals_itk(image, reader.Execute())


def equals_itk(image, itk):
    """Voxels, origin, in-plane axes and the direction of D; the thickness of a single slice is a matter of taste."""
    voxels = SimpleITK.GetArrayFromImage(itk)
    np.testing.assert_allclose(image.voxels.reshape(voxels.shape), voxels, atol=5e-4)
    if image.geometry is None:
        return
    lps = np.diag([-1, -1, 1, 1]) @ image.geometry.affine_ras_mm
    directions = np.array(itk.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(lps[:3, 3], itk.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(lps[:3, [2, 1]], (directions * itk.GetSpacing())[:, :2], atol=1e-3)
    np.testing.assert_allclose(image.geometry.direction[:, 0] * [-1, -1, 1], directions[:, 2], atol=1e-3)
    if image.grid[0] > 1:
        assert image.geometry.spacing_mm[0] == pytest.approx(itk.GetSpacing()[2], abs=1e-3)
