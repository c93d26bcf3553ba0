"""Whole slides: every slide is cut into tiles, and each tile with enough tissue is a case.

The target of a tile is its slide's class, the class that was drawn over most of its tissue, or (segmentation) what was
drawn on it. They come from a table (``data.labels``), from annotations beside the slides (``slide.geojson``, or
``data.mask_suffix``), or from class folders. All tiles of a slide are of one patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from medrail.cases.fingerprint import FileHashes
from medrail.cases.layouts.annotation import (
    NOTHING,
    OUTLINE_SUFFIXES,
    ClassIndices,
    Grid,
    class_indices,
    is_outlines,
    outline_classes,
)
from medrail.cases.layouts.csv_list import existing
from medrail.cases.layouts.rows import Row, Sheet, read_sheet
from medrail.cases.layouts.tiles import SlideTiles, tiles_of
from medrail.cases.listing import (
    Entry,
    Finding,
    Listing,
    correct_path,
    existing_folder,
    files_below,
    fold_named,
    matching,
    none_found,
    pattern_search,
    split_named,
)
from medrail.config import Config, DataConfig, did_you_mean
from medrail.errors import CaseError, ConfigError, MedrailError
from medrail.read import SLIDE_SUFFIXES, Tissue, is_slide
from medrail.types import SPLITS, SplitName
from medrail.workspace import Workspace

_MASK_ENDINGS = (".tif", ".tiff", ".png")
_TIFF_ENDINGS = (".tif", ".tiff")


@dataclass(frozen=True)
class Slide:
    """One slide and what is said of it.

    name:
        Posix path below ``data.path``.
    label:
        Its class; "" where there is none.
    annotation:
        The file of what was drawn on it, or None.
    scan_um_per_px:
        As the table says; None: as the file says.
    """

    path: Path
    name: str
    label: str = ""
    annotation: Path | None = None
    patient: str = ""
    split: SplitName | None = None
    centre: str = ""
    fold: int | None = None
    scan_um_per_px: float | None = None
    where: str = ""


def list_slides(config: Config, workspace: Workspace, *, remember: bool = True) -> Listing:
    """One entry a tile; slides that cannot be read are findings, and the others go on.

    Parameters
    ----------
    remember:
        Whether tissue masks are kept in the workspace, so that unchanged slides are not looked at again.

    Raises
    ------
    ConfigError
        If ``data.path`` is no folder.
    CaseError
        If there is no slide at all, or the table lacks a column.
    ReadError
        If OpenSlide is not installed.
    """
    slides, findings = find_slides(config, workspace)
    entries: list[Entry] = []
    with FileHashes.of(workspace) as hashes:
        for slide in slides:
            try:
                entries += tile_entries(slide, config, hashes if remember else None, findings)
            except MedrailError as error:
                if "medrail[slides]" in error.remedy:
                    raise
                findings.append(_unreadable(slide, error))
    return Listing(tuple(entries), tuple(findings))


def find_slides(config: Config, workspace: Workspace) -> tuple[list[Slide], list[Finding]]:
    """The slides with what is said of them, and what is wrong; none is opened for reading.

    Raises
    ------
    ConfigError, CaseError
        As ``list_slides``.
    """
    data = config.data
    root = existing_folder(workspace.source(data.path), "data.path", data.path)
    if data.labels:
        slides, findings = _from_table(root, config, workspace)
    else:
        slides, findings = _from_folders(root, config)
    if not slides and not findings:
        raise none_found(root, "slide", "data.path needs slides: SVS, NDPI, MRXS, SCN, tiled TIFF, DICOM, ...")
    pattern = pattern_search(data, "patient")
    if not pattern and len(slides) > 1 and not any(slide.patient for slide in slides):
        what = "it is not known which slides are of the same patient; each counts as a patient by itself"
        remedy = "Set data.patient_pattern, or a column patient in data.labels, if any patient has several slides."
        findings.append(Finding("patient_unknown", "data", what, remedy, "warn"))
    named = []
    for slide in slides:
        found = pattern.search(slide.name) if pattern and not slide.patient else None
        named.append(replace(slide, patient=slide.patient or (found.group(1) if found else "") or slide.name))
    return named, findings


def tile_entries(slide: Slide, config: Config, hashes: FileHashes | None, findings: list[Finding]) -> list[Entry]:
    """An entry for each tile of a slide that has enough tissue and a target.

    Raises
    ------
    MedrailError
        If the slide or its annotation cannot be read.
    """
    tiles = tiles_of(slide.path, config.data.slide, slide.scan_um_per_px, hashes)
    targets = _targets(slide, tiles, config)
    if not len(tiles):
        what = f"no tile has {config.data.slide.min_tissue:.0%} of tissue"
        findings.append(Finding("no_tissue", str(slide.path), what, "Look at it; lower data.slide.min_tissue.", "warn"))
    elif not any(targets):
        what = "no class is drawn over more than half of the tissue of any tile"
        findings.append(Finding("unlabelled", str(slide.annotation), what, "Draw larger areas.", "warn"))
    entries = []
    for index, target in enumerate(targets):
        if target:
            place = tiles.place(index)
            name = f"{slide.name}/x{place.x}y{place.y}"
            entries.append(
                Entry(
                    slide.path,
                    name,
                    target,
                    slide.split,
                    slide.patient,
                    str(place),
                    where=slide.where,
                    centre=slide.centre,
                    fold=slide.fold,
                )
            )
    return entries


def _targets(slide: Slide, tiles: SlideTiles, config: Config) -> list[str]:
    """The target of each tile; "" where what was drawn gives it none."""
    if slide.annotation is None:
        return [slide.label] * len(tiles)
    if config.task == "segmentation":
        return [str(slide.annotation)] * len(tiles)
    data = config.data
    if not data.classes and is_outlines(slide.annotation):
        data = data.model_copy(update={"classes": outline_classes(slide.annotation)})
    mask = tiles.mask
    step = (mask.um_per_px / tiles.um[0], mask.um_per_px / tiles.um[1])
    drawn = class_indices(slide.annotation, tiles.facts, Grid(0, 0, step, *mask.mask.shape[::-1]), data)
    return _majority(drawn, tiles, data.classes)


def _majority(drawn: ClassIndices, tiles: SlideTiles, classes: Sequence[str]) -> list[str]:
    """The class over more than half of each tile's tissue; of a tile without tissue, over more than half of it."""
    stained = tiles.mask.mask
    best, targets = np.zeros(len(tiles)), [""] * len(tiles)
    bare = tiles.tissue == 0
    for index in np.unique(drawn[drawn != NOTHING]).tolist():
        of_tissue, of_all = (
            tiles.shares(Tissue(mask, tiles.mask.um_per_px)) for mask in ((drawn == index) & stained, drawn == index)
        )
        share = np.where(bare, of_all, of_tissue / np.where(bare, 1, tiles.tissue))
        for tile in np.flatnonzero((share > 0.5) & (share > best)).tolist():
            targets[tile] = classes[index]
        best = np.maximum(best, share)
    return targets


def _from_folders(root: Path, config: Config) -> tuple[list[Slide], list[Finding]]:
    slides, findings = [], []
    for path, below in _candidates(root, config.data):
        if not is_slide(path) and path.suffix.lower() in _TIFF_ENDINGS:
            remedy = "Save it as a tiled pyramidal TIFF, or move it out of data.path."
            findings.append(Finding("ignored_file", str(path), "is a TIFF, but no whole slide", remedy, "warn"))
            continue
        slide = _described(path, below, root, config.data)
        if config.task == "segmentation" and slide.annotation is None:
            remedy = "Draw on it and export GeoJSON beside it, or take it out of data.path."
            findings.append(Finding("missing_mask", str(path), "there is no annotation beside this slide", remedy))
        elif not slide.annotation and not slide.label:
            remedy = "Put it into its class's folder, export GeoJSON beside it, or give data.labels a table."
            findings.append(Finding("unlabelled", str(path), "no class is known for this slide", remedy))
        else:
            slides.append(slide)
    return slides, findings


def _candidates(root: Path, data: DataConfig) -> Iterator[tuple[Path, PurePosixPath]]:
    """Files that may be slides; of a slide in DICOM, the first file of its folder."""
    chosen, seen = matching(root, data.pattern), set()
    for path, below in files_below(root):
        suffix = path.suffix.lower()
        if chosen is not None and path not in chosen:
            continue
        if suffix in _TIFF_ENDINGS and data.mask_suffix and path.stem.endswith(data.mask_suffix):
            continue
        if suffix in SLIDE_SUFFIXES or suffix in _TIFF_ENDINGS:
            yield path, below
        elif suffix in (".dcm", "") and path.parent not in seen and is_slide(path):
            seen.add(path.parent)
            yield path, below


def _described(path: Path, below: PurePosixPath, root: Path, data: DataConfig) -> Slide:
    """What folders and files beside it say: PATH/[SPLIT/]CLASS/slide.svs, slide.geojson, slideSUFFIX.png."""
    folders = list(below.parts[:-1])
    split = next((found for name in folders if (found := split_named(name))), None)
    classes = [name for name in folders if not split_named(name)]
    folder = root / data.mask_path / below.parent if data.mask_path else path.parent
    names = [f"{path.stem}{data.mask_suffix}{ending}" for ending in OUTLINE_SUFFIXES]
    if data.mask_suffix or data.mask_path:
        names += [f"{path.stem}{data.mask_suffix}{ending}" for ending in _MASK_ENDINGS]
    beside = (root / data.mask_path, folder) if data.mask_path else (folder,)
    annotation = next((place / name for place in beside for name in names if (place / name).is_file()), None)
    where = str(path.parent) if classes and not annotation else ""
    return Slide(path, below.as_posix(), classes[0] if classes else "", annotation, split=split, where=where)


def _from_table(root: Path, config: Config, workspace: Workspace) -> tuple[list[Slide], list[Finding]]:
    file = workspace.source(config.data.labels)
    if not file.is_file():
        remedy = correct_path("data.labels", config.data.labels)
        raise CaseError("there is no such file", where=str(file), needed="a CSV file", remedy=remedy)
    table = _Table(read_sheet(file), root, config)
    for row in table.sheet.rows:
        table.take(row)
    return table.slides, [*table.findings, *table.left_over()]


class _Table:
    """Rows -> slides; what stops a row from being one is a finding at its line."""

    def __init__(self, sheet: Sheet, root: Path, config: Config) -> None:
        self.sheet, self.root, self.config = sheet, root, config
        names = ("path", "label", "annotation", "patient", "split", "centre", "fold", "um_per_px")
        self.columns = {name: sheet.column(name) for name in names}
        sheet.need("path")
        if config.task == "segmentation":
            self.columns["annotation"] = self.columns["annotation"] or sheet.need("mask")
        elif not self.columns["annotation"]:
            sheet.need("label")
        self.slides: list[Slide] = []
        self.findings: list[Finding] = []
        self._found = {below.as_posix(): path for path, below in _candidates(root, config.data)}
        self._lines: dict[Path, int] = {}

    def take(self, row: Row) -> None:
        before = len(self.findings)
        path, annotation = self._slide(row), self._annotation(row)
        split, scan = self._split(row), self._um(row)
        label = self._cell(row, "label")
        if self.config.task == "segmentation" or (not label and annotation is None):
            self._need_annotation(row, annotation)
        if path is None or len(self.findings) > before:
            return
        name = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        self.slides.append(
            Slide(
                path,
                name.as_posix().lstrip("/"),
                label,
                annotation,
                self._cell(row, "patient"),
                split,
                self._cell(row, "centre"),
                fold_named(self._cell(row, "fold")),
                scan,
                self.sheet.where(row),
            )
        )

    def left_over(self) -> list[Finding]:
        """Slides below ``data.path`` that no row names."""
        drawn = {slide.annotation for slide in self.slides}
        left = [path for path in self._found.values() if path not in self._lines and path not in drawn]
        what, remedy = "no row names this slide; it is left out", f"Add it to {self.sheet.path.name}, or move it away."
        return [Finding("unlabelled", str(path), what, remedy, "warn") for path in left if is_slide(path)]

    def _cell(self, row: Row, name: str) -> str:
        return self.sheet.cell(row, self.columns[name])

    def _add(self, row: Row, defect: str, what: str, remedy: str) -> None:
        self.findings.append(Finding(defect, self.sheet.where(row), what, remedy))

    def _slide(self, row: Row) -> Path | None:
        text, column = self._cell(row, "path"), self.columns["path"]
        if not text:
            self._add(row, "missing_file", f"the column {column!r} is empty", "Name the slide or delete the row.")
            return None
        path = existing(self.root, text) or existing(self.sheet.path.parent, text) or self._by_name(text)
        if path is None:
            remedy = did_you_mean(text, tuple(self._found)) or f"Paths are relative to {self.root}."
            self._add(row, "missing_file", f"there is no slide {text!r}", remedy)
            return None
        first = self._lines.setdefault(path, row.line)
        if first != row.line:
            self._add(row, "repeated_row", f"this slide stands in line {first} already", "Delete one of the two rows.")
        return path

    def _by_name(self, text: str) -> Path | None:
        """The only slide with this name, with or without folder and suffix."""
        named = [
            path for below, path in self._found.items() if text in (path.name, path.stem, below.rpartition(".")[0])
        ]
        return named[0] if len(named) == 1 else None

    def _annotation(self, row: Row) -> Path | None:
        text = self._cell(row, "annotation")
        if not text:
            return None
        path = existing(self.sheet.path.parent, text) or existing(self.root, text)
        if path is None:
            remedy = f"Correct the column {self.columns['annotation']!r}."
            self._add(row, "missing_mask", f"there is no annotation {text!r}", remedy)
        return path

    def _need_annotation(self, row: Row, annotation: Path | None) -> None:
        if annotation is None and not self._cell(row, "annotation"):
            self._add(row, "unlabelled", "neither label nor annotation", "Fill one of them or delete the row.")

    def _split(self, row: Row) -> SplitName | None:
        text = self._cell(row, "split")
        split = split_named(text) if text else None
        if text and split is None:
            column = self.columns["split"]
            self._add(row, "bad_split", f"{text!r} in the column {column!r} is no split", did_you_mean(text, SPLITS))
        return split

    def _um(self, row: Row) -> float | None:
        text = self._cell(row, "um_per_px")
        try:
            um = float(text) if text else None
        except ValueError:
            um = 0.0
        if um is not None and not 0.01 <= um <= 20:
            what = f"{text!r} in the column {self.columns['um_per_px']!r} is no size of a pixel"
            self._add(row, "bad_um_per_px", what, "Write micrometres, as 0.25.")
        return um


def _unreadable(slide: Slide, error: MedrailError) -> Finding:
    where = error.where or str(slide.path)
    defect = "unreadable_mask" if slide.annotation and where == str(slide.annotation) else "unreadable_slide"
    what = f"{error.found}; needed: {error.needed}" if error.needed else error.found
    if isinstance(error, ConfigError):
        return Finding("bad_annotation", where, what, error.remedy)
    return Finding(defect, where, what, error.remedy or "Repair it, or take it out of the data.", "warn")
