"""Slices that do not belong together are never one volume, and no part of them passes for a whole one."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from pydicom.uid import generate_uid

from faults import good_series, voxels_of, write_files
from faults.inject import move, normal_of, renew, spacing_of
from faults.series import copied
from medrail.errors import CorruptFile, GeometryError
from medrail.read import read, series_in
from medrail.read.dicom.who import who_of
from medrail.types import ReadOptions

ACCEPT = ReadOptions(on_defect="accept")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def slices(rng):
    return good_series(rng)


@pytest.fixture
def save(tmp_path, rng):
    count = itertools.count()
    return lambda some: write_files(some, tmp_path / str(next(count)), rng)


def verdicts(folder, options=ReadOptions()):  # noqa: B008
    return [(one.verdict, [defect.name for defect in one.defects]) for one in series_in(folder, options)]


def test_two_patients_are_read_apart_when_that_is_accepted(slices, save):
    """Each part under its own name, never one volume of both."""
    for dataset in slices[1::2]:
        dataset.PatientID, dataset.StudyInstanceUID = "another", "1.2.3"
    folder = save(slices)
    assert verdicts(folder) == [("refused", ["mixed_patients"])] * 2
    assert verdicts(folder, ReadOptions(on_defect="resample")) == [("refused", ["mixed_patients"])] * 2
    found = [read(folder, one.item, ACCEPT) for one in series_in(folder, ACCEPT)]
    assert [[defect.name for defect in image.defects] for image in found] == [["mixed_patients"]] * 2
    expected = sorted((voxels_of(slices[start::2]) for start in (0, 1)), key=np.min)
    for image, voxels in zip(sorted(found, key=lambda image: image.voxels.min()), expected, strict=True):
        np.testing.assert_array_equal(image.voxels[0], voxels)


def test_two_patients_under_one_series_uid_in_folders_of_their_own_are_two_series(slices, tmp_path, rng):
    """As where a tool wrote the same UID into all files: whole volumes at common positions."""
    other = copied(slices)
    for dataset in other:
        dataset.PatientID, dataset.StudyInstanceUID = "another", "1.2.3"
    write_files(slices, tmp_path / "data" / "a", rng)
    write_files(other, tmp_path / "data" / "b", rng)
    assert verdicts(tmp_path / "data") == [("ok", [])] * 2


def test_without_series_uid_patients_are_kept_apart(slices, save):
    for index, dataset in enumerate(slices):
        del dataset.SeriesInstanceUID
        if index % 2:
            dataset.PatientID, dataset.StudyInstanceUID = "another", "1.2.3"
    assert verdicts(save(slices)) == [("refused", ["mixed_patients"])] * 2


def test_several_differences_are_all_named(slices, save):
    slices[-1].ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    slices[-1].FrameOfReferenceUID = generate_uid()
    del slices[-1].RescaleSlope, slices[-1].RescaleIntercept
    folder = save(slices)
    assert verdicts(folder) == [("refused", ["mixed_image_type", "mixed_frame", "mixed_values"])] * 2
    with pytest.raises(GeometryError, match="mixed image type, mixed frame, mixed values"):
        read(folder)


def test_a_frame_of_reference_for_every_slice_makes_no_slice_a_volume(slices, save):
    for dataset in slices:
        dataset.FrameOfReferenceUID = generate_uid()
    found = verdicts(save(slices))
    assert found == [("refused", ["mixed_frame"])] * len(slices)


def test_parts_that_share_their_positions_or_lie_apart_are_volumes(slices, save):
    """Magnitude and phase; a derived volume over the original; and one that begins five gaps after the other ends."""
    derived = copied(slices)
    for dataset in derived:
        renew(dataset)
        dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    assert verdicts(save([*slices, *derived])) == [("ok", [])] * 2
    for dataset in derived:
        move(dataset, (len(slices) + 5) * spacing_of(slices) * normal_of(slices[0]))
    assert verdicts(save([*slices, *derived])) == [("ok", [])] * 2


def test_many_time_points_of_two_kinds_are_judged_in_no_time(slices, save):
    """Those at the same positions are compared once."""
    many = []
    for number in range(20):
        for dataset in copied(slices[:4]):
            renew(dataset)
            dataset.Modality, dataset.AcquisitionNumber = "MR", number
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "MP"[number % 2]]
            many.append(dataset)
    assert verdicts(save(many)) == [("ok", [])] * 20


def test_two_kernels_at_the_same_positions_are_two_volumes(slices, save):
    sharp = copied(slices)
    for dataset, other in zip(slices, sharp, strict=True):
        renew(other)
        dataset.ConvolutionKernel, other.ConvolutionKernel = "B20f", "B70f"
    assert verdicts(save([*slices, *sharp])) == [("ok", [])] * 2


def test_volumes_acquired_one_after_another_are_time_points(slices, save):
    """By acquisition time; not where each position took its own, nor by the time of a file's making."""
    several = [copied(slices) for _ in range(3)]
    for number, volume in enumerate(several):
        for index, dataset in enumerate(volume):
            renew(dataset)
            dataset.AcquisitionTime = f"10{number:02d}{index:02d}"
    assert verdicts(save([dataset for volume in several for dataset in volume])) == [("ok", [])] * 3
    for number, volume in enumerate(several):
        for index, dataset in enumerate(volume):
            dataset.AcquisitionTime = f"10{index:02d}{number:02d}"
    assert verdicts(save([dataset for volume in several for dataset in volume])) == [
        ("refused", ["phases_by_time_only", "duplicate_slices"])
    ]


def test_a_series_sent_again_is_no_second_volume(slices, save):
    again = copied(slices)
    for dataset, other in zip(slices, again, strict=True):
        renew(other)
        dataset.ContentTime, other.ContentTime = "100000", "110000"
    folder = save([*slices, *again])
    assert verdicts(folder) == [("refused", ["phases_by_time_only", "duplicate_slices"])]
    image = read(folder, options=ACCEPT)
    np.testing.assert_array_equal(image.voxels[0], voxels_of(slices))


def test_a_pixel_spacing_off_by_little_is_named(slices, save):
    slices[3].PixelSpacing = [float(slices[3].PixelSpacing[0]), round(float(slices[3].PixelSpacing[1]) + 0.002, 4)]
    assert ["missing_slices", "mixed_size"] in [names for _, names in verdicts(save(slices))]


@pytest.mark.parametrize("share", [0.024, 0.045])
def test_a_copy_a_little_beside_is_a_copy(share, slices, save):
    beside = copied(slices)
    for dataset in beside:
        renew(dataset)
        move(dataset, min(share * spacing_of(slices), 0.14) * normal_of(slices[0]))
    assert verdicts(save([*slices, beside[3]])) == [("refused", ["duplicate_slices"])]
    assert verdicts(save([*slices, *beside])) == [("refused", ["duplicate_slices"])]


@pytest.mark.parametrize(("slope", "intercept"), [("1e308", "0"), ("-1e30", "0"), ("1", "1e300"), ("1e-300", "0")])
def test_scales_beyond_real_numbers_of_32_bits_are_refused(slope, intercept, slices, save):
    for dataset in slices:
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    folder = save(slices)
    with pytest.raises(CorruptFile, match="scaled by"):
        read(folder)


def test_two_slices_far_apart_are_said(slices, save):
    first, last = slices[0], slices[-1]
    folder = save([first, last])
    assert verdicts(folder) == [("accepted", ["sparse_slices"])]
    assert read(folder).voxels.shape[1] == 2
    assert verdicts(save(slices[:2])) == [("ok", [])]


@pytest.mark.parametrize(
    ("between", "names"), [(1.0, []), (0.5, ["sparse_slices"]), (1 / 3, ["sparse_slices"]), (0.7, [])]
)
def test_gaps_of_several_times_what_the_header_says_are_said(between, names, slices, save):
    """Less than the thickness is the gap between faces, as some converters write it: no statement of the distance."""
    for dataset in slices:
        dataset.SpacingBetweenSlices = round(between * spacing_of(slices), 5)
        dataset.SliceThickness = round(0.3 * spacing_of(slices), 5)
    assert verdicts(save(slices))[0][1] == names
    for dataset in slices:
        dataset.SliceThickness = round(spacing_of(slices), 5)
    assert verdicts(save(slices)) == [("ok", [])]


def test_names_of_torn_parts_do_not_depend_on_the_order_of_files(slices, save):
    for dataset in slices[::2]:
        dataset.RescaleType = "HU"
    found = set()
    for seed in range(3):
        shuffled = copied(slices)
        random.Random(seed).shuffle(shuffled)
        folder = save(shuffled)
        found.add(tuple(sorted((one.item, read(folder, one.item, ACCEPT).voxels.min()) for one in series_in(folder))))
    assert len(found) == 1


def test_one_voltage_written_in_two_ways_is_one_reconstruction(slices, save):
    for number, dataset in enumerate(slices):
        dataset.KVP = "120" if number % 2 else "120.0"
    assert verdicts(save(slices)) == [("ok", [])]


def test_a_part_of_the_scan_made_otherwise_is_no_mixture(slices, save):
    for number, dataset in enumerate(slices):
        dataset.ConvolutionKernel = "SHARP" if number == 3 else "SOFT"
    assert verdicts(save(slices)) == [("ok", [])]


@pytest.mark.parametrize("uid", ["0", "0.0", "1"])
def test_what_stands_in_the_place_of_a_uid_joins_nobody(uid, slices):
    slices[0].StudyInstanceUID = slices[0].SeriesInstanceUID = uid
    found = who_of(slices[0])
    assert (found.study_key, found.series_key) == ("", "")
    slices[0].StudyInstanceUID = slices[0].SeriesInstanceUID = "1.2.840.99"
    found = who_of(slices[0])
    assert found.study_key
    assert found.series_key != found.study_key
