"""Series of several contrasts, as diffusion: told apart by what scanners really write, or refused; never mixed."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from faults import good_series, voxels_of, write_files
from faults.series import copied
from medrail.errors import GeometryError, MedrailError
from medrail.read import read, series_in
from medrail.read.dicom.header import KEYWORDS, header_of
from medrail.read.dicom.headers import look
from medrail.read.dicom.mosaic import csa_values
from medrail.read.dicom.pixels import parse
from medrail.types import ReadOptions
from read.test_dicom_kinds import assert_same_in_world, by_dcm2niix, save, unpacked

ACCEPT, CHANNELS = ReadOptions(on_defect="accept"), ReadOptions(four_d="channels")
B_VALUES = (0, 1000)


def contrasts(slices, count=2):
    """The series ``count`` times as MR, each 5000 brighter, its slices in turn and told apart by pixels only."""
    found = []
    for index, dataset in enumerate(slices):
        for number in range(count):
            (one,) = copied([dataset])
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            one.Modality, one.ContentTime, one.InstanceNumber = "MR", "120000", index * count + number + 1
            one.PixelData = (np.frombuffer(one.PixelData, "<i2") + 5000 * number).astype("<i2").tobytes()
            found.append(one)
    return found


def by_siemens(dataset, number):
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "IS", str(B_VALUES[number]))


def by_siemens_unknown(dataset, number):
    value = str(B_VALUES[number]).ljust(4).encode()
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "UN", value)


def by_ge(dataset, number):
    values = [str(10**9 + B_VALUES[number]), "8", "0", "0"]
    dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x39, "IS", values)


def by_philips(dataset, number):
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", float(B_VALUES[number]))


def by_sequence_name(dataset, number):
    dataset.SequenceName = f"*ep_b{B_VALUES[number]}t"


WAYS = (by_siemens, by_siemens_unknown, by_ge, by_philips, by_sequence_name)
by_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def marked(slices, way):
    found = contrasts(slices)
    for index, dataset in enumerate(found):
        way(dataset, index % 2)
    return found


@by_way
@pytest.mark.parametrize("seed", range(3))
def test_b_values_make_volumes(way, seed, tmp_path):
    rng = np.random.default_rng(seed)
    slices = good_series(rng)
    folder = write_files(marked(slices, way), tmp_path / "series", rng)
    assert [(one.verdict, one.defects) for one in series_in(folder)] == [("ok", ())] * 2
    both = read(folder, options=CHANNELS)
    np.testing.assert_array_equal(both.voxels, [voxels_of(slices), voxels_of(slices) + 5000])


@by_way
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_b_values_read_the_same_in_every_encoding_and_by_the_quick_walk(way, syntax, tmp_path):
    (first, second, *_) = marked(good_series(np.random.default_rng(0)), way)
    marks = []
    for dataset in (first, second):
        dataset.file_meta.TransferSyntaxUID = syntax
        path = tmp_path / "slice.dcm"
        dataset.save_as(path, enforce_file_format=True)
        header = look(path)
        assert header == header_of(parse(path, KEYWORDS), path)
        marks.append((header.planes[0].marks[3], header.planes[0].hints[-1]))
    expected = [("", "*ep_b0t"), ("", "*ep_b1000t")] if way is by_sequence_name else [("0", ""), ("1000", "")]
    assert marks == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.binary(max_size=12).map(lambda raw: raw + b" " * (len(raw) % 2)), way=st.sampled_from(WAYS[1:4]))
def test_any_bytes_in_a_private_b_value_read_the_same(value, way, tmp_path):
    dataset = contrasts(good_series(np.random.default_rng(0)))[0]
    way(dataset, 0)
    (tag,) = (one.tag for one in dataset if one.tag.is_private and not one.tag.is_private_creator)
    dataset[tag] = pydicom.DataElement(tag, "UN", value)
    path = tmp_path / "slice.dcm"
    dataset.save_as(path, enforce_file_format=True)
    assert look(path) == header_of(parse(path, KEYWORDS), path)


def test_a_private_number_of_another_maker_is_no_b_value(tmp_path):
    """What its element means depends on who reserved the block."""
    rng = np.random.default_rng(0)
    slices = good_series(rng)
    for index, dataset in enumerate(slices):
        dataset.Modality = "MR"
        dataset.private_block(0x0019, "SIEMENS MED NM", create=True).add_new(0x0C, "SS", index % 2)
    (series,) = series_in(write_files(slices, tmp_path / "series", rng))
    assert series.verdict == "ok"


@pytest.mark.parametrize("on_defect", ["refuse", "resample", "accept"])
@pytest.mark.parametrize("seed", range(6))
def test_contrasts_that_nothing_tells_apart_are_never_mixed(on_defect, seed, tmp_path):
    """Slice by slice in turn, or at random: an instance number does not say which contrast it is."""
    rng = np.random.default_rng(seed)
    found = contrasts(good_series(rng))
    if seed % 2:
        for dataset, number in zip(found, rng.permutation(len(found)), strict=True):
            dataset.InstanceNumber = int(number) + 1
    folder = write_files(found, tmp_path / "series", rng)
    with pytest.raises(GeometryError, match="duplicate slices"):
        read(folder, options=ReadOptions(on_defect=on_defect))


@pytest.mark.parametrize("seed", range(6))
def test_volumes_one_after_another_are_separated_where_that_is_accepted(seed, tmp_path):
    rng = np.random.default_rng(seed)
    slices = good_series(rng)
    count = 2 + seed % 2
    found = contrasts(slices, count)
    way = rng.permutation(len(slices)).tolist() if seed % 3 else list(range(len(slices)))
    for index, dataset in enumerate(found):
        dataset.InstanceNumber = (index % count) * 100 + way[index // count] + 1
    folder = write_files(found, tmp_path / "series", rng)
    with pytest.raises(GeometryError, match="duplicate slices"):
        read(folder)
    series = series_in(folder, ACCEPT)
    assert {one.verdict for one in series} == {"accepted"}
    assert all("Instance Number" in one.defects[0].action for one in series)
    volumes = sorted((read(folder, one.item, ACCEPT).voxels[0] for one in series), key=lambda voxels: voxels.min())
    np.testing.assert_array_equal(volumes, [voxels_of(slices) + 5000 * number for number in range(count)])
    both = read(folder, options=ReadOptions(on_defect="accept", four_d="channels"))
    np.testing.assert_array_equal(both.voxels, volumes)


def test_creation_times_at_random_make_no_phases(tmp_path):
    """Each position has two, none twice, and they say nothing of which slice belongs to which volume."""
    rng = np.random.default_rng(1)
    found = contrasts(good_series(rng))
    for dataset, second in zip(found, rng.permutation(len(found)), strict=True):
        dataset.ContentTime = f"1200{second:02d}"
    folder = write_files(found, tmp_path / "series", rng)
    with pytest.raises(GeometryError, match="duplicate slices"):
        read(folder, options=ACCEPT)


def repeated(content, name, texts):
    """A CSA header (SV10) with other texts of the same lengths, or shorter, in one of its tags."""
    content = bytearray(content)
    at = content.index(name.encode() + b"\0") + 84
    for text in texts:
        length = struct.unpack_from("<4xI8x", content, at)[0]
        assert len(text) < length
        content[at + 16 : at + 16 + length] = text.encode().ljust(length, b"\0")
        at += 16 + (length + 3) // 4 * 4
    return bytes(content)


@pytest.fixture
def mosaics(tmp_path):
    """Three mosaics of one series without times, their pixels 1, 2 and 3."""
    found = []
    for number in (1, 2, 3):
        dataset = pydicom.dcmread(unpacked("siemens_dwi_0.dcm.gz", tmp_path / "raw"))
        for keyword in ("AcquisitionTime", "ContentTime", "TriggerTime", "AcquisitionDateTime"):
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.SeriesInstanceUID, dataset.AcquisitionNumber, dataset.InstanceNumber = "1.2.3", 1, 1
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.PixelData = np.full(dataset.Rows * dataset.Columns, number, "<u2").tobytes()
        found.append(dataset)
    return found


@pytest.mark.parametrize("order", [1, -1])
def test_a_mosaic_lies_as_its_normal_says_however_its_slices_are_numbered(order, mosaics, tmp_path):
    dataset = mosaics[0]
    element = dataset[0x0029, 0x1010]
    texts = [f"{order * number:.8f}"[:10] for number in csa_values(element.value)["SliceNormalVector"]]
    element.value = repeated(element.value, "SliceNormalVector", texts)
    element.value = repeated(element.value, "ProtocolSliceNumber", ["7"])
    noise = np.random.default_rng(0).integers(0, 4096, dataset.Rows * dataset.Columns, dtype=np.uint16)
    dataset.PixelData = noise.tobytes()
    path = save(dataset, tmp_path / "in" / "a.dcm")
    image = read(path)
    (nifti,) = by_dcm2niix(path.parent, tmp_path / "out")
    assert_same_in_world(image, nifti)


@pytest.mark.parametrize("keyword", ["AcquisitionNumber", "InstanceNumber", "DiffusionBValue", "B_value"])
@pytest.mark.parametrize("seed", range(3))
def test_channels_are_in_the_order_of_their_headers_whatever_the_names(keyword, seed, mosaics, tmp_path):
    for number, dataset in enumerate(mosaics):
        if keyword == "B_value":
            dataset.pop((0x0019, 0x100C), None)
            element = dataset[0x0029, 0x1010]
            element.value = repeated(element.value, "B_value", [str(9 + number)])
        else:
            setattr(dataset, keyword, 9 + number)  # "9" comes after "10" as text
    names = np.random.default_rng(seed).permutation(3)
    for dataset, name in zip(mosaics, names, strict=True):
        save(dataset, tmp_path / "series" / f"{name}.dcm")
    (series,) = series_in(tmp_path / "series", CHANNELS)
    image = read(tmp_path / "series", options=CHANNELS)
    assert series.shape == image.voxels.shape
    assert [int(channel.max()) for channel in image.voxels] == [1, 2, 3]


def test_channels_that_nothing_orders_are_refused(mosaics, tmp_path):
    for number, dataset in enumerate(mosaics):
        save(dataset, tmp_path / "series" / f"{number}.dcm")
    with pytest.raises(MedrailError, match="unordered time points: 3 of 3"):
        read(tmp_path / "series", options=CHANNELS)
    series = series_in(tmp_path / "series")
    assert [one.verdict for one in series] == ["ok"] * 3
    assert sorted(int(read(tmp_path / "series", one.item).voxels.max()) for one in series) == [1, 2, 3]


def test_a_mosaic_that_cannot_be_cut_into_its_tiles_says_so(mosaics, tmp_path):
    dataset = mosaics[0]
    dataset.Rows -= 1
    dataset.PixelData = bytes(2 * dataset.Rows * dataset.Columns)
    with pytest.raises(MedrailError, match=r"Siemens mosaic of \d+ x \d+ pixels, which cannot be cut into"):
        read(save(dataset, tmp_path / "a.dcm"))
