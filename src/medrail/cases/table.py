"""The case table: a CSV that a person can open.

id,patient,image,item,target,roi,split,centre,fold,defects, and group/NAME for each group that the data tell (sex, age,
scanner, ...).

Each stage writes it anew from the data and ``split``, so what is changed in it by hand does not last: a copy of it is
good as data of its own (``data.kind: csv``, ``data.path`` the copy, ``split.by: given``).

Paths below the table's folder are written relative to it, so that a project folder can be moved. A mask (or any path)
in the column ``target`` begins with ``./`` or is absolute; what does neither is a class name. With ``data.multi_label``
it is the labels with ``|`` between them, and a single ``|`` where an image has none of them.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path

from medrail.cases.groups import PREFIX
from medrail.cases.layouts.rows import Row, Sheet, read_sheet
from medrail.cases.listing import Finding, fold_named, listed, split_named
from medrail.config import did_you_mean
from medrail.errors import CaseError
from medrail.types import SPLITS, Case
from medrail.workspace import keep_text

HEADER = ("id", "patient", "image", "item", "target", "roi", "split", "centre", "fold", "defects")
_NEEDED = HEADER[:7]  # what a table written before the others were known has
_HERE = "./"
_NONE = "|"  # a separator with no name on either side; an empty cell is a case without label


def write_table(cases: Iterable[Case], path: Path, root: Path) -> None:
    """Write the case table, whole or not at all; paths below ``root`` are written relative to the table's folder.

    A table that says the same already stays as it is.

    Raises
    ------
    CaseError
        If a case has several paths, or a class name begins as a relative path does.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    quoting_writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    cases = list(cases)
    divided_by = list(dict.fromkeys(name for case in cases for name, _ in case.groups))
    writer.writerow([*HEADER, *(f"{PREFIX}{name}" for name in divided_by)])
    written = _Written(path.parent, root)
    for case in cases:
        if len(case.paths) != 1:
            raise CaseError(f"{len(case.paths)} image paths", where=f"case {case.id}", needed="one file or folder")
        if case.target is not None and (case.target == _NONE or case.target.startswith((_HERE, "../"))):
            what = "none of the labels" if case.target == _NONE else "a path"
            found = f"the class name {case.target!r} cannot be told from {what}"
            raise CaseError(found, where=f"case {case.id}", remedy="Rename it.")
        image = written.path(case.paths[0])
        target = "" if case.target is None else written.target(case.target) if case.target else _NONE
        roi = written.path(case.roi) if case.roi else ""
        cells = [case.id, case.patient, image, case.item, target, roi, case.split or ""]
        cells += [case.centre, "" if case.fold is None else str(case.fold), " ".join(case.defects)]
        if divided_by:
            groups = dict(case.groups)
            cells += [groups.get(name, "") for name in divided_by]
        # The plain writer leaves a lone carriage return bare, which every reader takes for the end of the row.
        (quoting_writer if "\r" in "".join(cells) else writer).writerow(cells)
    keep_text(path, buffer.getvalue())


class _Written:
    """How paths are written into a table of this folder: relative to it where they lie below ``root``."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = str(folder.absolute()), root.absolute()
        self._begin = os.path.normcase(self._root)
        # Where the table lies in ``root`` itself, as it does in a project, the way is plain.
        self._beside = os.path.join(self._folder, "") if self._folder == str(self._root) else ""  # noqa: PTH118

    def path(self, text: str) -> str:
        if not os.path.normcase(text).startswith(self._begin):  # most often; the rest of the questions takes long
            return text
        path = Path(text)
        if str(path) != text:
            return text
        if self._beside and text.startswith(self._beside) and ".." not in path.parts:
            return text[len(self._beside) :].replace(os.sep, "/")
        if not path.is_absolute() or not path.is_relative_to(self._root):
            return text
        return Path(os.path.relpath(path, self._folder)).as_posix()

    def target(self, text: str) -> str:
        written = self.path(text)
        return written if written == text or written.startswith("../") else _HERE + written


def read_table(path: Path) -> tuple[Case, ...]:
    """Read a case table back; ``read_table`` of what ``write_table`` wrote gives equal cases.

    Raises
    ------
    CaseError
        With every bad row at once, by line.
    """
    path = Path(path)
    sheet = read_sheet(path)
    missing = [name for name in _NEEDED if name not in sheet.header]
    if missing:
        raise CaseError(
            f"the columns {', '.join(missing)} are missing",
            where=f"{path}, line 1",
            needed=",".join(_NEEDED),
            remedy="`medrail check` writes the case table anew.",
        )
    findings = [finding for row in sheet.rows for finding in _wrong(sheet, row)] + _doubles(sheet)
    if findings:
        count = "1 row is" if len(findings) == 1 else f"{len(findings)} rows are"
        raise CaseError(f"{count} wrong:{listed(findings)}")
    return tuple(_case(row, path.parent) for row in sheet.rows)


def _wrong(sheet: Sheet, row: Row) -> list[Finding]:
    findings = []
    for name in ("id", "patient", "image"):
        if not row.cells.get(name):
            findings.append(Finding("bad_row", sheet.where(row), f"no {name}", f"Fill the column {name}."))
    split = row.cells.get("split", "").strip()
    if split and not split_named(split):
        remedy = did_you_mean(split, SPLITS)
        findings.append(Finding("bad_row", sheet.where(row), f"{split!r} is no split", remedy))
    fold = row.cells.get("fold", "").strip()
    if fold and fold_named(fold) is None:
        remedy = "Write a whole number, as 0, 1, 2."
        findings.append(Finding("bad_row", sheet.where(row), f"{fold!r} is no fold", remedy))
    return findings


def _doubles(sheet: Sheet) -> list[Finding]:
    first: dict[str, int] = {}
    findings = []
    for row in sheet.rows:
        name = row.cells.get("id", "")
        if name and first.setdefault(name, row.line) != row.line:
            what = f"the id {name!r} stands in line {first[name]} already"
            findings.append(Finding("bad_row", sheet.where(row), what, "Give every case an id of its own."))
    return findings


def _case(row: Row, folder: Path) -> Case:
    cells = row.cells
    target = cells.get("target") or None
    target = "" if target == _NONE else target
    if target and target.startswith((_HERE, "../")):
        target = _absolute(target, folder)
    roi = cells.get("roi")
    return Case(
        id=cells["id"],
        patient=cells["patient"],
        paths=(_absolute(cells["image"], folder),),
        target=target,
        split=split_named(cells.get("split", "")),
        item=cells.get("item", ""),
        roi=_absolute(roi, folder) if roi else None,
        centre=cells.get("centre", ""),
        fold=fold_named(cells.get("fold", "")),
        defects=tuple(cells.get("defects", "").split()),
        groups=tuple((name.removeprefix(PREFIX), value) for name, value in cells.items() if _tells(name, value)),
    )


def _tells(name: str, value: str) -> bool:
    return name.startswith(PREFIX) and bool(value)


def _absolute(text: str, folder: Path) -> str:
    return text if Path(text).is_absolute() else os.path.normpath(folder.absolute() / text)
