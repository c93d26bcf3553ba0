"""One person, one new name: which originals are of one person, in this batch and in earlier ones of one linkage file.

The rules are those that keep a person in one split (``medrail.cases.splits.joining``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from medrail.cases.deidentify.linkage import Linkage
from medrail.cases.splits.joining import Node, joined, nodes_of
from medrail.read.dicom.who import Who

_UNNAMED, _STUDY = "unnamed", "study"


@dataclass(frozen=True)
class Person:
    """Who an original is of, as the linkage file calls it, and as digests.

    key:
        By Patient ID with its issuer, else by name and birth date, else by study.
    name_key:
        By name and birth date, "" where one of them is not known.
    """

    key: str = ""
    name_key: str = ""
    study: str = ""
    series: str = ""
    whose: Who = field(default_factory=Who)


def person_of(text: Mapping[str, str], whose: Who, folder: str) -> Person:
    """From the elements of a header as text; ``folder`` stands where it has neither study nor series."""
    study, series = text["StudyInstanceUID"], text["SeriesInstanceUID"]
    name_key = "|".join((_UNNAMED, text["PatientName"], text["PatientBirthDate"])) if whose.person_key else ""
    key = name_key or f"{_STUDY}|{study or series or folder}"
    if whose.patient_key:
        key = f"{text['IssuerOfPatientID']}|{text['PatientID']}"
    return Person(key, name_key, study, series, whose)


def named(persons: Sequence[Person], linkage: Linkage) -> list[str]:
    """The one key of each person, in the order given; who has a new name from an earlier batch keeps that key."""
    earlier = _Earlier(linkage.keys.patients, linkage.rows)
    shared = nodes_of([one.whose for one in persons])
    nodes: list[list[Node]] = [
        [("key", one.key), *own, *(("new", new) for new in earlier.names_of(one))]
        for one, own in zip(persons, shared, strict=True)
    ]
    leader = joined(nodes)
    keys: dict[Node, str] = {}
    for one in sorted(persons, key=lambda one: one.key):
        keys.setdefault(leader["key", one.key], one.key)
    for node in sorted((node for node in leader if node[0] == "new"), reverse=True):
        keys[leader[node]] = earlier.first_key[node[1]]
    return [keys[leader["key", one.key]] for one in persons]


def note_others(persons: Sequence[Person], keys: Sequence[str], linkage: Linkage) -> None:
    """Write down under which other keys each person is known, so that a later batch finds them again."""
    patients = linkage.keys.patients
    for one, key in zip(persons, keys, strict=True):
        for other in (one.key, one.name_key):
            if other:
                patients.setdefault(other, patients[key])


@dataclass
class _Earlier:
    """The new names of earlier batches, by what they were given for."""

    patients: Mapping[str, str]
    rows: Mapping[tuple[str, str], str]
    first_key: dict[str, str] = field(default_factory=dict)
    issuers: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        for key, new in self.patients.items():
            self.first_key.setdefault(new, key)
            issuer, _, patient = key.partition("|")
            if issuer not in (_UNNAMED, _STUDY):
                self.issuers[patient].append((issuer, new))
                self.ids[new].add(patient)

    def names_of(self, one: Person) -> Iterator[str]:
        """Of whom it may be: by key, by Patient ID where one issuer is not said, by study or series, by name."""
        if one.key in self.patients:
            yield self.patients[one.key]
        issuer, _, patient = one.key.partition("|")
        if one.whose.patient_key:
            yield from (new for other, new in self.issuers.get(patient, ()) if "" in (issuer, other))
        for kind, uid in (("study", one.study), ("series", one.series)):
            new = self.rows.get((kind, uid), "").split("/")[0]
            if uid and new in self.first_key:
                yield new
        new = self.patients.get(one.name_key, "")
        if new and not (one.whose.patient_key and self.ids[new] - {patient}):
            yield new
