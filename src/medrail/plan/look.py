"""look: a path -> the likeliest Layout, with the others as alternatives; or an error that draws the known ones."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from medrail.cases.layouts.rows import read_sheet
from medrail.cases.listing import counted, image_suffix
from medrail.config import Task
from medrail.errors import CaseError, ConfigError, ReadError, UnknownLayout
from medrail.plan.drawings import all_drawings
from medrail.plan.layout import Layout
from medrail.plan.listing import FolderListing, list_files
from medrail.plan.look_csv import csv_layouts, csv_layouts_of
from medrail.plan.look_dicom import dicom_layouts
from medrail.plan.look_folders import class_folder_layouts, medmnist_layouts, medmnist_layouts_of
from medrail.plan.look_pairs import pair_layouts
from medrail.plan.look_slides import slide_layouts
from medrail.read import sniff

_NEEDED = "several images with a label or a mask each"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")

Looker = Callable[[FolderListing], list[Layout]]

LOOKERS: Mapping[str, Looker] = {
    "csv": csv_layouts,
    "pairs": pair_layouts,
    "dicom_folders": dicom_layouts,
    "class_folders": class_folder_layouts,
    "medmnist": medmnist_layouts,
    "slides": slide_layouts,
}
"""What looks at a folder for each data kind; ``Layout.rank`` decides among what they find."""


def look(path: str | Path, task: Task | None = None) -> Layout:
    """The likeliest layout of a folder, a CSV or an npz.

    Parameters
    ----------
    path:
        Where the data are; nothing is written there.
    task:
        Only layouts for this task; None for either.

    Raises
    ------
    ConfigError
        If there is no such path.
    CaseError
        If no layout fits; the message draws those that would.
    """
    root = Path(path).resolve()
    if not root.exists():
        raise ConfigError("there is no such file or folder", where=str(path), remedy="Check the path given to --data.")
    if root.is_file():
        listing = FolderListing(root)
        found = csv_layouts_of(root) if _is_table(root) else medmnist_layouts_of(root)
    else:
        listing = list_files(root)
        found = [layout for looker in LOOKERS.values() for layout in looker(listing)]
    chosen = [layout for layout in found if task is None or layout.task == task]
    if chosen:
        return _first(chosen, root)
    inner = _only_folder(listing)
    if inner is not None:
        return look(inner, task)
    raise _nothing_known(root, listing, found, task)


def _first(layouts: list[Layout], root: Path) -> Layout:
    """The likeliest; the others are told, the first of each task and kind."""
    ordered = sorted(layouts, key=lambda layout: layout.rank)
    first, told, seen = ordered[0], [], {(ordered[0].task, ordered[0].data.kind)}
    for other in ordered[1:]:
        if (other.task, other.data.kind) not in seen:
            seen.add((other.task, other.data.kind))
            told.append(_how_to_choose(other, first, root))
    return replace(first, alternatives=tuple(told))


def _how_to_choose(layout: Layout, instead_of: Layout, root: Path) -> str:
    if layout.data.kind == "csv" and layout.table is None and layout.data.path != str(root):
        how = f"`medrail init DIR --data {shlex.quote(layout.data.path)}`"
    elif layout.task != instead_of.task:
        how = f"`medrail init DIR --data {shlex.quote(str(root))} --task {layout.task}`"
    else:
        how = f"data.kind: {layout.data.kind} in medrail.yaml"
    return f"{layout.task} is possible too ({layout.why}); to choose that: {how}"


def _only_folder(listing: FolderListing) -> Path | None:
    """The folder that an archive was unpacked to: the only one, with nothing beside it."""
    everything = (*listing.images, *listing.tables, *listing.arrays, *listing.slides)
    tops = {name.partition("/")[0] for name in everything}
    inside = all("/" in name for name in everything)
    return listing.root / tops.pop() if len(tops) == 1 and inside else None


def _nothing_known(root: Path, listing: FolderListing, found: list[Layout], task: Task | None) -> CaseError:
    if found and task:
        what = f"no {task} in this folder, but {found[0].task}: {found[0].why}"
        return CaseError(what, where=str(root), remedy=f"Plan for {found[0].task}, or add what {task} needs.")
    if root.is_file():
        return _wrong_file(root)
    what = f"no layout that medrail knows; found {listing.describe()}"
    hint = _hint(root, listing)
    if len(listing.images) < 2:
        only = f", only {listing.images[0]}" if listing.images else ""
        remedy = f"{hint}Give the folder that holds all images with their labels or masks."
        return UnknownLayout(f"{what}{only}", where=str(root), needed=_NEEDED, remedy=remedy)
    remedy = f"{hint}These layouts are known:\n{all_drawings()}"
    return UnknownLayout(what, where=str(root), needed="one of the layouts below", remedy=remedy)


def _wrong_file(path: Path) -> CaseError:
    """One file that is no data set: a table of something else, a single image, or neither."""
    if _is_table(path):
        return CaseError(_wrong_table(path), where=str(path), needed="the columns path and label, or path and mask")
    needed = "a folder of images, a CSV that names them, or a MedMNIST npz"
    if path.name.lower().endswith(_ARCHIVES) and not image_suffix(path.name):
        return CaseError("an archive", where=str(path), needed=needed, remedy=f"Unpack {path.name} first.")
    try:
        found = sniff(path)
        what = f"one image only ({found})"
        if found == "npz":
            what = "an npz without the arrays train_images and train_labels"
    except (ReadError, OSError):
        what = "neither an image, nor a CSV of images, nor a MedMNIST npz"
    return CaseError(what, where=str(path), needed=needed, remedy="Give the folder that holds all images.")


def _wrong_table(path: Path) -> str:
    """Why a CSV is no table of images; what cannot be read as a table at all raises by itself."""
    sheet = read_sheet(path)
    columns = ", ".join(map(repr, sheet.header[:12]))
    if not sheet.column("path"):
        return f"a table without a column for the images' paths; its columns are {columns}"
    if not sheet.column("label") and not sheet.column("mask"):
        return f"a table without a column for labels or masks; its columns are {columns}"
    if not sheet.rows:
        return "a table without rows"
    example = sheet.cell(sheet.rows[0], sheet.column("path"))
    return f"a table whose images are not found: there is no {example!r} beside it or in a folder below"


def _hint(root: Path, listing: FolderListing) -> str:
    archives = [name for name in (root.name, *listing.others) if name.lower().endswith(_ARCHIVES)]
    if archives and not listing.images and not root.name.lower().endswith(".nii.gz"):
        return f"Unpack {archives[0]} first. "
    if listing.images and not listing.tables:
        return f"Neither labels nor masks could be told for {counted(len(listing.images), 'image')}. "
    if listing.tables:
        return f"{listing.tables[0]} does not name images together with labels or masks. "
    return ""


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")
