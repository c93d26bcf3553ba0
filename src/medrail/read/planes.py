"""From pixels, as decoders give them, to planes, as ``Image`` has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def planes_of(pixels: Array) -> Array:
    """(D, H, W, C) -> (C, D, H, W)."""
    if len(pixels) > 1 or pixels.shape[-1] not in (3, 4) or pixels.dtype != np.uint8:
        return np.moveaxis(pixels, -1, 0)
    import cv2

    planes = np.empty((pixels.shape[-1], *pixels.shape[:3]), np.uint8)
    cv2.split(pixels[0], list(planes[:, 0]))  # eight times as fast as numpy
    return planes
