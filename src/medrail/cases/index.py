"""A configuration's data -> the table of cases: layout, ids, patients, labels, splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from medrail.cases.fingerprint import FileHashes
from medrail.cases.labels import class_finding, labels_of, misspelt_classes, misspelt_findings
from medrail.cases.layouts.headers import with_headers
from medrail.cases.layouts.ids import unique_ids
from medrail.cases.layouts.table import LAYOUTS
from medrail.cases.listing import Entry, Finding, Listing, listed
from medrail.cases.splits.copies import patients_with_copies
from medrail.cases.splits.patients import centres_of, patients_of
from medrail.cases.splits.split import assign_splits, requested_splits
from medrail.config import Config
from medrail.errors import CaseError, LeakError
from medrail.types import Case
from medrail.workspace import Workspace

# So many entries must have a patient in their headers; else it is not known who they are, whatever one header says.
_KNOWN_SHARE = 0.95


@dataclass(frozen=True)
class Index:
    """The cases as the data lie there (with the data's own splits), and what is wrong with them.

    patients_known:
        Whether the data (folders, a column, DICOM headers of nearly all images, names that data.patient_pattern fits)
        say which cases are of one patient.
    misspelt:
        Names in data.classes that the data spell otherwise: their cases are all among the findings.
    entries:
        Case id -> what the layout and the headers said of it.
    unlabelled:
        Images without target, as cases without one: they are among the findings, and nothing can be trained on them.
    """

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    patients_known: bool = False
    misspelt: frozenset[str] = frozenset()
    entries: Mapping[str, Entry] = field(default_factory=dict, repr=False)
    unlabelled: tuple[Case, ...] = ()


def build_cases(config: Config, workspace: Workspace, *, accept_leak: bool = False) -> tuple[Case, ...]:
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
        If the data's own splits (``split.by: given``) have one patient in two of them, unless ``accept_leak``.
    """
    index = index_cases(config, workspace)
    wrong = [finding for finding in index.findings if finding.severity == "stop"]
    if wrong:
        count = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
        raise CaseError(f"{count} wrong with the cases:{listed(wrong)}")
    cases = split_cases(index.cases, config, workspace, accept_leak=accept_leak)
    empty = empty_splits(cases, config)
    if empty:
        raise CaseError(f"not every split has a case:{listed(empty)}")
    return cases


def split_cases(
    cases: tuple[Case, ...], config: Config, workspace: Workspace, *, accept_leak: bool = False
) -> tuple[Case, ...]:
    """The cases with their splits; where patients are drawn, those that share a file are drawn as one.

    Raises
    ------
    CaseError, LeakError
        If the data's own splits, folds or centres are incomplete, or divide a patient.
    ConfigError
        If ``split.fold`` or ``split.centre`` is none that the data have.
    """
    if config.split.by == "given":
        return assign_splits(cases, config.split, accept_leak=accept_leak, multi_label=config.data.multi_label)
    with FileHashes.of(workspace) as hashes:
        copies = patients_with_copies(cases, hashes)
        return assign_splits(cases, config.split, copies, multi_label=config.data.multi_label)


def split_or_say(
    cases: tuple[Case, ...], config: Config, workspace: Workspace
) -> tuple[tuple[Case, ...], list[Finding]]:
    """As ``split_cases``, but why they cannot be divided is returned; then each has the split that the data give it.

    Raises
    ------
    ConfigError
        If ``split.fold`` or ``split.centre`` is none that the data have.
    """
    if config.split.by == "given":
        remedy = "Give it one (folders or a column named split), or set split.by: patient."
        without = [case for case in cases if case.split is None]
        return cases, [Finding("no_split", case.paths[0], "the data give it no split", remedy) for case in without]
    try:
        return split_cases(cases, config, workspace), []
    except LeakError as error:
        return cases, [Finding("patient_leak", error.where, f"{error.found}; needed: {error.needed}", error.remedy)]
    except CaseError as error:
        return cases, [Finding("no_split", error.where, f"{error.found}; needed: {error.needed}", error.remedy)]


def index_cases(config: Config, workspace: Workspace) -> Index:
    """As ``build_cases`` before splitting, but what is wrong is returned; cases it is wrong with are left out."""
    listing = LAYOUTS[config.data.kind](config, workspace)
    if listing.unlabelled:
        listing = replace(listing, entries=(*listing.entries, *listing.unlabelled), unlabelled=())
    listing = with_headers(_without_odd_names(listing), config.data.read_options)
    misspelt = misspelt_classes([entry.target for entry in listing.entries], config)
    cases, findings = _cases(listing, config, misspelt)
    named = sum(entry.names_patient for entry in listing.entries)
    # A table that leaves some patients out is said row by row.
    said = bool(config.data.patient_pattern) or any(entry.patient for entry in listing.entries)
    known = said or (named > 0 and named >= _KNOWN_SHARE * len(listing.entries))
    by_place = {(str(entry.path), entry.item): entry for entry in listing.entries}
    entries = {case.id: by_place[case.paths[0], case.item] for case in cases}
    labelled = tuple(case for case in cases if case.target is not None)
    unlabelled = tuple(case for case in cases if case.target is None)
    misspelt_names = frozenset(misspelt.values())
    return Index(labelled, (*listing.findings, *findings), known, misspelt_names, entries, unlabelled)


def _cases(listing: Listing, config: Config, misspelt: Mapping[str, str]) -> tuple[tuple[Case, ...], list[Finding]]:
    entries = listing.entries
    ids = [entry.id or made for entry, made in zip(entries, unique_ids([one.name for one in entries]), strict=True)]
    patients, of_patients = patients_of(entries, ids, config.data)
    centres, of_centres = centres_of(entries, config.data)
    cases: list[Case] = []
    findings: dict[Finding, None] = {}  # a class folder of many images is one finding
    for entry, case_id, patient, centre in zip(entries, ids, patients, centres, strict=True):
        if any(name in misspelt for name in labels_of(entry.target, config.data)):
            continue
        where = entry.where or str(entry.path)
        wrong = class_finding(entry.target, where, config.data) if config.task == "classification" else None
        if wrong:
            findings[wrong] = None
        else:
            cases.append(_case(entry, case_id, patient, centre))
    findings |= dict.fromkeys(misspelt_findings(entries, misspelt, config.data))
    return tuple(cases), [*findings, *of_patients, *of_centres]


def _case(entry: Entry, case_id: str, patient: str, centre: str) -> Case:
    return Case(
        id=case_id,
        patient=patient,
        paths=(str(entry.path),),
        target=entry.target,
        split=entry.split,
        item=entry.item,
        roi=str(entry.roi) if entry.roi else None,
        centre=centre,
        fold=entry.fold,
        defects=tuple(sorted(set(entry.defects))),
        groups=entry.groups,
    )


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
            fewer = f"set split.{name}: 0, or " if config.split.by == "patient" or name == "val" else ""
            remedy = f"Add patients, {fewer}give the splits yourself (split.by: given)."
            findings.append(Finding("empty_split", f"split {name}", what, remedy))
    evaluated = config.evaluate.split
    if not any(case.split == evaluated for case in cases) and not any(evaluated in one.where for one in findings):
        how = f"Set split.{evaluated} above 0" if config.split.by == "patient" else give_split(evaluated)
        remedy = f"{how}, or set evaluate.split to another one."
        findings.append(Finding("empty_split", f"split {evaluated}", "evaluate.split has no case", remedy))
    return findings
