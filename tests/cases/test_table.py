"""The case table comes back as it was written, and a bad one is refused with all its lines."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases import build_cases, check_data, read_table, write_table
from medrail.errors import CaseError
from medrail.types import SPLITS, Case
from medrail.workspace import Workspace

# Everything that UTF-8 and file systems can hold, the awkward often.
TEXT = st.text(
    st.one_of(
        st.sampled_from(list(",;\"' \t\n\r./\\é中_-=1A")),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=12,
)
PARTS = TEXT.filter(lambda text: "/" not in text and text not in (".", ".."))


@st.composite
def cases(draw: st.DrawFn, root: str) -> list[Case]:
    def path() -> str:
        top = draw(st.sampled_from([root, root + "/data", "/elsewhere"]))
        return "/".join([top, *draw(st.lists(PARTS, min_size=1, max_size=3))])

    ids = draw(st.lists(TEXT, max_size=6, unique=True))
    targets = TEXT.filter(lambda text: not text.startswith(("./", "../")))
    return [
        Case(
            id=case_id,
            patient=draw(TEXT),
            paths=(path(),),
            target=draw(st.one_of(st.none(), targets, st.just(path()))),
            split=draw(st.sampled_from([None, *SPLITS])),
            item=draw(st.one_of(st.just(""), TEXT)),
            roi=draw(st.one_of(st.none(), st.just(path()))),
            centre=draw(st.one_of(st.just(""), TEXT)),
            fold=draw(st.one_of(st.none(), st.integers(0, 99))),
            defects=draw(st.sampled_from([(), ("gantry_tilt",), ("gantry_tilt", "missing_slices")])),
        )
        for case_id in ids
    ]


@given(st.data())
@settings(deadline=None)
def test_round_trip(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        written = data.draw(cases(str(folder)))
        write_table(written, folder / "cases.csv", folder)
        assert list(read_table(folder / "cases.csv")) == written


def test_a_moved_project_finds_its_files(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    case = Case("a", "p", (f"{old}/data/a.png",), f"{old}/masks/a.png", "train", roi=f"{old}/roi/a.png")
    write_table([case], old / "cases.csv", old)
    assert (old / "cases.csv").read_text().splitlines()[1] == "a,p,data/a.png,,./masks/a.png,roi/a.png,train,,,"
    old.rename(new)
    (moved,) = read_table(new / "cases.csv")
    assert moved.paths == (f"{new}/data/a.png",)
    assert moved.target == f"{new}/masks/a.png"
    assert moved.roi == f"{new}/roi/a.png"


def test_a_table_from_before_there_were_centres_folds_and_defects_is_read(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("id,patient,image,item,target,roi,split\na,p,/x.png,,A,,train\n")
    assert read_table(table) == (Case("a", "p", ("/x.png",), "A", "train"),)


def test_a_fold_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("id,patient,image,item,target,roi,split,fold\na,p,/x.png,,A,,,2.0\nb,q,/y.png,,A,,,two\n")
    with pytest.raises(CaseError, match=r"line 3: 'two' is no fold"):
        read_table(table)
    table.write_text(table.read_text().replace("two", ""))
    assert [case.fold for case in read_table(table)] == [2, None]


def test_a_class_that_looks_like_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="cannot be told from a path"):
        write_table([Case("a", "p", ("/a",), "./x")], tmp_path / "cases.csv", tmp_path)


def test_a_spreadsheet_may_have_edited_it(tmp_path: Path) -> None:
    """A BOM, semicolons, Windows line ends, an empty row at the end."""
    table = tmp_path / "cases.csv"
    table.write_text("\ufeffid;patient;image;item;target;roi;split\r\na;p;x.png;;A;;Training\r\n;;;;;;\r\n", newline="")
    (case,) = read_table(table)
    assert case == Case("a", "p", (str(tmp_path / "x.png"),), "A", "train")


def test_every_bad_row_is_named_at_once(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    rows = ["a,p,x.png,,A,,train", "a,p,y.png,,A,,train", ",p,z.png,,A,,train", "d,p,v.png,,A,,tset"]
    table.write_text("\n".join(["id,patient,image,item,target,roi,split", *rows]))
    with pytest.raises(CaseError) as caught:
        read_table(table)
    text = str(caught.value)
    assert "3 rows are wrong" in text
    assert f"{table}, line 3: the id 'a' stands in line 2 already" in text
    assert f"{table}, line 4: no id" in text
    assert f"{table}, line 5: 'tset' is no split. Did you mean 'test'?" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the table is empty"),
        (b"id,patient\n", "the columns image, item, target, roi, split are missing"),
        (b"id,id\n", "two columns are called 'id'"),
        (b"id,patient\na,\xff\xe9\n", "line 2: the table is not UTF-8"),
        (b"PK\x03\x04\0\0", "binary"),
        (b'id,patient\n"a,b\n', "line 2: not a CSV row"),
        (b"id,patient\na,b\na,b,c\nd,e,f,g\n", "line 4: 4 cells for 2 columns"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "cases.csv"
    table.write_bytes(content)
    with pytest.raises(CaseError, match=message):
        read_table(table)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match=r"cases\.csv: there is no such file"):
        read_table(tmp_path / "cases.csv")


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_copy_is_a_table_to_edit_by_hand(tmp_path, picture, configure, task, inside):
    """`data.kind: csv` with a copy of cases.csv gives the same cases, and its splits are then what a person writes."""
    project = tmp_path / "project"
    data = (project if inside else tmp_path) / "data"
    settings = {"classes": ["background", "cell"], "mask_suffix": "_mask"} if task == "segmentation" else {}
    for number in range(6):
        picture(data / "AB"[number % 2] / f"{number}.png", seed=number)
        if task == "segmentation":
            picture(data / "AB"[number % 2] / f"{number}_mask.png", array=np.eye(7, 11, number, dtype=np.uint8))
    kind = "pairs" if task == "segmentation" else "class_folders"
    workspace = Workspace(project)
    drawn = build_cases(configure(task, {"kind": kind, "path": str(data), **settings}), workspace)
    drawn = tuple(replace(case, roi=case.paths[0]) for case in drawn)
    write_table(drawn, workspace.case_table, project)

    # Paths below the project are relative to the table, so there the copy stays beside it.
    copy = (project if inside else tmp_path / "elsewhere") / "my-cases.csv"
    copy.parent.mkdir(exist_ok=True)
    text = workspace.case_table.read_text(encoding="utf-8")
    assert text.count(",train,,,\n") > 1
    copy.write_text(text.replace(",train,,,\n", ",test\n", 1), encoding="utf-8")
    settings.pop("mask_suffix", None)
    by_hand = configure(task, {"kind": "csv", "path": str(copy), **settings}, split={"by": "given"})
    cases = build_cases(by_hand, workspace)
    assert [replace(case, split=None) for case in cases] == [replace(case, split=None) for case in drawn]
    moved = [case.id for case, before in zip(cases, drawn, strict=True) if case.split != before.split]
    assert len(moved) == 1
    assert check_data(by_hand, workspace).verdict != "stop"
