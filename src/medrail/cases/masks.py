"""A case's mask as class indices on its image's grid, or an error that says why that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from medrail.cases.layouts.annotation import NOTHING, Grid, class_indices
from medrail.cases.listing import shown
from medrail.config import DataConfig
from medrail.errors import CaseError
from medrail.read import Place, on_grid, read_mask, slide_facts
from medrail.types import Case, Image, Voxels


def read_target_mask(case: Case, image: Image, data: DataConfig) -> Image:
    """Read the mask a case points to.

    Parameters
    ----------
    case:
        ``case.target`` is the mask's path; of a tile of a slide, the path of what was drawn on the slide.
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
    if data.kind == "slides":
        return Image(_drawn_on_tile(case, data), image.geometry, unit="label", source=case.target)
    mask = on_grid(read_mask(case.target), image)
    indices = _class_indices(mask.voxels, data, case.target)
    return Image(indices, image.geometry, unit="label", source=case.target)


def _drawn_on_tile(case: Case, data: DataConfig) -> npt.NDArray[np.uint8]:
    """(1, 1, H, W) of a tile: what was drawn at each pixel's middle; what was not drawn on is background."""
    place, facts = Place.parse(case.item), slide_facts(case.paths[0])
    um = facts.um(place.scan_um_per_px)
    width, height = place.size_px or facts.size_at(place.um_per_px, place.scan_um_per_px)
    step = (place.um_per_px / um[0], place.um_per_px / um[1])
    drawn = class_indices(Path(case.target or ""), facts, Grid(place.x, place.y, step, width, height), data)
    indices: npt.NDArray[np.uint8] = np.where(drawn == NOTHING, 0, drawn).astype(np.uint8)[None, None]
    return indices


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
    roi = on_grid(read_mask(case.roi), image, "the region of interest")
    return Image((roi.voxels != 0).astype(np.uint8), image.geometry, unit="label", source=case.roi)


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
