"""Several labels an image: what cells and columns mean, what is refused, and how patients are divided."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.cases import assign_splits, build_cases, check_data, class_names, targets_of
from medrail.cases.check.together import Together
from medrail.cases.index import index_cases
from medrail.cases.labels import joined_labels, labels_of, parsed_labels
from medrail.cases.table import read_table, write_table
from medrail.config import Config, DataConfig, SplitConfig, parse
from medrail.errors import CaseError, ConfigError
from medrail.types import SPLITS, Case
from medrail.workspace import Workspace

Configure = Callable[..., Config]
Write = Callable[..., Path]

MULTI = DataConfig(kind="csv", path="", multi_label=True)
NAMES = st.text(st.characters(categories=["L", "N", "P"], exclude_characters="|;"), min_size=1).filter(
    lambda name: "".join(filter(str.isalnum, name.casefold())) not in ("nofinding", "") and name == name.strip()
)


@given(st.lists(NAMES, unique=True, max_size=6), st.randoms(), st.sampled_from(["|", ";", " | ", "; "]))
def test_labels_come_back_from_a_cell_whatever_their_order_and_separator(
    names: list[str], random: object, between: str
) -> None:
    classes = tuple(sorted(names))
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    data = MULTI.model_copy(update={"classes": classes})
    target = parsed_labels(between.join(shuffled) or "No Finding", data)
    assert labels_of(target, data) == classes, "in the order of the classes"
    assert parsed_labels(target or "|", data) == target, "what is written is read"
    case = Case("a", "p", ("/a.png",), target=target)
    assert targets_of(case, classes).sum() == len(names)


@given(st.sets(NAMES, max_size=4))
def test_the_case_table_keeps_no_label_and_none_of_the_labels_apart(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("table")
    targets = [None, "", joined_labels(names)]
    cases = [Case(f"c{n}", f"p{n}", (f"/{n}.png",), target) for n, target in enumerate(targets)]
    write_table(cases, folder / "cases.csv", folder)
    assert [case.target for case in read_table(folder / "cases.csv")] == targets


def test_a_class_that_is_called_as_none_of_the_labels_is_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="cannot be told from none of the labels"):
        write_table([Case("a", "p", ("/a.png",), "|")], tmp_path / "cases.csv", tmp_path)


def table(folder: Path, picture: Write, header: str, cells: list[str]) -> str:
    for number, _ in enumerate(cells):
        picture(folder / f"{number}.png", seed=number)
    rows = [f"{number}.png,p{number},{cell}" for number, cell in enumerate(cells)]
    (folder / "table.csv").write_text("\n".join([f"path,patient,{header}", *rows]) + "\n", encoding="utf-8")
    return str(folder / "table.csv")


@pytest.fixture
def listed(tmp_path: Path, picture: Write, configure: Configure, workspace: Workspace) -> Callable[..., Config]:
    """(header, cells, settings of data) -> a configuration of such a table."""

    def make(header: str, cells: list[str], **data: object) -> Config:
        path = table(tmp_path / "data", picture, header, cells)
        return configure("classification", {"kind": "csv", "path": path, "multi_label": True, **data})

    return make


def test_a_column_of_names(listed: Callable[..., Config], workspace: Workspace) -> None:
    config = listed("Finding Labels", ["Mass|Effusion", "no_finding", "Effusion;Mass;Effusion", "Hernia"])
    index = index_cases(config, workspace)
    assert not index.findings
    assert [case.target for case in index.cases] == ["Effusion|Mass", "", "Effusion|Mass", "Hernia"]
    assert class_names(config, index.cases) == ("Effusion", "Hernia", "Mass")


def test_what_is_wrong_with_cells_of_names(listed: Callable[..., Config], workspace: Workspace) -> None:
    cells = ["Mass", "", "No Finding|Effusion", "Efusion", "|"]
    config = listed("label", cells, classes=["Effusion", "Mass"])
    index = index_cases(config, workspace)
    found = {finding.defect: str(finding) for finding in index.findings}
    assert set(found) == {"unlabelled", "contradicting_labels", "unknown_class"}
    assert "line 3" in found["unlabelled"]
    assert "'No Finding' where there is none of them" in found["unlabelled"]
    assert "line 4" in found["contradicting_labels"]
    assert "'Effusion'" in found["contradicting_labels"]
    assert "data.classes" in found["unknown_class"]
    assert "'Efusion'" in found["unknown_class"]
    assert [case.target for case in index.cases] == ["Mass", ""]
    with pytest.raises(CaseError, match="3 things are wrong"):
        build_cases(config, workspace)


COLUMNS = ["No Finding", "Mass", "Edema"]


def test_columns_of_zero_and_one(listed: Callable[..., Config], workspace: Workspace) -> None:
    config = listed("No Finding,Mass,Edema", ["0,1,1.0", "1.0,0,0", "0,0,0", "0,False,TRUE"], label_columns=COLUMNS)
    cases = index_cases(config, workspace).cases
    assert [case.target for case in cases] == ["Mass|Edema", "", "", "Edema"]
    assert class_names(config, cases) == ("Mass", "Edema"), "in the order of the columns"


@pytest.mark.parametrize(
    ("rule", "targets", "severity"),
    [
        ({}, ["Mass"], "stop"),
        ({"uncertain": "negative", "blank": "negative"}, ["Mass", "", ""], None),
        ({"uncertain": "positive", "blank": "negative"}, ["Mass", "Edema", ""], None),
        ({"uncertain": "leave_out", "blank": "leave_out"}, ["Mass"], "warn"),
    ],
)
def test_uncertain_and_blank_cells_follow_a_stated_rule(
    listed: Callable[..., Config],
    workspace: Workspace,
    rule: dict[str, str],
    targets: list[str],
    severity: str | None,
) -> None:
    config = listed("Mass,Edema", ["1,0", "0,-1.0", ",0"], label_columns=["Mass", "Edema"], **rule)
    index = index_cases(config, workspace)
    assert [case.target for case in index.cases] == targets
    found = {finding.defect: finding.severity for finding in index.findings}
    assert found == ({} if severity is None else dict.fromkeys(("uncertain_label", "blank_label"), severity))
    assert all("data.uncertain" in str(f) or "data.blank" in str(f) for f in index.findings)


def test_what_is_wrong_with_columns(listed: Callable[..., Config], workspace: Workspace) -> None:
    config = listed("No Finding,Mass,Edema", ["1,1,0", "0,yes,0"], label_columns=COLUMNS)
    assert [finding.defect for finding in index_cases(config, workspace).findings] == [
        "contradicting_labels",
        "bad_label",
    ]
    config = listed("No Finding,Mass,Edema", ["0,1,0"], label_columns=["Mass", "Edem"])
    with pytest.raises(CaseError, match=r"no column 'Edem'.*Did you mean 'Edema'"):
        index_cases(config, workspace)


def test_medmnist_with_a_column_a_label(tmp_path: Path, configure: Configure, workspace: Workspace) -> None:
    labels = {"train": [[1, 0, 1], [0, 0, 0]], "test": [[0, 1, 0]]}
    arrays = {f"{split}_labels": np.array(rows, np.uint8) for split, rows in labels.items()}
    arrays |= {f"{split}_images": np.zeros((len(rows), 8, 8), np.uint8) for split, rows in labels.items()}
    np.savez(tmp_path / "chest.npz", **arrays)
    data = {"kind": "medmnist", "path": str(tmp_path / "chest.npz")}
    with pytest.raises(CaseError, match="multi_label: true"):
        index_cases(configure("classification", data), workspace)
    config = configure("classification", data | {"multi_label": True})
    cases = index_cases(config, workspace).cases
    assert [case.target for case in cases] == ["0|2", "", "1"]
    named = configure("classification", data | {"multi_label": True, "classes": ["c", "a", "b"]})
    assert index_cases(named, workspace).cases[0].target == "c|b", "in the order of the classes"
    with pytest.raises(CaseError, match="3 columns"):
        index_cases(configure("classification", data | {"multi_label": True, "classes": ["a", "b"]}), workspace)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "class_folders", "multi_label": True}, "csv or medmnist"),
        ({"kind": "csv", "label_columns": ["a"]}, "multi_label: true"),
        ({"kind": "csv", "multi_label": True, "classes": ["a|b", "c"]}, "'a|b'"),
        ({"kind": "csv", "multi_label": True, "ordered": True}, "exclude each other"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(data: dict[str, object], words: str) -> None:
    values = {"task": "classification", "data": {"path": "x", **data}, "model": {"name": "tiny_cnn", "dims": 2}}
    with pytest.raises(ConfigError, match=words.replace("|", r"\|")):
        parse(values)


@st.composite
def patients(draw: st.DrawFn) -> list[Case]:
    labels = ["a", "b", "c", "d", "e"]
    sets = draw(st.lists(st.sets(st.sampled_from(labels)), min_size=3, max_size=60))
    return [Case(f"c{n}", f"p{n}", (f"/{n}",), joined_labels(one)) for n, one in enumerate(sets)]


@given(patients(), st.integers(0, 20), st.sampled_from([(0.15, 0.15), (0.2, 0.3), (0.0, 0.25)]))
def test_splits_have_their_sizes_and_rare_labels_are_spread(
    cases: list[Case], seed: int, shares: tuple[float, float]
) -> None:
    split = SplitConfig(val=shares[0], test=shares[1], seed=seed)
    out = assign_splits(cases, split, multi_label=True)
    plain = assign_splits([Case(c.id, c.patient, c.paths, "x") for c in cases], split)
    assert sorted(str(c.split) for c in out) == sorted(str(c.split) for c in plain), "the same sizes as without labels"
    assert assign_splits(cases[::-1], split, multi_label=True)[::-1] == out, "the order of the rows does not matter"


def test_every_split_gets_a_label_that_three_patients_have() -> None:
    rng = np.random.default_rng(0)
    sets = [
        {name for name, share in zip("abcd", (0.5, 0.3, 0.1, 0.2), strict=True) if rng.random() < share}
        for _ in range(200)
    ]
    for n in (3, 50, 120):
        sets[n] |= {"rare"}
    cases = [Case(f"c{n}", f"p{n}", (f"/{n}",), joined_labels(one)) for n, one in enumerate(sets)]
    for seed in range(20):
        out = assign_splits(cases, SplitConfig(seed=seed), multi_label=True)
        assert {case.split for case in out if "rare" in str(case.target)} == set(SPLITS)
        for label in "abcd":
            having = [case.split for case in out if label in str(case.target).split("|")]
            assert abs(having.count("test") - 0.15 * len(having)) <= 2


def test_the_check_counts_labels_and_what_occurs_together(listed: Callable[..., Config], workspace: Workspace) -> None:
    cells = ["Mass|Edema", "Mass|Edema", "Mass", "No Finding"] * 3
    report = check_data(listed("label", cells), workspace)
    assert report.classes == {"Edema": 6, "Mass": 9}
    values = report.to_json()
    assert values["labels"] == {"none": 3, "several": 6, "together": [{"labels": ["Edema", "Mass"], "cases": 6}]}
    assert "rare_label" in report.defects
    assert ("together", "Edema + Mass 6") in report.measured()


def test_of_nothing() -> None:
    assert Together.of([], ["a"]).to_json() == {"none": 0, "several": 0, "together": []}
