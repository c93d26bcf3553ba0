"""Patients that share a file: byte for byte the same image under two names must not stand in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from medrail.cases.fingerprint import FileHashes
from medrail.types import Case


def patients_with_copies(cases: Sequence[Case], hashes: FileHashes) -> dict[str, str]:
    """Patient -> the first patient of its group, for patients that share an image file's content with another.

    Only files of equal size are hashed. Folders (DICOM series) and members of a container are not compared here; the
    check compares pixels, and reports what is the same there.
    """
    by_size: dict[int, list[Case]] = defaultdict(list)
    for case in cases:
        path = Path(case.paths[0])
        if not case.item and path.is_file():
            by_size[path.stat().st_size].append(case)
    leader: dict[str, str] = {}

    def find(patient: str) -> str:
        while leader.get(patient, patient) != patient:
            patient = leader[patient]
        return patient

    for group in by_size.values():
        first_of: dict[str, str] = {}
        for case in group if len(group) > 1 else ():
            first = find(first_of.setdefault(hashes.sha256(Path(case.paths[0])), case.patient))
            other = find(case.patient)
            leader[max(first, other)] = min(first, other)
    return {patient: find(patient) for patient in leader if find(patient) != patient}
