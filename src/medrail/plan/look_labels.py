"""Tables in which an image may have several labels: a column that names them, or columns of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medrail.cases.labels import is_none_label, labels_of
from medrail.cases.layouts.label_cells import label_value
from medrail.cases.layouts.rows import COLUMNS, Sheet
from medrail.cases.listing import Entry, counted, shown
from medrail.config import LABEL_MARKS, DataConfig

_FEWEST_COLUMNS = 2
_NONE_NAMES = ("No Finding", "No Findings", "none", "normal", "negative", "healthy")


def several_in_a_cell(sheet: Sheet, column: str) -> dict[str, Any] | None:
    """Settings of data where cells of the column name several labels, as Effusion|Mass; else None.

    A semicolon or a bar inside of one long sentence is none: what stands between them must occur by itself, too, or
    in several cells.
    """
    cells = [cell for row in sheet.rows if (cell := sheet.cell(row, column))]
    mark = next((mark for mark in LABEL_MARKS if any(mark in cell for cell in cells)), "")
    if not mark:
        return None
    names = [name.strip() for cell in cells for name in cell.split(mark) if name.strip()]
    if len(set(names)) * 2 > len(names):
        return None
    none = _none_name([set(map(str.strip, cell.split(mark))) for cell in cells])
    return {"multi_label": True} | ({"none_label": none} if none else {})


def _none_name(cells: Sequence[set[str]]) -> str:
    """What stands for none of the labels: a name that says so and is in no cell with another; "" for the usual one."""
    names = {name for cell in cells for name in cell}
    for name in sorted(names):
        for known in _NONE_NAMES:
            data = DataConfig(kind="csv", path="", none_label=known)
            if is_none_label(name, data) and all(cell == {name} for cell in cells if name in cell):
                return "" if known == _NONE_NAMES[0] else name
    return ""


def columns_of_labels(sheet: Sheet) -> dict[str, Any] | None:
    """Settings of data where two or more columns hold 0 and 1 (-1 and blank, too) and mean nothing else; else None.

    A blank cell becomes 0 and a row with -1 is left out, if there are any: the notes say so.
    """
    if sheet.column("label"):
        return None
    taken = {sheet.column(meaning) for meaning in COLUMNS if meaning != "label"}
    values = {name: found for name in sheet.header if name not in taken and (found := _values(sheet, name))}
    if len(values) < _FEWEST_COLUMNS:
        return None
    found = set().union(*values.values())
    columns = [name for name in values if not (_says_none(name) and _contradicts(sheet, name, list(values)))]
    settings: dict[str, Any] = {"multi_label": True, "label_columns": tuple(columns)}
    none = next((name for name in columns if _says_none(name)), "")
    settings |= {"none_label": none} if none else {}
    settings |= {"uncertain": "leave_out"} if -1 in found else {}
    return settings | ({"blank": "negative"} if None in found else {})


def _values(sheet: Sheet, column: str) -> set[int | None]:
    """What the cells of a column of 0 and 1 hold; nothing if it is none, or never 1."""
    try:
        found = {label_value(sheet.cell(row, column)) for row in sheet.rows}
    except ValueError:
        return set()
    return found if 1 in found and found & {0, None, -1} and not any(mark in column for mark in LABEL_MARKS) else set()


def _says_none(column: str) -> bool:
    return any(is_none_label(column, DataConfig(kind="csv", path="", none_label=known)) for known in _NONE_NAMES)


def _contradicts(sheet: Sheet, none: str, columns: Sequence[str]) -> bool:
    """Whether any row says that there is nothing and that there is something, as CheXpert's supporting devices."""
    return any(
        label_value(sheet.cell(row, none)) == 1
        and any(label_value(sheet.cell(row, name)) == 1 for name in columns if name != none)
        for row in sheet.rows
    )


def why_several(data: DataConfig, entries: Sequence[Entry]) -> str:
    """How many images have none of the labels, one, or several."""
    numbers = [len(labels_of(entry.target, data)) for entry in entries]
    none, several = sum(n == 0 for n in numbers), sum(n > 1 for n in numbers)
    return (
        f"{counted(len(numbers), 'image')}, {none:,} with none of the labels and {several:,} with several "
        "(data.multi_label: each is told by itself)"
    )


def doubts_about_labels(data: DataConfig, entries: Sequence[Entry]) -> list[str]:
    """What a person should look at."""
    doubts = []
    if data.label_columns:
        names = shown(data.label_columns, 20)
        doubts.append(
            f"columns of 0 and 1 were taken for labels ({names}): take out of data.label_columns what is none"
        )
    if data.uncertain == "leave_out":
        doubts.append(
            "cells of -1 are uncertain: their images are not used (data.uncertain: leave_out). negative or positive "
            "keeps them, and decides them"
        )
    if data.blank == "negative":
        doubts.append("blank cells count as 0 (data.blank: negative). Does blank mean that it was looked for?")
    if all(len(labels_of(entry.target, data)) == 1 for entry in entries):
        doubts.append(
            "every image has exactly one label: if they exclude each other, write them into one column called label "
            "and set data.multi_label: false"
        )
    return doubts
