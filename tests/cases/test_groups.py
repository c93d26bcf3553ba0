"""Groups: what divides the cases, and nothing by which anybody could be found."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from medrail.cases import build_cases, read_table, write_table
from medrail.cases.groups import filled
from medrail.cases.index import index_cases
from medrail.config import parse
from medrail.read.dicom.demography import age_band, sex_of
from medrail.types import Case
from medrail.workspace import Workspace

COLUMNS = "path,label,patient,split,gender,age,scanner,implant,name"
ROWS = [
    "a.png,x,p1,train,F,41,Acme One,yes,Anna",
    "b.png,y,p2,test,male,063Y,Acme One,no,Ben",
    "c.png,x,p3,test,,child,,,Cem",
]


@given(st.floats(0, 129.9))
def test_an_age_lies_in_its_band(age: float) -> None:
    band = age_band(f"{age:.2f}")
    years = float(f"{age:.2f}")
    low = int(band.rstrip("+").split("-")[0])
    assert low <= years
    assert band == "90+" or years < low + 10


@pytest.mark.parametrize("text", ["", "999", "-3", "old", "1e3", "041Q"])
def test_what_is_no_age_is_none(text: str) -> None:
    assert age_band(text) == ""


def test_sex_is_told_in_words() -> None:
    assert [sex_of(text) for text in ("F ", "m", "Female", "女", "U", "x")] == [
        "female",
        "male",
        "female",
        "female",
        "",
        "",
    ]


def _project(tmp_path: Path, **evaluate: object) -> tuple[Case, ...]:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(b"\x89PNG" + name.encode())
    (tmp_path / "table.csv").write_text("\n".join([COLUMNS, *ROWS]) + "\n")
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "csv", "path": "table.csv"},
            "split": {"by": "given"},
            "model": {"name": "tiny_cnn", "dims": 2},
            "evaluate": evaluate,
        }
    )
    return build_cases(config, Workspace(tmp_path))


def test_a_table_tells_groups_and_no_exact_age(tmp_path: Path) -> None:
    cases = _project(tmp_path)
    assert [dict(case.groups) for case in cases] == [
        {"sex": "female", "age": "40-49", "scanner": "Acme One"},
        {"sex": "male", "age": "60-69", "scanner": "Acme One"},
        {"age": "child"},
    ]
    write_table(cases, tmp_path / "cases.csv", tmp_path)
    text = (tmp_path / "cases.csv").read_text()
    assert text.splitlines()[0].endswith("defects,group/sex,group/age,group/scanner")
    assert "41" not in text
    assert "063Y" not in text
    assert read_table(tmp_path / "cases.csv") == cases


def test_a_column_that_is_named_divides_too(tmp_path: Path) -> None:
    cases = _project(tmp_path, subgroups=["implant"])
    assert [dict(case.groups).get("implant") for case in cases] == ["yes", "no", None]
    assert not any("Anna" in str(case.groups) for case in cases)


def test_a_table_without_groups_has_no_such_column(tmp_path: Path) -> None:
    case = Case("a", "p", (str(tmp_path / "a.png"),), target="x")
    write_table([case], tmp_path / "cases.csv", tmp_path)
    assert "group" not in (tmp_path / "cases.csv").read_text()


def test_what_the_table_says_comes_before_the_header() -> None:
    groups = filled((("sex", "male"),), "female", "40-49", "")
    assert dict(groups) == {"sex": "male", "age": "40-49"}


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        (
            {"PatientSex": "F", "PatientAge": "063Y", "Manufacturer": "Acme", "ManufacturerModelName": "One"},
            {"sex": "female", "age": "60-69", "scanner": "Acme One"},
        ),
        ({"PatientBirthDate": "19601231", "StudyDate": "20200101"}, {"age": "50-59"}),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200101"}, {}),
        ({"PatientAge": ""}, {}),
    ],
)
def test_a_header_tells_groups(tmp_path: Path, elements: dict[str, str], expected: dict[str, str]) -> None:
    raw = tmp_path / "raw" / "p1"
    raw.mkdir(parents=True)
    base = {"PatientSex": "", "PatientAge": "", "PatientBirthDate": "", "Manufacturer": "", "ManufacturerModelName": ""}
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for keyword, value in {**base, **elements}.items():
        setattr(dataset, keyword, value)
    dataset.save_as(raw / "image.dcm")
    (tmp_path / "labels.csv").write_text("patient,label\np1,x\n")
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "dicom_folders", "path": "raw", "labels": "labels.csv"},
            "split": {"val": 0, "test": 0},
            "evaluate": {"split": "val"},
            "model": {"name": "tiny_cnn", "dims": 2},
        }
    )
    (case,) = index_cases(config, Workspace(tmp_path)).cases
    assert dict(case.groups) == expected
    text = str(case)
    assert not any(value in text for value in ("063Y", "19601231"))
