"""Parts of the cases: what divides them, what is too small to be read, and what many looks find by chance."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as each
from hypothesis import strategies as st

from hospitals import hospital
from medrail.evaluate import evaluate
from medrail.evaluate.scored import Scored
from medrail.evaluate.subgroups import MANY_LOOKED_AT, many_looked_at, parts, too_small
from medrail.types import Case

onnx = pytest.importorskip("onnx")


def scored(patient: str, truth: int = 0) -> Scored:
    return Scored(Case(patient, patient, ("x",)), 0.0, {}, truth=truth)


@each(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_every_item_of_which_something_is_known_is_in_one_part(items: list[tuple[str, int]]) -> None:
    found = parts(items, {"letter": lambda one: one[0], "digit": lambda one: str(one[1] or "")})
    for name, value_of in (("letter", lambda one: one[0]), ("digit", lambda one: str(one[1] or ""))):
        divided = found.get(name, {})
        assert "" not in divided
        if divided:
            assert sum(map(len, divided.values())) == sum(bool(value_of(one)) for one in items)
            assert all(value_of(one) == value for value, members in divided.items() for one in members)
        else:
            assert len({value_of(one) for one in items}) <= 1


def test_patients_count_and_not_their_pictures() -> None:
    many_pictures = [scored("one", number % 2) for number in range(50)]
    assert too_small(many_pictures, 10, ("a", "b")) == "1 patient, fewer than 10"
    assert too_small([scored(f"p{n}", n % 2) for n in range(10)], 10, ("a", "b")) == ""
    assert too_small([scored(f"p{n}", 1) for n in range(10)], 10, ("a", "b")) == "only cases of b"
    assert too_small([scored(f"p{n}", -1) for n in range(10)], 10, ("background", "b")) == "", "a segmentation"


def test_many_looks_are_warned_of() -> None:
    def looked(count: int) -> str:
        return many_looked_at({"site": {str(n): {} for n in range(count)}}, {"site": {"0": "small"}})

    assert looked(MANY_LOOKED_AT) == ""
    assert "by chance" in looked(MANY_LOOKED_AT + 1)


def test_groups_are_measured_and_stand_in_the_table(tmp_path: Path) -> None:
    given = hospital(tmp_path)
    evaluation = evaluate(given.run, given.config, given.cases)
    assert set(evaluation.strata) == {"sex", "age", "scanner", "centre"}
    for name, values in evaluation.strata.items():
        assert sum(metrics["accuracy"].n for metrics in values.values()) == evaluation.n, name
    with (given.run.evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    assert list(rows[0])[-3:] == ["group/sex", "group/age", "group/scanner"]
    female = [row for row in rows if row["group/sex"] == "female"]
    share = sum(int(row["correct"]) for row in female) / len(female)
    assert evaluation.strata["sex"]["female"]["accuracy"].value == pytest.approx(share)


def test_the_least_number_of_patients_is_the_users(tmp_path: Path) -> None:
    given = hospital(tmp_path, subgroup_patients=2)
    assert evaluate(given.run, given.config, given.cases).too_small == {"scanner": {"Old & rare": "only cases of ill"}}
