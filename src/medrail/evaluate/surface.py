"""How far two masks' surfaces lie apart: 95 % Hausdorff distance, normalised surface distance.

The surface of a mask is the mask without its erosion by one voxel along the axes, voxels at the array's border
included. Axes of length 1 are left out, so the surface of a picture is its outline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray

BoolArray = npt.NDArray[np.bool_]
_ROUNDING = 1 + 1e-9


class SurfaceDistances(NamedTuple):
    """Of each surface voxel of one mask the distance to the nearest surface voxel of the other; empty for no mask."""

    from_truth: FloatArray
    from_predicted: FloatArray

    def hd95(self) -> float:
        """The larger of the two directions' 95th percentiles (as MONAI; MedPy pools both directions instead).

        0 if both masks are empty, NaN if one of them is.
        """
        if not len(self.from_truth) or not len(self.from_predicted):
            return 0.0 if len(self.from_truth) == len(self.from_predicted) else math.nan
        return float(max(np.percentile(self.from_truth, 95), np.percentile(self.from_predicted, 95)))

    def within(self, tolerance: float) -> float:
        """Share of both surfaces' voxels that lie within the tolerance of the other surface: the normalised distance.

        1 if both masks are empty, 0 if one of them is: what is not there cannot be near, as with Dice.
        """
        count = len(self.from_truth) + len(self.from_predicted)
        if not count:
            return 1.0
        # A distance of exactly the tolerance counts as within, whatever rounding makes of three times 0.1.
        limit = tolerance * _ROUNDING
        near = (self.from_truth <= limit).sum() + (self.from_predicted <= limit).sum()
        return float(near / count)


def surface_distances(
    truth: BoolArray, predicted: BoolArray, spacing: Sequence[float] | FloatArray
) -> SurfaceDistances:
    """Both directions' distances, from which ``hd95`` and ``within`` follow without measuring twice.

    Where one mask is empty the other one's distances are infinite.

    Parameters
    ----------
    truth, predicted:
        (D, H, W) of one class.
    spacing:
        Of the three axes; the distances are in its unit.
    """
    from scipy import ndimage, spatial

    either = truth | predicted
    if not either.any():
        return SurfaceDistances(np.empty(0), np.empty(0))
    # The masks end inside their common box, so nothing outside of it can be a surface or hide one.
    box = ndimage.find_objects(either.astype(np.uint8))[0]
    kept = [axis for axis in range(truth.ndim) if truth.shape[axis] > 1] or [truth.ndim - 1]
    dropped = tuple(axis for axis in range(truth.ndim) if axis not in kept)
    steps = np.array([float(spacing[axis]) for axis in kept])
    surfaces = []
    for mask in (truth, predicted):
        inside = np.squeeze(mask[box], axis=dropped)
        surfaces.append(np.argwhere(inside & ~ndimage.binary_erosion(inside)) * steps)
    if not all(len(surface) for surface in surfaces):
        return SurfaceDistances(*(np.full(len(surface), math.inf) for surface in surfaces))
    # A tree of the surfaces' points is 4 to 10 times as fast as a distance map of the whole box, with equal results.
    true, found = surfaces
    return SurfaceDistances(
        *(spatial.KDTree(to, balanced_tree=False).query(of)[0] for of, to in ((true, found), (found, true)))
    )


def normalised_surface_distance(
    truth: BoolArray, predicted: BoolArray, spacing: Sequence[float] | FloatArray, tolerance_mm: float
) -> float:
    """Share of both surfaces that lies within ``tolerance_mm`` of the other (Nikolov et al., JMIR 23, 2021).

    Every surface voxel counts the same (as MONAI without sub-voxels; the original weighs them by the area of the
    surface inside them). A tolerance below half a voxel asks more than the grid can show.

    Parameters
    ----------
    truth, predicted:
        (D, H, W) of one class.
    spacing:
        Of the three axes in mm (in pixels, the tolerance is in pixels, too).

    Returns
    -------
    From 0 to 1; 1 if both masks are empty, 0 if one of them is.
    """
    return surface_distances(truth, predicted, spacing).within(tolerance_mm)


def surface_distances_of_classes(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    spacing: Sequence[float] | FloatArray,
    n_classes: int,
) -> list[SurfaceDistances]:
    """``surface_distances`` of each foreground class (K - 1) of two label maps (D, H, W)."""
    return [surface_distances(truth == label, predicted == label, spacing) for label in range(1, n_classes)]
