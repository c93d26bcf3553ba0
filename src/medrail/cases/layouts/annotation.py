"""What was drawn on a slide, as class indices: a picture of any size over the whole slide, or GeoJSON outlines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medrail.cases.labels import nearest_class
from medrail.cases.listing import shown
from medrail.config import DataConfig
from medrail.errors import CaseError, ConfigError, GeometryError
from medrail.read import SlideFacts, open_label_picture
from medrail.read.guard import Guard

ClassIndices = npt.NDArray[np.int16]

NOTHING = -1  # the index where nothing was drawn
OUTLINE_SUFFIXES = (".geojson", ".json")
_LARGEST_GEOJSON_BYTES = 512 * 2**20
_ASPECT_TOLERANCE = 0.02
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Grid:
    """Where pixels lie on a slide: ``left``, ``top`` and ``step`` in pixels of its finest level, size in own pixels."""

    left: float
    top: float
    step: tuple[float, float]
    width: int
    height: int

    def centres(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """x of the columns' middles and y of the rows'."""
        columns, rows = np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64)
        return self.left + (columns + 0.5) * self.step[0], self.top + (rows + 0.5) * self.step[1]


@dataclass(frozen=True, eq=False)
class Outline:
    """One area: its class, and its rings (outer one and holes) as (n, 2) x and y in pixels of the finest level."""

    name: str
    rings: tuple[npt.NDArray[np.float64], ...]

    @property
    def box(self) -> tuple[float, float, float, float]:
        low, high = self.rings[0].min(axis=0), self.rings[0].max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def is_outlines(path: Path) -> bool:
    """Whether a slide's annotation is outlines (by its ending), not a picture of classes."""
    return path.suffix.lower() in OUTLINE_SUFFIXES


def class_indices(path: Path, slide: SlideFacts, grid: Grid, data: DataConfig) -> ClassIndices:
    """(height, width) of ``grid``: the index of the class drawn at each pixel's middle, ``NOTHING`` where none was.

    Where outlines overlap, the later one in the file counts. A picture is stretched over the slide; its values mean
    classes as ``data.mask_values`` or ``data.foreground_nonzero`` say; with ``mask_values``, other values are nothing.

    Raises
    ------
    CaseError
        For a class that is not in ``data.classes``, a value that means none, or a file that is no annotation.
    GeometryError
        If a picture has another shape than the slide.
    ReadError
        If a picture cannot be read.
    """
    if is_outlines(path):
        return _painted(outlines_of(path), grid, data.classes, path)
    picture = open_label_picture(path)
    _check_shape(picture.width, picture.height, slide, path)
    x, y = grid.centres()
    columns = np.floor(x * picture.width / slide.width).astype(np.int64)
    rows = np.floor(y * picture.height / slide.height).astype(np.int64)
    inside_x, inside_y = columns < picture.width, rows < picture.height
    found = np.full((grid.height, grid.width), NOTHING, np.int16)
    values = picture.values(rows[inside_y], columns[inside_x])
    found[np.ix_(inside_y, inside_x)] = _meaning(values, data, path)
    return found


def outline_classes(path: Path) -> tuple[str, ...]:
    """The names of the classes of a GeoJSON's areas, sorted.

    Raises
    ------
    CaseError
        If it is no GeoJSON with areas.
    """
    return tuple(sorted({outline.name for outline in outlines_of(path)}))


def outlines_of(path: Path) -> tuple[Outline, ...]:
    """The areas of a GeoJSON (RFC 7946; as QuPath exports it), in the file's order; those without a class are left out.

    Raises
    ------
    CaseError
        If it is no GeoJSON with areas.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise CaseError(f"cannot be read ({error.strerror})", where=str(path), remedy="Correct the path.") from None
    if status.st_size > _LARGEST_GEOJSON_BYTES:
        raise CaseError(f"is {status.st_size / 2**20:.0f} MB large", needed="at most 512 MB", where=str(path))
    return _parsed(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed(path: Path, size: int, mtime_ns: int) -> tuple[Outline, ...]:
    try:
        with Guard(path, "GeoJSON"):
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        found = tuple(_outlines(content))
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        found = ()
    if not found:
        raise CaseError(
            "holds no area with a class",
            needed="GeoJSON: features with a Polygon or MultiPolygon and properties.classification.name",
            where=str(path),
            remedy="Give the annotations a class and export them again, in pixels of the slide's finest level.",
        )
    return found


def _outlines(content: Any) -> Iterator[Outline]:
    features: Any = content.get("features", [content]) if isinstance(content, dict) else content
    for feature in features:
        name, geometry = _class_name(feature.get("properties") or {}), feature.get("geometry") or {}
        kind, coordinates = geometry.get("type"), geometry.get("coordinates")
        polygons: Any = {"Polygon": [coordinates], "MultiPolygon": coordinates or []}.get(str(kind), [])
        for rings in polygons if name else ():
            points = tuple(np.array([point[:2] for point in ring], dtype=np.float64) for ring in rings)
            if points and all(len(ring) > 2 and np.isfinite(ring).all() for ring in points):
                yield Outline(name, points)


def _class_name(properties: dict[str, Any]) -> str:
    given = properties.get("classification") or properties.get("class") or properties.get("label")
    if isinstance(given, dict):
        given = given.get("name")
    return str(given or "")


def _painted(outlines: Sequence[Outline], grid: Grid, classes: Sequence[str], path: Path) -> ClassIndices:
    found = np.full((grid.height, grid.width), NOTHING, np.int16)
    unknown = sorted({outline.name for outline in outlines} - set(classes))
    if unknown:
        raise CaseError(
            f"the class {unknown[0]!r} is not in data.classes",
            needed=shown(classes, 12),
            where=str(path),
            remedy=nearest_class(unknown[0], classes) or "Add it to data.classes, or leave it out of the export.",
        )
    right = grid.left + grid.width * grid.step[0]
    bottom = grid.top + grid.height * grid.step[1]
    corner, step, fine = np.array([grid.left, grid.top]), np.array(grid.step), 2**_SUBPIXEL_BITS
    for outline in outlines:
        left, top, most_x, most_y = outline.box
        if left < right and most_x > grid.left and top < bottom and most_y > grid.top:
            # OpenCV counts from the middle of the first pixel.
            rings = [np.rint((((ring - corner) / step) - 0.5) * fine).astype(np.int32) for ring in outline.rings]
            cv2.fillPoly(found, rings, classes.index(outline.name), shift=_SUBPIXEL_BITS)
    return found


def _meaning(values: npt.NDArray[Any], data: DataConfig, path: Path) -> ClassIndices:
    if not data.classes:
        raise ConfigError(
            "no classes", needed="data.classes, to say what the values of the masks mean", where=str(path)
        )
    if data.foreground_nonzero:
        return np.asarray(values != 0, dtype=np.int16)
    known = data.mask_values or tuple(range(len(data.classes)))
    indices = np.full(values.shape, NOTHING, np.int16)
    for index, value in enumerate(known):
        indices[values == value] = index
    if not data.mask_values and (indices == NOTHING).any():
        unknown = np.unique(values[indices == NOTHING])
        raise CaseError(
            f"the mask has values that mean no class: {shown(unknown, 8)}",
            needed=f"{shown(known, 8)} for {shown(data.classes, 8)}",
            where=str(path),
            remedy="Set data.mask_values to the value of each class; other values then count as not annotated.",
        )
    return indices


def _check_shape(width: int, height: int, slide: SlideFacts, path: Path) -> None:
    """A mask's pixel must be as wide as high, but for the rounding to whole pixels."""
    across, down = slide.width / width, slide.height / height
    rounding = across / slide.width + down / slide.height
    if abs(across / down - 1) > _ASPECT_TOLERANCE + 2 * rounding:
        raise GeometryError(
            f"the mask is {width} x {height} and its slide {slide.width} x {slide.height}: not of one shape",
            needed="a mask over the whole slide, at any resolution",
            where=str(path),
            remedy="Export it for the whole slide, or correct which mask belongs to which slide.",
        )
