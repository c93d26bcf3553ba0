"""Text burned into the pixels: what the DICOM header says (rules), and what the pixels look like (a detector).

The detector is classical: thin marks brighter or darker than what is around them, of one grey level, of equal height,
in a row. A single letter (the side marker of an X-ray) is a marker, not text. It finds most overlays and proves nothing
by finding none: handwriting, slanted or very large text, and text in the colour of its background pass it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from medrail.errors import MedrailError
from medrail.read.dicom.elements import read_values, read_whole
from medrail.types import Image, Voxels

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]

# Strokes wider than this, in pixels of the plane that is looked at, are no text to it.
_STROKE_PX = 13
# Of 255: how much a stroke stands out.
_CONTRAST = 40
_HEIGHT_PX = (6, 48)
# Of 255: marks are also looked for among the brightest values alone, so that letters part from what they cross.
_LEVELS = (0, 180, 235)
# Glyphs that make a row text; fewer are markers (L, R, AP).
_GLYPHS = 4
_LONGEST_PX = 2048
# Drawn letters end within a pixel: the outline's step is nearly the whole contrast (0.65 to 1 in burned texts of 10 to
# 40 px, before and after JPEG); what is photographed, scanned or resized ends softly (at most 0.62; three at 0.69).
_SHARP = {True: 0.64, False: 0.72}
_ROW_CONTRAST, _CLEAR_CONTRAST, _MANY_GLYPHS = 70, 100, 6
_PLANES = 3


@dataclass(frozen=True)
class TextBox:
    """One row of marks that look like text, in pixels of the image: left, top, width, height; ``glyphs`` about."""

    x: int
    y: int
    w: int
    h: int
    glyphs: int


# (what it is, pattern of the object's name or modality, why)
_RULES: tuple[tuple[str, str], ...] = (
    (r"secondary capture", "a secondary capture is often a picture of a screen"),
    (r"dose|\bSR\b", "dose reports are pictures of text"),
    (r"ultrasound", "ultrasound frames carry the operator's texts outside the region of the beam"),
    (r"digiti[sz]ed|film", "digitised films carry the labels of the film"),
    (r"x-ray angiographic|radiofluoroscopic", "angiography stations burn texts into stored screens"),
    (r"vl .*|video|ophthalmic|photograph", "cameras and their software write texts into the picture"),
)
_MODALITIES = {"US": "ultrasound", "OT": "secondary capture", "SC": "secondary capture", "XC": "photograph"}
_MODALITIES |= {"XA": "x-ray angiographic", "RF": "radiofluoroscopic", "ES": "video", "OP": "ophthalmic photograph"}


def rule_for(modality: str = "", burned_in: str = "", kind: str = "", scanner: str = "") -> str:
    """Why the header makes burned-in text likely; "" where it does not.

    Parameters
    ----------
    modality, burned_in:
        Modality and Burned In Annotation (PS3.3, C.7.6.1.1.5). "NO" there is not believed of kinds that often carry
        texts: it is written by the software that made the file, and no one checks it.
    kind:
        The name of the SOP class, as "Secondary Capture Image Storage".
    scanner:
        Manufacturer and model.
    """
    if burned_in.strip().upper() == "YES":
        return "Burned In Annotation is YES"
    said = f"{kind} {_MODALITIES.get(modality.strip().upper(), '')}".strip()
    for pattern, reason in _RULES:
        if re.search(pattern, said, re.IGNORECASE):
            return reason
    if re.search(r"film ?digiti[sz]er|vidar|lumisys|screen ?capture|paperport", scanner, re.IGNORECASE):
        return "the device digitises films or captures screens"
    return ""


def regions_in(dataset: Any) -> list[tuple[int, int, int, int]]:
    """(x0, y0, x1, y1) of Sequence of Ultrasound Regions (PS3.3, C.8.5.5); [] where there is none, or a broken one."""
    keywords = [f"RegionLocation{corner}" for corner in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
    try:
        items = read_values(dataset, "SequenceOfUltrasoundRegions")
        x0, y0, x1, y1 = zip(*([read_whole(item, keyword) for keyword in keywords] for item in items), strict=True)
    except (MedrailError, ValueError):
        return []
    return [box for box in zip(x0, y0, x1, y1, strict=True) if 0 <= box[0] <= box[2] and 0 <= box[1] <= box[3]]


def outside_regions(
    size: tuple[int, int], regions: Sequence[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    """The rows and columns that Sequence of Ultrasound Regions (PS3.3, C.8.5.5) leaves: there the texts stand.

    Parameters
    ----------
    size:
        Rows, columns of the frame.
    regions:
        (x0, y0, x1, y1) of each region, both ends inside it.

    Returns
    -------
    Rectangles (x, y, w, h) around the smallest box that holds all regions; none where there is no region.
    """
    if not regions:
        return []
    rows, columns = size
    x0, y0 = max(0, min(r[0] for r in regions)), max(0, min(r[1] for r in regions))
    x1 = min(columns, max(r[2] for r in regions) + 1)
    y1 = min(rows, max(r[3] for r in regions) + 1)
    around = [(0, 0, columns, y0), (0, y1, columns, rows - y1), (0, y0, x0, y1 - y0), (x1, y0, columns - x1, y1 - y0)]
    return [box for box in around if box[2] > 0 and box[3] > 0]


def text_in(image: Image) -> str:
    """Evidence of burned-in text, as "2 rows of text-like marks at the upper left, 180 x 24 px"; "" for none."""
    boxes = find_text(image)
    if not boxes:
        return ""
    _, h, w = image.grid
    x0, y0 = min(box.x for box in boxes), min(box.y for box in boxes)
    x1, y1 = max(box.x + box.w for box in boxes), max(box.y + box.h for box in boxes)
    rows = "1 row" if len(boxes) == 1 else f"{len(boxes)} rows"
    return f"{rows} of text-like marks {_position(x0 + x1, y0 + y1, 2 * w, 2 * h)}, {x1 - x0} x {y1 - y0} px"


def find_text(image: Image) -> list[TextBox]:
    """Rows of text in the first, middle and last plane of an image, the uppermost first."""
    depth = image.grid[0]
    found: list[TextBox] = []
    for d in sorted({0, depth // 2, depth - 1})[:_PLANES]:
        for box in text_in_plane(_grey(image.voxels[:, d])):
            if not any(_overlap(box, other) for other in found):
                found.append(box)
    return sorted(found, key=lambda box: (box.y, box.x))


def text_in_plane(plane: Bytes) -> list[TextBox]:
    """As ``find_text``, for grey values (H, W); looks again at half the size for larger letters."""
    found: list[TextBox] = []
    scale = max(1.0, max(plane.shape) / _LONGEST_PX)
    while max(plane.shape) / scale >= 24:
        h, w = (max(1, round(side / scale)) for side in plane.shape)
        looked = plane
        if scale != 1:
            looked = np.asarray(cv2.resize(plane, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
        for x, y, width, height, glyphs in _rows(looked):
            left, top, across, down = (round(side * scale) for side in (x, y, width, height))
            box = TextBox(left, top, across, down, glyphs)
            if not any(_overlap(box, other) for other in found):
                found.append(box)
        if max(plane.shape) / scale < 400:
            break
        scale *= 2
    return found


def _grey(plane: Voxels) -> Bytes:
    """(C, H, W) -> (H, W) uint8, stretched from the lowest value to the highest but for a few far ones."""
    values = plane.astype(np.float32)
    grey = np.nan_to_num(values.max(axis=0) if len(values) == 3 else values[0])
    low, high = np.percentile(grey, (0.1, 99.9))
    if high - low > (grey.max() - grey.min()) / 4:
        low, high = grey.min(), grey.max()
    stretched = (grey - low) * (255 / max(high - low, 1e-6))
    return np.asarray(np.clip(stretched, 0, 255), np.uint8)


def _rows(plane: Bytes) -> list[tuple[int, int, int, int, int]]:
    """(x, y, w, h, glyphs) of each row of marks, bright and dark ones; overlapping ones once."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE_PX, _STROKE_PX))
    edges = np.asarray(cv2.morphologyEx(plane, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), np.uint8)
    rows: list[tuple[int, int, int, int, int]] = []
    for shape, values in ((cv2.MORPH_TOPHAT, plane), (cv2.MORPH_BLACKHAT, 255 - plane)):
        hat = np.asarray(cv2.morphologyEx(plane, shape, kernel), np.uint8)
        for level in _LEVELS:
            marks = _marks(hat, values, edges, level)
            rows += [row for line in _lines(marks) if (row := _judged(marks[line], plane.shape))]
    return rows


def _marks(hat: Bytes, values: Bytes, edges: Bytes, level: int) -> Numbers:
    """(N, 8) of each connected mark that may be a letter or a word.

    Columns: x, y, w, h, grey level, contrast, stroke width, and how much of the contrast its outline passes at once.
    """
    mask = ((hat > _CONTRAST) & (values >= level)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    x, y, w, h, area = stats.T.astype(np.float64)
    low, high = _HEIGHT_PX
    letter = (h >= low) & (h <= high) & (w <= 40 * h) & (area >= 5)
    letter &= (area / (w * h) <= 0.8) | (w <= 0.4 * h + 1)
    letter[0] = False
    if not letter.any():
        return np.zeros((0, 8))
    distance = cv2.distanceTransform(mask, cv2.DIST_C, 3)
    inside = letter[labels]
    numbers = labels[inside]
    grey, contrast, half = (_largest(numbers, part[inside], count) for part in (values, hat, distance))
    outline = inside & (distance <= 1)
    edge = np.bincount(labels[outline], edges[outline], count) / np.maximum(
        np.bincount(labels[outline], None, count), 1
    )
    stroke = 2 * half - 1
    letter &= stroke <= 0.4 * h + 1
    sharp = edge / np.maximum(contrast, 1)
    return np.asarray(np.stack([x, y, w, h, grey, contrast, stroke, sharp], axis=1)[letter], np.float64)


def _largest(numbers: npt.NDArray[np.int32], values: npt.NDArray[np.generic], count: int) -> Numbers:
    largest = np.zeros(count)
    np.maximum.at(largest, numbers, values)
    return largest


def _lines(marks: Numbers) -> list[list[int]]:
    """Indices of marks that stand in one row: one after the other, of like height, level and contrast."""
    order = list(np.argsort(marks[:, 0]))
    lines: list[list[int]] = []
    for index in order:
        x, y, _, h, level, contrast, *_ = marks[index]
        for line in lines:
            px, py, pw, ph, plevel, pcontrast, *_ = marks[line[-1]]
            tall = max(h, ph)
            gap = x - (px + pw)
            if (
                gap <= 1.1 * tall
                and min(y + h, py + ph) - max(y, py) >= 0.5 * min(h, ph)
                and tall <= 1.9 * min(h, ph)
                and abs(level - plevel) <= 30
                and abs(contrast - pcontrast) <= 0.45 * max(contrast, pcontrast)
            ):
                line.append(index)
                break
        else:
            lines.append([index])
    return lines


def _judged(marks: Numbers, size: tuple[int, ...]) -> tuple[int, int, int, int, int] | None:
    """The box of a row if it is regular enough to be text."""
    x, y, w, h, level, contrast, stroke, sharp = marks.T
    tall = float(np.median(h))
    glyphs = int(np.maximum(1, np.round(w / (0.75 * tall))).sum())
    width = float((x + w).max() - x.min())
    if len(marks) < 3 or glyphs < _GLYPHS or width < 1.6 * tall:
        return None
    bottoms, tops = y + h, y
    tolerance = max(1.0, 0.12 * tall)
    on_line = max(float(np.mean(np.abs(edge - np.median(edge)) <= tolerance)) for edge in (bottoms, tops))
    even = float(np.mean(np.abs(h - tall) <= max(1.0, 0.2 * tall)))
    strokes = float(np.median(np.abs(stroke - np.median(stroke))))
    clear = glyphs >= _MANY_GLYPHS and np.median(contrast) >= _CLEAR_CONTRAST
    if np.median(sharp) < _SHARP[bool(clear)] or np.median(contrast) < _ROW_CONTRAST:
        return None
    if on_line < 0.7 or even < 0.5 or strokes > 1 or level.std() > 14:
        return None
    top, left = float(y.min()), float(x.min())
    return int(left), int(top), int(width), int(bottoms.max() - top), glyphs


def _overlap(a: TextBox, b: TextBox) -> bool:
    return a.x < b.x + b.w and b.x < a.x + a.w and a.y < b.y + b.h and b.y < a.y + a.h


def _position(x: int, y: int, w: int, h: int) -> str:
    across = "left" if x < w / 3 else "right" if x > 2 * w / 3 else ""
    down = "upper" if y < h / 3 else "lower" if y > 2 * h / 3 else ""
    if not across and not down:
        return "in the middle"
    return f"at the {' '.join(filter(None, (down, across)))}{'' if across else ' edge'}"
