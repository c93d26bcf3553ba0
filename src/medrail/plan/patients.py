"""Patients told from file names: `person12_a.png` and `person12_b.png` are one patient, and must not be split up.

A wrong proposal in one direction is harmless (two patients taken for one stay in the same split), in the other it
leaks. So names that say "patient" by themselves are believed, and others only when they clearly group the files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from medrail.cases.listing import counted

# Names that mean a patient (or at least one examination), as regular expressions without groups of their own.
KNOWN = {
    "TCGA barcode": r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}",
    "LIDC number": r"LIDC-IDRI-\d+",
    "BIDS subject": r"sub-[A-Za-z0-9]+",
    "person": r"[Pp]erson[-_ ]?\d+",
    "patient": r"[Pp]atient[-_ ]?\d+",
    "subject": r"[Ss]ubject[-_ ]?\d+",
    "participant": r"[Pp]articipant[-_ ]?\d+",
    "pat": r"[Pp]at[-_ ]?\d+",
    "pid": r"(?:pid|PID)[-_ ]?\d+",
    "case": r"[Cc]ase[-_ ]?\d+",
    "examination": r"IM-\d+",
}
# Words that count pictures, not patients.
_COUNTERS = frozenset(
    {"slice", "img", "image", "im", "frame", "scan", "series", "z", "t", "file", "pic", "photo", "crop"}
)
_LEADING = re.compile(r"([A-Za-z]{0,12}-?)(\d+)[-_. ]+[^-_. ]")


@dataclass(frozen=True)
class PatientPattern:
    """A proposed ``data.patient_pattern`` and what it does to the files.

    pattern:
        A regular expression, searched in the path below ``data.path``; its first group is the patient.
    groups, matched, total, largest:
        Patients found, files the pattern fits, all files, files of the patient with most.
    examples:
        (patient, files) of the patients with most files, at most three.
    certain:
        Whether the names themselves say that they mean patients.
    """

    pattern: str
    groups: int
    matched: int
    total: int
    largest: int
    examples: tuple[tuple[str, tuple[str, ...]], ...]
    certain: bool

    def patient(self, name: str) -> str:
        """The patient of a file; a file that the pattern does not fit is a patient by itself."""
        found = re.search(self.pattern, name)
        return found.group(1) if found else name

    def describe(self) -> str:
        """One sentence with an example."""
        patient, files = self.examples[0]
        names = ", ".join(PurePosixPath(name).name for name in files[:2])
        rest = self.total - self.matched
        count = "counts as a patient by itself" if rest == 1 else "count as a patient each"
        others = f"; {counted(rest, 'other file')} {count}" if rest else ""
        return (
            f"file names group {self.matched} of {counted(self.total, 'file')} into {counted(self.groups, 'patient')} "
            f"(as {patient}: {names}{', ...' if len(files) > 2 else ''}){others}"
        )


def propose(names: Sequence[str]) -> PatientPattern | None:
    """The pattern that tells patients from file names, or None where names tell nothing.

    Parameters
    ----------
    names:
        Posix paths below the data folder, one for each case (not several of one case).
    """
    return _known(names) or _leading_number(names)


def _known(names: Sequence[str]) -> PatientPattern | None:
    bodies = []
    for body in KNOWN.values():
        matches = sum(1 for name in names if re.search(_whole_word(body), name))
        if matches >= 2 and matches >= 0.05 * len(names):
            bodies.append(body)
    if not bodies:
        return None
    found = _measure(_whole_word("|".join(bodies)), names, certain=True)
    return found if found.groups >= 2 and found.groups < found.matched else None


def _leading_number(names: Sequence[str]) -> PatientPattern | None:
    """Names that begin with a word and a number that several files share: `p12_03.png`, `0007-left.png`."""
    words = set()
    for name in names:
        found = _LEADING.match(PurePosixPath(name).name)
        if found and found.group(1).rstrip("-").lower() not in _COUNTERS:
            words.add(found.group(1))
    if not words or len(words) > 6:
        return None
    prefixes = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    found_pattern = _measure(rf"(?:^|/)((?:{prefixes})\d+)[-_. ]+[^-_. /][^/]*$", names, certain=False)
    return found_pattern if _groups_clearly(found_pattern) else None


def _groups_clearly(found: PatientPattern) -> bool:
    return (
        found.matched >= 0.9 * found.total
        and found.groups >= max(4, 0.05 * found.total)
        and found.groups <= 0.7 * found.matched
        and found.largest <= max(2, 0.25 * found.total)
    )


def _whole_word(body: str) -> str:
    return rf"(?<![A-Za-z0-9])({body})(?![A-Za-z0-9])"


def _measure(pattern: str, names: Sequence[str], *, certain: bool) -> PatientPattern:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found = re.search(pattern, name)
        if found:
            groups[found.group(1)].append(name)
    by_size = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return PatientPattern(
        pattern=pattern,
        groups=len(groups),
        matched=sum(len(files) for files in groups.values()),
        total=len(names),
        largest=len(by_size[0][1]) if by_size else 0,
        examples=tuple((patient, tuple(files)) for patient, files in by_size[:3]),
        certain=certain,
    )
