"""A bundle and a whole slide -> answers for all of it: a heat map or a stitched mask, a table of tiles, a summary.

The slide is cut into tiles as the bundle's network was trained (``NetworkSpec.slide``). Memory holds one band of tiles,
whatever the slide's size.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from medrail.bundle import Predictor
from medrail.bundle.overlay import COLOURS
from medrail.cases.layouts.tiles import SlideTiles, tiles_of
from medrail.errors import BundleError, ReadError
from medrail.read import Place, read
from medrail.stitch import stitch
from medrail.types import Image, Prediction, Progress
from medrail.workspace import write_json

RGB = npt.NDArray[np.uint8]

_THUMBNAIL_PX = 1600
_TIFF_TILE_PX = 256
_TINT = 0.6
_GLASS_TINT = 0.3  # of the tint of tissue
_LINE_PX = 22


@dataclass(frozen=True)
class SlideAnswer:
    """What was found on a slide.

    prediction:
        Classification: the mean probabilities over the tissue, with the mean score of likeness to the training data; no
        conformal set, which was calibrated for tiles. Segmentation: without a mask, which is in a file.
    summary:
        What NAME_slide.json holds.
    """

    prediction: Prediction
    files: tuple[Path, ...]
    summary: Mapping[str, Any]

    @property
    def areas_mm2(self) -> Mapping[str, float]:
        """Segmentation: the area of each class but the background; else empty."""
        areas: Mapping[str, float] = self.summary.get("areas_mm2", {})
        return areas


def predict_slide(
    predictor: Predictor, path: Path, out: Path, name: str, *, overlays: bool = True, progress: Progress | None = None
) -> SlideAnswer:
    """Predict every tile with enough tissue and put the answers together.

    Writes ``NAME_slide.json``; for classification ``NAME_tiles.csv`` and the heat map ``NAME.png``, for segmentation
    the mask ``NAME_mask.tif`` (class indices, tiled, with its resolution) and the overlay ``NAME.png``.

    Raises
    ------
    ReadError
        If the slide cannot be read, or has no tile with enough tissue.
    BundleError
        If the network was not trained on tiles of slides.
    InputError, PrepareError
        If the network does not take such tiles.
    """
    if predictor.spec.slide is None:
        raise BundleError(
            "the network was not trained on tiles of slides, so it is not known at which resolution to read one",
            where=str(path),
            remedy="Train with data.kind: slides, or give it single pictures.",
        )
    tiles = tiles_of(path, predictor.spec.slide)
    if not len(tiles):
        raise ReadError(
            "no tissue was found on this slide",
            needed=f"a tile with at least {predictor.spec.slide.min_tissue:.0%} of tissue",
            where=str(path),
            remedy="Look at it; a network for such slides must be trained with a lower data.slide.min_tissue.",
        )
    task = _classified if predictor.spec.task == "classification" else _segmented
    return task(predictor, path, tiles, out / name, overlays, progress)


def _classified(
    predictor: Predictor, path: Path, tiles: SlideTiles, stem: Path, overlays: bool, progress: Progress | None
) -> SlideAnswer:
    classes = predictor.spec.classes
    table, picture, summary_file = (_beside(stem, ending) for ending in ("_tiles.csv", ".png", "_slide.json"))
    heat = _Heat(tiles, len(classes))
    means, shares, weight = np.zeros(len(classes)), np.zeros(len(classes)), 0.0
    likeness = _Likeness(predictor)
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        head = ["tile", "x", "y", "tissue", "class_name", *(f"p_{name}" for name in classes), *likeness.columns]
        writer.writerow(head)
        for index in range(len(tiles)):
            place, tissue = tiles.place(index), float(tiles.tissue[index])
            answer = predictor(read(path, str(place), predictor.spec.read_options))
            values = np.array([answer.probabilities[name] for name in classes])
            best = classes.index(answer.class_name or "")
            row = [index, place.x, place.y, f"{tissue:.4f}", classes[best], *(f"{v:.6f}" for v in values)]
            heat.add(index, values)
            counted = max(tissue, 1e-6)  # with min_tissue: 0 a slide may have none
            writer.writerow([*row, *likeness.add(answer, counted)])
            means, weight = means + counted * values, weight + counted
            shares[best] += counted
            if progress:
                progress(index + 1, len(tiles), f"{path.name} {index + 1}")
    probabilities = {name: float(value) for name, value in zip(classes, means / weight, strict=True)}
    summary = _summary(predictor, path, tiles) | {
        "mean_probability": probabilities,
        "share_of_tissue": {name: float(value) for name, value in zip(classes, shares / weight, strict=True)},
        **likeness.summary,
    }
    write_json(summary_file, summary)
    files = [summary_file, table]
    if overlays:
        shown = [f"{name} {share:.0%}" for name, share in summary["share_of_tissue"].items()]
        _save(picture, heat.painted(_thumbnail(path, tiles, heat.um)), shown)
        files.append(picture)
    decision = predictor.calibration.decide(probabilities) if predictor.calibration else ""
    prediction = Prediction("classification", classes, predictor.bundle_id, probabilities, decision=decision)
    return SlideAnswer(likeness.told(prediction), tuple(files), summary)


class _Likeness:
    """How like the training data the tiles are, where the bundle knows: the mean score and the share that is not."""

    def __init__(self, predictor: Predictor) -> None:
        self.ood = predictor.calibration.ood if predictor.calibration else None
        self.columns = ["ood_score"] if self.ood else []
        self._score, self._unlike, self._weight = 0.0, 0.0, 0.0

    def add(self, tile: Prediction, weight: float) -> list[str]:
        """The cells of the tile's row."""
        if tile.ood_score is None:
            return []
        self._score += weight * tile.ood_score
        self._unlike += weight * bool(tile.unlike_training)
        self._weight += weight
        return [f"{tile.ood_score:.6f}"]

    @property
    def summary(self) -> dict[str, float]:
        if not self._weight:
            return {}
        return {"ood_score": self._score / self._weight, "share_unlike_training": self._unlike / self._weight}

    def told(self, slide: Prediction) -> Prediction:
        """The slide is unlike the training data where the mean over its tissue is."""
        if self.ood is None or not self._weight:
            return slide
        score = self._score / self._weight
        return replace(slide, ood_score=score, unlike_training=score > self.ood.threshold)


class _Heat:
    """Probabilities over a thumbnail; where tiles overlap, their mean."""

    def __init__(self, tiles: SlideTiles, classes: int) -> None:
        self.tiles = tiles
        self.um = _thumbnail_um(tiles)
        width, height = tiles.facts.size_at(self.um, tiles.scan_um_per_px)
        self.sums = np.zeros((classes, height, width), np.float32)
        self.counts = np.zeros((height, width), np.float32)

    def add(self, index: int, probabilities: npt.NDArray[np.float64]) -> None:
        """Each tile has at least one pixel; neighbours share none unless they overlap."""
        scale = self.tiles.um_per_px / self.um
        left, top = float(self.tiles.left_px[index]) * scale, float(self.tiles.top_px[index]) * scale
        side = self.tiles.grid.tile_px * scale
        rows = slice(round(top), max(round(top) + 1, round(top + side)))
        columns = slice(round(left), max(round(left) + 1, round(left + side)))
        self.sums[:, rows, columns] += probabilities.astype(np.float32)[:, None, None]
        self.counts[rows, columns] += 1

    def painted(self, thumbnail: RGB) -> RGB:
        """The most probable class's colour over the tissue, the stronger, the more probable."""
        means = self.sums / np.maximum(self.counts, 1)
        best = means.argmax(axis=0)
        colours = np.array([class_colour(index) for index in range(len(means))], np.float32)[best]
        tint = (_TINT * means.max(axis=0) * (self.counts > 0) * self._strength())[..., None]
        return np.asarray(np.rint(thumbnail * (1 - tint) + colours * tint), dtype=np.uint8)

    def _strength(self) -> npt.NDArray[np.float32]:
        """1 on tissue, less on the glass around it."""
        height, width = self.counts.shape
        mask = Picture.fromarray(self.tiles.mask.mask).resize((width, height), Picture.Resampling.NEAREST)
        return np.where(np.asarray(mask), 1, _GLASS_TINT).astype(np.float32)


def _segmented(
    predictor: Predictor, path: Path, tiles: SlideTiles, stem: Path, overlays: bool, progress: Progress | None
) -> SlideAnswer:
    import tifffile

    classes = predictor.spec.classes
    mask_file, picture, summary_file = (_beside(stem, ending) for ending in ("_mask.tif", ".png", "_slide.json"))
    small = _SmallLabels(tiles)
    counts = np.zeros(len(classes), np.int64)
    partial = _beside(stem, "_mask.tif.partial")
    per_cm = 1e4 / tiles.um_per_px
    try:
        tifffile.imwrite(
            partial,
            _tiff_tiles(_labels(predictor, path, tiles, progress), tiles, counts, small),
            shape=(tiles.grid.height, tiles.grid.width),
            dtype=np.uint8,
            tile=(_TIFF_TILE_PX, _TIFF_TILE_PX),
            compression="zlib",
            photometric="minisblack",
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            bigtiff=tiles.grid.height * tiles.grid.width > 2**31,
            metadata=None,
        )
        partial.replace(mask_file)
    finally:
        partial.unlink(missing_ok=True)
    pixel_mm2 = (tiles.um_per_px / 1000) ** 2
    areas = {name: float(count) * pixel_mm2 for name, count in zip(classes[1:], counts[1:], strict=True)}
    summary = _summary(predictor, path, tiles) | {"areas_mm2": areas}
    write_json(summary_file, summary)
    files = [summary_file, mask_file]
    if overlays:
        shown = ["", *(f"{name} {area:.3f} mm2" for name, area in areas.items())]
        _save(picture, small.painted(_thumbnail(path, tiles, small.um)), shown)
        files.append(picture)
    prediction = Prediction("segmentation", classes, predictor.bundle_id)
    return SlideAnswer(prediction, tuple(files), summary)


def _labels(
    predictor: Predictor, path: Path, tiles: SlideTiles, progress: Progress | None
) -> Iterator[npt.NDArray[np.uint8]]:
    """Class indices of the whole slide, a band of rows at a time; what no tile covers is background."""
    index_of = {(int(left), int(top)): n for n, (left, top) in enumerate(zip(tiles.left_px, tiles.top_px, strict=True))}
    options = predictor.spec.read_options

    def answer(left: int, top: int) -> npt.NDArray[np.float32]:
        index = index_of[left, top]
        if progress:
            progress(index + 1, len(tiles), f"{path.name} {index + 1}")
        return predictor.on_raw_grid(read(path, str(tiles.place(index)), options))[:, 0]

    return stitch(tiles.grid, len(predictor.spec.classes), index_of, answer, _most_probable)


def _most_probable(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.asarray(probabilities.argmax(axis=0), dtype=np.uint8)


def _tiff_tiles(
    bands: Iterator[npt.NDArray[np.uint8]], tiles: SlideTiles, counts: npt.NDArray[np.int64], small: _SmallLabels
) -> Iterator[npt.NDArray[np.uint8]]:
    """Bands of any height -> tiles of the TIFF, row by row; on the way classes are counted and the overlay is drawn."""
    width = tiles.grid.width
    padded = math.ceil(width / _TIFF_TILE_PX) * _TIFF_TILE_PX
    waiting, top = np.zeros((0, width), np.uint8), 0
    for band in bands:
        counts += np.bincount(band.ravel(), minlength=len(counts))
        small.take(band, top)
        top += len(band)
        waiting = np.concatenate([waiting, band])
        while len(waiting) >= _TIFF_TILE_PX or (len(waiting) and top == tiles.grid.height):
            rows = np.zeros((_TIFF_TILE_PX, padded), np.uint8)
            taken = waiting[:_TIFF_TILE_PX]
            rows[: len(taken), :width] = taken
            for left in range(0, padded, _TIFF_TILE_PX):
                yield rows[:, left : left + _TIFF_TILE_PX]
            waiting = waiting[_TIFF_TILE_PX:]


class _SmallLabels:
    """The mask as large as the thumbnail: the class at the middle of each of its pixels."""

    def __init__(self, tiles: SlideTiles) -> None:
        self.um = _thumbnail_um(tiles)
        width, height = tiles.facts.size_at(self.um, tiles.scan_um_per_px)
        self.labels = np.zeros((height, width), np.uint8)
        step = self.um / tiles.um_per_px
        self._rows = np.minimum(((np.arange(height) + 0.5) * step).astype(np.int64), tiles.grid.height - 1)
        self._columns = np.minimum(((np.arange(width) + 0.5) * step).astype(np.int64), tiles.grid.width - 1)

    def take(self, band: npt.NDArray[np.uint8], top: int) -> None:
        here = np.flatnonzero((self._rows >= top) & (self._rows < top + len(band)))
        self.labels[here] = band[np.ix_(self._rows[here] - top, self._columns)]

    def painted(self, thumbnail: RGB) -> RGB:
        colours = np.array([(0, 0, 0), *(class_colour(index + 1) for index in range(255))], np.float32)[self.labels]
        tint = (_TINT * (self.labels > 0))[..., None]
        return np.asarray(np.rint(thumbnail * (1 - tint) + colours * tint), dtype=np.uint8)


def class_colour(index: int) -> tuple[int, int, int]:
    """The colour of a class in heat maps and overlays."""
    return COLOURS[(index - 1) % len(COLOURS)]


def _thumbnail_um(tiles: SlideTiles) -> float:
    longest = max(tiles.facts.width * tiles.um[0], tiles.facts.height * tiles.um[1])
    return round(max(*tiles.um, longest / _THUMBNAIL_PX), 6)


def _thumbnail(path: Path, tiles: SlideTiles, um: float) -> RGB:
    picture: Image = read(path, str(Place(um, scan_um_per_px=tiles.scan_um_per_px)))
    return np.moveaxis(picture.voxels[:, 0], 0, -1)


def _summary(predictor: Predictor, path: Path, tiles: SlideTiles) -> dict[str, Any]:
    return {
        "slide": path.name,
        "bundle_id": predictor.bundle_id,
        "classes": list(predictor.spec.classes),
        "um_per_px": tiles.um_per_px,
        "width_px": tiles.grid.width,
        "height_px": tiles.grid.height,
        "tiles": len(tiles),
        "tissue_mm2": tiles.mask.area_mm2,
    }


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _save(path: Path, picture: RGB, names: list[str]) -> None:
    """A PNG with a line below for each class that has a name, in its colour."""
    height, width = picture.shape[:2]
    lines = [(index, text) for index, text in enumerate(names) if text]
    font = ImageFont.load_default(14)
    wide = max(width, *(round(font.getlength(text)) + 34 for _, text in lines))
    sheet = Picture.new("RGB", (wide, height + _LINE_PX * len(lines)))
    sheet.paste(Picture.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(sheet)
    for line, (index, text) in enumerate(lines):
        top = height + line * _LINE_PX
        draw.rectangle((6, top + 5, 20, top + 17), fill=class_colour(index))
        draw.text((28, top + 3), text, fill="white", font=font)
    sheet.save(path, format="PNG")
