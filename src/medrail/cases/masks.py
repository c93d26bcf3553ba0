"""A case's mask as class indices on its image's grid, or an error that says why that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.cases.listing import shown
from medrail.config import DataConfig
from medrail.errors import CaseError, GeometryError
from medrail.read import read_mask
from medrail.types import Case, Geometry, Image, Voxels

# Two grids are one when no corner lies further apart than this: headers keep positions in 32 bits, or as rounded text.
TOLERANCE_VOXELS = 0.1


def read_target_mask(case: Case, image: Image, data: DataConfig) -> Image:
    """Read the mask a case points to.

    Parameters
    ----------
    case:
        ``case.target`` is the mask's path.
    image:
        The case's raw image; the mask must lie on its grid. A mask whose axes are in another order or direction over
        the same voxels (a NIfTI mask of a DICOM series) is turned, without interpolation.
    data:
        ``classes``, ``mask_values`` and ``foreground_nonzero`` say what the values mean.

    Returns
    -------
    Image
        Unit "label", voxels uint8 (1, D, H, W), each the index of a class; the image's geometry.

    Raises
    ------
    CaseError
        If there is no mask, or it has values that mean no class.
    GeometryError
        If it lies on another grid.
    ReadError
        If the file cannot be read.
    """
    if case.target is None:
        raise CaseError("no mask", where=case.paths[0], remedy="Add a mask or take the case out of the data.")
    if not Path(case.target).exists():
        raise CaseError("there is no such mask file", where=case.target, remedy="Correct the path of the mask.")
    mask = read_mask(case.target)
    voxels = _on_grid(mask, image, case.target)
    indices = _class_indices(voxels, data, case.target)
    return Image(indices, image.geometry, unit="label", source=case.target)


def read_roi(case: Case, image: Image) -> Image | None:
    """The case's region of interest on the image's grid, voxels uint8 0 or 1; None where the case has none.

    Raises
    ------
    GeometryError
        If it lies on another grid.
    ReadError
        If the file cannot be read.
    """
    if case.roi is None:
        return None
    if not Path(case.roi).exists():
        raise CaseError("there is no such mask file", where=case.roi, remedy="Correct the path of the roi.")
    voxels = _on_grid(read_mask(case.roi), image, case.roi)
    return Image((voxels != 0).astype(np.uint8), image.geometry, unit="label", source=case.roi)


def _on_grid(mask: Image, image: Image, where: str) -> Voxels:
    """The mask's voxels in the order of the image's axes."""
    if mask.channels != 1:
        found = f"the mask has {mask.channels} channels"
        raise CaseError(found, needed="one channel with a value for each class", where=where)
    if mask.geometry is None or image.geometry is None:
        if mask.grid == image.grid:
            return mask.voxels
        turned = ". Width and height are exchanged" if mask.grid == (image.grid[0], *image.grid[:0:-1]) else ""
        raise _other_grid(f"the mask is {_size(mask)} and its image {_size(image)}{turned}", where, image)
    voxels = _turned(mask.voxels, mask.geometry, image.geometry, image.grid)
    if voxels is None:
        raise _other_grid(_difference(mask, image), where, image)
    return voxels


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


def _other_grid(found: str, where: str, image: Image) -> GeometryError:
    return GeometryError(
        found,
        needed=f"the grid of its image {image.source}".rstrip(),
        where=where,
        remedy="Resample the mask onto its image (nearest neighbour), or correct which mask belongs to which image.",
    )


def _size(image: Image) -> str:
    d, h, w = image.grid
    return f"{w} x {h}" if d == 1 else f"{d} x {h} x {w} (D, H, W)"


def _difference(mask: Image, image: Image) -> str:
    if mask.grid != image.grid or mask.geometry is None or image.geometry is None:
        return f"the mask is {_size(mask)} and its image {_size(image)}"
    mine, theirs = mask.geometry, image.geometry
    shift_mm = float(np.linalg.norm(np.subtract(mine.origin_mm, theirs.origin_mm)))
    return (
        f"the mask has its image's size but lies elsewhere: the first voxels are {shift_mm:.3g} mm apart,"
        f" spacings {_rounded(mine.spacing_mm)} and {_rounded(theirs.spacing_mm)} mm,"
        f" axes {''.join(mine.axis_codes)} and {''.join(theirs.axis_codes)}"
    )


def _rounded(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)


def _class_indices(voxels: Voxels, data: DataConfig, where: str) -> npt.NDArray[np.uint8]:
    if data.foreground_nonzero:
        foreground: npt.NDArray[np.uint8] = (voxels != 0).astype(np.uint8)
        return foreground
    values, indices = _values(voxels)
    known = data.mask_values or tuple(range(len(data.classes)))
    unknown = [int(value) for value in values if int(value) not in known]
    if unknown:
        raise CaseError(
            f"the mask has values that mean no class: {shown(unknown, 8)}",
            needed=f"{shown(known, 8)} for {shown(data.classes, 8)}",
            where=where,
            remedy=_values_remedy([int(value) for value in values], data),
        )
    table = np.array([known.index(int(value)) for value in values], dtype=np.uint8)
    by_class: npt.NDArray[np.uint8] = table[indices]
    return by_class


def _values(voxels: Voxels) -> tuple[Voxels, Voxels]:
    """The distinct values, and for each voxel the place of its value among them.

    Masks have few values in a small range, where counting is many times faster than sorting.
    """
    low, high = int(voxels.min()), int(voxels.max())
    if high - low > 1 << 16:
        values, indices = np.unique(voxels, return_inverse=True)
        return values, indices.reshape(voxels.shape)
    offset = (voxels.astype(np.int64) if low else voxels) - low
    counts = np.bincount(offset.ravel(), minlength=high - low + 1)
    places = np.cumsum(counts > 0) - 1
    return np.flatnonzero(counts) + low, places[offset]


def _values_remedy(values: list[int], data: DataConfig) -> str:
    if len(data.classes) == 2 and len(values) > 2:
        return f"If every value above 0 is {data.classes[1]!r}, set data.foreground_nonzero: true."
    if len(values) == len(data.classes) and min(values) >= 0:
        return f"If they stand for the classes in this order, set data.mask_values: {values}."
    return "Set data.mask_values to the value of each class, or add the missing classes."
