"""Laws of k folds and of the centre left out: nobody is divided, everybody is tested once, and the folds are even."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from medrail.cases import LAYOUTS, assign_splits, build_cases
from medrail.config import SplitConfig
from medrail.errors import CaseError, ConfigError, LeakError
from medrail.plan.patients import propose
from medrail.types import Case
from medrail.workspace import Workspace

NAMES = st.text(min_size=1, max_size=6)


@st.composite
def tables(draw: st.DrawFn, one_class_a_patient: bool = False, least: int = 2) -> list[Case]:
    patients = draw(st.lists(NAMES, min_size=least, max_size=30, unique=True))
    classes = st.sampled_from([None, "A", "B", "C", "/masks/1.png"])
    rows = []
    for patient in patients:
        count = draw(st.integers(1, 5))
        targets = [draw(classes)] * count if one_class_a_patient else [draw(classes) for _ in range(count)]
        rows += [(patient, target) for target in targets]
    rows = draw(st.permutations(rows))
    return [Case(f"case{n}", patient, (f"/data/{n}",), target) for n, (patient, target) in enumerate(rows)]


def folds_of(cases: Sequence[Case]) -> dict[str, int | None]:
    return {case.patient: case.fold for case in cases}


@given(tables(), st.integers(2, 7), st.sampled_from([0.0, 0.15, 0.5]), st.integers(0, 2**32))
@settings(deadline=None)
def test_no_patient_is_divided_and_each_is_the_test_exactly_once(
    cases: list[Case], folds: int, val: float, seed: int
) -> None:
    patients = {case.patient for case in cases}
    folds = min(folds, len(patients))
    tested: Counter[str] = Counter()
    known = None
    for fold in range(folds):
        out = assign_splits(cases, SplitConfig(by="folds", folds=folds, fold=fold, val=val, seed=seed))
        assert [case.id for case in out] == [case.id for case in cases]
        by_patient = defaultdict(set)
        for case in out:
            by_patient[case.patient].add((case.split, case.fold))
        assert all(len(found) == 1 for found in by_patient.values())
        assert all((split == "test") == (number == fold) for ((split, number),) in by_patient.values())
        tested.update(patient for patient, ((split, _),) in by_patient.items() if split == "test")
        assert known in (None, folds_of(out)), "the folds do not depend on which is the test"
        known = folds_of(out)
        rest = len(patients) - Counter(known.values())[fold]
        drawn = sum(split == "val" for ((split, _),) in by_patient.values())
        wanted = min(max(1, round(val * rest)), rest - 1) if val else 0
        assert min(1, wanted) <= drawn <= wanted, "fewer only where train must keep a class"
    assert tested == dict.fromkeys(patients, 1)


@given(tables(), st.integers(2, 5), st.integers(0, 99), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_rows_does_not_matter(
    cases: list[Case], folds: int, seed: int, shuffler: random.Random
) -> None:
    config = SplitConfig(by="folds", folds=min(folds, len({case.patient for case in cases})), seed=seed)
    shuffled = list(cases)
    shuffler.shuffle(shuffled)
    first, second = assign_splits(cases, config), assign_splits(shuffled, config)
    assert {case.id: (case.split, case.fold) for case in first} == {case.id: (case.split, case.fold) for case in second}


@given(tables(one_class_a_patient=True, least=7), st.integers(2, 7), st.integers(0, 99))
@settings(deadline=None)
def test_every_fold_has_its_share_of_patients_and_of_each_class_within_one(
    cases: list[Case], folds: int, seed: int
) -> None:
    out = assign_splits(cases, SplitConfig(by="folds", folds=folds, seed=seed))
    by_class = defaultdict(set)
    for case in out:
        by_class["a patient"].add((case.patient, case.fold))
        if case.target and not case.target.startswith("/"):
            by_class[case.target].add((case.patient, case.fold))
    for found in by_class.values():
        counts = Counter(fold for _, fold in found)
        assert all(abs(counts[fold] - len(found) / folds) < 1 for fold in range(folds))


def test_the_folds_are_the_same_on_every_machine_and_in_every_process() -> None:
    """Written down once; another number here means that published folds cannot be had again."""
    code = """
from medrail.cases import LAYOUTS, assign_splits, build_cases
from medrail.config import SplitConfig
from medrail.types import Case
rows = [Case(str(n), f"p{n}", ("/x",), "AB"[n % 3 > 0]) for n in range(12)]
print([case.fold for case in assign_splits(rows, SplitConfig(by="folds", folds=3, seed=5))])
"""
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert told.stdout == "[1, 0, 1, 2, 0, 2, 0, 0, 2, 1, 2, 1]\n"


def hospital(seed: int) -> list[Case]:
    """Patients with few cases and some with many, three classes of unequal size."""
    rng = np.random.default_rng(seed)
    cases = []
    for patient in range(int(rng.integers(60, 160))):
        target = "ABC"[int(rng.choice(3, p=[0.6, 0.2, 0.2]))]
        for _ in range(int(1 + rng.geometric(0.4))):
            cases.append(Case(f"c{len(cases)}", f"p{patient}", ("/x",), target))
    return cases


def unevenness(cases: Sequence[Case], folds: Sequence[int], k: int) -> tuple[float, float]:
    """Largest deviation of a class's patients from the ideal in any fold; standard deviation of the folds' cases."""
    patients = {(case.patient, case.target, fold) for case, fold in zip(cases, folds, strict=True)}
    worst = 0.0
    for name in {case.target for case in cases}:
        counts = Counter(fold for _, target, fold in patients if target == name)
        worst = max(worst, *(abs(counts[fold] - sum(counts.values()) / k) for fold in range(k)))
    return worst, float(np.std(np.bincount(folds, minlength=k)))


def test_folds_are_at_least_as_even_as_those_of_scikit_learn() -> None:
    """On 40 made-up hospitals, five folds each."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(40):
        cases = hospital(seed)
        groups, targets = [case.patient for case in cases], [case.target for case in cases]
        ours = [case.fold for case in assign_splits(cases, SplitConfig(by="folds", seed=seed))]
        found["ours"].append(unevenness(cases, [fold for fold in ours if fold is not None], 5))
        for name, peer in (
            ("stratified", StratifiedGroupKFold(5, shuffle=True, random_state=seed)),
            ("plain", GroupKFold(5)),
        ):
            theirs = np.zeros(len(cases), dtype=int)
            for fold, (_, test) in enumerate(peer.split(targets, targets, groups)):
                theirs[test] = fold
            found[name].append(unevenness(cases, theirs.tolist(), 5))
    classes, sizes = ({name: np.mean(values, axis=0)[axis] for name, values in found.items()} for axis in (0, 1))
    assert max(worst for worst, _ in found["ours"]) < 1
    assert classes["ours"] < classes["stratified"] < classes["plain"], classes
    assert sizes["ours"] < sizes["stratified"], sizes


def test_joined_patients_are_in_one_fold() -> None:
    cases = [Case(str(n), f"p{n}", ("/x",), "A") for n in range(10)]
    for seed in range(10):
        out = assign_splits(cases, SplitConfig(by="folds", seed=seed), {"p5": "p2", "p7": "p2"})
        found = {case.patient: (case.fold, case.split) for case in out}
        assert found["p5"] == found["p7"] == found["p2"]


def test_folds_that_the_data_give_are_kept() -> None:
    cases = [Case(str(n), f"p{n // 2}", ("/x",), "A", fold=1 + n // 2 % 3) for n in range(12)]
    out = assign_splits(cases, SplitConfig(by="folds", fold=3, folds=9))
    assert [case.fold for case in out] == [case.fold for case in cases]
    assert {case.fold for case in out if case.split == "test"} == {3}
    with pytest.raises(ConfigError, match="one of 1, 2, 3"):
        assign_splits(cases, SplitConfig(by="folds"))
    with pytest.raises(CaseError, match="1 of 13 cases has no fold"):
        assign_splits([*cases, Case("new", "new", ("/x",))], SplitConfig(by="folds", fold=1))
    with pytest.raises(LeakError, match=r"more than one fold[^|]*/y \(fold 2\)") as caught:
        assign_splits([*cases, Case("new", "p0", ("/y",), fold=2)], SplitConfig(by="folds", fold=1))
    assert "p0" not in str(caught.value)


def test_folds_that_cannot_be_had_are_refused() -> None:
    cases = [Case(str(n), f"p{n // 4}", ("/x",), "A") for n in range(12)]
    with pytest.raises(CaseError, match="3 patients for 5 folds"):
        assign_splits(cases, SplitConfig(by="folds"))
    with pytest.raises(ConfigError, match=r"there is no fold 3; needed: one of 0, 1, 2\. Folds are counted from 0"):
        assign_splits(cases, SplitConfig(by="folds", folds=3, fold=3))
    assert assign_splits([], SplitConfig(by="folds")) == ()


def centres(spread: str = "PPPQQQRRR") -> list[Case]:
    return [
        Case(str(n), f"patient{n // 2}", (f"/{n}.png",), "A", centre=spread[n // 2]) for n in range(2 * len(spread))
    ]


@given(st.integers(0, 99), st.sampled_from("PQR"), st.sampled_from([0.0, 0.2, 0.5]))
def test_one_centre_is_the_test_and_all_of_it(seed: int, centre: str, val: float) -> None:
    out = assign_splits(centres(), SplitConfig(by="centre", centre=centre, val=val, seed=seed))
    assert all((case.split == "test") == (case.centre == centre) for case in out)
    assert all(case.fold is None for case in out)
    counts = Counter(case.split for case in out)
    assert counts["val"] == 2 * round(val * 6)
    assert all(len({case.split for case in out if case.patient == one}) == 1 for one in {case.patient for case in out})


def test_a_patient_of_two_centres_is_refused_only_where_it_matters() -> None:
    both = [*centres(), Case("x", "patient0", ("/x.png",), "A", centre="Q")]
    with pytest.raises(LeakError, match=r"more than one centre[^|]*/x\.png \(centre Q\)") as caught:
        assign_splits(both, SplitConfig(by="centre", centre="P"))
    assert "patient0" not in str(caught.value)
    out = {case.id: case for case in assign_splits(both, SplitConfig(by="centre", centre="R", val=0.5))}
    assert out["x"].split == out["0"].split


def test_centres_that_are_not_there_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no image is of the centre 'p'; needed: [^.]*'P', 'Q', 'R'"):
        assign_splits(centres(), SplitConfig(by="centre", centre="p"))
    with pytest.raises(ConfigError, match="no centre is named"):
        assign_splits(centres(), SplitConfig(by="centre"))
    with pytest.raises(CaseError, match="all images are of one centre"):
        assign_splits(centres("PP"), SplitConfig(by="centre", centre="P"))
    with pytest.raises(CaseError, match="the data give no centres"):
        assign_splits([Case("a", "a", ("/a",))], SplitConfig(by="centre", centre="P"))
    with pytest.raises(CaseError, match=r"/y\.png: 1 of 19 cases has no centre"):
        assign_splits([*centres(), Case("y", "y", ("/y.png",))], SplitConfig(by="centre", centre="P"))
    assert SplitConfig.model_validate({"by": "centre", "centre": 7}).centre == "7"


@pytest.mark.shared
def test_real_x_rays_of_which_patients_stand_in_two_folders(shared_data, configure, tmp_path):
    """Kermany et al.: the given splits divide patients and are refused; folds by patient do not."""
    data = {"kind": "class_folders", "path": str(shared_data / "chestxray")}
    names = [
        entry.name for entry in LAYOUTS["class_folders"](configure("classification", data), Workspace(tmp_path)).entries
    ]
    proposed = propose(names)
    assert proposed is not None
    data["patient_pattern"] = proposed.pattern
    with pytest.raises(LeakError, match="more than one split"):
        build_cases(configure("classification", data, split={"by": "given"}), Workspace(tmp_path))
    tested: Counter[str] = Counter()
    for fold in range(5):
        config = configure("classification", data, split={"by": "folds", "fold": fold})
        cases = build_cases(config, Workspace(tmp_path))
        by_patient = defaultdict(set)
        for case in cases:
            by_patient[case.patient].add(case.split)
        assert all(len(found) == 1 for found in by_patient.values())
        tested.update(patient for patient, found in by_patient.items() if found == {"test"})
    assert tested == dict.fromkeys(by_patient, 1)
