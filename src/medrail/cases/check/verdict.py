"""The verdict on the data before anything is trained on it: what is missing, unreadable, mislabelled or leaked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Protocol

from medrail.cases.check import judge
from medrail.cases.check.report import CheckReport, Examined, PatternProposal, table_of
from medrail.cases.check.summary import summarise
from medrail.cases.check.together import Together, rare_labels
from medrail.cases.fingerprint import FileHashes
from medrail.cases.index import Index, index_cases, split_or_say
from medrail.cases.labels import class_names, labels_of
from medrail.cases.leaks import Leak, doubtful_leaks, duplicates, find_leaks
from medrail.cases.listing import Entry, Finding, Severity
from medrail.cases.look.examine import Facts, place_of
from medrail.cases.look.survey import survey
from medrail.cases.look.unlike import unlike_the_rest
from medrail.cases.remembered import near_pairs_of
from medrail.config import Config
from medrail.types import SPLITS, Case, Progress
from medrail.workspace import Workspace


class Pattern(Protocol):
    """A way to tell patients from file names, as ``medrail.plan`` proposes one."""

    @property
    def pattern(self) -> str: ...
    @property
    def groups(self) -> int: ...
    @property
    def matched(self) -> int: ...
    @property
    def examples(self) -> tuple[tuple[str, tuple[str, ...]], ...]: ...
    def patient(self, name: str) -> str: ...


Propose = Callable[[Sequence[str]], "Pattern | None"]


def check_data(
    config: Config,
    workspace: Workspace,
    progress: Progress | None = None,
    propose: Propose | None = None,
    *,
    without_labels: Severity = "stop",
) -> CheckReport:
    """Judge a configuration's data, whatever is wrong with them: where ``build_cases`` raises, this reports.

    ``propose`` is asked for a pattern of the patients, given the cases' names, where the data do not say who they are.
    Images without labels are judged too; ``without_labels`` is how grave it is that nothing can be trained on them.

    Raises
    ------
    ConfigError, CaseError
        If there is no data at all, or the configuration does not fit them.
    """
    index = index_cases(config, workspace)
    cases, unsplit = split_or_say(index.cases, config, workspace)
    unlabelled = index.unlabelled
    if config.split.by != "given":
        unlabelled = tuple(replace(case, split=None) for case in unlabelled)
    findings = judge.unlabelled_as_one(index.findings, unlabelled, len(cases), without_labels)
    index = replace(index, findings=(*findings, *unsplit), unlabelled=unlabelled)
    return _report((*cases, *unlabelled), index, config, workspace, progress, propose)


def check_cases(
    cases: Sequence[Case], config: Config, workspace: Workspace, progress: Progress | None = None
) -> CheckReport:
    """Judge a table of cases: reads every image and mask once (what has not changed since is recalled).

    Findings about the data's layout (masks without images, rows without files) are included.
    """
    return _report(tuple(cases), index_cases(config, workspace), config, workspace, progress)


def find_leaks_of(
    config: Config, workspace: Workspace, cases: Sequence[Case], progress: Progress | None = None
) -> tuple[Leak, ...]:
    """Images and patients of these cases that stand in several splits; images that have not changed are not read again.

    A case that cannot be read leaks nothing.
    """
    with FileHashes.of(workspace) as hashes:
        facts = survey(cases, config, hashes, progress)
        pairs = near_pairs_of(cases, facts, hashes)
    return find_leaks(cases, facts, pairs)


def _report(
    cases: tuple[Case, ...],
    index: Index,
    config: Config,
    workspace: Workspace,
    progress: Progress | None,
    propose: Propose | None = None,
) -> CheckReport:
    """``index`` gives what is wrong besides the cases, and what is known of their patients and classes."""
    with FileHashes.of(workspace) as hashes:
        found = survey(cases, config, hashes, progress)
    facts = {case.id: judge.named(case, found[case.id], index.entries.get(case.id)) for case in cases}
    usable = tuple(case for case in cases if not facts[case.id].findings)
    # What cannot be used is in no training and in no test, so only its patient counts.
    seen = {case.id: _seen(facts[case.id]) for case in cases}
    with FileHashes.of(workspace) as hashes:
        pairs = near_pairs_of(cases, seen, hashes)
    leaks = find_leaks(cases, seen, pairs)
    names = class_names(config, cases)
    has = {case.id: _classes_of(case, facts[case.id], names, config) for case in cases}
    pattern = None if index.patients_known or propose is None else _proposal(cases, index.entries, propose)
    findings = [
        *judge.unusable_cases(cases, usable, config),
        *index.findings,
        *(finding for case in cases for finding in facts[case.id].findings),
        *(judge.leak_finding(leak, config) for leak in (*leaks, *doubtful_leaks(cases, seen, pairs))),
        *duplicates(cases, seen, pairs),
        *judge.pixel_findings(usable, facts, config),
        *judge.defect_findings(usable, facts, index.entries, config),
        *judge.text_findings(usable, facts, index.entries),
        *_unlike(cases, seen, index.entries),
        *judge.missing_rois(cases, config),
    ]
    said = index.unlabelled or any(finding.severity == "stop" for finding in findings)
    if any(case.split for case in cases) or not said:  # else it is said already why there are no splits
        findings += judge.split_findings(cases, usable, config)
    findings += [] if index.patients_known or not cases else [judge.patients_unknown(pattern, cases, index.entries)]
    findings += judge.class_findings(usable, has, [name for name in names if name not in index.misspelt])
    findings += rare_labels(usable, has, names) if config.data.multi_label else []
    labelled = [case for case in cases if case.target is not None]
    return CheckReport(
        cases=len(cases),
        patients=len({case.patient for case in cases}),
        splits={name: sum(case.split == name for case in cases) for name in SPLITS},
        classes={name: sum(name in has[case.id] for case in cases) for name in names},
        table=table_of(cases, usable, has, names),
        leaks=leaks,
        findings=tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.severity != "stop")),
        summary=summarise(cases, facts, index.entries),
        pattern=pattern,
        labels=Together.of([has[case.id] for case in labelled], names) if config.data.multi_label else None,
        examined=Examined(cases, facts, index.entries),
    )


def _unlike(cases: Sequence[Case], seen: Mapping[str, Facts], entries: Mapping[str, Entry]) -> list[Finding]:
    places = {case.id: place_of(case) for case in cases}
    modalities = {case.id: entries[case.id].modality for case in cases if case.id in entries}
    return unlike_the_rest(seen, places, modalities)


def _seen(facts: Facts) -> Facts:
    return Facts() if facts.findings else facts


def _classes_of(case: Case, facts: Facts, names: Sequence[str], config: Config) -> set[str]:
    if config.data.multi_label:
        return set(labels_of(case.target, config.data))
    return {names[index] for index in facts.classes} if facts.classes else {case.target or ""}


def _proposal(cases: Sequence[Case], entries: Mapping[str, Entry], propose: Propose) -> PatternProposal | None:
    """What file names say of the patients whom nothing else names; None where they say nothing."""
    names = {
        case.id: entries[case.id].name for case in cases if case.id in entries and not entries[case.id].names_patient
    }
    found = propose(list(names.values()))
    if found is None:
        return None
    splits: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.id in names and case.split:
            splits[found.patient(names[case.id])].add(case.split)
    patient, files = found.examples[0]
    example = (PurePosixPath(files[0]).name, patient)
    divided = sum(len(where) > 1 for where in splits.values())
    return PatternProposal(found.pattern, found.groups, found.matched, example, divided)
