"""A CSV of images: columns path and label (or mask, or one a label); patient, split, fold, ..., id where known."""

from __future__ import annotations

import difflib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath

from medrail.cases.groups import groups_of_row
from medrail.cases.layouts.ids import is_safe_id, safe_id
from medrail.cases.layouts.label_cells import labels_in_cell, labels_in_columns, need_label_columns
from medrail.cases.layouts.rows import Row, Sheet, read_sheet
from medrail.cases.listing import (
    Entry,
    Finding,
    Listing,
    correct_path,
    counted,
    files_below,
    fold_named,
    matching,
    may_be_image,
    none_found,
    split_named,
    stem,
)
from medrail.config import Config, did_you_mean
from medrail.errors import CaseError, ConfigError
from medrail.types import SPLITS, SplitName
from medrail.workspace import Workspace

# Looking for what was meant takes time; a table that is wrong throughout gets a general remedy after these.
_MOST_HINTS = 20

TARGET_COLUMN = {"classification": "label", "segmentation": "mask"}
_COLUMNS = ("path", "patient", "split", "item", "roi", "id", "centre", "fold")


class Lookup:
    """Finds the file that a cell means: a path, or with ``data.pattern`` the name of one of those images.

    Names are compared without their suffix, and whole numbers as numbers: "7" finds ``images/007.png``.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder = folder
        self._hints = 0
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(matching(folder, pattern) or ()):
            if path.is_file() and may_be_image(path.name):
                for key in {path.name, stem(path.name), _number(stem(path.name))}:
                    self._by_name[key].append(path)

    def find(self, text: str) -> Path | None:
        """The file or folder that is meant, or None (nothing, or more than one)."""
        # Archives are made one folder higher, so that paths in them begin with the name of the table's own folder.
        found = existing(self.folder, text) or existing(self.folder, text.removeprefix(f"{self.folder.name}/"))
        if found is not None:
            return found
        named = self._by_name.get(text) or self._by_name.get(stem(text)) or self._by_name.get(_number(text)) or []
        return named[0].absolute() if len(named) == 1 else None

    def remedy(self, text: str, column: str) -> str:
        """What may have been meant by a path that is not there."""
        if len(self._by_name.get(stem(text), ())) > 1:
            return f"data.pattern finds several files of this name: write the path into the column {column!r}."
        self._hints += 1
        meant = self._meant(Path(text.replace("\\", "/"))) if self._hints <= _MOST_HINTS else ""
        return meant or f"Correct the column {column!r}; paths are relative to {self.folder}."

    def _meant(self, path: Path) -> str:
        parent = (self.folder / path).parent
        siblings = [child.name for child in parent.iterdir()] if parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.8)
        if near:
            return f"Did you mean {(path.parent / near[0]).as_posix()!r}?"
        elsewhere = self._anywhere.get(_number(stem(path.name)))
        if not elsewhere:
            return ""
        return f"Is {elsewhere.as_posix()!r} meant? data.pattern: {elsewhere.parent.as_posix()}/* finds images by name."

    @cached_property
    def _anywhere(self) -> dict[str, PurePosixPath]:
        """Where images lie by name; among equals not the one in a folder that is called as masks are."""
        files = [below for _, below in files_below(self.folder) if may_be_image(below.name)]
        files.sort(key=lambda below: any(word in str(below.parent).lower() for word in ("mask", "label", "seg")))
        return {_number(stem(below.name)): below for below in reversed(files)}


def existing(folder: Path, text: str) -> Path | None:
    """The absolute path of a file or folder written relative to a folder (with either slash), or None."""
    for written in (text, text.replace("\\", "/")):
        path = folder / written
        if path.exists():
            return Path(os.path.normpath(path.absolute()))
    return None


def _number(text: str) -> str:
    return str(int(text)) if text.isascii() and text.isdigit() else text


def list_csv(config: Config, workspace: Workspace) -> Listing:
    """One entry a row. Paths are relative to the table's folder; rows that cannot be a case are findings by line.

    Raises
    ------
    ConfigError, CaseError
        If there is no table, or no column for the images or for the targets.
    """
    path = _table_file(workspace.source(config.data.path))
    if not path.exists():
        remedy = correct_path("data.path", config.data.path)
        raise CaseError("there is no such file", where=str(path), needed="a CSV file", remedy=remedy)
    sheet = read_sheet(path)
    sheet.need("path")
    if config.data.label_columns:
        need_label_columns(sheet, config.data)
    else:
        sheet.need(TARGET_COLUMN[config.task])
    reader = _RowReader(sheet, config, Lookup(path.parent, config.data.pattern))
    for row in sheet.rows:
        reader.take(row)
    if not sheet.rows:
        raise none_found(path, "row", "The table has a header only.")
    entries = _named(reader.entries, path.parent)
    labelled = tuple(entry for entry in entries if entry.target is not None)
    unlabelled = tuple(entry for entry in entries if entry.target is None)
    return Listing(labelled, tuple(reader.findings), unlabelled)


def _table_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    tables = sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return tables[0]
    found = f"a folder with {counted(len(tables), 'CSV file')}"
    raise ConfigError(found, needed="one CSV file", where=f"data.path: {path}", remedy="Give the file itself.")


class _RowReader:
    """Turns rows into entries and findings, remembering what stood in earlier lines."""

    def __init__(self, sheet: Sheet, config: Config, lookup: Lookup) -> None:
        self.sheet, self.lookup = sheet, lookup
        self.data = config.data
        self.segmentation = config.task == "segmentation"
        self.needs_fold = config.split.by == "folds"
        self.divided_by = config.evaluate.subgroups
        self.columns = {name: sheet.column(name) for name in _COLUMNS}
        self.columns["target"] = sheet.column(TARGET_COLUMN[config.task])
        self.entries: list[Entry] = []
        self.findings: list[Finding] = []
        self._first_line: dict[tuple[str, str], int] = {}

    def take(self, row: Row) -> None:
        before = len(self.findings)
        path = self._file(row, "path", "missing_file")
        split, fold = self._split(row), self._fold(row)
        target, roi = (
            self._labels(row) if self.data.multi_label else self._target(row),
            self._file(row, "roi", "missing_file") if self._cell(row, "roi") else None,
        )
        item, given_id = self._cell(row, "item"), self._id(row)
        if path is not None:
            self._refuse_repeat(row, str(path), item)
        if path is None or any(finding.defect != "unlabelled" for finding in self.findings[before:]):
            return
        patient, centre, where = self._cell(row, "patient"), self._cell(row, "centre"), self.sheet.where(row)
        entry = Entry(path, "", target, split, patient, item, roi, given_id, where, centre, fold)
        groups = groups_of_row(self.sheet, row, self.divided_by)
        self.entries.append(replace(entry, groups=groups) if groups else entry)

    def _cell(self, row: Row, name: str) -> str:
        return self.sheet.cell(row, self.columns[name])

    def _add(self, row: Row, defect: str, what: str, remedy: str) -> None:
        self.findings.append(Finding(defect, self.sheet.where(row), what, remedy))

    def _file(self, row: Row, name: str, defect: str) -> Path | None:
        column, text = self.columns[name], self._cell(row, name)
        if not text:
            self._add(row, defect, f"the column {column!r} is empty", "Write the file's path there or delete the row.")
            return None
        found = self.lookup.find(text)
        if found is None:
            self._add(row, defect, f"there is no file {text!r}", self.lookup.remedy(text, column))
        return found

    def _labels(self, row: Row) -> str | None:
        if self.data.label_columns:
            found = labels_in_columns(self.sheet, row, self.data)
        else:
            found = labels_in_cell(self.sheet, row, self.columns["target"], self.data)
        self.findings += [found.finding] if found.finding else []
        return found.target

    def _target(self, row: Row) -> str | None:
        column, text = self.columns["target"], self._cell(row, "target")
        if not text:
            what = "mask" if self.segmentation else "label"
            self._add(row, "unlabelled", f"no {what}", f"Fill the column {column!r} or delete the row.")
            return None
        if not self.segmentation:
            return text
        mask = existing(self.lookup.folder, text)
        if mask is None:
            self._add(row, "missing_mask", f"there is no mask file {text!r}", self.lookup.remedy(text, column))
        return str(mask) if mask else None

    def _split(self, row: Row) -> SplitName | None:
        text = self._cell(row, "split")
        split = split_named(text) if text else None
        if text and split is None:
            suggestion = did_you_mean(text, SPLITS)
            self._add(row, "bad_split", f"{text!r} in the column {self.columns['split']!r} is no split", suggestion)
        return split

    def _fold(self, row: Row) -> int | None:
        text = self._cell(row, "fold")
        fold = fold_named(text)
        if text and fold is None and self.needs_fold:
            what = f"{text!r} in the column {self.columns['fold']!r} is no fold"
            self._add(row, "bad_fold", what, "Write a whole number, as 0, 1, 2.")
        return fold

    def _id(self, row: Row) -> str:
        text = self._cell(row, "id")
        first = self._first_line.setdefault(("id", text.casefold()), row.line) if text else row.line
        if first != row.line:
            self._add(row, "bad_id", f"this id stands in line {first} already", "Give every row an id of its own.")
        elif text and not is_safe_id(text):
            self._add(row, "bad_id", f"{text!r} is no safe file name", f"Write {safe_id(text)!r}, for example.")
        return text

    def _refuse_repeat(self, row: Row, path: str, item: str) -> None:
        first = self._first_line.setdefault((f"image {path}", item), row.line)
        if first != row.line:
            self._add(row, "repeated_row", f"this image stands in line {first} already", "Delete one of the two rows.")


def _named(entries: Sequence[Entry], folder: Path) -> tuple[Entry, ...]:
    """The entries with their names: below the table's folder, or where any lies elsewhere, below all images' folder."""
    if not all(entry.path.is_relative_to(folder) for entry in entries):
        try:
            folder = Path(os.path.commonpath([entry.path.parent for entry in entries]))
        except ValueError:  # on several drives
            folder = Path()
    return tuple(replace(entry, name=_below(entry.path, folder, entry.item)) for entry in entries)


def _below(path: Path, folder: Path, item: str) -> str:
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    return name.as_posix().lstrip("/") + (f"/{item}" if item else "")
