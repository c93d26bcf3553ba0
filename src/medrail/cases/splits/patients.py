"""Which entries are of one patient: by the data's own word, by the pattern, and by what DICOM headers share."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from medrail.cases.listing import Entry, Finding, counted, image_suffix, pattern_search, shown
from medrail.cases.splits.joining import Node, joined, nodes_of
from medrail.config import DataConfig

_FEWEST_NAMED = 3


def patients_of(entries: Sequence[Entry], ids: Sequence[str], data: DataConfig) -> tuple[list[str], list[Finding]]:
    """The patient of each entry, and what is to be said of them.

    What the data say (a folder, a column) counts, then ``data.patient_pattern``. Entries that DICOM headers join
    (``joining``: one Patient ID, study, series, or name with birth date) are one patient too, whatever they are called:
    it is too late to find that out after the split. Where the data say nothing the patient is called after the first of
    its cases, so nothing of the header is written anywhere. An entry of which nothing is known is a patient by itself.

    Where the data name three patients or more and all headers the same one, the headers are not believed: that is how
    they look when the patient was removed from them by writing the same word into all.
    """
    said, findings = _said(entries, data)
    if removed := _removed(entries, said, lambda entry: entry.patient_key):
        entries = [replace(entry, patient_key="", issuer_key="") for entry in entries]
        findings.append(removed)
    if removed := _removed(entries, said, lambda entry: entry.person_key):
        entries = [replace(entry, person_key="") for entry in entries]
        findings += [removed] if removed not in findings else []
    nodes: list[list[Node]] = [
        [("said", name), *own] if name else own for name, own in zip(said, nodes_of(entries), strict=True)
    ]
    leader = joined(nodes)
    names: dict[Node, set[str]] = defaultdict(set)
    fallback: dict[Node, set[str]] = defaultdict(set)
    for name, own, case_id in zip(said, nodes, ids, strict=True):
        if own:
            (names if name else fallback)[leader[own[0]]].add(name or case_id)
    patients = [
        min(names.get(leader[own[0]]) or fallback[leader[own[0]]]) if own else case_id
        for own, case_id in zip(nodes, ids, strict=True)
    ]
    findings += _several(entries, patients) + _same(entries, said, patients) + _same_folders(entries, said, patients)
    return patients, findings + _issuers(entries, patients) + _perhaps_one(entries, patients)


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
        if named and not patient and not entry.names_patient:
            findings[_no_patient(entry.where or str(entry.path))] = None
        said.append(patient)
    if pattern and unmatched and not named:
        findings[_unmatched(unmatched, len(entries), pattern.pattern)] = None
    return said, list(findings)


def _removed(entries: Sequence[Entry], said: Sequence[str], key: Callable[[Entry], str]) -> Finding | None:
    keyed = [(entry, name) for entry, name in zip(entries, said, strict=True) if key(entry)]
    names = {name for _, name in keyed}
    if len(names) < _FEWEST_NAMED or "" in names or len({key(entry) for entry, _ in keyed}) > 1:
        return None
    what = f"the DICOM headers of all {len(names)} patients name the same one; taken for a word that replaced the names"
    remedy = "If it is one person after all, nothing here can be tested on other patients than it was trained on."
    return Finding("one_patient_in_headers", _place(keyed[0][0]), what, remedy, "warn")


def _several(entries: Sequence[Entry], patients: Sequence[str]) -> list[Finding]:
    """One patient by the data's word or by what joins, several by the Patient ID: they stay together."""
    remedy = "If they are different people, give each a patient (folder, column) and a study of its own."
    findings = []
    for first, *others in _first_places(zip(patients, (entry.patient_key for entry in entries), entries, strict=True)):
        what = f"the DICOM header names another patient than in {first}, but the data call them one: kept together"
        more = f" ({len(others) + 1} patients in all)" if others[1:] else ""
        findings.append(Finding("several_patients", others[0], what + more, remedy, "warn"))
    return findings


def _issuers(entries: Sequence[Entry], patients: Sequence[str]) -> list[Finding]:
    """One Patient ID of several issuers may be several people's."""
    patient_of = {_place(entry): patient for entry, patient in zip(entries, patients, strict=True)}
    rows = ((one.patient_key, one.patient_key and one.issuer_key, one) for one in entries)
    findings = []
    for first, *others in _first_places(rows):
        together = patient_of[first] == patient_of[others[0]]
        what = f"the same Patient ID as in {first}, but given by another issuer (Issuer of Patient ID): "
        what += "counted as one patient, because other headers join them" if together else "counted as two patients"
        remedy = "If that is wrong, give the patients yourself (a folder or a column patient)."
        findings.append(Finding("several_issuers", others[0], what, remedy, "warn", tuple(others[1:])))
    return findings


def _perhaps_one(entries: Sequence[Entry], patients: Sequence[str]) -> list[Finding]:
    """One name and birth date under several Patient IDs that nothing joins."""
    rows = ((one.person_key, patient, one) for one, patient in zip(entries, patients, strict=True))
    findings = []
    for first, *others in _first_places(rows):
        what = f"the same name and birth date as in {first}, but another Patient ID: counted as two patients"
        remedy = "If it is one person, give them one patient (folder, column): else a test may be on people learned."
        findings.append(Finding("perhaps_one_patient", others[0], what, remedy, "warn", tuple(others[1:])))
    return findings


def _first_places(rows: Iterable[tuple[str, str, Entry]]) -> Iterator[list[str]]:
    """(group, what may differ within it, entry) -> of each group with several values the first place of each."""
    first_of: dict[str, dict[str, str]] = defaultdict(dict)
    for group, value, entry in rows:
        if group and value:
            first_of[group].setdefault(value, _place(entry))
    return (list(found.values()) for found in first_of.values() if len(found) > 1)


def _same(entries: Sequence[Entry], said: Sequence[str], patients: Sequence[str]) -> list[Finding]:
    """Several patients by the data's word, one by the headers."""
    findings = []
    for first, *others in _first_places(zip(patients, said, entries, strict=True)):
        what = f"the DICOM header names the same patient, study or series as in {first}; they count as one"
        more = f" (so in {shown(others[1:], 3)} too)" if others[1:] else ""
        remedy = "Right if it is one person. Else the headers are wrong: correct them, or take these images out."
        findings.append(Finding("patient_joined", others[0], what + more, remedy, "warn"))
    return findings


def _same_folders(entries: Sequence[Entry], said: Sequence[str], patients: Sequence[str]) -> list[Finding]:
    """Folders of series that nobody calls a patient, and whose headers name one: said once for all of them."""
    rows = [(patient, entry) for patient, name, entry in zip(patients, said, entries, strict=True) if not name]
    count = Counter(patient for patient, _ in rows)
    unsaid = [(patient, entry) for patient, entry in rows if count[patient] > 1]
    # Below a class's folder, say, where a folder may well have been meant for a patient.
    series = [(name, one) for name, one in unsaid if "/" in one.name and not image_suffix(one.path.name)]
    found = list(_first_places((patient, str(entry.path), entry) for patient, entry in series))
    if not found:
        return []
    first, second = found[0][:2]
    what = f"the DICOM header names the same patient, study or series as in {first}; they count as one"
    more = f" (so of {counted(len(found) - 1, 'other patient')} with several folders)" if found[1:] else ""
    places = tuple(place for group in found for place in group if place not in (first, second))
    return [Finding("patient_joined", second, what + more, "Right if it is one person.", "warn", places)]


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
