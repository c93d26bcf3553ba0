"""What a person looks at: the image, with a mask or a map of evidence laid over it, as one PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from medrail.errors import GeometryError
from medrail.types import Geometry, Image, Voxels

# Okabe and Ito's palette, which people with any common colour vision tell apart, brightest hues first.
COLOURS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (213, 94, 0),
    (0, 114, 178),
)
_TINT = 0.35
_HEAT_TINT = 0.65
_GAP_PX = 4
_SOFT_TISSUE_HU = (-160.0, 240.0)
_DISPLAY_CODES = ("I", "P", "L")  # head at the top, face at the top or left, the patient's right at the left
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Plane:
    """Which voxels one panel shows: ``axis`` is the normal, ``index`` the slice; rows and columns are the other two."""

    axis: int
    index: int


def overlay_png(
    image: Image,
    mask: Image | None = None,
    *,
    truth: Image | None = None,
    heat: Image | None = None,
    caption: str = "",
    window: tuple[float, float] | None = None,
    panel_px: int = 384,
) -> bytes:
    """Draw an image for a person.

    A volume is shown as axial, coronal and sagittal plane in radiological display: the patient's right at the left,
    anterior at the top or left, superior at the top; letters at the edges say so. Each plane is the one with the most
    foreground of ``mask`` and ``truth``, the one with the most that speaks for or against in ``heat``, or the middle
    one. Pixels are shown with their true aspect ratio in mm. A
    picture, or a volume without geometry, is shown as it is stored.

    Parameters
    ----------
    image:
        (C, D, H, W); three channels of a stored picture are colour, otherwise the first channel is shown.
    mask:
        Class indices (1, D, H, W) on the image's grid; each class above 0 is tinted and outlined in its own colour.
    truth:
        A reference mask on the same grid, drawn as a white line with a dark rim.
    heat:
        Numbers (1, D, H, W) on the image's grid, as ``Evidence.values``: orange where positive, blue where negative,
        the stronger, the farther from 0.
    caption:
        A line of text below.
    window:
        (low, high) values shown as black and white. Default: 0 to 255 for 8-bit pictures, -160 to 240 HU for CT, and
        the 0.5th to 99.5th percentile of what is shown for all else.
    panel_px:
        Length of the longest side of a panel.

    Raises
    ------
    GeometryError
        If a mask is on another grid than the image.
    """
    for other in (mask, truth, heat):
        if other is not None and other.grid != image.grid:
            raise GeometryError(
                f"a mask of {other.grid} voxels", needed=f"{image.grid}, as the image", where=image.source
            )
    colour = image.channels == 3 and image.unit in ("uint8", "uint16")
    voxels, spacing_mm, codes = _display_order(image.voxels[:3] if colour else image.voxels[:1], image.geometry)
    labels = None if mask is None else _display_order(mask.voxels, image.geometry)[0][0]
    reference = None if truth is None else _display_order(truth.voxels, image.geometry)[0][0]
    warmth = None if heat is None else _display_order(heat.voxels.astype(np.float32), image.geometry)[0][0]
    planes = _planes(voxels.shape[1:], labels, reference, warmth)
    shown = [np.take(voxels, plane.index, axis=plane.axis + 1) for plane in planes]
    low, high = window or _display_window(shown, image.unit)
    px_per_mm = panel_px / max(
        max(length * spacing_mm[axis] for axis, length in enumerate(voxels.shape[1:]) if axis != plane.axis)
        for plane in planes
    )
    panels = []
    for plane, values in zip(planes, shown, strict=True):
        rows, columns = (axis for axis in range(3) if axis != plane.axis)
        size_px = _size_px(values.shape[1:], (spacing_mm[rows], spacing_mm[columns]), px_per_mm)
        panel = _grey_or_rgb(values, low, high, size_px)
        if warmth is not None:
            panel = _warm(panel, np.take(warmth, plane.index, axis=plane.axis), float(np.abs(warmth).max()))
        if labels is not None:
            panel = _paint(panel, _resize_labels(labels, plane, size_px))
        if reference is not None:
            panel = _trace(panel, _resize_labels(reference, plane, size_px) > 0)
        panels.append(_with_letters(panel, codes, rows, columns))
    return _assemble(panels, caption)


def _display_order(
    voxels: Voxels, geometry: Geometry | None
) -> tuple[Voxels, tuple[float, float, float], tuple[str, str, str] | None]:
    """Axes (C, S->I, A->P, R->L), and the spacing and direction of the three; unchanged without a geometry."""
    if geometry is None:
        return voxels, (1.0, 1.0, 1.0), None
    order, flips = [], []
    for code in _DISPLAY_CODES:
        axis = next(a for a, found in enumerate(geometry.axis_codes) if found in (code, _OPPOSITE[code]))
        order.append(axis)
        flips.append(slice(None) if geometry.axis_codes[axis] == code else slice(None, None, -1))
    turned = voxels.transpose(0, *(axis + 1 for axis in order))[(slice(None), *flips)]
    d, h, w = (geometry.spacing_mm[axis] for axis in order)
    return turned, (d, h, w), ("I", "P", "L")


def _planes(
    grid: tuple[int, ...], labels: Voxels | None, reference: Voxels | None, warmth: Voxels | None
) -> list[_Plane]:
    thin = [axis for axis, length in enumerate(grid) if length == 1]
    axes = thin[:1] or [0, 1, 2]
    foreground: Voxels = np.zeros(grid, dtype=bool)
    for mask in (labels, reference):
        if mask is not None:
            foreground |= mask > 0
    if warmth is not None and not foreground.any():
        foreground = np.abs(warmth)
    planes = []
    for axis in axes:
        others = tuple(other for other in range(3) if other != axis)
        area = foreground.sum(axis=others)
        planes.append(_Plane(axis, int(np.argmax(area)) if area.any() else grid[axis] // 2))
    return planes


def _display_window(shown: list[Voxels], unit: str) -> tuple[float, float]:
    if unit == "uint8":
        return 0.0, 255.0
    if unit == "HU":
        return _SOFT_TISSUE_HU
    values = np.concatenate([plane.ravel() for plane in shown]).astype(np.float32)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1)


def _size_px(shape: tuple[int, ...], spacing_mm: tuple[float, float], px_per_mm: float) -> tuple[int, int]:
    """(width, height) as Pillow wants it."""
    height, width = (max(1, round(n * mm * px_per_mm)) for n, mm in zip(shape, spacing_mm, strict=True))
    return width, height


def _grey_or_rgb(values: Voxels, low: float, high: float, size_px: tuple[int, int]) -> RGB:
    scaled = np.nan_to_num(
        (values.astype(np.float32) - low) * (255.0 / (high - low)), nan=0.0, posinf=255.0, neginf=0.0
    )
    stored = np.clip(np.round(scaled), 0, 255).astype(np.uint8)
    rgb = np.repeat(stored, 3, axis=0) if stored.shape[0] == 1 else stored
    picture = Picture.fromarray(np.ascontiguousarray(np.moveaxis(rgb, 0, -1)))
    return np.array(picture.resize(size_px, Picture.Resampling.BILINEAR))


def _resize_labels(labels: Voxels, plane: _Plane, size_px: tuple[int, int]) -> RGB:
    flat = np.ascontiguousarray(np.take(labels, plane.index, axis=plane.axis).astype(np.uint8))
    return np.array(Picture.fromarray(flat).resize(size_px, Picture.Resampling.NEAREST))


def _paint(panel: RGB, labels: RGB) -> RGB:
    painted = panel.astype(np.float32)
    for label in np.unique(labels[labels > 0]):
        region = labels == label
        colour = np.array(COLOURS[(int(label) - 1) % len(COLOURS)], dtype=np.float32)
        painted[region] = (1 - _TINT) * painted[region] + _TINT * colour
        painted[_inner_edge(region, 2)] = colour
    return painted.round().astype(np.uint8)


def _warm(panel: RGB, heat: npt.NDArray[np.float32], strongest: float) -> RGB:
    """Where nothing speaks for or against, the image is as it was."""
    height, width = panel.shape[:2]
    sized = np.asarray(Picture.fromarray(heat).resize((width, height), Picture.Resampling.BILINEAR))[..., np.newaxis]
    tint = _HEAT_TINT * np.abs(sized) / (strongest or 1.0)
    colour = np.where(sized > 0, np.array(COLOURS[0], np.float32), np.array(COLOURS[1], np.float32))
    return np.asarray(((1 - tint) * panel + tint * colour).round(), dtype=np.uint8)


def _trace(panel: RGB, region: npt.NDArray[np.bool_]) -> RGB:
    traced = panel.copy()
    traced[_inner_edge(region, 2)] = 0
    traced[_inner_edge(region, 1)] = 255
    return traced


def _inner_edge(region: npt.NDArray[np.bool_], width_px: int) -> npt.NDArray[np.bool_]:
    """The region's pixels that are within ``width_px`` steps of its outside; the panel's border is no outside."""
    inner = region
    for _ in range(width_px):
        padded = np.pad(inner, 1, mode="edge")
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return region & ~inner


def _with_letters(panel: RGB, codes: tuple[str, str, str] | None, rows: int, columns: int) -> Picture.Image:
    picture = Picture.fromarray(panel)
    width, height = picture.size
    if codes is None or min(width, height) < 40:
        return picture
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)
    for text, where, anchor in (
        (_OPPOSITE[codes[columns]], (4, height // 2), "lm"),
        (codes[columns], (width - 4, height // 2), "rm"),
        (_OPPOSITE[codes[rows]], (width // 2, 3), "ma"),
        (codes[rows], (width // 2, height - 3), "md"),
    ):
        draw.text(where, text, fill="white", font=font, anchor=anchor, stroke_width=1, stroke_fill="black")
    return picture


def _assemble(panels: list[Picture.Image], caption: str) -> bytes:
    width = sum(panel.width for panel in panels) + _GAP_PX * (len(panels) - 1)
    height = max(panel.height for panel in panels)
    font = ImageFont.load_default(14)
    caption_px = 22 if caption else 0
    width = max(width, round(font.getlength(caption)) + 8) if caption else width
    sheet = Picture.new("RGB", (width, height + caption_px))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + _GAP_PX
    if caption:
        ImageDraw.Draw(sheet).text((4, height + 3), caption, fill="white", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
