"""Several labels an image: one cell that names them, or one column of 0 and 1 for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medrail.cases.labels import is_none_label, joined_labels, parsed_labels
from medrail.cases.layouts.rows import Row, Sheet
from medrail.cases.listing import Finding, shown
from medrail.config import DataConfig, did_you_mean
from medrail.errors import CaseError

# What a cell of a label's column may hold, as whole numbers and as spreadsheets and CheXpert write them.
_VALUES = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": -1, "-1.0": -1, "": None}


@dataclass(frozen=True)
class Found:
    """What a row says: its target, or (``target`` None) why it is no case."""

    target: str | None = None
    finding: Finding | None = None


def label_value(text: str) -> int | None:
    """0, 1, -1 (uncertain) or None (blank), as a cell of a label's column has it.

    Raises
    ------
    ValueError
        If the cell holds anything else.
    """
    plain = text.strip().lower()
    if plain not in _VALUES:
        raise ValueError(text)
    return _VALUES[plain]


def need_label_columns(sheet: Sheet, data: DataConfig) -> None:
    """Refuse a table that lacks one of ``data.label_columns``.

    Raises
    ------
    CaseError
        With the column that is missing, and what may have been meant.
    """
    for name in data.label_columns:
        if name not in sheet.header:
            raise CaseError(
                f"there is no column {name!r}; the columns are {shown(map(repr, sheet.header), 20)}",
                needed="every column that data.label_columns names",
                where=f"{sheet.path}, line 1",
                remedy=did_you_mean(name, sheet.header, or_else=False) or "Correct data.label_columns.",
            )


def labels_in_cell(sheet: Sheet, row: Row, column: str, data: DataConfig) -> Found:
    """The labels that one cell names, as ``Effusion|Mass``, or ``No Finding``."""
    try:
        target = parsed_labels(sheet.cell(row, column), data)
    except ValueError as error:
        what = f"{error} in the column {column!r}: an image has labels or none"
        return Found(None, Finding("contradicting_labels", sheet.where(row), what, "Correct the cell."))
    if target is None:
        none = data.none_label or "|"
        remedy = f"Fill the column {column!r} ({none!r} where there is none of them) or delete the row."
        return Found(None, Finding("unlabelled", sheet.where(row), "no label", remedy))
    return Found(target)


def labels_in_columns(sheet: Sheet, row: Row, data: DataConfig) -> Found:
    """The labels whose columns hold 1; uncertain and blank cells as ``data.uncertain`` and ``data.blank`` say."""
    present: list[str] = []
    for column in data.label_columns:
        text = sheet.cell(row, column)
        try:
            value = label_value(text)
        except ValueError:
            what = f"{text!r} in the column {column!r} is neither 0 nor 1"
            return Found(None, Finding("bad_label", sheet.where(row), what, "Write 0, 1, or -1 for uncertain."))
        if value is None or value < 0:
            kind = "blank" if value is None else "uncertain"
            rule = data.blank if value is None else data.uncertain
            if rule in ("refuse", "leave_out"):
                return Found(None, _undecided(sheet.where(row), column, kind, rule))
            value = int(rule == "positive")
        if value:
            present.append(column)
    return _without_contradiction(sheet.where(row), present, data)


def _undecided(where: str, column: str, kind: str, rule: str) -> Finding:
    what = "is blank" if kind == "blank" else "holds -1, which is neither yes nor no"
    if rule == "leave_out":
        said = f"the column {column!r} {what}: the image is not used, because data.{kind} is leave_out"
        return Finding(f"{kind}_label", where, said, "Right if that is meant.", "warn")
    choices = "negative or leave_out" if kind == "blank" else "negative, positive or leave_out"
    remedy = f"Decide it in the table, or set data.{kind}: {choices}, for all such cells."
    return Finding(f"{kind}_label", where, f"the column {column!r} {what}", remedy)


def _without_contradiction(where: str, present: Sequence[str], data: DataConfig) -> Found:
    labels = [name for name in present if not is_none_label(name, data)]
    if labels and len(labels) < len(present):
        what = f"{data.none_label!r} is 1, and so is {shown(map(repr, labels))}"
        remedy = f"Correct the row, or take {data.none_label!r} out of data.label_columns."
        return Found(None, Finding("contradicting_labels", where, what, remedy))
    return Found(joined_labels(labels, data.classes or data.label_columns))
