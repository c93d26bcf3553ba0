"""Tables: a CSV that names images with a label or a mask each."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medrail.cases.layouts.rows import Sheet, read_sheet
from medrail.cases.listing import Listing, counted
from medrail.config import DataConfig, Task
from medrail.errors import CaseError
from medrail.plan.layout import Layout, list_entries, stopping, told, too_many_classes
from medrail.plan.listing import FolderListing, list_files
from medrail.plan.look_labels import columns_of_labels, doubts_about_labels, several_in_a_cell, why_several
from medrail.plan.pairing import says_mask

_MOST_TABLES = 6
_MOST_LABELS = 50
# A table whose rows name fewer of their images than this is about something else.
_LEAST_FOUND = 0.5


def csv_layouts(listing: FolderListing) -> list[Layout]:
    """The tables of a folder (not deeper than one level) that name images below it."""
    near = [name for name in listing.tables if name.count("/") <= 1][:_MOST_TABLES]
    return [layout for name in near for layout in csv_layouts_of(listing.root / name)]


def csv_layouts_of(path: Path) -> list[Layout]:
    """What a table can be used for: segmentation where its rows name masks, classification where they have labels."""
    try:
        sheet = read_sheet(path)
    except CaseError:
        return []
    if not sheet.rows or not sheet.column("path"):
        return []
    found = [_masks(path, sheet), _labels(path, sheet), _columns(path, sheet)]
    return [layout for layout in found if layout is not None]


def _masks(path: Path, sheet: Sheet) -> Layout | None:
    if not sheet.column("mask"):
        return None
    best = _best("segmentation", path, sheet)
    if best is None:
        return None
    data, listing = best
    why = f"{path.name} names an image and a mask in each of {counted(len(sheet.rows), 'row')}"
    unsure = told(stopping(listing.findings), path.parent)
    return Layout("segmentation", data, listing.entries, why, rank=0, unsure=unsure)


def _labels(path: Path, sheet: Sheet) -> Layout | None:
    column = sheet.column("label")
    if not column:
        return None
    several = several_in_a_cell(sheet, column)
    best = _best("classification", path, sheet, several)
    if best is None:
        return None
    if several:
        return _several(path, best, f"the column {column!r} names several labels an image")
    data, listing = best
    why = f"{path.name} gives {counted(len(listing.entries), 'image')} a label each (column {column!r})"
    layout = Layout("classification", data, listing.entries, why, rank=4)
    if any(target.lower().endswith((".png", ".nii.gz", ".nii", ".tif")) for target in layout.targets):
        return None
    unsure = list(told(stopping(listing.findings), path.parent))
    if too_many_classes(layout.targets):
        values, rows = counted(len(layout.targets), "different value"), counted(len(listing.entries), "row")
        unsure.append(
            f"the column {column!r} has {values} in {rows}: "
            "are they classes? Values that are measured must be put into a few classes first"
        )
    rank = 8 if too_many_classes(layout.targets) else 4
    return Layout("classification", data, listing.entries, why, rank=rank, unsure=tuple(unsure))


def _columns(path: Path, sheet: Sheet) -> Layout | None:
    settings = columns_of_labels(sheet)
    best = _best("classification", path, sheet, settings) if settings else None
    if settings is None or best is None:
        return None
    # Behind class folders: beside those, such columns say what else is known of a person.
    return _several(path, best, f"{counted(len(settings['label_columns']), 'column')} hold 0 and 1", rank=7)


def _several(path: Path, best: tuple[DataConfig, Listing], seen: str, rank: int = 4) -> Layout | None:
    data, listing = best
    why = f"{path.name}: {seen}. {why_several(data, listing.entries)}"
    layout = Layout("classification", data, listing.entries, why, rank=rank)
    if len(layout.targets) < 2:
        return None
    unsure = (*told(stopping(listing.findings), path.parent), *doubts_about_labels(data, listing.entries))
    rank = 8 if len(layout.targets) > _MOST_LABELS else rank
    return Layout("classification", data, listing.entries, why, rank=rank, unsure=unsure)


def _best(
    task: Task, path: Path, sheet: Sheet, settings: dict[str, Any] | None = None
) -> tuple[DataConfig, Listing] | None:
    """The pattern with which most rows find their image; none if the paths are right as they stand."""
    best: tuple[DataConfig, Listing] | None = None
    for pattern in _patterns(path):
        data = DataConfig(kind="csv", path=str(path), pattern=pattern, **(settings or {}))
        listing = list_entries(task, data)
        if listing is not None and (best is None or len(listing.entries) > len(best[1].entries)):
            best = (data, listing)
        if best is not None and not stopping(best[1].findings):
            break
    if best is None or len(best[1].entries) < _LEAST_FOUND * len(sheet.rows):
        return None
    return best


def _patterns(path: Path) -> Iterator[str]:
    """ "": the cells are paths. Otherwise folders in which images of those names may lie, masks' folders last."""
    yield ""
    folders = [folder for folder in list_files(path.parent).by_folder if folder]
    for folder in sorted(folders, key=lambda folder: (says_mask(folder.rsplit("/", 1)[-1]), folder))[:12]:
        yield f"{glob.escape(folder)}/*"
    yield "**/*"
