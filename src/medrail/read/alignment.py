"""A mask put on the grid of its image without interpolation, or refused: the one rule of what "the same grid" is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrail.errors import GeometryError
from medrail.types import Geometry, Image, Voxels

# Two grids are one when no corner lies further apart than this: headers keep positions in 32 bits, or as rounded text.
TOLERANCE_VOXELS = 0.1


def on_grid(mask: Image, image: Image, name: str = "the mask") -> Image:
    """Put a mask on the grid of the image that it was drawn on.

    Parameters
    ----------
    mask:
        (C, D, H, W). Its axes may be in another order or direction over the same voxels (a NIfTI mask of a DICOM
        series): they are turned. Its place may differ by a rounding, up to ``TOLERANCE_VOXELS`` at every corner.
    image:
        Where either has no geometry, the numbers of voxels alone must be equal.
    name:
        What the mask is called in an error.

    Returns
    -------
    Image
        The mask's own voxels in the order of the image's axes, with the image's geometry.

    Raises
    ------
    GeometryError
        If it lies on another grid.
    """
    if mask.geometry is None or image.geometry is None:
        if mask.grid == image.grid:
            return replace(mask, geometry=image.geometry)
        turned = ". Width and height are exchanged" if mask.grid == (image.grid[0], *image.grid[:0:-1]) else ""
        raise _other_grid(f"{name} is {_size(mask)} and its image {_size(image)}{turned}", mask, image)
    voxels = _turned(mask.voxels, mask.geometry, image.geometry, image.grid)
    if voxels is None:
        raise _other_grid(f"{name} {_difference(mask, image)}", mask, image)
    return replace(mask, voxels=voxels, geometry=image.geometry)


def _turned(voxels: Voxels, mine: Geometry, theirs: Geometry, grid: tuple[int, int, int]) -> Voxels | None:
    """The voxels with their axes put in the order and direction of another geometry, or None if grids differ."""
    to_index = np.linalg.inv(theirs.affine_ras_mm) @ mine.affine_ras_mm
    axes = np.rint(to_index[:3, :3])
    is_permutation = (np.abs(axes).sum(axis=0) == 1).all() and (np.abs(axes).sum(axis=1) == 1).all()
    if not is_permutation:
        return None
    order = np.abs(axes).argmax(axis=1)
    turned = voxels.transpose(0, *(order + 1))
    if turned.shape[1:] != grid:
        return None
    backwards = axes.sum(axis=1) < 0
    start = np.where(backwards, np.array(grid) - 1, 0)
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(voxels.shape[1:]) - 1)
    found = corners @ to_index[:3, :3].T + to_index[:3, 3]
    if np.abs(found - (corners @ axes.T + start)).max() > TOLERANCE_VOXELS:
        return None
    return np.ascontiguousarray(turned[(slice(None), *(slice(None, None, -1 if back else 1) for back in backwards))])


def _other_grid(found: str, mask: Image, image: Image) -> GeometryError:
    return GeometryError(
        found,
        needed=f"the grid of its image {image.source}".rstrip(),
        where=mask.source or image.source,
        remedy="Resample the mask onto its image (nearest neighbour), or correct which mask belongs to which image.",
    )


def _size(image: Image) -> str:
    d, h, w = image.grid
    return f"{w} x {h}" if d == 1 else f"{d} x {h} x {w} (D, H, W)"


def _difference(mask: Image, image: Image) -> str:
    if mask.grid != image.grid or mask.geometry is None or image.geometry is None:
        return f"is {_size(mask)} and its image {_size(image)}"
    mine, theirs = mask.geometry, image.geometry
    shift_mm = float(np.linalg.norm(np.subtract(mine.origin_mm, theirs.origin_mm)))
    return (
        f"has its image's size but lies elsewhere: the first voxels are {shift_mm:.3g} mm apart,"
        f" spacings {_rounded(mine.spacing_mm)} and {_rounded(theirs.spacing_mm)} mm,"
        f" axes {''.join(mine.axis_codes)} and {''.join(theirs.axis_codes)}"
    )


def _rounded(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
