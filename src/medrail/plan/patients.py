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
_EXAMINATIONS = frozenset({KNOWN["case"], KNOWN["examination"]})
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
        """What it does to the files, with counts and examples, for a person to confirm."""
        shown = "; ".join(f"{patient}: {_listed(files)}" for patient, files in self.examples)
        rest = self.total - self.matched
        count = "counts as a patient by itself" if rest == 1 else "count as a patient each"
        others = f"; {counted(rest, 'other file')} {count}" if rest else ""
        return (
            f"file names group {self.matched} of {counted(self.total, 'file')} into {counted(self.groups, 'patient')} "
            f"({shown}){others}"
        )


def _listed(files: Sequence[str]) -> str:
    names = ", ".join(PurePosixPath(name).name for name in files[:2])
    return f"{names} and {len(files) - 2} more" if len(files) > 2 else names


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
    strong = _coarsest(bodies, names)
    found = _measure(_pattern(bodies, strong), names, certain=True)
    if _spelt_in_two_ways(found, names):
        found = _measure(_pattern(bodies, strong, numbers_only=True), names, certain=True)
    return found if found.groups >= 2 and found.groups < found.matched else None


def _coarsest(bodies: Sequence[str], names: Sequence[str]) -> list[str]:
    """The bodies that win where a name has several; empty where no name has two.

    A patient may have several cases and examinations, so words for a person win over these, then what makes the fewest
    groups.
    """
    weak: set[str] = set()
    meet = False
    for number, one in enumerate(bodies):
        for other in bodies[number + 1 :]:
            pairs = [
                (first.group(1), second.group(1))
                for name in names
                if (first := re.search(_whole_word(one), name)) and (second := re.search(_whole_word(other), name))
            ]
            if pairs:
                meet = True
                ones, others = (
                    (body in _EXAMINATIONS, len({_plain(pair[side]) for pair in pairs}))
                    for side, body in enumerate((one, other))
                )
                weak.add(one if ones > others else other)
    return [body for body in bodies if body not in weak] if meet else []


def _pattern(bodies: Sequence[str], strong: Sequence[str], *, numbers_only: bool = False) -> str:
    """One group, at the first of the strong bodies in a name, else at the first of any."""
    ordered = [*strong, *(body for body in bodies if body not in strong)]
    if numbers_only:
        words = [body.removesuffix(r"\d+") for body in ordered if body.endswith(r"\d+")]
        found = rf"(?<![A-Za-z0-9])(?:{'|'.join(words)})0*(\d+)(?![A-Za-z0-9])"
    else:
        found = _whole_word("|".join(ordered))
    if not strong:
        return found
    first = _whole_word("|".join(strong)).replace("(" + "|".join(strong), "(?:" + "|".join(strong), 1)
    return rf"^(?:.*?(?={first})|(?!.*{first}).*?){found}"


def _spelt_in_two_ways(found: PatientPattern, names: Sequence[str]) -> bool:
    """Whether two patients differ in letters' case, a separator or leading zeros only: person1, Person_01."""
    patients = {match.group(1) for name in names if (match := re.search(found.pattern, name))}
    return len({_plain(patient) for patient in patients}) < len(patients)


def _plain(patient: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[-_ ]", "", patient.casefold()))


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
    ending = r"[-_. ]+[^-_. /][^/]*$"
    found_pattern = _measure(rf"(?:^|/)((?:{prefixes})\d+){ending}", names, certain=False)
    if _spelt_in_two_ways(found_pattern, names):
        found_pattern = _measure(rf"(?:^|/)(?:{prefixes})0*(\d+){ending}", names, certain=False)
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
