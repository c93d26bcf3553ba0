"""The verdict on the data before anything is trained on it: what is missing, unreadable, mislabelled or leaked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medrail.cases.examine import Facts, examine
from medrail.cases.fingerprint import FileHashes
from medrail.cases.index import Index, empty_splits, give_split, index_cases, split_cases
from medrail.cases.labels import class_names
from medrail.cases.listing import Finding, Severity, counted, shown
from medrail.cases.split import patient_leaks
from medrail.config import Config
from medrail.types import SPLITS, Case, Progress, SplitName
from medrail.workspace import Workspace

Verdict = Literal["ok", "warn", "stop"]


@dataclass(frozen=True)
class Leak:
    """Images that belong together but stand in different splits."""

    kind: Literal["exact", "near", "patient"]
    group: tuple[str, ...]
    splits: tuple[SplitName, ...]


@dataclass(frozen=True)
class CheckReport:
    """What was found.

    splits, classes:
        Cases in each split; cases of each class (segmentation: cases whose mask has the class).
    table:
        Rows of text for a person, the header first: split, cases, those of them that can be used, patients, then a
        column a class.
    findings:
        What is wrong; what stops comes first.
    """

    cases: int
    patients: int
    splits: dict[str, int]
    classes: dict[str, int]
    table: tuple[tuple[str, ...], ...]
    leaks: tuple[Leak, ...]
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Verdict:
        """stop: a result would be wrong or cannot be had; warn: look at it; ok."""
        severities = {finding.severity for finding in self.findings}
        return "stop" if "stop" in severities else "warn" if severities else "ok"

    @property
    def defects(self) -> dict[str, int]:
        """How often each kind of defect was found."""
        return dict(sorted(Counter(finding.defect for finding in self.findings).items()))

    @property
    def problems(self) -> tuple[tuple[str, str, str], ...]:
        """(case or file, what is wrong, remedy) of each finding."""
        return tuple((finding.where, finding.what, finding.remedy) for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The object that `medrail check --json` prints; its keys are an interface."""
        kinds = ("exact", "near", "patient")
        return {
            "cases": self.cases,
            "patients": self.patients,
            "splits": self.splits,
            "classes": self.classes,
            "defects": self.defects,
            "leaks": {
                kind: [
                    {"group": list(leak.group), "splits": list(leak.splits)} for leak in self.leaks if leak.kind == kind
                ]
                for kind in kinds
            },
            "verdict": self.verdict,
        }


def check_data(config: Config, workspace: Workspace, progress: Progress | None = None) -> CheckReport:
    """Judge a configuration's data, whatever is wrong with them: where ``build_cases`` raises, this reports.

    Raises
    ------
    ConfigError, CaseError
        If there is no data at all, or the configuration does not fit them.
    """
    index = index_cases(config, workspace)
    findings = list(index.findings)
    if config.split.by == "patient":
        cases = split_cases(index.cases, config, workspace)
    else:
        cases = index.cases
        remedy = "Give it one (folders or a column named split), or set split.by: patient."
        where = [case.paths[0] for case in cases if case.split is None]
        findings += [Finding("no_split", place, "the data give it no split", remedy) for place in where]
    return _report(cases, replace(index, findings=tuple(findings)), config, workspace, progress)


def check_cases(
    cases: Sequence[Case], config: Config, workspace: Workspace, progress: Progress | None = None
) -> CheckReport:
    """Judge a table of cases: reads every image and mask once (what has not changed since is recalled).

    Findings about the data's layout (masks without images, rows without files) are included.
    """
    return _report(tuple(cases), index_cases(config, workspace), config, workspace, progress)


def _report(
    cases: tuple[Case, ...], index: Index, config: Config, workspace: Workspace, progress: Progress | None
) -> CheckReport:
    """``index`` gives what is wrong besides the cases, and what is known of their patients and classes."""
    findings = list(index.findings)
    facts: dict[str, Facts] = {}
    with FileHashes.of(workspace) as hashes:
        for done, case in enumerate(cases, start=1):
            facts[case.id] = examine(case, config, hashes)
            if progress:
                progress(done, len(cases), case.id)
    usable = tuple(case for case in cases if not facts[case.id].findings)
    leaks = (*_exact_leaks(usable, facts), *_patient_leaks(cases))
    findings += [finding for case in cases for finding in facts[case.id].findings]
    findings += [_leak_finding(leak, config) for leak in leaks]
    findings += _duplicates(usable, facts) + _pixel_findings(usable, facts, config)
    findings += _missing_rois(cases, config)
    if cases or all(finding.severity != "stop" for finding in findings):  # else it is said already why there is none
        findings += _split_findings(cases, usable, config)
    findings += [] if index.patients_known or not cases else [_patients_unknown()]
    names = class_names(config, cases)
    has = {case.id: _classes_of(case, facts[case.id], names) for case in cases}
    findings += _class_findings(usable, has, [name for name in names if name not in index.misspelt])
    return CheckReport(
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        splits={name: sum(case.split == name for case in cases) for name in SPLITS},
        classes={name: sum(name in has[case.id] for case in cases) for name in names},
        table=_table(cases, usable, has, names),
        leaks=leaks,
        findings=tuple(sorted(findings, key=lambda finding: finding.severity != "stop")),
    )


def _classes_of(case: Case, facts: Facts, names: Sequence[str]) -> set[str]:
    return {names[index] for index in facts.classes} if facts.classes else {case.target or ""}


def _table(
    cases: Sequence[Case], usable: Sequence[Case], has: dict[str, set[str]], names: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    rows = [("split", "cases", "usable", "patients", *names)]
    for split in (*SPLITS, None):
        inside = [case for case in cases if case.split == split]
        if inside or split:
            counts = (sum(name in has[case.id] for case in inside) for name in names)
            patients = len({case.patient for case in inside})
            good = sum(case.split == split for case in usable)
            rows.append((split or "none", *map(str, (len(inside), good, patients, *counts))))
    return tuple(rows)


def _place(case: Case) -> str:
    return f"{case.paths[0]}{f' [{case.item}]' if case.item else ''}"


def _same_pixels(cases: Sequence[Case], facts: dict[str, Facts]) -> list[list[Case]]:
    """Groups of cases with the same pixels; blank images are all alike and say nothing."""
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if facts[case.id].pixels and not facts[case.id].blank:
            groups[facts[case.id].pixels].append(case)
    return [group for group in groups.values() if len(group) > 1]


def _splits_of(group: Sequence[Case]) -> tuple[SplitName, ...]:
    return tuple(name for name in SPLITS if any(case.split == name for case in group))


def _exact_leaks(cases: Sequence[Case], facts: dict[str, Facts]) -> list[Leak]:
    groups = [group for group in _same_pixels(cases, facts) if len(_splits_of(group)) > 1]
    return [Leak("exact", tuple(map(_place, group)), _splits_of(group)) for group in groups]


def _patient_leaks(cases: Sequence[Case]) -> list[Leak]:
    return [Leak("patient", tuple(map(_place, group)), _splits_of(group)) for group in patient_leaks(cases)]


def _leak_finding(leak: Leak, config: Config) -> Finding:
    """A copy between train and val spoils the choice of the best epoch, not the numbers of the evaluated split."""
    splits = " and ".join(leak.splits)
    rest = shown(leak.group[1:], 4)
    if leak.kind == "patient":
        remedy = "Set split.by: patient, or move the files, so that all images of a patient are in one split."
        return Finding("patient_leak", leak.group[0], f"the same patient is in {splits}: {rest}", remedy)
    remedy = "Keep one of them, or give them the same patient."
    severity: Severity = "stop" if config.evaluate.split in leak.splits else "warn"
    return Finding("exact_leak", leak.group[0], f"the same pixels are in {splits}: {rest}", remedy, severity)


def _duplicates(cases: Sequence[Case], facts: dict[str, Facts]) -> list[Finding]:
    findings = []
    for group in _same_pixels(cases, facts):
        first, *others = map(_place, group)
        if len(_splits_of(group)) < 2:
            what = f"the same pixels as {shown(others, 4)}"
            findings.append(Finding("duplicate", first, what, "Keep one of them.", "warn"))
        labels = {case.target for case in group}
        if len(labels) > 1 and not any(facts[case.id].classes for case in group):
            what = f"the same pixels have the labels {shown(sorted(map(str, labels)))}: {shown(others, 4)}"
            findings.append(Finding("contradicting_labels", first, what, "Correct the wrong label.", "warn"))
    return findings


def _pixel_findings(cases: Sequence[Case], facts: dict[str, Facts], config: Config) -> list[Finding]:
    remedy = "Look at it; take the case out if it shows nothing."
    blank = [
        Finding("blank", _place(case), "all voxels have the same value", remedy, "warn")
        for case in cases
        if facts[case.id].blank
    ]
    if config.task != "segmentation":
        return blank
    empty = [
        Finding(
            "empty_mask", str(case.target), "the mask has no foreground", "Right if there is nothing to mark.", "warn"
        )
        for case in cases
        if facts[case.id].classes == (0,)
    ]
    return blank + empty


def _missing_rois(cases: Sequence[Case], config: Config) -> list[Finding]:
    """Cases without the region of interest that a step crops to; each would fail in preparation."""
    if not any(step.get("kind") == "crop_roi" for step in config.prepare.steps):
        return []
    what = "the step crop_roi needs a region of interest, and the case has none"
    remedy = "Give it one in a column roi of the CSV (data.kind: csv), or use crop_foreground, which needs none."
    return [Finding("missing_roi", _place(case), what, remedy) for case in cases if case.roi is None]


def _split_findings(cases: tuple[Case, ...], usable: tuple[Case, ...], config: Config) -> list[Finding]:
    """Splits that are needed and have no case, or none that can be used."""
    findings = empty_splits(cases, config)
    empty = {finding.where for finding in findings}
    for name in SPLITS:
        count, where = sum(case.split == name for case in cases), f"split {name}"
        if count and not any(case.split == name for case in usable):
            what = f"none of its {counted(count, 'case')} can be used"
            findings.append(Finding("empty_split", where, what, "Repair what is said of them."))
        elif not count and name == "val" and where not in empty:
            what = "no case: the best epoch cannot be told, and training does not stop early"
            drawn = "Set split.val above 0, or add some."
            remedy = f"{give_split(name)}, or set split.by: patient." if config.split.by == "given" else drawn
            findings.append(Finding("empty_split", where, what, remedy, "warn"))
    return findings


def _patients_unknown() -> Finding:
    what = "it is not known which images are of the same patient; each counts as a patient by itself"
    remedy = "Set data.patient_pattern, or a patient column in the CSV, if any patient has several images."
    return Finding("patient_unknown", "data", what, remedy, "warn")


def _class_findings(cases: Sequence[Case], has: dict[str, set[str]], names: Sequence[str]) -> list[Finding]:
    """Classes that a split which has cases does not have; one line a class."""
    findings = []
    filled = [split for split in SPLITS if any(case.split == split for case in cases)]
    for name in names:
        present = {case.split for case in cases if name in has[case.id]}
        missing = [split for split in filled if split not in present]
        if missing:
            effect = "it cannot be learnt" if "train" in missing else "nothing is known about it there"
            where = f"split {missing[0]}" if len(missing) == 1 else f"splits {', '.join(missing)}"
            remedy = "Add cases of it, or take the class out of data.classes."
            findings.append(Finding("class_missing", where, f"no case of {name!r}: {effect}", remedy, "warn"))
    return findings
