"""Laws of the split: for any table of cases no patient is divided, and nothing depends on the order of the rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases import assign_splits
from medrail.config import SplitConfig
from medrail.errors import CaseError, LeakError
from medrail.types import Case

NAMES = st.text(min_size=1, max_size=6)
SHARES = st.sampled_from([0.0, 0.01, 0.1, 0.15, 0.3, 0.45])


@st.composite
def tables(draw: st.DrawFn, one_class_a_patient: bool = False) -> list[Case]:
    patients = draw(st.lists(NAMES, min_size=1, max_size=25, unique=True))
    classes = st.sampled_from([None, "A", "B", "C", 'dé, "d"', "/masks/1.png"][: 4 if one_class_a_patient else None])
    rows = []
    for patient in patients:
        count = draw(st.integers(1, 4))
        targets = [draw(classes)] * count if one_class_a_patient else [draw(classes) for _ in range(count)]
        rows += [(patient, target) for target in targets]
    rows = draw(st.permutations(rows))
    return [Case(f"case{n}", patient, (f"/data/{n}",), target) for n, (patient, target) in enumerate(rows)]


def splits(cases: Sequence[Case]) -> dict[str, str | None]:
    return {case.id: case.split for case in cases}


@given(tables(), SHARES, SHARES, st.integers(0, 2**32))
@settings(deadline=None)
def test_no_patient_is_in_two_splits_and_every_case_is_in_one(
    cases: list[Case], val: float, test: float, seed: int
) -> None:
    out = assign_splits(cases, SplitConfig(val=val, test=test, seed=seed))
    assert [case.id for case in out] == [case.id for case in cases]
    by_patient: dict[str, set[str | None]] = {}
    for case in out:
        by_patient.setdefault(case.patient, set()).add(case.split)
    assert all(len(found) == 1 and None not in found for found in by_patient.values())


@given(tables(), SHARES, SHARES, st.integers(0, 99), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_rows_does_not_matter(
    cases: list[Case], val: float, test: float, seed: int, shuffler: random.Random
) -> None:
    config = SplitConfig(val=val, test=test, seed=seed)
    shuffled = list(cases)
    shuffler.shuffle(shuffled)
    assert splits(assign_splits(cases, config)) == splits(assign_splits(shuffled, config))


@given(tables(), SHARES, SHARES, st.integers(0, 99))
@settings(deadline=None)
def test_every_requested_split_has_a_patient_where_there_are_enough(
    cases: list[Case], val: float, test: float, seed: int
) -> None:
    counts = Counter(case.split for case in assign_splits(cases, SplitConfig(val=val, test=test, seed=seed)))
    assert counts["train"] > 0
    assert not counts["val"] or val > 0
    assert not counts["test"] or test > 0
    requested = ["train", *(["val"] if val else []), *(["test"] if test else [])]
    if len({case.patient for case in cases}) >= len(requested):
        assert all(counts[name] > 0 for name in requested)


@given(tables(one_class_a_patient=True), SHARES, SHARES, st.integers(0, 99))
@settings(deadline=None)
def test_train_keeps_every_class_of_two_patients(cases: list[Case], val: float, test: float, seed: int) -> None:
    out = assign_splits(cases, SplitConfig(val=val, test=test, seed=seed))
    patients = Counter(target for _, target in {(case.patient, case.target) for case in cases})
    if len({case.patient for case in cases}) < 1 + (val > 0) + (test > 0):
        return  # too few to have them all; the splits come first
    in_train = {case.target for case in out if case.split == "train"}
    assert all(name in in_train for name, count in patients.items() if name and count >= 2)


@given(tables(), SHARES, SHARES, st.integers(0, 99))
@settings(deadline=None)
def test_train_keeps_every_class_where_patients_have_several(
    cases: list[Case], val: float, test: float, seed: int
) -> None:
    classes = {case.target for case in cases if case.target and not case.target.startswith("/")}
    if len({case.patient for case in cases}) < len(classes) + (val > 0) + (test > 0):
        return  # one patient each may be needed for train, and the other splits come first
    patients = Counter(target for _, target in {(case.patient, case.target) for case in cases})
    out = assign_splits(cases, SplitConfig(val=val, test=test, seed=seed))
    in_train = {case.target for case in out if case.split == "train"}
    assert all(name in in_train for name in classes if patients[name] >= 2)


@given(st.integers(0, 99), st.lists(st.integers(5, 40), min_size=1, max_size=4))
@settings(deadline=None)
def test_every_class_gets_its_share_of_each_split(seed: int, sizes: list[int]) -> None:
    cases = [Case(f"{k}-{n}", f"{k}-{n}", ("/x",), f"class{k}") for k, size in enumerate(sizes) for n in range(size)]
    out = assign_splits(cases, SplitConfig(val=0.2, test=0.2, seed=seed))
    counts = Counter((case.target, case.split) for case in out)
    n_split = Counter(case.split for case in out)
    for k, size in enumerate(sizes):
        for name in ("val", "test"):
            assert abs(counts[f"class{k}", name] - n_split[name] * size / len(cases)) < 1


def test_another_seed_is_another_split() -> None:
    cases = [Case(f"c{n}", f"p{n}", (f"/{n}",), "A") for n in range(40)]
    assert splits(assign_splits(cases, SplitConfig(seed=1))) != splits(assign_splits(cases, SplitConfig(seed=2)))


def test_masks_are_no_classes() -> None:
    """Paths of masks must not make every patient a class of its own, which would all be kept in train."""
    cases = [Case(f"c{n}", f"p{n}", (f"/{n}",), f"/masks/{n}.png") for n in range(100)]
    counts = Counter(case.split for case in assign_splits(cases, SplitConfig(val=0.1, test=0.3)))
    assert counts == {"train": 60, "val": 10, "test": 30}


def test_two_patients_are_for_train_and_test() -> None:
    cases = [Case("a", "a", ("/a",), "A"), Case("b", "b", ("/b",), "A")]
    assert sorted(str(case.split) for case in assign_splits(cases, SplitConfig())) == ["test", "train"]


def test_given_splits_stay() -> None:
    cases = (Case("a", "p", ("/a",), split="test"), Case("b", "q", ("/b",), split="train"))
    assert assign_splits(cases, SplitConfig(by="given")) == cases


def test_given_splits_that_divide_a_patient_are_refused_by_file_and_not_by_name() -> None:
    cases = [Case("a", "SECRET", ("/x/a.png",), split="test"), Case("b", "SECRET", ("/x/b.png",), split="train")]
    with pytest.raises(LeakError) as caught:
        assign_splits(cases, SplitConfig(by="given"))
    text = str(caught.value)
    assert "/x/a.png (test)" in text
    assert "/x/b.png (train)" in text
    assert "split.by: patient" in text
    assert "SECRET" not in text


def test_a_missing_given_split_is_named() -> None:
    cases = [Case("a", "p", ("/x/a.png",), split="test"), Case("b", "q", ("/x/b.png",))]
    with pytest.raises(CaseError, match=r"/x/b\.png: 1 of 2 cases has no split"):
        assign_splits(cases, SplitConfig(by="given"))
