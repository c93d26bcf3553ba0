"""What classes are called in DICOM: a code of SNOMED CT where one is given, else a private one with their name."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrail.errors import ConfigError, Problem

PRIVATE = "99MEDRAIL"
"""The coding scheme of names that no standard knows (PS3.16, section 8: private ones begin with 99)."""
SNOMED = "SCT"
LONGEST_LABEL = 64  # characters of LO, the type of Segment Label and Code Meaning (PS3.5, table 6.2-1)
_LONGEST_VALUE = 16  # of SH, the type of Code Value
_PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,16}")
_SCT_VALUE = re.compile(r"[0-9]{6,16}")
_COLUMNS = ("class", "category", "category_meaning", "type", "type_meaning")


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class ClassCodes:
    """What kind of thing a class is (PS3.16, CID 7150), and what it is."""

    category: Code
    type: Code


# CID 7150; of a class of which only the name is known it says no more than is true: a region of the image.
_CATEGORY = Code("309825002", SNOMED, "Spatial and Relational Concept")


def private_code(name: str) -> Code:
    """A code of medrail's own scheme for a name, the same every time.

    >>> private_code("organ")
    Code(value='organ', scheme='99MEDRAIL', meaning='organ')
    """
    value = name if _PLAIN.fullmatch(name) else hashlib.sha256(name.encode()).hexdigest()[:_LONGEST_VALUE]
    return Code(value, PRIVATE, meaning(name))


def codes_of(name: str, given: Mapping[str, ClassCodes]) -> ClassCodes:
    """Those that are given for a class, else category "spatial and relational concept" and a private type."""
    return given.get(name) or ClassCodes(_CATEGORY, private_code(name))


def meaning(text: str) -> str:
    """A text as LO takes it: one line without backslash, at most 64 characters."""
    plain = "".join(" " if sign == "\\" or not sign.isprintable() else sign for sign in text).strip()
    return plain[:LONGEST_LABEL] or "unnamed"


def concept(code: Code) -> Any:
    """A highdicom concept."""
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def read_codes(path: str | Path) -> dict[str, ClassCodes]:
    """A CSV file with the columns class, category, category_meaning, type, type_meaning: SNOMED CT, a row a class.

    Raises
    ------
    ConfigError
        If it cannot be read, a column is missing, a code is none of SNOMED CT or has no meaning.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no CSV text in UTF-8"
        raise ConfigError(f"cannot be read ({reason})", needed="a CSV file", where=str(path)) from None
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise ConfigError(
            f"has no column {', '.join(missing)}", needed=f"the columns {', '.join(_COLUMNS)}", where=str(path)
        )
    problems: list[Problem] = []
    found: dict[str, ClassCodes] = {}
    for number, row in enumerate(rows, 2):
        name = (row["class"] or "").strip()
        codes = [_given(row, part, f"line {number}", problems) for part in ("category", "type")]
        found[name] = ClassCodes(*codes)
    if problems:
        raise ConfigError("holds codes that are none", problems=tuple(problems), where=str(path))
    return found


def _given(row: Mapping[str, str | None], part: str, line: str, problems: list[Problem]) -> Code:
    value, said = ((row[key] or "").strip() for key in (part, f"{part}_meaning"))
    if not _SCT_VALUE.fullmatch(value):
        problems.append(Problem(line, f"{part} {value!r} is no code of SNOMED CT", "6 to 16 digits are."))
    if not said:
        problems.append(Problem(line, f"{part}_meaning is empty", "Write what the code means, as 'Liver'."))
    return Code(value, SNOMED, meaning(said))
