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
from medrail.cases.deidentify.identifiers import BYTES, CODE, TEXT, Identifiers
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
        ("li", BYTES, "for Li today", False),
        ("arm", CODE, "ARM", True),
        ("weiss", TEXT, "Weissabgleich", False),
        ("muellerova", BYTES, "xxmuellerovaxx", True),
        ("4711", TEXT, "case 4711", True),
        ("4711", TEXT, "0.4711", False),
        ("4711", CODE, "4711", False),
        ("471199", CODE, "A471199", True),
        ("471199", BYTES, "471199", False),
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
