"""A configuration's data -> the table of cases: layout, ids, patients, labels, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from medrail.cases.copies import patients_with_copies
from medrail.cases.fingerprint import FileHashes
from medrail.cases.ids import unique_ids
from medrail.cases.labels import class_finding, misspelt_classes, misspelt_findings
from medrail.cases.layouts import LAYOUTS
from medrail.cases.listing import Entry, Finding, Listing, counted, listed, patient_search
from medrail.cases.split import assign_splits, requested_splits
from medrail.config import Config
from medrail.errors import CaseError
from medrail.types import Case
from medrail.workspace import Workspace


@dataclass(frozen=True)
class Index:
    """The cases as the data lie there (with the data's own splits), and what is wrong with them.

    patients_known:
        Whether the data (folders, a column, names that data.patient_pattern fits) say which cases are of one patient.
    misspelt:
        Names in data.classes that the data spell otherwise: their cases are all among the findings.
    """

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    patients_known: bool = False
    misspelt: frozenset[str] = frozenset()


def build_cases(config: Config, workspace: Workspace) -> tuple[Case, ...]:
    """The table of cases, in a fixed order, with targets and splits; the images themselves are not opened.

    Without a patient column or pattern each case is a patient by itself (``check_cases`` says so).

    Raises
    ------
    ConfigError
        If the configuration does not fit the data's layout.
    CaseError
        If any image lacks its file, its label, its mask or its class, or a requested split is empty: all of them at
        once, each with its file (and line) and remedy.
    LeakError
        If the data's own splits (``split.by: given``) have one patient in two of them.
    """
    index = index_cases(config, workspace)
    wrong = [finding for finding in index.findings if finding.severity == "stop"]
    if wrong:
        count = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
        raise CaseError(f"{count} wrong with the cases:{listed(wrong)}")
    cases = split_cases(index.cases, config, workspace)
    empty = empty_splits(cases, config)
    if empty:
        raise CaseError(f"not every split has a case:{listed(empty)}")
    return cases


def split_cases(cases: tuple[Case, ...], config: Config, workspace: Workspace) -> tuple[Case, ...]:
    """The cases with their splits; where patients are drawn, those that share a file are drawn as one.

    Raises
    ------
    CaseError, LeakError
        If the data's own splits are incomplete, or divide a patient.
    """
    if config.split.by == "given":
        return assign_splits(cases, config.split)
    with FileHashes.of(workspace) as hashes:
        return assign_splits(cases, config.split, patients_with_copies(cases, hashes))


def index_cases(config: Config, workspace: Workspace) -> Index:
    """As ``build_cases`` before splitting, but what is wrong is returned; cases it is wrong with are left out."""
    listing = LAYOUTS[config.data.kind](config, workspace)
    listing = _without_odd_names(listing)
    misspelt = misspelt_classes([entry.target for entry in listing.entries], config)
    cases, findings = _cases(listing, config, misspelt)
    known = bool(config.data.patient_pattern) or any(entry.patient for entry in listing.entries)
    return Index(cases, (*listing.findings, *findings), known, frozenset(misspelt.values()))


def _cases(listing: Listing, config: Config, misspelt: Mapping[str, str]) -> tuple[tuple[Case, ...], list[Finding]]:
    pattern = patient_search(config.data)
    named = any(entry.patient for entry in listing.entries)
    ids = unique_ids([entry.name for entry in listing.entries])
    cases: list[Case] = []
    findings: dict[Finding, None] = {}  # a class folder of many images is one finding
    unmatched = 0
    for entry, made in zip(listing.entries, ids, strict=True):
        patient = entry.patient
        if not patient and pattern:
            found = pattern.search(entry.name)
            patient = (found.group(1) or "") if found else ""
            unmatched += not patient
        where = entry.where or str(entry.path)
        if named and not patient:
            findings[_no_patient(where)] = None
        if entry.target in misspelt:
            continue
        wrong = class_finding(entry.target, where, config.data.classes) if config.task == "classification" else None
        if wrong:
            findings[wrong] = None
        else:
            cases.append(_case(entry, entry.id or made, patient))
    findings |= dict.fromkeys(misspelt_findings(listing.entries, misspelt))
    if pattern and unmatched and not named:
        findings[_unmatched(unmatched, len(ids), pattern.pattern)] = None
    return tuple(cases), list(findings)


def _case(entry: Entry, case_id: str, patient: str) -> Case:
    return Case(
        id=case_id,
        patient=patient or case_id,
        paths=(str(entry.path),),
        target=entry.target,
        split=entry.split,
        item=entry.item,
        roi=str(entry.roi) if entry.roi else None,
    )


def _no_patient(where: str) -> Finding:
    what = "no patient, where other rows have one: it counts as a patient by itself"
    return Finding("patient_unknown", where, what, "Fill the column of the patient.", "warn")


def _unmatched(count: int, total: int, pattern: str) -> Finding:
    remedy = (
        "Correct data.patient_pattern; it is searched in the path below data.path, and its first group is the patient."
    )
    if count == total:
        return Finding(
            "patient_unknown", "data.patient_pattern", f"{pattern!r} fits none of {counted(total, 'name')}", remedy
        )
    what = f"{pattern!r} does not fit {count} of {counted(total, 'name')}; each of them counts as a patient by itself"
    return Finding("patient_unknown", "data.patient_pattern", what, remedy, "warn")


def _without_odd_names(listing: Listing) -> Listing:
    """Names that are no valid text (bytes from another system) cannot be written into any table or report."""
    good, findings = [], list(listing.findings)
    for entry in listing.entries:
        try:
            f"{entry.path}{entry.target}{entry.roi}".encode()
            good.append(entry)
        except UnicodeEncodeError:
            where = str(entry.path).encode("utf-8", "backslashreplace").decode()
            findings.append(Finding("bad_name", where, "the file's name is not UTF-8 text", "Rename it."))
    return replace(listing, entries=tuple(good), findings=tuple(findings))


def give_split(name: str) -> str:
    """How the data themselves give a split its cases."""
    return f"Give some cases the split {name} (in the table's column split, or as a folder)"


def empty_splits(cases: tuple[Case, ...], config: Config) -> list[Finding]:
    """A finding for each split that is needed and has no case."""
    patients = len({case.patient for case in cases})
    findings = []
    for name in requested_splits(config.split):
        if any(case.split == name for case in cases):
            continue
        if config.split.by == "given":
            if name == "val" or (name == "test" and config.evaluate.split != "test"):
                continue
            remedy = f"{give_split(name)}, or set split.by: patient."
            findings.append(Finding("empty_split", f"split {name}", "the data give no case this split", remedy))
        else:
            count = "1 patient is" if patients == 1 else f"{patients} patients are"
            what = f"{count} too few to have one in every split"
            remedy = f"Add patients, set split.{name}: 0, or give the splits yourself (split.by: given)."
            findings.append(Finding("empty_split", f"split {name}", what, remedy))
    evaluated = config.evaluate.split
    if not any(case.split == evaluated for case in cases) and not any(evaluated in one.where for one in findings):
        how = f"Set split.{evaluated} above 0" if config.split.by == "patient" else give_split(evaluated)
        remedy = f"{how}, or set evaluate.split to another one."
        findings.append(Finding("empty_split", f"split {evaluated}", "evaluate.split has no case", remedy))
    return findings
