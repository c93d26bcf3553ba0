"""Which split each patient is in: seeded, stratified by class, and independent of the order of the rows.

All cases of one patient are in one split by construction: patients are what is drawn. Each patient's rank is a hash of
the seed and the patient, so neither the order of the files nor the machine changes the outcome. Classes are spread by
the largest-remainder method (Hamilton's apportionment): every class gets its share of each split to within one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medrail.cases.listing import shown
from medrail.config import SplitConfig
from medrail.errors import CaseError, LeakError
from medrail.types import SPLITS, Case, SplitName

Classes = frozenset[str]


def assign_splits(
    cases: Sequence[Case], split: SplitConfig, same_as: Mapping[str, str] | None = None
) -> tuple[Case, ...]:
    """The same cases in the same order, each with its split.

    ``same_as`` (patient -> patient) names those that must stay together because they share a file.

    ``by: patient``: every requested split gets at least one patient where there are enough of them (train first, then
    test, then val), and a class that has two patients keeps one in train unless the other splits would be left empty.
    ``by: given``: the splits stay as they are.

    Raises
    ------
    LeakError
        If a patient stands in two of the given splits.
    CaseError
        If a given split is missing.
    """
    if split.by == "given":
        _check_given(cases)
        return tuple(cases)
    together = same_as or {}
    groups = {case.patient: together.get(case.patient, case.patient) for case in cases}
    assignment = _assign(_classes_by_patient(replace(case, patient=groups[case.patient]) for case in cases), split)
    return tuple(replace(case, split=assignment[groups[case.patient]]) for case in cases)


def requested_splits(split: SplitConfig) -> tuple[SplitName, ...]:
    """The splits a configuration asks for; given splits are asked for in any case."""
    if split.by == "given":
        return SPLITS
    shares: dict[SplitName, float] = {"train": 1.0, "val": split.val, "test": split.test}
    return tuple(name for name in SPLITS if shares[name] > 0)


def patient_leaks(cases: Iterable[Case]) -> list[tuple[Case, ...]]:
    """The cases of each patient that stands in more than one split, in a fixed order."""
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    leaks = [tuple(group) for group in by_patient.values() if len({case.split for case in group if case.split}) > 1]
    return sorted(leaks, key=lambda group: group[0].id)


def _check_given(cases: Sequence[Case]) -> None:
    without = [case for case in cases if case.split is None]
    if without:
        every, have = len(without) == len(cases), "has" if len(without) == 1 else "have"
        raise CaseError(
            "the data give no splits" if every else f"{len(without)} of {len(cases)} cases {have} no split",
            needed="train, val or test for every case (folders or a column), because split.by is given",
            where="" if every else shown((case.paths[0] for case in without), 10),
            remedy="Give them one, or set split.by: patient.",
        )
    leaks = patient_leaks(cases)
    if leaks:
        lines = "".join(f"\n  - {shown(map(_place, group), 6)}" for group in leaks[:20])
        more = f"\n  - and {len(leaks) - 20} more" if len(leaks) > 20 else ""
        count = "1 patient stands" if len(leaks) == 1 else f"{len(leaks)} patients stand"
        raise LeakError(
            f"{count} in more than one split",
            needed="all images of a patient in one split, or the test is on patients seen in training",
            remedy=f"Set split.by: patient to divide the patients anew, or move the files:{lines}{more}",
        )


def _place(case: Case) -> str:
    return f"{case.paths[0]}{f' [{case.item}]' if case.item else ''} ({case.split})"


def _classes_by_patient(cases: Iterable[Case]) -> dict[str, Classes]:
    classes: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        found = classes[case.patient]
        if case.target is not None and not Path(case.target).is_absolute():  # a mask's path is no class
            found.add(case.target)
    return {patient: frozenset(names) for patient, names in classes.items()}


def _assign(classes: Mapping[str, Classes], split: SplitConfig) -> dict[str, SplitName]:
    ranked = sorted(classes, key=lambda patient: _rank(split.seed, patient))
    n_test, n_val = _counts(len(ranked), split)
    kept = _kept_in_train(ranked, classes, n_test, n_val)
    free = len(ranked) - len(kept)
    n_test, n_val = _shrink(n_test, n_val, free)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient in ranked:
        strata[tuple(sorted(classes[patient]))].append(patient)
    sizes = {key: len(patients) for key, patients in strata.items()}
    left = {key: [patient for patient in patients if patient not in kept] for key, patients in strata.items()}
    assignment: dict[str, SplitName] = dict.fromkeys(ranked, "train")
    drawn: tuple[tuple[SplitName, int], ...] = (("test", n_test), ("val", n_val))
    for name, total in drawn:
        shares = _apportion(total, sizes, {key: len(patients) for key, patients in left.items()}, split.seed)
        for key, share in shares.items():
            assignment.update(dict.fromkeys(left[key][:share], name))
            left[key] = left[key][share:]
    return assignment


def _rank(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogateescape")).digest()


def _counts(n: int, split: SplitConfig) -> tuple[int, int]:
    """Patients for test and val: their shares, but one at least and never the last one of train; test before val."""
    n_test = min(max(1, round(split.test * n)), max(0, n - 1)) if split.test else 0
    n_val = min(max(1, round(split.val * n)), max(0, n - 1 - n_test)) if split.val else 0
    if split.val and not n_val and n_test > 1:
        n_test, n_val = n_test - 1, 1
    return n_test, n_val


def _kept_in_train(ranked: Sequence[str], classes: Mapping[str, Classes], n_test: int, n_val: int) -> set[str]:
    """Few patients that have every class between them, the rarest class first.

    Classes of two and more patients may cost test and val all but one of theirs; a class of a single patient costs
    them nothing.
    """
    patients_of: dict[str, list[str]] = defaultdict(list)
    for patient in ranked:
        for name in classes[patient]:
            patients_of[name].append(patient)
    kept: set[str] = set()
    covered: set[str] = set()
    others = (n_test > 0) + (n_val > 0)
    by_rarity = sorted(patients_of, key=lambda name: (len(patients_of[name]) == 1, len(patients_of[name]), name))
    for name in by_rarity:
        room = len(ranked) - (others if len(patients_of[name]) > 1 else n_test + n_val)
        if name not in covered and len(kept) < room:
            chosen = patients_of[name][0]
            kept.add(chosen)
            covered |= classes[chosen]
    if not kept and ranked:
        kept.add(ranked[0])
    return kept


def _shrink(n_test: int, n_val: int, free: int) -> tuple[int, int]:
    """The larger one gives way until both fit, val on a tie; ``free`` has at least one for each of them."""
    while n_test + n_val > free:
        n_test, n_val = (n_test - 1, n_val) if n_test > n_val else (n_test, n_val - 1)
    return n_test, n_val


def _apportion(
    total: int, sizes: Mapping[tuple[str, ...], int], room: Mapping[tuple[str, ...], int], seed: int
) -> dict[tuple[str, ...], int]:
    """``total`` divided in proportion to ``sizes`` by largest remainder, nobody above its ``room``."""
    n = sum(sizes.values())
    quota = {key: total * size / n for key, size in sizes.items()} if n else {}
    shares = {key: min(int(quota[key]), room[key]) for key in quota}
    tie = {key: _rank(seed, "\0".join(key)) for key in quota}
    rest = total - sum(shares.values())
    while rest > 0:
        open_keys = [key for key in shares if shares[key] < room[key]]
        open_keys.sort(key=lambda key: (shares[key] - quota[key], tie[key]))
        for key in open_keys[:rest]:
            shares[key] += 1
        rest -= min(rest, len(open_keys))
    return shares
