"""The quick walk gives what pydicom gives, or nothing: on every file at hand, and on files broken in every place."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medrail.errors import MedrailError
from medrail.read.dicom import alike as alike_module
from medrail.read.dicom.alike import Alike
from medrail.read.dicom.extent import pixel_defect
from medrail.read.dicom.header import KEYWORDS, Header, header_of
from medrail.read.dicom.headers import look
from medrail.read.dicom.pixels import parse
from medrail.read.dicom.quick import find_pixels, quick_elements
from medrail.read.guard import Guard

TEST_FILES = sorted(Path(name) for name in get_testdata_files() if Path(name).is_file())


def by_pydicom(path: Path) -> Header | str:
    try:
        with Guard(path, "DICOM"):
            return header_of(parse(path, KEYWORDS), path)
    except MedrailError as error:
        return f"{type(error).__name__}: {error.found}"


def by_walk(path: Path) -> Header | str | None:
    elements = quick_elements(path)
    if elements is None:
        return None
    try:
        return header_of(elements, path)
    except MedrailError as error:
        return f"{type(error).__name__}: {error.found}"


def test_each_file_of_pydicom_reads_the_same_and_most_are_walked():
    walked = 0
    for path in TEST_FILES:
        quick = by_walk(path)
        walked += quick is not None
        assert quick in (None, by_pydicom(path)), path.name
    assert walked > 0.7 * len(TEST_FILES)


@pytest.mark.shared
def test_each_shared_file_reads_the_same_and_most_are_walked(shared_data):
    files = [path for path in sorted((shared_data / "dicom").rglob("*")) if path.is_file()]
    walked = 0
    for path in files:
        quick = by_walk(path)
        walked += quick is not None
        assert quick in (None, by_pydicom(path)), path.name
    assert walked > 0.85 * len(files)


def encoded(dataset: Dataset, syntax: str) -> bytes:
    meta = pydicom.dataset.FileMetaDataset(dataset.file_meta)
    dataset = pydicom.Dataset(dataset)
    dataset.file_meta = meta
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return buffer.getvalue()


@pytest.fixture
def slice_of(slices) -> Dataset:
    """A slice with what scanners add: private blocks, nested sequences of both lengths, text of several values."""
    dataset = slices[2]
    dataset.Manufacturer, dataset.ManufacturerModelName, dataset.EchoNumbers = "A maker", "A model ", "02"
    dataset.SpecificCharacterSet, dataset.PixelPaddingValue = "ISO_IR 100", -2000
    dataset.AcquisitionTime, dataset.IssuerOfPatientID = "101500.25", "Hospital"
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", "one"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = [inner, inner]
    dataset.ReferencedImageSequence = [outer]
    dataset.ReferencedImageSequence.is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    block = dataset.private_block(0x0019, "A MAKER", create=True)
    block.add_new(1, "OB", bytes(range(200)))
    block.add_new(2, "DS", "1.5")
    return dataset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("preamble", [True, False])
def test_both_encodings_are_walked_with_and_without_preamble(syntax, preamble, slice_of, tmp_path):
    content = encoded(slice_of, syntax)
    if not preamble:
        content = content[132 + 12 + int.from_bytes(content[140:144], "little") :]
    path = tmp_path / "slice"
    path.write_bytes(content)
    quick = by_walk(path)
    assert isinstance(quick, Header)
    assert quick == by_pydicom(path)
    assert quick.rows == 7
    assert quick.series_uid


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
def test_headers_broken_anywhere_read_as_pydicom_reads_them_or_not_at_all(data, syntax, slice_of, tmp_path):
    content = bytearray(encoded(slice_of, syntax))
    end = len(content) - len(slice_of.PixelData)
    for _ in range(data.draw(st.integers(1, 3), label="changes")):
        at = data.draw(st.integers(132, end - 1), label="at")
        if data.draw(st.booleans(), label="cut or grow"):
            content[at : at + data.draw(st.integers(0, 4), label="removed")] = data.draw(st.binary(max_size=4))
        else:
            content[at] = data.draw(st.one_of(st.sampled_from(b"\0\1\2\xff AZ\\019.-+e"), st.integers(0, 255)))
    if data.draw(st.booleans(), label="truncate"):
        del content[data.draw(st.integers(132, len(content)), label="length") :]
    path = tmp_path / "broken"
    path.write_bytes(bytes(content))
    quick = by_walk(path)
    assert quick in (None, by_pydicom(path)), (quick, by_pydicom(path))
    outcome = look(path)  # never raises, and takes the same decision
    if isinstance(quick, Header):
        assert replace(outcome, pixel_defect="") == quick


def test_files_of_several_series_that_are_read_in_turn_read_as_alone(slices, tmp_path):
    """The layouts that files share must not lend one file's values to another."""
    paths = []
    for number, dataset in enumerate(slices * 3):
        dataset.SeriesInstanceUID = f"1.2.{number % 3}"
        dataset.EchoNumbers, dataset.InstanceNumber = "2" if number % 2 else "02", str(number)
        dataset.AcquisitionTime, dataset.RescaleIntercept = f"1015{number:02}", -1000 - number % 4
        dataset.ManufacturerModelName = "model" * (number % 3)
        if number == 7:
            dataset.BurnedInAnnotation = "YES"
        path = tmp_path / f"{number:03}"
        path.write_bytes(encoded(dataset, ImplicitVRLittleEndian if number % 5 == 4 else ExplicitVRLittleEndian))
        paths.append(path)
    assert len(set(map(by_pydicom, paths))) == len(paths)
    for order in (paths, paths[::-1], paths[::3] + paths[1::3] + paths[2::3]):
        alike = Alike()
        assert [alike.header(path) for path in order] == [by_pydicom(path) for path in order]


def test_each_file_of_pydicom_reads_the_same_after_all_others():
    alike = Alike()
    for path in TEST_FILES + TEST_FILES[::-1]:
        assert alike.header(path) == Alike().header(path), path.name


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_varying_sequences_and_headers_longer_than_the_window_read_as_alone(syntax, slice_of, tmp_path):
    paths = []
    for number in range(12):
        slice_of.ReferencedImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue = "1" * (number + 1)
        slice_of.InstanceNumber, slice_of.DoseGridScaling = str(number), f"{number // 4}.5"
        slice_of.private_block(0x0019, "A MAKER").add_new(
            1, "OB", bytes([number]) * (20_000 + number if number % 4 else 2)
        )
        slice_of.private_block(0x0021, "A MAKER", create=True).add_new(1, "OB", bytes(1000 * number))
        path = tmp_path / f"{number}"
        path.write_bytes(encoded(slice_of, syntax))
        paths.append(path)
    expected = [by_pydicom(path) for path in paths]
    alike = Alike()
    assert [alike.header(path) for path in paths] == expected
    assert [alike.header(path) for path in paths[::-1]] == expected[::-1]


def test_slices_of_a_series_are_not_walked_one_by_one(slice_of, tmp_path, monkeypatch):
    walked = []
    whole_walk = alike_module.Walk.elements
    monkeypatch.setattr(alike_module.Walk, "elements", lambda walk: walked.append(1) or whole_walk(walk))
    alike = Alike()
    for number in range(50):
        slice_of.SOPInstanceUID, slice_of.InstanceNumber = f"1.2.{number}", str(number)
        slice_of.ImagePositionPatient, slice_of.AcquisitionTime = [1, 2.5, number * 1.25], f"1015{number:02}"
        path = tmp_path / f"{number}"
        path.write_bytes(encoded(slice_of, ExplicitVRLittleEndian))
        assert alike.header(path) == by_pydicom(path)
    assert len(walked) == 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
def test_files_like_others_and_broken_anywhere_read_as_alone(data, syntax, slice_of, tmp_path):
    whole = encoded(slice_of, syntax)
    end = len(whole) - len(slice_of.PixelData)
    alike = Alike()
    for number in range(data.draw(st.integers(2, 6), label="files")):
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 2), label="changes")):
            at = data.draw(st.integers(132, end - 1), label="at")
            if data.draw(st.booleans(), label="cut or grow"):
                content[at : at + data.draw(st.integers(0, 4), label="removed")] = data.draw(st.binary(max_size=4))
            else:
                content[at] = data.draw(st.one_of(st.sampled_from(b"\0\1\2\xff AZ\\019.-+e"), st.integers(0, 255)))
        if data.draw(st.booleans(), label="truncate"):
            del content[data.draw(st.integers(132, len(content)), label="length") :]
        path = tmp_path / f"{number}"
        path.write_bytes(bytes(content))
        assert look(path, alike) == look(path) or same_refusal(look(path, alike), look(path))


def same_refusal(a: object, b: object) -> bool:
    """Errors are equal by their words."""
    return type(a) is type(b) and not isinstance(a, Header) and str(a.error) == str(b.error)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
def test_slices_with_any_values_read_as_alone(data, syntax, slice_of, tmp_path):
    """As files of real series differ: by whole values of other lengths, and elements that come and go."""
    alike = Alike()
    pick = {
        "SOPInstanceUID": st.sampled_from(["1.2.3", "1.2.3.45", ""]),
        "ImagePositionPatient": st.lists(st.sampled_from(["1", "-2.50", "1e3", "0"]), min_size=3, max_size=3),
        "AcquisitionTime": st.sampled_from(["101500", "101501.5", ""]),
        "TriggerTime": st.sampled_from(["1", "2.5", None]),
        "InstanceNumber": st.sampled_from(["1", "12", "-3", None]),
        "ImageType": st.sampled_from([["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY", "MOSAIC"], "LOCALIZER"]),
        "RescaleSlope": st.sampled_from(["1", "2.5", "0", None]),
        "PixelPaddingValue": st.sampled_from([0, 2000, None]),
        "PixelRepresentation": st.sampled_from([0, 1]),
        "SpecificCharacterSet": st.sampled_from(["ISO_IR 100", "ISO_IR 13", None]),
        "Rows": st.sampled_from([7, 9]),
        "Modality": st.sampled_from(["CT", "MR", "PT", "OT"]),
        "PatientName": st.sampled_from(["Meier^Anna", "MEIER^Anna^^^", "", None]),
        "PatientBirthDate": st.sampled_from(["19560317", "", None]),
        "StudyInstanceUID": st.sampled_from(["1.2.3", "1.2.4"]),
    }
    for number in range(6):
        for keyword, values in pick.items():
            value = data.draw(values, label=keyword)
            if value is None and keyword in slice_of:
                delattr(slice_of, keyword)
            elif value is not None:
                setattr(slice_of, keyword, value)
        path = tmp_path / f"{number}"
        path.write_bytes(encoded(slice_of, syntax))
        expected, found = by_pydicom(path), alike.header(path)
        assert found is None or replace(found, pixel_defect="") == expected


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=24)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.tuples(TEXT, TEXT, TEXT),
    name=st.binary(max_size=20),
    born=st.one_of(st.sampled_from(["19560317", "1956.03.17", "19560317-19560318", ""]), TEXT),
    numbers=st.lists(st.one_of(st.floats(-1e6, 1e6).map(lambda x: f"{x:.8g}"), TEXT), min_size=2, max_size=3),
    charset=st.sampled_from(["", "ISO_IR 100", "ISO_IR 13", "\\ISO 2022 IR 87", "GB18030"]),
)
def test_any_text_in_the_wanted_elements_reads_the_same(texts, name, born, numbers, charset, slice_of, tmp_path):
    def put(keyword: str, vr: str, value: str) -> None:
        raw = value.encode("ascii")
        dataset[keyword] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(keyword), vr, len(raw) + len(raw) % 2, raw + b" " * (len(raw) % 2), 0, False, True
        )

    dataset = pydicom.Dataset(slice_of)
    dataset.file_meta = slice_of.file_meta
    put("SpecificCharacterSet", "CS", charset)
    put("Manufacturer", "LO", texts[0])
    put("ImageType", "CS", texts[1])
    put("PatientID", "LO", texts[2])
    put("PatientName", "PN", "@" * len(name) + "@" * 12)
    put("PatientBirthDate", "DA", born)
    put("PixelSpacing", "DS", "\\".join(numbers))
    path = tmp_path / "slice"
    dataset.save_as(path, enforce_file_format=True)
    # Any bytes for a name: pydicom writes none that are not of the character set.
    path.write_bytes(path.read_bytes().replace(b"@" * (len(name) + 12), name + b"Meier^Anna  "))
    assert by_walk(path) in (None, by_pydicom(path))


@pytest.mark.parametrize("lost", [1, 20, 153])
def test_native_pixels_that_are_cut_off_are_seen_from_the_size(lost, slice_of, tmp_path):
    path = tmp_path / "slice"
    path.write_bytes(encoded(slice_of, ExplicitVRLittleEndian)[:-lost])
    outcome = look(path)
    assert isinstance(outcome, Header)
    assert outcome.pixel_defect == f"{154 - lost:,} of 154 bytes of pixels are there"


def test_a_file_cut_off_before_its_pixels_says_so(slice_of, tmp_path):
    del slice_of.PixelData
    path = tmp_path / "slice"
    path.write_bytes(encoded(slice_of, ExplicitVRLittleEndian))
    assert look(path).pixel_defect == "the file ends before its pixels begin"


def test_compressed_pixels_that_are_cut_off_are_seen_without_decoding(tmp_path):
    names = ("MR_small_RLE.dcm", "JPEG2000.dcm")
    files = [path for path in TEST_FILES if path.name in names]
    assert files
    for file in files:
        assert look(file).pixel_defect == ""
        content = file.read_bytes()
        for lost in (len(content) // 8, 200):
            path = tmp_path / file.name
            path.write_bytes(content[:-lost])
            assert look(path).pixel_defect.startswith("the file ends ")


def test_whole_files_have_no_pixel_defect():
    defects = {path.name: header.pixel_defect for path in TEST_FILES if isinstance(header := look(path), Header)}
    # The one that pydicom ships cut off on purpose, and headers that it ships without their pixels.
    broken = {name for name, defect in defects.items() if defect}
    assert "MR_truncated.dcm" in broken
    for name in broken - {"MR_truncated.dcm"}:
        (path,) = (path for path in TEST_FILES if path.name == name)
        dataset = pydicom.dcmread(path, force=True)
        with pytest.raises(Exception):  # noqa: B017, PT011  (whatever the decoder says)
            _ = dataset.pixel_array


def test_the_defect_is_the_same_whoever_parsed_the_header():
    for path in TEST_FILES:
        header = look(path)
        if not isinstance(header, Header) or by_walk(path) is None:
            continue
        with path.open("rb", buffering=0) as file:
            understood, place = find_pixels(file, path.stat().st_size)
            with Guard(path, "DICOM"):
                found = pixel_defect(parse(path, KEYWORDS), place, file, path.stat().st_size)
        assert understood
        assert found == header.pixel_defect
