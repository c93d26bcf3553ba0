"""A corrected case table from what the check found; the originals are never touched.

What is decided, and why so:

* The same pixels with the same label: the first is kept. With different labels: none, for who knows which is right.
* Nearly the same image: all are kept, as one patient, so that no split divides them; they may be meant (two exposures).
* Patients who share an image are one patient, and all cases of a patient get one split. Splits that the data give are
  kept, and a patient in several of them gets the one where most of its cases are; where that would cost a split more
  than a third of its cases, and where splits are drawn, they are drawn anew.
* What cannot be read, or lacks what the task needs, is left out with its reason.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrail.cases.check import judge
from medrail.cases.check.report import CheckReport, Examined
from medrail.cases.labels import named_target
from medrail.cases.leaks import near_of, same_pixels
from medrail.cases.listing import Finding, counted
from medrail.cases.look.examine import place_of
from medrail.cases.splits.joining import joined
from medrail.cases.splits.split import assign_splits
from medrail.cases.table import write_table
from medrail.config import Config, SplitConfig
from medrail.errors import CaseError, ConfigError, DataError
from medrail.types import SPLITS, Case, SplitName
from medrail.workspace import Workspace, write_text

TABLE, LEFT_OUT, REPORT = "cases-fixed.csv", "cases-left-out.csv", "fix.md"
# Where the data give no share to go by.
_SHARE = 0.15
# Of its cases a given split must keep so many, or the splits are drawn anew.
_ENOUGH = 2 / 3
_LISTED = 200


@dataclass(frozen=True)
class LeftOut:
    """A case, or a line of a table, that is not in the corrected one."""

    where: str
    reason: str
    id: str = ""


@dataclass(frozen=True)
class Correction:
    """The corrected table.

    left_out:
        What is not in it, with the reason.
    joined:
        Places of near duplicates that count as one patient now, a tuple a group.
    moved:
        Cases that have another split than before.
    pattern:
        The file-name pattern that patients were told by although the configuration has none; "" else.
    """

    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...]
    joined: tuple[tuple[str, ...], ...]
    moved: int
    pattern: str = ""


def correct(report: CheckReport, config: Config) -> Correction:
    """A check's result -> the cases that are right, with patients joined and splits drawn anew.

    Raises
    ------
    CaseError
        If nothing is left.
    """
    examined = report.examined
    left_out = [*_without_case(report), *_unusable(examined, config)]
    gone = {one.id for one in left_out}
    cases, pattern = _patients_by_names(report, [case for case in examined.cases if case.id not in gone])
    copies, leader = _copies(cases, examined)
    left_out += copies
    pairs = _near(cases, examined)
    for a, b in pairs:
        leader.join(a.patient, b.patient)
    gone = {one.id for one in left_out}
    kept = [replace(case, patient=leader.of(case.patient)) for case in cases if case.id not in gone]
    if not kept:
        raise CaseError("no case is left that could be in a corrected table", remedy="See check.html for the reasons.")
    divided = _divided(kept, config)
    before = {case.id: case.split for case in examined.cases}
    moved = sum(before[case.id] not in (None, case.split) for case in divided)
    return Correction(divided, tuple(left_out), _groups(pairs), moved, pattern)


def write_correction(correction: Correction, folder: Path, config: Config, workspace: Workspace) -> tuple[Path, ...]:
    """Write the table, what was left out, and a report, into a folder that is not the data's.

    Raises
    ------
    ConfigError
        If the folder lies in the data's.
    """
    source = workspace.source(config.data.path)
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise ConfigError(
            "the corrected table would be written into the data's folder",
            where=str(folder),
            needed="another folder: medrail never writes beside the original images",
            remedy="Name one with -o FOLDER.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    table, left_out, text = folder / TABLE, folder / LEFT_OUT, folder / REPORT
    write_table(correction.cases, table, folder)
    write_text(left_out, _left_out_csv(correction.left_out))
    write_text(text, _markdown(correction, table_path(table, workspace), config))
    return table, left_out, text


def table_path(table: Path, workspace: Workspace) -> str:
    """The corrected table as ``data.path`` of the project names it."""
    beside = table.parent.resolve() == workspace.root.resolve()
    return table.name if beside else table.resolve().as_posix()


def fixed_config(config: Config, table: Path) -> Config:
    """The configuration that reads a corrected table."""
    plain = {name: "" for name in type(config.data).model_fields if name.endswith("pattern")}
    kind = {"kind": "csv", "path": str(table), "labels": "", "mask_path": "", "mask_suffix": "", "label_columns": ()}
    data = config.data.model_copy(update={**plain, **kind})
    split = config.split.model_copy(update={"by": "given"})
    return config.model_copy(update={"data": data, "split": split})


def as_sets(config: Config, fixed: Config) -> tuple[str, ...]:
    """What must be set to read a corrected table instead; as ``--set`` takes it.

    >>> from medrail.config import parse
    >>> data = {"kind": "class_folders", "path": "scans", "patient_pattern": "(p.)"}
    >>> config = parse({"task": "classification", "data": data, "model": {"name": "tiny_cnn", "dims": 2}})
    >>> as_sets(config, fixed_config(config, Path("cases-fixed.csv")))
    ('data.kind=csv', 'data.path=cases-fixed.csv', 'data.patient_pattern=', 'split.by=given')
    """
    pairs = [
        (f"{name}.{key}", getattr(stage, key))
        for name, stage, before in (("data", fixed.data, config.data), ("split", fixed.split, config.split))
        for key in type(stage).model_fields
        if getattr(stage, key) != getattr(before, key)
    ]
    return tuple(f"{key}={'[]' if value == () else value}" for key, value in pairs)


class _Joined:
    """Patients that are one patient, called by the first of them."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def of(self, patient: str) -> str:
        while self._leader.get(patient, patient) != patient:
            patient = self._leader[patient]
        return patient

    def join(self, a: str, b: str) -> None:
        a, b = self.of(a), self.of(b)
        self._leader[max(a, b)] = min(a, b)


def _without_case(report: CheckReport) -> list[LeftOut]:
    """What the layout could make no case of: rows without files, images without labels, ..."""
    known = report.examined.by_place
    return [
        LeftOut(finding.where, finding.what)
        for finding in report.findings
        if finding.where not in known and _names_a_file(finding)
    ]


def _names_a_file(finding: Finding) -> bool:
    return finding.severity == "stop" and not finding.where.startswith(("split ", "splits ", "data"))


def _unusable(examined: Examined, config: Config) -> list[LeftOut]:
    reasons = {
        case.id: examined.facts[case.id].findings[0].what for case in examined.cases if not examined.usable(case)
    }
    for case in examined.cases:
        if case.target is None:
            reasons.setdefault(case.id, "it has no label or mask")
    for finding in judge.missing_rois(examined.cases, config):
        reasons.setdefault(examined.by_place[finding.where].id, finding.what)
    return [LeftOut(place_of(case), reasons[case.id], case.id) for case in examined.cases if case.id in reasons]


def _patients_by_names(report: CheckReport, cases: Sequence[Case]) -> tuple[list[Case], str]:
    """Patients as the proposed pattern tells them: to take two for one costs little, to divide one spoils the test."""
    if report.pattern is None:
        return list(cases), ""
    search, entries = re.compile(report.pattern.pattern).search, report.examined.entries
    found = {case.id: search(entries[case.id].name) for case in cases if not entries[case.id].names_patient}
    said = {case_id: [("name", match.group(1))] for case_id, match in found.items() if match and match.group(1)}
    # What headers have joined stays joined: one patient has one name, and one name is one patient.
    leader = joined([("was", case.patient), *said.get(case.id, [])] for case in cases)
    names: dict[tuple[str, str], str] = {}
    for kind, name in sorted(leader):
        names.setdefault(leader[kind, name], name)
    return [replace(case, patient=names[leader["was", case.patient]]) for case in cases], report.pattern.pattern


def _copies(cases: Sequence[Case], examined: Examined) -> tuple[list[LeftOut], _Joined]:
    left_out, leader = [], _Joined()
    for group in same_pixels(cases, examined.facts):
        first, *others = group
        for other in others:
            leader.join(first.patient, other.patient)
        if _contradicting(group, examined):
            labels = ", ".join(sorted({named_target(case.target) for case in group}))
            reason = f"the same pixels have different labels ({labels}): "
            for case in group:
                rest = ", ".join(place_of(other) for other in group if other is not case)
                left_out.append(LeftOut(place_of(case), reason + rest, case.id))
            continue
        for case in others:
            left_out.append(LeftOut(place_of(case), f"the same pixels as {place_of(first)}, which is kept", case.id))
    return left_out, leader


def _contradicting(group: Sequence[Case], examined: Examined) -> bool:
    """Whether they have different class names (masks may differ: two readers)."""
    return len({case.target for case in group}) > 1 and not any(examined.facts[case.id].classes for case in group)


def _near(cases: Sequence[Case], examined: Examined) -> list[tuple[Case, Case]]:
    by_id = {case.id: case for case in cases}
    return [(by_id[pair.a], by_id[pair.b]) for pair in near_of(cases, examined.facts) if pair.sure]


def _groups(pairs: Iterable[tuple[Case, Case]]) -> tuple[tuple[str, ...], ...]:
    joined = _Joined()
    places = set()
    for a, b in pairs:
        joined.join(place_of(a), place_of(b))
        places |= {place_of(a), place_of(b)}
    groups: dict[str, list[str]] = defaultdict(list)
    for place in sorted(places):
        groups[joined.of(place)].append(place)
    return tuple(tuple(group) for group in groups.values())


def _divided(cases: Sequence[Case], config: Config) -> tuple[Case, ...]:
    split = config.split
    if split.by == "given" and (kept := _mostly_as_given(cases, config)):
        return kept
    if split.by in ("folds", "centre"):
        try:
            return assign_splits(cases, split, multi_label=config.data.multi_label)
        except DataError:  # a patient in two centres, say: then by patient
            pass
    val, test = (split.val, split.test) if split.by != "given" else _given_shares(cases)
    needed = {"val": val, "test": test}
    if not needed[config.evaluate.split]:
        needed[config.evaluate.split] = _SHARE
    drawn = SplitConfig(by="patient", seed=split.seed, **needed)
    return assign_splits(cases, drawn, multi_label=config.data.multi_label)


def _mostly_as_given(cases: Sequence[Case], config: Config) -> tuple[Case, ...]:
    """Every patient where most of its cases are (of equals train, val, test); () if a split gets too few."""
    of_patient: dict[str, Counter[SplitName | None]] = defaultdict(Counter)
    for case in cases:
        of_patient[case.patient][case.split] += 1
    order = {name: place for place, name in enumerate(SPLITS)}
    chosen = {
        patient: max(counts, key=lambda name: (counts[name], -order.get(name or "train", 0)))
        for patient, counts in of_patient.items()
    }
    divided = tuple(replace(case, split=chosen[case.patient]) for case in cases)
    before, after = (Counter(case.split for case in some) for some in (cases, divided))
    enough = all(after[name] >= _ENOUGH * before[name] for name in SPLITS) and after[config.evaluate.split] > 0
    return divided if enough and not after[None] else ()


def _given_shares(cases: Sequence[Case]) -> tuple[float, float]:
    """The shares of the patients that the data's own splits have; a split without any gets a usual one."""
    counts = Counter(split for _, split in {(case.patient, case.split) for case in cases})
    total = sum(counts[name] for name in ("train", "val", "test"))
    val, test = (
        (counts[name] / total if counts[name] else _SHARE for name in ("val", "test")) if total else (_SHARE,) * 2
    )
    return (val, test) if val + test < 1 else (_SHARE, _SHARE)


def _left_out_csv(left_out: Iterable[LeftOut]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "where", "reason"])
    table.writerows((one.id, one.where, one.reason) for one in left_out)
    return text.getvalue()


def _markdown(correction: Correction, path: str, config: Config) -> str:
    data = config.data
    clearable = ("patient_pattern", "centre_pattern", "pattern", "labels", "mask_path", "mask_suffix", "label_columns")
    unused = [name for name in clearable if getattr(data, name)]
    clear = f" Clear {' and '.join(f'data.{name}' for name in unused)}: the table says all of it." if unused else ""
    patients = len({case.patient for case in correction.cases})
    splits = Counter(case.split for case in correction.cases)
    parts = [
        "# The corrected case table",
        f"{counted(len(correction.cases), 'case')} of {counted(patients, 'patient')}: "
        + ", ".join(f"{splits[name]} {name}" for name in ("train", "val", "test"))
        + f". {counted(correction.moved, 'case has', 'cases have')} another split than before. "
        "No original file was changed.",
        f"To use it, set in medrail.yaml:\n\n```yaml\ndata:\n  kind: csv\n  path: {path}\nsplit:\n  by: given\n```\n\n"
        f"The other keys of data stay as they are.{clear}",
    ]
    if correction.pattern:
        parts.append(f"Patients were told by their file names: `{correction.pattern}`. Please confirm that.")
    parts.append(f"## Left out: {len(correction.left_out)}\n\nAll of them are in {LEFT_OUT}.")
    parts.append(_bullets(f"{one.where}: {one.reason}" for one in correction.left_out))
    parts.append(f"## Nearly the same images, now of one patient: {counted(len(correction.joined), 'group')}")
    parts.append(_bullets(", ".join(group) for group in correction.joined))
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    texts = [f"* {' '.join(line.split())}" for line in lines]
    more = [f"* and {len(texts) - _LISTED} more"] if len(texts) > _LISTED else []
    return "\n".join(texts[:_LISTED] + more)
