"""A folder is one volume in the order of its positions, or a named refusal with its evidence."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
import SimpleITK
from pydicom.uid import generate_uid

from medrail.errors import CorruptFile, GeometryError, MedrailError, ReadError
from medrail.read import read, series_in
from medrail.read.dicom import series as series_module
from medrail.types import Image

IDENTIFIERS = ("Secretive", "Sally", "4711")


def moved(slices, index, mm):
    """Shift one slice along the normal."""
    orientation = np.array(slices[0].ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    position = np.array(slices[index].ImagePositionPatient, float) + mm * normal
    slices[index].ImagePositionPatient = [round(float(x), 6) for x in position]


@pytest.mark.parametrize("seed", range(5))
def test_neither_names_nor_instance_numbers_matter(seed, slices, save_slices, anisotropic_image):
    rng = np.random.default_rng(seed)
    for dataset in slices:
        dataset.InstanceNumber = int(rng.integers(0, 1000))
    image = read(save_slices(slices, seed=seed))
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)
    assert image.geometry.is_close(anisotropic_image.geometry)
    assert image.unit == "HU"
    assert image.voxels.dtype == np.int16


def test_simpleitk_agrees(slices, save_slices):
    folder = save_slices(slices)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk, image = reader.Execute(), read(folder)
    np.testing.assert_array_equal(image.voxels[0], SimpleITK.GetArrayFromImage(itk))
    lps = np.diag([-1, -1, 1, 1]) @ image.geometry.affine_ras_mm
    np.testing.assert_allclose(lps[:3, 3], itk.GetOrigin(), atol=1e-5)
    columns = np.array(itk.GetDirection()).reshape(3, 3) * itk.GetSpacing()
    np.testing.assert_allclose(lps[:3, :3], columns[:, ::-1], atol=1e-4)


def test_the_slope_is_each_slices_own(make_slices, save_slices, anisotropic_image):
    slices = make_slices(anisotropic_image, slope=0.5, intercept=0)
    for index, dataset in enumerate(slices):
        stored = np.frombuffer(dataset.PixelData, "<i2") * 2
        dataset.RescaleSlope = 0.25
        if index % 2:
            dataset.RescaleSlope, stored = 0.5, stored // 2
        dataset.PixelData = stored.astype("<i2").tobytes()
    image = read(save_slices(slices))
    assert image.voxels.dtype == np.float32
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)


def test_real_values_beyond_16_bits_get_32(make_slices, save_slices, anisotropic_image):
    voxels = anisotropic_image.voxels + 40_000
    image = read(save_slices(make_slices(Image(voxels, anisotropic_image.geometry), intercept=40_000)))
    assert image.voxels.dtype == np.int32
    np.testing.assert_array_equal(image.voxels, voxels)


def test_rounded_positions_are_no_defect(slices, save_slices, anisotropic_image):
    for dataset in slices:
        dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]
    image = read(save_slices(slices))
    np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)
    np.testing.assert_allclose(image.geometry.affine_ras_mm, anisotropic_image.geometry.affine_ras_mm, atol=0.08)
    direction = image.geometry.direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)


def missing(slices):
    del slices[2]


def two_missing_near_the_end(slices):
    del slices[2:4]


def duplicate(slices):
    slices[3].ImagePositionPatient = slices[2].ImagePositionPatient


def uneven(slices):
    moved(slices, 2, 1.3)


def tilted(slices):
    step = np.array(slices[0].ImageOrientationPatient[3:], float)
    for index, dataset in enumerate(slices):
        position = np.array(dataset.ImagePositionPatient, float) + index * 0.6 * step
        dataset.ImagePositionPatient = [round(float(x), 6) for x in position]


def shifted(slices):
    step = np.array(slices[0].ImageOrientationPatient[:3], float)
    position = np.array(slices[2].ImagePositionPatient, float) + 4 * step
    slices[2].ImagePositionPatient = [round(float(x), 6) for x in position]


def mixed_orientation(slices):
    slices[4].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def mixed_size(slices):
    slices[4].Rows, slices[4].Columns = 11, 7


def mixed_spacing(slices):
    slices[4].PixelSpacing = [0.8, 0.9]


def localiser(slices):
    slices[4].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def second_echo(slices):
    for dataset in slices[:2]:
        dataset.EchoNumbers = 2


def no_pixels(slices):
    del slices[1].PixelData


def short_pixels(slices):
    slices[1].PixelData = slices[1].PixelData[:-20]


def zero_spacing(slices):
    slices[1].PixelSpacing = [0, 0]


def skewed_axes(slices):
    slices[1].ImageOrientationPatient = [1, 0, 0, 0.7, 0.7, 0]


DEFECTS = {
    missing: (GeometryError, "missing slices: 1 at 1"),
    two_missing_near_the_end: (GeometryError, "missing slices: 2 at 1"),
    duplicate: (GeometryError, "duplicate slices: 1 of 5"),
    uneven: (GeometryError, "uneven spacing"),
    tilted: (GeometryError, r"gantry tilt: .* 6\.8 degrees"),
    shifted: (GeometryError, "shifted slices: 1 lie up to 4 mm"),
    mixed_orientation: (GeometryError, "mixed orientation: .* 1 files 7 x 11 coronal"),
    mixed_size: (GeometryError, "mixed size: .* 1 files 11 x 7"),
    mixed_spacing: (GeometryError, "mixed size: several"),
    localiser: (GeometryError, "localiser in series: .* 1 files"),
    second_echo: (GeometryError, "several volumes in one series.* 2 files"),
    no_pixels: (CorruptFile, "truncated pixel data"),
    short_pixels: (CorruptFile, "truncated pixel data: .* bytes of pixels"),
    zero_spacing: (CorruptFile, "unreadable header.*PixelSpacing"),
    skewed_axes: (CorruptFile, "unreadable header.*perpendicular"),
}


@pytest.mark.parametrize("inject", DEFECTS, ids=lambda inject: inject.__name__)
def test_each_defect_is_refused_by_its_name(inject, slices, save_slices, caplog):
    inject(slices)
    error, evidence = DEFECTS[inject]
    folder = save_slices(slices)
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=evidence) as caught:
        read(folder)
    assert str(folder) in str(caught.value)
    assert caught.value.remedy
    for identifier in IDENTIFIERS:
        assert identifier not in str(caught.value)
        assert identifier not in caplog.text


def test_a_part_of_a_mixed_series_can_be_read_by_its_item(slices, save_slices, anisotropic_image):
    second_echo(slices)
    folder = save_slices(slices)
    items = {len(series.files): series.item for series in series_in(folder)}
    assert set(items) == {2, 3}
    for count, part in ((2, slice(0, 2)), (3, slice(2, 5))):
        np.testing.assert_array_equal(read(folder, items[count]).voxels, anisotropic_image.voxels[:, part])


def test_two_series_in_one_folder_must_be_named(make_slices, save_slices, anisotropic_image):
    first = save_slices(make_slices(anisotropic_image), "both/first")
    save_slices(make_slices(Image(anisotropic_image.voxels[:, :3] * 2, anisotropic_image.geometry)), "both/second")
    folder = first.parent
    found = series_in(folder)
    assert [(series.shape, series.modality, len(series.files)) for series in found] == [
        ((1, 5, 7, 11), "CT", 5),
        ((1, 3, 7, 11), "CT", 3),
    ]
    with pytest.raises(ReadError, match="holds 2 images") as caught:
        read(folder)
    assert all(series.item in str(caught.value) for series in found)
    assert read(folder, found[1].item).voxels.max() == 2 * anisotropic_image.voxels[:, :3].max()
    with pytest.raises(ReadError, match="no such series"):
        read(folder, "series-00000000")


def test_items_are_stable_and_say_nothing(slices, save_slices, tmp_path):
    slices[0].SeriesDescription = "Secretive"
    folder = save_slices(slices)
    (series,) = series_in(folder)
    shutil.move(folder, tmp_path / "elsewhere")
    assert series_in(tmp_path / "elsewhere")[0].item == series.item
    assert series.item.startswith("series-")
    assert slices[0].SeriesInstanceUID not in repr(series)


def test_bystanders_in_the_folder_do_no_harm(slices, save_slices, anisotropic_image):
    folder = save_slices(slices)
    (folder / "README.txt").write_text("hello")
    (folder / "Thumbs.db").write_bytes(bytes(range(50, 250)))
    (folder / ".hidden").touch()
    report = slices[0]
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient"):
        delattr(report, keyword)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read(folder).voxels, anisotropic_image.voxels)


@pytest.mark.parametrize("content", [b"", b"lost", b"<html>please sign in</html>"])
def test_a_broken_slice_is_never_left_out_silently(content, slices, save_slices):
    folder = save_slices(slices)
    last = folder / "IM9999.dcm"
    last.write_bytes(content)
    with pytest.raises(MedrailError, match="IM9999"):
        read(folder)


def test_a_slice_cut_off_anywhere_is_missed(slices, save_slices):
    """Also the last one, whose absence would leave no gap."""
    folder = save_slices(slices)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for end in [*range(0, len(content), 7), len(content) - 1]:
            path.write_bytes(content[:end])
            with pytest.raises(MedrailError):
                read(folder)
        path.write_bytes(content)
    assert read(folder).grid == (5, 7, 11)


def test_a_folder_without_dicom_says_so(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ReadError, match="no DICOM image"):
        read(tmp_path)
    assert series_in(tmp_path) == []
    with pytest.raises(ReadError, match="no such folder"):
        series_in(tmp_path / "nothing")


def test_files_without_position_are_pictures_of_their_own(slices, save_slices):
    for dataset in slices:
        del dataset.ImagePositionPatient
        dataset.SOPInstanceUID = generate_uid()
    folder = save_slices(slices)
    assert len(series_in(folder)) == 5
    with pytest.raises(ReadError, match="holds 5 images"):
        read(folder)


def test_a_single_slice_has_the_files_thickness(slices, save_slices, anisotropic_image):
    image = read(save_slices(slices[:1]))
    assert image.grid == (1, 7, 11)
    assert image.geometry.spacing_mm == pytest.approx((1.5, 0.7, 0.9), abs=1e-6)
    np.testing.assert_allclose(image.geometry.origin_mm, anisotropic_image.geometry.origin_mm, atol=1e-5)


@pytest.mark.parametrize("rescale_type", ["US", "mgml"])
def test_ct_in_other_units_is_not_called_hu(rescale_type, slices, save_slices):
    for dataset in slices:
        dataset.RescaleType = rescale_type
    assert read(save_slices(slices)).unit == "arbitrary"


def test_the_series_of_one_folder_are_read_with_one_scan_until_a_file_changes(
    slices, make_slices, anisotropic_image, save_slices, monkeypatch
):
    folder = save_slices(slices)
    for number, dataset in enumerate(make_slices(anisotropic_image)):
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
        dataset.save_as(folder / f"second{number}.dcm")
    scans = []
    real = series_module.scan
    monkeypatch.setattr(series_module, "scan", lambda *given: scans.append(given) or real(*given))
    items = [one.item for one in series_in(folder)]
    assert len(items) == 2
    scans.clear()
    for item in items * 3:
        np.testing.assert_array_equal(read(folder, item).voxels, anisotropic_image.voxels)
    assert len(scans) == 1
    (folder / "second2.dcm").unlink()
    refused = 0
    for item in items:
        try:
            read(folder, item)
        except GeometryError as error:
            refused += "missing" in str(error)
    assert refused == 1
    assert len(scans) == 2
