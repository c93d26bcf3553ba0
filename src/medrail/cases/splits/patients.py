"""Which entries are of one patient: by the data's own word, by the pattern, and by what DICOM headers share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from medrail.cases.listing import Entry, Finding, counted, pattern_search, shown
from medrail.config import DataConfig

_Node = tuple[Literal["said", "key"], str]
_FEWEST_NAMED = 3


def patients_of(entries: Sequence[Entry], ids: Sequence[str], data: DataConfig) -> tuple[list[str], list[Finding]]:
    """The patient of each entry, and what is to be said of them.

    What the data say (a folder, a column) counts, then ``data.patient_pattern``. Entries whose DICOM headers name one
    patient are one patient too, whatever they are called: it is too late to find that out after the split. Where the
    data say nothing the patient is called after the first of its cases, so nothing of the header is written anywhere.
    An entry of which nothing is known is a patient by itself.

    Where the data name three patients or more and all headers the same one, the headers are not believed: that is how
    they look when the patient was removed from them by writing the same word into all.
    """
    said, findings = _said(entries, data)
    if removed := _removed(entries, said):
        entries = [replace(entry, patient_key="") for entry in entries]
        findings.append(removed)
    nodes = [_nodes(name, entry.patient_key) for name, entry in zip(said, entries, strict=True)]
    leader = _joined(nodes)
    names: dict[_Node, set[str]] = defaultdict(set)
    fallback: dict[_Node, set[str]] = defaultdict(set)
    for name, own, case_id in zip(said, nodes, ids, strict=True):
        if own:
            (names if name else fallback)[leader[own[0]]].add(name or case_id)
    patients = [
        min(names.get(leader[own[0]]) or fallback[leader[own[0]]]) if own else case_id
        for own, case_id in zip(nodes, ids, strict=True)
    ]
    return patients, findings + _several(entries, said) + _same(entries, said, patients)


def centres_of(entries: Sequence[Entry], data: DataConfig) -> tuple[list[str], list[Finding]]:
    """The centre of each entry: the data's word, else ``data.centre_pattern``; "" where nothing says."""
    pattern = pattern_search(data, "centre")
    if pattern is None:
        return [entry.centre for entry in entries], []
    found = [(entry, pattern.search(entry.name)) for entry in entries]
    centres = [entry.centre or (match.group(1) or "" if match else "") for entry, match in found]
    without = [entry for entry, centre in zip(entries, centres, strict=True) if not centre]
    if not without:
        return centres, []
    what = f"{pattern.pattern!r} does not fit {len(without)} of {counted(len(entries), 'name')}"
    remedy = "Correct data.centre_pattern; it is searched in the path below data.path, its first group is the centre."
    return centres, [Finding("centre_unknown", str(without[0].path), what, remedy, "warn")]


def _said(entries: Sequence[Entry], data: DataConfig) -> tuple[list[str], list[Finding]]:
    """What the data and the pattern say; "" where they say nothing."""
    pattern = pattern_search(data, "patient")
    named = any(entry.patient for entry in entries)
    said: list[str] = []
    findings: dict[Finding, None] = {}  # a class folder of many images is one finding
    unmatched = 0
    for entry in entries:
        patient = entry.patient
        if not patient and pattern:
            found = pattern.search(entry.name)
            patient = (found.group(1) or "") if found else ""
            unmatched += not patient
        if named and not patient and not entry.patient_key:
            findings[_no_patient(entry.where or str(entry.path))] = None
        said.append(patient)
    if pattern and unmatched and not named:
        findings[_unmatched(unmatched, len(entries), pattern.pattern)] = None
    return said, list(findings)


def _removed(entries: Sequence[Entry], said: Sequence[str]) -> Finding | None:
    keyed = [(entry, name) for entry, name in zip(entries, said, strict=True) if entry.patient_key]
    names = {name for _, name in keyed}
    if len(names) < _FEWEST_NAMED or "" in names or len({entry.patient_key for entry, _ in keyed}) > 1:
        return None
    what = f"the DICOM headers of all {len(names)} patients name the same one; taken for a word that replaced the names"
    remedy = "If it is one person after all, nothing here can be tested on other patients than it was trained on."
    return Finding("one_patient_in_headers", _place(keyed[0][0]), what, remedy, "warn")


def _nodes(name: str, key: str) -> list[_Node]:
    nodes: list[_Node] = []
    if name:
        nodes.append(("said", name))
    if key:
        nodes.append(("key", key))
    return nodes


def _joined(groups: Iterable[Sequence[_Node]]) -> Mapping[_Node, _Node]:
    """Node -> the one that stands for all that are joined with it, directly or through others."""
    leader: dict[_Node, _Node] = {}

    def find(node: _Node) -> _Node:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for group in groups:
        for node in group:
            leader[find(node)] = find(group[0])
    return {node: find(node) for node in leader}


def _several(entries: Sequence[Entry], said: Sequence[str]) -> list[Finding]:
    """One patient by the data's word, several by the headers: they stay together."""
    first_of: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry, name in zip(entries, said, strict=True):
        if name and entry.patient_key:
            first_of[name].setdefault(entry.patient_key, entry)
    remedy = "If they are different people, give each a patient (folder, column) of its own."
    findings = []
    for found in first_of.values():
        first, *others = map(_place, found.values())
        if others:
            what = f"the DICOM header names another patient than in {first}, but the data call them one: kept together"
            more = f" ({len(found)} patients in all)" if others[1:] else ""
            findings.append(Finding("several_patients", others[0], what + more, remedy, "warn"))
    return findings


def _same(entries: Sequence[Entry], said: Sequence[str], patients: Sequence[str]) -> list[Finding]:
    """Several patients by the data's word, one by the headers."""
    first_of: dict[str, dict[str, Entry]] = defaultdict(dict)
    for entry, name, patient in zip(entries, said, patients, strict=True):
        if name:
            first_of[patient].setdefault(name, entry)
    findings = []
    for found in first_of.values():
        first, *others = map(_place, found.values())
        if others:
            what = f"the DICOM header names the same patient as in {first}; they count as one"
            more = f" (so in {shown(others[1:], 3)} too)" if others[1:] else ""
            remedy = (
                "Right if it is one person. Else correct the header, or give the patients in a CSV (data.kind: csv)."
            )
            findings.append(Finding("patient_joined", others[0], what + more, remedy, "warn"))
    return findings


def _place(entry: Entry) -> str:
    return f"{entry.path}{f' [{entry.item}]' if entry.item else ''}"


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
