"""An image beside the same image with its evidence laid over it: orange speaks for the answer, blue against it."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from medrail.types import Evidence, Geometry, Image

_STRONGEST = 0.6
"""How much of the colour is laid over the image where the evidence is strongest."""
_FOR, _AGAINST = (213, 94, 0), (0, 114, 178)
_PANEL_PX, _GAP_PX, _CAPTION_PX = 384, 4, 22


def heat_png(image: Image, evidence: Evidence, caption: str = "") -> bytes:
    """Two panels and a caption. Of a volume the slice along D in which the evidence is strongest is shown.

    The colours are scaled to the strongest evidence of the image, whatever its sign.

    Parameters
    ----------
    image:
        (C, D, H, W), as ``read`` gave it.
    evidence:
        On its grid.
    """
    values = np.nan_to_num(evidence.values.voxels[0].astype(np.float32))
    strongest = np.abs(values).max(axis=(1, 2))
    place = int(strongest.argmax())
    grey = _displayed(image.voxels[:, place], image.unit)
    scaled = values[place] / max(float(strongest.max()), 1e-12)
    size = _size_px(image.grid[1:], image.geometry)
    panels = [Picture.fromarray(one).resize(size, Picture.Resampling.BILINEAR) for one in (grey, _laid(grey, scaled))]
    return _sheet(panels, caption)


def _displayed(plane: npt.NDArray[np.generic], unit: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8: 8-bit pictures as they are, others from their 0.5th to their 99.5th percentile."""
    values = np.nan_to_num(plane[: 3 if len(plane) >= 3 else 1].astype(np.float32))
    low, high = (0.0, 255.0) if unit == "uint8" else np.percentile(values, (0.5, 99.5))
    bright = np.clip((values - low) / max(float(high - low), 1e-12) * 255, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(np.broadcast_to(bright, (3, *bright.shape[1:])), 0, -1))


def _laid(grey: npt.NDArray[np.uint8], scaled: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    share = (_STRONGEST * np.abs(scaled))[..., np.newaxis]
    colour = np.where((scaled > 0)[..., np.newaxis], np.array(_FOR, np.float32), np.array(_AGAINST, np.float32))
    return np.asarray(grey * (1 - share) + colour * share).round().astype(np.uint8)


def _size_px(shape: tuple[int, int], geometry: Geometry | None) -> tuple[int, int]:
    """(width, height) of a panel with the true aspect ratio, where it is known."""
    spacing = geometry.spacing_mm[1:] if geometry else (1.0, 1.0)
    height, width = shape[0] * spacing[0], shape[1] * spacing[1]
    scale = _PANEL_PX / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _sheet(panels: list[Picture.Image], caption: str) -> bytes:
    font = ImageFont.load_default(14)
    width = sum(panel.width for panel in panels) + _GAP_PX * (len(panels) - 1)
    width = max(width, round(font.getlength(caption)) + 8)
    sheet = Picture.new("RGB", (width, panels[0].height + (_CAPTION_PX if caption else 0)))
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + _GAP_PX
    if caption:
        ImageDraw.Draw(sheet).text((4, panels[0].height + 3), caption, fill="white", font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
