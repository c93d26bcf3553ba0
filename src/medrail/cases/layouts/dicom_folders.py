"""One folder a patient with DICOM series inside (at any depth), and a CSV that gives each patient's label or mask."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Protocol

from medrail.cases.groups import groups_of_row, made
from medrail.cases.layouts.csv_list import TARGET_COLUMN, existing
from medrail.cases.layouts.rows import Row, Sheet, read_sheet
from medrail.cases.layouts.series import series_entries
from medrail.cases.listing import (
    Entry,
    Finding,
    Listing,
    existing_folder,
    fold_named,
    may_be_image,
    none_found,
    split_named,
    stem,
)
from medrail.config import Config, did_you_mean
from medrail.errors import ConfigError
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.walk import leads_back
from medrail.types import SPLITS
from medrail.workspace import Workspace


def list_dicom_folders(config: Config, workspace: Workspace) -> Listing:
    """One entry a series; the folder below ``data.path`` is the patient.

    ``data.labels`` has the columns patient (the folder's name) and label or mask, and may have item (the series that a
    row is about, as `medrail inspect` calls it), split and roi. For segmentation ``data.mask_path`` may give a folder
    with PATIENT.nii.gz instead of a table.

    Raises
    ------
    ConfigError
        If there is neither a table nor a folder of masks.
    CaseError
        If there is no patient folder, or the table has no column for the patient or the target.
    """
    root = existing_folder(workspace.source(config.data.path), "data.path", config.data.path)
    targets = _targets(config, workspace, root)
    mask_folder = root / config.data.mask_path if config.data.mask_path else None
    found: dict[str, list[Entry]] = {}
    findings: list[Finding] = []
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    linked = [path for path in folders if path.is_symlink() and leads_back(path, os.path.realpath(root))]
    findings += map(_linked, linked)
    options = config.data.read_options
    with HeaderCache.of_user() as cache:
        listed = {
            folder: series_entries(folder, folder.name, patient=folder.name, options=options, cache=cache)
            for folder in folders
            if folder != mask_folder and folder not in linked
        }
    for folder, listing in listed.items():
        findings += listing.findings
        if listing.entries:
            found[folder.name] = list(listing.entries)
        elif mask_folder is None or folder not in mask_folder.parents:
            what, remedy = "no DICOM file in this folder", "Fill it or move it out of data.path."
            findings.append(Finding("no_image", str(folder), what, remedy, "warn"))
    if not found:
        raise none_found(root, "DICOM file in a folder below", "data.path needs one folder a patient.")
    labelled: list[Entry] = []
    unlabelled: list[Entry] = []
    for series in found.values():
        for entry in series:
            answer = targets.give(entry, series)
            if isinstance(answer, Entry):
                labelled.append(answer)
            else:
                findings.append(answer)
                if answer.defect == "unlabelled":
                    unlabelled.append(replace(entry, target=None))
    # One row is about all series of its patient: what is wrong with it is said once.
    return Listing(tuple(labelled), tuple(dict.fromkeys((*findings, *targets.left_over(found)))), tuple(unlabelled))


class _Targets(Protocol):
    def give(self, entry: Entry, series: Sequence[Entry]) -> Entry | Finding:
        """The entry with its target, or why it has none; ``series`` are all of this patient."""

    def left_over(self, patients: Container[str]) -> list[Finding]:
        """The targets that belong to no patient."""


def _targets(config: Config, workspace: Workspace, root: Path) -> _Targets:
    data = config.data
    if data.labels:
        beside, inside = workspace.source(data.labels), root / data.labels
        return _Table(read_sheet(inside if inside.is_file() else beside), config, root)
    if data.mask_path and config.task == "segmentation":
        return _MaskFolder(existing_folder(root / data.mask_path, "data.mask_path"), stem(data.mask_suffix))
    raise ConfigError(
        "the patients have no labels",
        where="data.kind: dicom_folders",
        needed=f"data.labels: a CSV with the columns patient and {TARGET_COLUMN[config.task]}",
        remedy="The patient is the name of the folder below data.path.",
    )


class _MaskFolder:
    """PATIENT.nii.gz in one folder; only where a patient has one series is it clear what a mask belongs to."""

    def __init__(self, folder: Path, ending: str) -> None:
        self._folder = folder
        self._masks = {stem(path.name).removesuffix(ending): path for path in sorted(folder.iterdir())}

    def give(self, entry: Entry, series: Sequence[Entry]) -> Entry | Finding:
        mask = self._masks.get(entry.patient)
        if mask is None:
            remedy = f"Add {self._folder / entry.patient}.nii.gz or move the patient's folder out of data.path."
            return Finding("image_without_mask", str(entry.path), "no mask of this patient", remedy)
        return _several(entry, series) if len(series) > 1 else replace(entry, target=str(mask))

    def left_over(self, patients: Container[str]) -> list[Finding]:
        remedy = "Add the patient's folder, or delete the mask."
        return [
            Finding("mask_without_image", str(path), "no folder of this patient", remedy, "warn")
            for patient, path in self._masks.items()
            if patient not in patients and may_be_image(path.name)
        ]


class _Table:
    """The rows of data.labels by patient, and by series where the table names them."""

    def __init__(self, sheet: Sheet, config: Config, root: Path) -> None:
        self._sheet, self._root = sheet, root
        self._segmentation = config.task == "segmentation"
        self._divided_by = config.evaluate.subgroups
        self._target = sheet.need(TARGET_COLUMN[config.task])
        self._patient = sheet.need("patient")
        self._item, self._split, self._roi = (sheet.column(name) for name in ("item", "split", "roi"))
        self._centre, self._fold = sheet.column("centre"), sheet.column("fold")
        self._rows: dict[str, list[Row]] = {}
        for row in sheet.rows:
            self._rows.setdefault(sheet.cell(row, self._patient), []).append(row)

    def give(self, entry: Entry, series: Sequence[Entry]) -> Entry | Finding:
        rows = self._rows.get(entry.patient, [])
        if not rows:
            remedy = f"Add a row to {self._sheet.path} or move the folder out of data.path."
            return Finding(
                "unlabelled", str(entry.path), f"this patient's folder has no row in {self._sheet.path.name}", remedy
            )
        named = [row for row in rows if self._cell(row, self._item) in _names(entry)]
        if len(named) != 1:
            lines = ", ".join(str(row.line) for row in named or rows)
            what = f"{len(named)} rows (lines {lines} of {self._sheet.path.name}) are about this series"
            return Finding("bad_row", str(entry.path), what, "Give each series one row; the column item names it.")
        row = named[0]
        if self._segmentation and len(series) > 1 and not self._cell(row, self._item):
            return _several(entry, series)
        return self._filled(entry, row)

    def _cell(self, row: Row, column: str) -> str:
        return self._sheet.cell(row, column)

    def _filled(self, entry: Entry, row: Row) -> Entry | Finding:
        where, text = self._sheet.where(row), self._cell(row, self._target)
        split_text, roi_text = self._cell(row, self._split), self._cell(row, self._roi)
        if not text:
            remedy = f"Fill the column {self._target!r} of {self._sheet.path.name}, or delete the row."
            return Finding("unlabelled", where, f"the column {self._target!r} is empty", remedy)
        split = split_named(split_text) if split_text else None
        if split_text and split is None:
            return Finding("bad_split", where, f"{split_text!r} is no split", did_you_mean(split_text, SPLITS))
        roi = self._file(roi_text) if roi_text else None
        if roi_text and roi is None:
            return _no_file(where, roi_text)
        groups = dict(entry.groups) | dict(groups_of_row(self._sheet, row, self._divided_by))
        entry = replace(entry, centre=self._cell(row, self._centre), fold=fold_named(self._cell(row, self._fold)))
        entry = replace(entry, groups=made(groups))
        if self._segmentation:
            mask = self._file(text)
            return (
                replace(entry, target=str(mask), split=split, roi=roi, where=where) if mask else _no_file(where, text)
            )
        return replace(entry, target=text, split=split, roi=roi, where=where)

    def _file(self, text: str) -> Path | None:
        return existing(self._sheet.path.parent, text) or existing(self._root, text)

    def left_over(self, patients: Container[str]) -> list[Finding]:
        remedy = "Correct the column's text to a folder's name below data.path, or delete the row."
        return [
            Finding("label_without_image", self._sheet.where(row), "no folder of this patient", remedy, "warn")
            for patient, rows in self._rows.items()
            if patient not in patients
            for row in rows
        ]


def _names(entry: Entry) -> set[str]:
    """What a table may call a series: nothing, its item, or its folder (with or without the patient's before it)."""
    name = PurePosixPath(entry.name)
    return {"", entry.item, entry.name, name.name, PurePosixPath(*name.parts[1:]).as_posix()}


def _several(entry: Entry, series: Sequence[Entry]) -> Finding:
    items = ", ".join(other.item or other.name for other in series)
    what = f"one mask, but this patient has {len(series)} series ({items})"
    return Finding("several_series", str(entry.path), what, "Name the series in the column item of data.labels.")


def _linked(folder: Path) -> Finding:
    what = f"is a link to {folder.resolve().name}, which is in the data by its own name: left out"
    return Finding("ignored_file", str(folder), what, "Nothing is to be done.", "warn")


def _no_file(where: str, text: str) -> Finding:
    remedy = "Paths are relative to the table's folder, or to data.path."
    return Finding("missing_mask", where, f"there is no file {text!r}", remedy)
