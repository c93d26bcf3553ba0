"""Groups: what divides cases so that one number does not hide another: sex, age in bands of ten years, scanner, ...

A column `age` may hold exact ages: only their bands go on from here, into the case table and whatever is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from medrail.cases.layouts.rows import Row, Sheet
from medrail.read.dicom.demography import age_band, sex_of
from medrail.types import Groups

PREFIX = "group/"
"""What the columns of the case table begin with that hold groups."""
_BAND_ENDS = ("+", "-", "–")


def _age(text: str) -> str:
    """The band of an age; what is no number, as "60-69" or "child", is a group already."""
    is_number = text[:1].isdigit() and not any(end in text for end in _BAND_ENDS)
    return age_band(text) if is_number else text


KNOWN: Mapping[str, Callable[[str], str]] = {
    "sex": lambda text: sex_of(text) or text,
    "age": _age,
    "scanner": lambda text: text,
}
"""Name -> what is made of a table's cell."""


def groups_of_row(sheet: Sheet, row: Row, others: Sequence[str] = ()) -> Groups:
    """The groups that a row tells: of the known columns, and of ``others`` as they are called in the header."""
    found = {name: said(sheet.cell(row, sheet.column(name))) for name, said in KNOWN.items()}
    found |= {name: sheet.cell(row, name) for name in others if name not in KNOWN}
    return made(found)


def made(values: Mapping[str, str]) -> Groups:
    """Groups of what is known, in the order of the names."""
    return tuple((name, value) for name, value in values.items() if value)


def filled(groups: Groups, sex: str, age: str, scanner: str) -> Groups:
    """The groups, with what a header says where they say nothing."""
    if not (sex or age or scanner):
        return groups
    return made({"sex": sex, "age": age, "scanner": scanner} | dict(groups))
