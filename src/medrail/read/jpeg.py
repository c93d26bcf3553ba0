"""JPEG by libjpeg-turbo (simplejpeg): at full size Pillow's pixels in a third of its time, or at a reduced size.

The discrete cosine transform that JPEG is made of can be undone at 1/2, 1/4 or 1/8 of the size, by fewer coefficients
of each block of 8 x 8 pixels (the libjpeg manual, "scale_num, scale_denom"). That is close to the mean over 2 x 2,
4 x 4 or 8 x 8 pixels, and quicker than decoding all of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medrail.types import Applied, Image

Box = list[tuple[float, float]]

_REDUCED = "jpeg_reduced"
_COLOURS = {"L": "GRAY", "RGB": "RGB"}
_FACTORS = (8, 4, 2)
# EXIF orientations in which the upright rows are the stored columns; run from the last row; from the last column.
_TRANSPOSED, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)


def decode_jpeg(content: bytes, mode: str, size: tuple[int, int], factor: int = 1) -> npt.NDArray[np.uint8] | None:
    """A whole JPEG file of 8 bits -> (H, W, 1 or 3), as it lies in the file; None where it is to be decoded otherwise.

    ``mode`` ("L" grey, "RGB" colour) and ``size`` (H, W) are the header's. With ``factor`` 2, 4 or 8 both sides are
    divided by it, rounded up. None comes for other modes (CMYK), and for whatever libjpeg has to say something about:
    truncated, broken, surplus bytes.
    """
    import simplejpeg

    if mode not in _COLOURS:
        return None
    height, width = reduced_size(size, factor)
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, _COLOURS[mode], min_height=height, min_width=width, min_factor=factor, strict=True
        )
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (height, width) else None


def reduction(size: tuple[int, int], orientation: int, least_px: tuple[int, int] | None) -> int:
    """1, 2, 4 or 8: by how much a JPEG of ``size`` (H, W) may be reduced so that ``least_px`` is left.

    ``least_px`` is (H, W) of the upright picture, which EXIF's ``orientation`` makes of the stored one.
    """
    if least_px is None:
        return 1
    least = least_px[::-1] if orientation in _TRANSPOSED else least_px
    for factor in _FACTORS:
        if all(side >= factor * max(1, wanted) for side, wanted in zip(size, least, strict=True)):
            return factor
    return 1


def reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """(H, W) of a JPEG of ``size`` decoded at 1/``factor``."""
    return -(-size[0] // factor), -(-size[1] // factor)


def applied_reduction(size: tuple[int, int], orientation: int, factor: int) -> Applied:
    """What the history of a reduced picture says: ``factor``, its ``grid`` (D, H, W), and its ``box``.

    Where a side is no multiple of the factor, the stored picture's last row or column is only partly picture. ``box``
    says where the picture begins and ends on the upright grid, in pixels along H and W.
    """
    grid = list(reduced_size(size, factor))
    box = [[0.0, side / factor] for side in size]
    if orientation in _TRANSPOSED:
        grid, box = grid[::-1], box[::-1]
    for axis, turned in enumerate((_UPSIDE_DOWN, _MIRRORED)):
        if orientation in turned:
            box[axis] = [grid[axis] - end for end in reversed(box[axis])]
    return Applied(_REDUCED, {"factor": factor, "grid": [1, *grid], "box": box})


def picture_box(image: Image) -> Box:
    """Where the image begins and ends on its grid, in voxels along D, H, W: at 0 and n, but in reduced JPEGs."""
    box: Box = [(0.0, float(n)) for n in image.grid]
    last = image.history[-1] if image.history else None
    if last is not None and last.step == _REDUCED and list(image.grid) == last.params["grid"]:
        box[1:] = [(start, end) for start, end in last.params["box"]]
    return box
