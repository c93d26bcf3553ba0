"""The second look catches what the cleaning leaves: identifiers planted anywhere, with actions switched off."""

from __future__ import annotations

from io import BytesIO

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from cases.deidentify.conftest import PATIENT, parse, save
from medrail.cases.deidentify.dataset import Cleaner
from medrail.cases.deidentify.dicom import copy_of
from medrail.cases.deidentify.identifiers import BYTES, CODE, NUMBER, TEXT, Identifiers
from medrail.cases.deidentify.options import Options
from medrail.cases.deidentify.verify import problems_in, traces_of
from medrail.errors import DataError

QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def traces(original: Dataset, options: Options = Options()):  # noqa: B008  (frozen)
    buffer = BytesIO()
    original.save_as(buffer, enforce_file_format=True)
    return traces_of(parse(buffer.getvalue()), options, "P0001", -1000)


@pytest.fixture
def clean(original, keys, tmp_path) -> Dataset:
    """The copy of the original, to plant something into."""
    return parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options()).content)


def problems(planted: Dataset, original: Dataset) -> tuple[str, ...]:
    buffer = BytesIO()
    planted.save_as(buffer, enforce_file_format=True)
    return problems_in(buffer.getvalue(), traces(original), Options())


def nested(dataset: Dataset, element: DataElement, depth: int) -> None:
    """Put an element ``depth`` sequences deep."""
    item = Dataset()
    item.add(element)
    for _ in range(depth - 1):
        outer = Dataset()
        outer.ReferencedSeriesSequence = Sequence([item])
        item = outer
    dataset.ReferencedSeriesSequence = Sequence([item])


PLANTED = {
    "the name in another attribute": (0x00081090, "LO", "for Ilse"),
    "a longer word around the name": (0x00081090, "LO", "xMüllerováx"),
    "the name in another character set": (0x00321060, "OB", "Müllerová".encode("utf-16-le") + b" "),
    "the name without accents": (0x00081090, "LO", "MULLEROVA"),
    "the patient's number": (0x00180015, "CS", "PID-471199"),
    "the number without its mark": (0x00181020, "LO", "PID471199"),
    "a date written by hand": (0x00181020, "LO", "since 17.05.2024"),
    "a date the other way round": (0x00181020, "LO", "2024-05-17"),
    "a birth date as a number": (0x00282000, "OB", b"19310412"),
    "a UID inside of text": (0x00181020, "LO", "see 1.3.6.1.4.1.5962.99.2 there"),
    "the telephone without its mark": (0x00181020, "LO", "03731998877"),
    "the institution": (0x00181020, "LO", "St. Barbara"),
    "the serial number": (0x00181020, "LO", "SN-553311"),
    "a private attribute": (0x00291001, "LO", "nothing"),
    "an overlay's comment": (0x60004000, "LT", "nothing"),
    "the number alone as DS": (0x00180088, "DS", "471199"),
    "the number alone as IS": (0x00200012, "IS", "471199"),
    "the number alone in binary": (0x00189073, "FD", 471199.0),
    "the number alone in text": (0x00081090, "LO", "case 471199"),
    "a birth date without century": (0x00081090, "LO", "GEB 310412"),
    "a birth date in six digits as a number": (0x00180088, "IS", "310412"),
    "a birth date day first": (0x00081090, "LO", "12041931"),
    "a birth date with dots": (0x00081090, "LO", "12.4.31"),
    "a birth date with slashes": (0x00181020, "LO", "04/12/31"),
    "a birth date with a month": (0x00181016, "LO", "APRIL 12, 1931"),
    "a birth date with a month in the middle": (0x00181016, "LO", "12Apr31"),
    "a birth date in German": (0x00181016, "LO", "12. April 1931"),
    "a birth date in bytes that are text": (0x00282000, "OB", b"born 12.04.31 "),
    "initials and birth date": (0x00181250, "SH", "IM310412"),
    "the name inside of a word": (0x00181020, "LO", "xilsex"),
    "the name parted": (0x00181020, "LO", "M u e l l e r - o v a"),
    "the sex": (0x00100040, "CS", "F"),
    "the age": (0x00101010, "AS", "093Y"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("depth", [0, 1, 4])
def test_it_finds_what_is_planted_at_any_depth(original, clean, what, depth):
    assert problems(clean, original) == ()
    tag, vr, value = PLANTED[what]
    if depth and what == "an overlay's comment":
        pytest.skip("overlays stand at the top")
    element = DataElement(tag, vr, value)
    if depth:
        nested(clean, element, depth)
    else:
        clean.add(element)
    found = problems(clean, original)
    assert found
    assert not any(word in str(found) for word in ("Ilse", "471199", "1931", "Barbara"))


@pytest.mark.parametrize("where", ["preamble", "behind", "meta", "pixels"])
def test_it_finds_what_is_planted_outside_of_the_attributes(original, clean, where):
    if where == "preamble":
        clean.preamble = b"PID-471199".ljust(128, b"\0")
    elif where == "meta":
        clean.file_meta.SourceApplicationEntityTitle = "ANY"
    elif where == "pixels":
        clean.PixelData = b"M\xfcllerov\xe1 ".ljust(70, b"\0")
        clean.PixelData = b"lindenallee 12 freiberg".ljust(70, b"\0")
    buffer = BytesIO()
    clean.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    if where == "behind":
        content += b"\xfc\xff\xfc\xffOB\0\0\x0a\0\0\0PID-471199"
    assert problems_in(content, traces(original), Options())


@pytest.mark.parametrize("method", ["_sequence", "_leaf", "_private", "_uid", "_carry_out"])
def test_a_cleaner_with_a_part_switched_off_is_caught(original, keys, tmp_path, monkeypatch, method):
    monkeypatch.setattr(Cleaner, method, lambda *_, **__: None)
    with pytest.raises(DataError, match="still holds") as caught:
        copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options())
    assert not any(word in str(caught.value) for word in ("Ilse", "471199", "1931", "Barbara"))


@pytest.mark.parametrize("method", ["_shift", "_clean_text"])
def test_so_is_one_that_neither_shifts_nor_cleans(original, keys, tmp_path, monkeypatch, method):
    monkeypatch.setattr(Cleaner, method, lambda *_, **__: None)
    with pytest.raises(DataError, match="still holds"):
        copy_of(
            save(original, tmp_path / "a.dcm"), PATIENT, keys, Options(frozenset({"shifted-dates", "descriptions"}))
        )


@QUIET
@given(
    name=st.text(st.characters(categories=["Lu", "Ll"], max_codepoint=0x17F), min_size=5, max_size=20),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be", "latin-1"]),
    around=st.sampled_from([("", ""), (" ", " "), ("x_", "_9"), ("^", "^")]),
)
def test_names_are_found_in_every_encoding_and_case(name, encoding, around):
    from medrail.cases.deidentify.identifiers import words_of_name

    known = Identifiers(frozenset(words_of_name(name)))
    if not known.words:
        return
    content = (around[0] + name + around[1]).encode(encoding, "ignore")
    if content.decode(encoding) != around[0] + name + around[1]:
        return
    assert known.found_in(b"\x01\x02" + content + b"\xff\x03", BYTES) == {"word"}


@QUIET
@given(content=st.binary(max_size=400))
def test_chance_bytes_hold_no_identifier(content):
    known = Identifiers(
        frozenset({"ilse", "weiss", "123", "4711"}), frozenset({"20240517"}), frozenset({"1.2.3.4.5.6"})
    )
    if b"weiss" not in content.lower():
        assert known.found_in(content, BYTES) == frozenset()


@pytest.mark.parametrize(
    ("word", "place", "text", "found"),
    [
        ("li", TEXT, "for Li today", True),
        ("li", TEXT, "Lithium", False),
        ("li", BYTES, "\x01for Li today", False),
        ("li", BYTES, "for Li today\0", True),
        ("arm", CODE, "ARM", True),
        ("weiss", TEXT, "Weissabgleich", False),
        ("muellerova", BYTES, "xxmuellerovaxx", True),
        ("4711", TEXT, "case 4711", True),
        ("4711", TEXT, "0.4711", False),
        ("4711", CODE, "4711", False),
        ("471199", CODE, "A471199", True),
        ("471199", BYTES, "471199\x02", False),
        ("471199", NUMBER, "471199", True),
        ("471199", NUMBER, "0.5\\ 471199.0 ", True),
        ("471199", NUMBER, "1471199", False),
        ("471199", NUMBER, "0.471199", False),
        ("4711", NUMBER, "4711 ", True),
        ("0004711", NUMBER, "4.711E3", True),
        ("711", NUMBER, "711", False),
        ("00001", NUMBER, "1", False),
        ("47119911", BYTES, "147119911", False),
        ("47119911", BYTES, "id47119911", True),
    ],
)
def test_short_words_are_searched_with_care(word, place, text, found):
    assert bool(Identifiers(frozenset({word})).found_in(text.encode(), place)) is found


def test_the_search_never_shows_what_it_searches_for(original):
    shown = repr(traces(original)) + repr(traces(original).identifiers)
    assert "ilse" not in shown.casefold()


def test_files_of_other_makers_with_short_names_are_no_false_alarm(original, keys, tmp_path):
    original.PatientName, original.PatientID = "Head^An", "1"
    original.BodyPartExamined, original.SoftwareVersions = "HEAD", "an 1.0"
    original.InstitutionName, original.Manufacturer = "Siemens Hospital", "SIEMENS"
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, Options()).content)
    assert (new.BodyPartExamined, new.Manufacturer, new.SoftwareVersions) == ("HEAD", "SIEMENS", "")
    assert isinstance(new, pydicom.Dataset)


@pytest.fixture
def common(original) -> Dataset:
    """A patient called as things are called."""
    original.PatientName, original.PatientID = "West^Case", "HN-774411"
    return original


def test_a_name_that_is_a_common_word_is_not_kept_in_text(common, keys, tmp_path):
    common.ReceiveCoilName, common.SoftwareVersions, common.ManufacturerModelName = "West", "Case 1", "KeyWest 7"
    common.BodyPartExamined = "CASE"
    common.SecondaryCaptureDeviceManufacturer = "no wes t"
    new = parse(copy_of(save(common, tmp_path / "a.dcm"), PATIENT, keys, Options()).content)
    assert (new.ReceiveCoilName, new.SoftwareVersions, new.ManufacturerModelName) == ("", "", "")
    assert new.BodyPartExamined == "CASE"
    assert new.SecondaryCaptureDeviceManufacturer == "no wes t"
    assert new.DeidentificationMethodCodeSequence[0].CodeMeaning.startswith("Basic")


def test_a_name_of_the_words_that_a_copy_is_marked_with_is_no_alarm(original, keys, tmp_path):
    original.PatientName, original.PatientID = "Basic^Clean^Remov", "DICOM"
    kept = Options(frozenset({"descriptions", "uids"}))
    new = parse(copy_of(save(original, tmp_path / "a.dcm"), PATIENT, keys, kept).content)
    assert new.DeidentificationMethod[0].startswith("medrail")


DATES = ["19310412", "310412", "120431", "041231", "12041931", "04121931", "1931-4-12", "12.04.31", "12. 4. 1931",
         "4/12/31", "31/04/12", "12 04 31", "12_04_1931", "12 apr 1931", "12. April 1931", "April 12th, 1931",
         "APR-12-31", "1931 Apr 12", "12 avril 1931", "12 de abril de 1931", "12APR31", "x12.04.31x"]  # fmt: skip


@pytest.mark.parametrize("written", DATES)
def test_every_form_of_a_date_is_found_in_text_and_taken_out_of_descriptions(written):
    known = Identifiers(dates=frozenset({"19310412"}))
    for text in (written, f"GEB {written}", f"{written}; 3 mm"):
        assert known.found_in(text.encode(), TEXT) == {"date"}
        assert not known.found_in(known.without(text).encode(), TEXT)


@pytest.mark.parametrize(
    "written",
    [
        "19310413",
        "310413",
        "1.31",
        "1204",
        "12.04.32",
        "12 May 1931",
        "apr 12",
        "412310",
        "1.2.840.310412.3",
        "3 10 41",
    ],
)
def test_other_numbers_are_no_dates(written):
    assert not Identifiers(dates=frozenset({"19310412"})).found_in(written.encode(), NUMBER)


def test_months_with_accents():
    known = Identifiers(dates=frozenset({"19560317", "20200809"}))
    for text in ("17. März 1956", "17 mars 56", "9 août 2020", "MÄRZ 17, 1956"):
        assert known.found_in(text.encode(), TEXT) == {"date"}
        assert known.found_in(text.encode("latin-1"), TEXT) == {"date"}


@QUIET
@given(
    year=st.integers(1900, 2030), month=st.integers(1, 12), day=st.integers(1, 28), other=st.dates(),
    form=st.sampled_from(["%d.%m.%y", "%m/%d/%Y", "%y%m%d", "%d%m%Y", "%d-%b-%Y", "%B %d, %Y", "%Y_%m_%d"]),
)  # fmt: skip
def test_dates_are_found_in_every_form_and_others_are_not(year, month, day, other, form):
    import datetime

    date = datetime.date(year, month, day)
    known = Identifiers(dates=frozenset({date.strftime("%Y%m%d")}))
    assert known.found_in(date.strftime(form).encode(), TEXT) == {"date"}
    if len({day % 100, month, year % 100, other.day, other.month, other.year % 100}) == 6 and other.year > 999:
        assert not known.found_in(other.strftime(form).encode(), TEXT)
