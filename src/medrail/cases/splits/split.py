"""Which split each case is in: drawn by patient, k folds, one centre left out, or as the data say.

All cases of one patient are in one split by construction: patients are what is drawn (``draw``), and what the
data give is refused where it divides one. Nothing depends on the order of the rows or on the machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medrail.cases.labels import SEPARATOR
from medrail.cases.listing import counted, shown
from medrail.cases.splits.draw import Classes, draw
from medrail.cases.splits.folds import assign_folds
from medrail.cases.splits.spread import spread
from medrail.config import SplitConfig, did_you_mean
from medrail.errors import CaseError, ConfigError, LeakError
from medrail.types import SPLITS, Case, SplitName


def assign_splits(
    cases: Sequence[Case],
    split: SplitConfig,
    same_as: Mapping[str, str] | None = None,
    *,
    accept_leak: bool = False,
    multi_label: bool = False,
) -> tuple[Case, ...]:
    """The same cases in the same order, each with its split; with ``by: folds`` each with its fold too.

    ``same_as`` (patient -> patient) names those that must stay together because they share a file; ``multi_label``:
    targets hold several labels, and each of them is spread over the splits (``medrail.cases.splits.spread``).

    ``by: patient``: ``split.val`` and ``split.test`` are shares of the patients (``medrail.cases.splits.draw``).
    ``by: folds``: those of ``medrail.cases.splits.folds``, or of the data's column ``fold`` if every case has one; they
    depend neither on ``split.fold``, which is the test, nor on ``split.val``, the share drawn from the other patients.
    ``by: centre``: all cases of ``split.centre`` are the test, and ``split.val`` is drawn as with folds. A patient with
    cases both there and elsewhere is refused: in either split it would make the answer about a new centre wrong.
    ``by: given``: the splits stay as they are.

    Raises
    ------
    LeakError
        If a patient stands in two of the given splits (unless ``accept_leak``), in two given folds, or both in the
        centre that is left out and in another.
    CaseError
        If a given split, fold or centre is missing, or there are fewer patients than folds.
    ConfigError
        If ``split.fold`` or ``split.centre`` is none that there is.
    """
    if split.by == "given":
        _check_given(cases, accept_leak)
        return tuple(cases)
    together = same_as or {}
    groups = [together.get(case.patient, case.patient) for case in cases]
    grouped = [replace(case, patient=group) for case, group in zip(cases, groups, strict=True)]
    classes = _classes_by_patient(grouped, multi_label)
    divide = spread if multi_label else draw
    folds: Mapping[str, int] = {}
    if split.by == "patient":
        assignment = divide(classes, split.val, split.test, split.seed)
    else:
        if split.by == "folds":
            folds = _folds(grouped, classes, split)
            tested = {group for group, fold in folds.items() if fold == split.fold}
        else:
            tested = _of_the_centre(grouped, split)
        rest = {group: names for group, names in classes.items() if group not in tested}
        assignment = {**divide(rest, split.val, 0, split.seed), **dict.fromkeys(tested, "test")}
    rows = zip(cases, groups, strict=True)
    return tuple(replace(case, split=assignment[group], fold=folds.get(group)) for case, group in rows)


def requested_splits(split: SplitConfig) -> tuple[SplitName, ...]:
    """The splits a configuration asks for; given splits, and the test of folds and centres, in any case."""
    if split.by == "given":
        return SPLITS
    test = split.test if split.by == "patient" else 1.0
    shares: dict[SplitName, float] = {"train": 1.0, "val": split.val, "test": test}
    return tuple(name for name in SPLITS if shares[name] > 0)


def patient_leaks(cases: Iterable[Case]) -> list[tuple[Case, ...]]:
    """The cases of each patient that stands in more than one split, in a fixed order."""
    return _divided(cases, lambda case: case.split)


def _divided(cases: Iterable[Case], part: Callable[[Case], object]) -> list[tuple[Case, ...]]:
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    divided = [
        tuple(group)
        for group in by_patient.values()
        if len({part(case) for case in group if part(case) is not None}) > 1
    ]
    return sorted(divided, key=lambda group: group[0].id)


def _check_given(cases: Sequence[Case], accept_leak: bool) -> None:
    without = [case for case in cases if case.split is None]
    if without:
        folds = all(case.fold is not None for case in cases)
        _refuse_missing(
            without,
            len(cases),
            "split",
            needed="train, val or test for every case (folders or a column), because split.by is given",
            remedy="The data give folds: set split.by: folds." if folds else "Give them one, or set split.by: patient.",
        )
    leaks = patient_leaks(cases)
    if leaks and not accept_leak:
        raise _leak(
            leaks,
            "split",
            "all images of a patient in one split, or the test is on patients seen in training",
            "Set split.by: patient to divide the patients anew, or move the files",
        )


def _folds(cases: Sequence[Case], classes: Mapping[str, Classes], split: SplitConfig) -> dict[str, int]:
    given = {case.patient: case.fold for case in cases if case.fold is not None}
    if given:
        without = [case for case in cases if case.fold is None]
        remedy = "Fill the column fold for all of them, or delete it: then the folds are drawn by split.seed."
        if without:
            _refuse_missing(without, len(cases), "fold", needed="a fold for every case, or for none", remedy=remedy)
        if divided := _divided(cases, lambda case: case.fold):
            raise _leak(divided, "fold", "all images of a patient in one fold", "Correct the column fold")
        folds = given
    else:
        if len(classes) < split.folds and cases:
            raise CaseError(
                f"{counted(len(classes), 'patient')} for {split.folds} folds",
                needed="a patient for each fold at least",
                remedy="Lower split.folds, or add patients.",
            )
        folds = assign_folds(classes, Counter(case.patient for case in cases), split.folds, split.seed)
    known = sorted(set(folds.values()))
    if known and split.fold not in known:
        raise ConfigError(
            f"there is no fold {split.fold}",
            where="split.fold",
            needed=f"one of {shown(known, 20)}",
            remedy="" if given else "Folds are counted from 0.",
        )
    return folds


def _of_the_centre(cases: Sequence[Case], split: SplitConfig) -> set[str]:
    """The patients of the centre that is left out."""
    without = [case for case in cases if not case.centre]
    if without:
        _refuse_missing(
            without,
            len(cases),
            "centre",
            needed="where each image was acquired, because split.by is centre",
            remedy="Give it in a column centre of the table, or by data.centre_pattern.",
        )
    centres = sorted({case.centre for case in cases})
    if cases and split.centre not in centres:
        found = f"no image is of the centre {split.centre!r}" if split.centre else "no centre is named"
        needed = f"the centre that is the test, one of {shown(map(repr, centres), 20)}"
        same = [name for name in centres if name.casefold() == split.centre.casefold()]
        remedy = f"Did you mean {same[0]!r}?" if same else did_you_mean(split.centre, centres, or_else=False)
        raise ConfigError(found, where="split.centre", needed=needed, remedy=remedy)
    if len(centres) == 1:
        remedy = "Use split.by: patient or folds."
        raise CaseError("all images are of one centre", needed="two centres to leave one out", remedy=remedy)
    if divided := _divided(cases, lambda case: case.centre == split.centre):
        needed = "patients who are either in the centre that is left out or in others"
        raise _leak(divided, "centre", needed, "Take their images of one side out of the data, or correct the centres")
    return {case.patient for case in cases if case.centre == split.centre}


def _refuse_missing(without: Sequence[Case], total: int, what: str, *, needed: str, remedy: str) -> None:
    """``what``: the noun of that which cases lack."""
    every, have = len(without) == total, "has" if len(without) == 1 else "have"
    raise CaseError(
        f"the data give no {what}s" if every else f"{len(without)} of {total} cases {have} no {what}",
        needed=needed,
        where="" if every else shown((case.paths[0] for case in without), 10),
        remedy=remedy,
    )


def _leak(groups: Sequence[Sequence[Case]], what: str, needed: str, remedy: str) -> LeakError:
    """``what``: which of the cases' values differs within each group: split, fold or centre."""
    lines = "".join(f"\n  - {shown((_place(case, what) for case in group), 6)}" for group in groups[:20])
    more = f"\n  - and {len(groups) - 20} more" if len(groups) > 20 else ""
    count = "1 patient stands" if len(groups) == 1 else f"{len(groups)} patients stand"
    return LeakError(f"{count} in more than one {what}", needed=needed, remedy=f"{remedy}:{lines}{more}")


def _place(case: Case, what: str) -> str:
    value = getattr(case, what)
    item = f" [{case.item}]" if case.item else ""
    return f"{case.paths[0]}{item} ({value if what == 'split' else f'{what} {value}'})"


def _classes_by_patient(cases: Iterable[Case], multi_label: bool) -> dict[str, Classes]:
    classes: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        found = classes[case.patient]
        if multi_label and case.target is not None:
            found |= set(case.target.split(SEPARATOR))  # "" is those without any finding
        elif case.target is not None and not Path(case.target).is_absolute():  # a mask's path is no class
            found.add(case.target)
    return {patient: frozenset(names) for patient, names in classes.items()}
