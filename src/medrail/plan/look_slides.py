"""Whole slides: labelled by a table, by what was drawn on them, or by the folders they lie in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medrail.cases.layouts.annotation import OUTLINE_SUFFIXES, is_outlines, outline_classes
from medrail.cases.layouts.rows import read_sheet
from medrail.cases.layouts.slides import find_slides, list_slides
from medrail.cases.listing import counted
from medrail.config import DataConfig, SlideConfig, Task
from medrail.errors import CaseError, ConfigError, DataError, MedrailError
from medrail.plan.layout import Layout, draft, told
from medrail.plan.listing import FolderListing
from medrail.read import slide_facts
from medrail.workspace import Workspace

_USUAL_UM = 0.5  # 20x: cells are told apart, and a tile of 256 shows 128 um
_MOST_TILES = 20_000
_COARSEST_UM = 4.0


def slide_layouts(listing: FolderListing) -> list[Layout]:
    """Classification and segmentation of tiles, where there are slides."""
    if not listing.slides:
        return []
    found = []
    for task, data, why, rank in _readings(listing):
        layout = _layout(listing, task, data, why, rank)
        if layout is not None:
            found.append(layout)
    return found


def _readings(listing: FolderListing) -> Iterator[tuple[Task, DataConfig, str, int]]:
    """The ways the slides may be labelled, the likeliest first."""
    root = str(listing.root)
    for name in listing.tables[:5]:
        try:
            sheet = read_sheet(listing.root / name)
        except DataError:
            continue
        data = DataConfig(kind="slides", path=root, labels=str(listing.root / name))
        if sheet.column("path") and sheet.column("annotation"):
            yield "segmentation", data, f"{name} names slides and what was drawn on them", -2
        if sheet.column("path") and (sheet.column("label") or sheet.column("annotation")):
            yield "classification", data, f"{name} names slides and their labels", -1
    data = DataConfig(kind="slides", path=root)
    beside = [name for name in listing.slides if _drawn(listing.root / name)]
    if beside:
        why = f"beside {counted(len(beside), 'slide')} lies GeoJSON of what was drawn on it"
        yield "segmentation", data, why, 1
        yield "classification", data, why, 2
    folders = {name.partition("/")[0] for name in listing.slides if "/" in name}
    if len(folders) > 1:
        shown = ", ".join(sorted(folders)[:4])
        yield "classification", data, f"slides lie in {len(folders)} folders that name a class: {shown}", 2


def _drawn(slide: Path) -> bool:
    return any(slide.with_suffix(ending).is_file() for ending in OUTLINE_SUFFIXES)


def _layout(listing: FolderListing, task: Task, data: DataConfig, why: str, rank: int) -> Layout | None:
    """The reading with a resolution that the slides have and a number of tiles that can be trained on."""
    workspace = Workspace(listing.root)
    try:
        slides, _ = find_slides(draft(task, data), workspace)
        if not slides:
            return None
        data = _with_outline_classes(task, data, [slide.annotation for slide in slides if slide.annotation])
        um, unsure = _resolution([slide.path for slide in slides])
        while True:
            data = data.model_copy(update={"slide": SlideConfig(um_per_px=um)})
            found = list_slides(draft(task, data), workspace, remember=False)
            if len(found.entries) <= _MOST_TILES or um >= _COARSEST_UM:
                break
            um = round(2 * um, 4)
    except (ConfigError, DataError) as error:
        if isinstance(error, MedrailError) and "medrail[slides]" in error.remedy:
            raise CaseError(
                f"{counted(len(listing.slides), 'whole slide')}, and {error.found}",
                where=str(listing.root),
                remedy=error.remedy,
            ) from None
        return None
    if not found.entries:
        return None
    tiles = counted(len(found.entries), "tile")
    unsure.append(
        f"slides are cut into {tiles} of {data.slide.tile_px} pixels of {um:g} um (data.slide); finer shows more of "
        "each cell, coarser more of its surroundings, with fewer tiles"
    )
    return Layout(task, data, found.entries, why, rank, (*unsure, *told(found.findings, listing.root)))


def _resolution(slides: list[Path]) -> tuple[float, list[str]]:
    """0.5 um a pixel, or what the coarsest slide has."""
    known, silent = [], []
    for path in slides:
        try:
            facts = slide_facts(path)
        except MedrailError as error:
            if "medrail[slides]" in error.remedy:
                raise
            continue
        if facts.um_per_px is None:
            silent.append(path.name)
        else:
            known.append(max(facts.um_per_px))
    coarsest = max(known, default=_USUAL_UM)
    unsure = []
    if silent:
        which = f"{silent[0]} and {len(silent) - 1} more" if len(silent) > 1 else silent[0]
        unsure.append(f"{which}: the file does not say how large its pixels are; set data.slide.scan_um_per_px")
    return (_USUAL_UM if coarsest <= _USUAL_UM * 1.02 else round(coarsest, 4)), unsure


def _with_outline_classes(task: Task, data: DataConfig, annotations: list[Path]) -> DataConfig:
    """Outlines name their classes; in segmentation what was not drawn on is the background before them."""
    if task != "segmentation" or not annotations or not all(map(is_outlines, annotations)):
        return data
    names = sorted({name for path in annotations for name in outline_classes(path)} - {"background"})
    return data.model_copy(update={"classes": ("background", *names)})
