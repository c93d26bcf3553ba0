"""Small whole slides with known content: tiled pyramidal TIFFs as scanners' software exports them, and DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import tifffile

RGB = npt.NDArray[np.uint8]

GLASS = (243, 242, 244)
PINK, PURPLE = (220, 120, 170), (110, 60, 150)


def write_slide(
    path: Path,
    rgb: RGB,
    um: float | tuple[float, float] | None = 0.5,
    levels: tuple[int, ...] = (2, 4),
    **options: Any,
) -> Path:
    """(H, W, 3) -> a tiled TIFF with reduced copies; ``um`` across and down, None: the file does not say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    across, down = um if isinstance(um, tuple) else (um, um)
    with tifffile.TiffWriter(path) as file:
        for factor in (1, *levels):
            height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
            small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) if factor > 1 else rgb
            given: dict[str, Any] = {}
            if across and down:
                given = {"resolution": (1e4 / across / factor, 1e4 / down / factor), "resolutionunit": "CENTIMETER"}
            kind = {"subfiletype": 1} if factor > 1 else {}
            file.write(
                small,
                tile=(128, 128),
                photometric="rgb",
                metadata=None,
                **({"compression": "zlib"} | options),
                **given,
                **kind,
            )
    return path


def noise(height: int, width: int, seed: int = 0) -> RGB:
    """Another value at every pixel."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tissue_slide(height: int, width: int, *pieces: tuple[tuple[int, int, int, int], str], seed: int = 0) -> RGB:
    """Glass with pieces ((top, left, bottom, right), kind); "pink" is smooth, "purple" is striped."""
    random = np.random.default_rng(seed)
    rgb = np.full((height, width, 3), GLASS, np.uint8)
    for (top, left, bottom, right), kind in pieces:
        rgb[top:bottom, left:right] = PINK if kind == "pink" else PURPLE
        if kind == "purple":
            rgb[top:bottom:8, left:right] = (200, 150, 210)
    texture = random.integers(-4, 5, (height, width, 1))
    return np.clip(rgb.astype(np.int16) + texture, 0, 255).astype(np.uint8)
