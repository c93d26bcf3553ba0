"""From a network's evidence, a number for each class and cell of its last map, to a map that a person can look at.

``evidence`` (K, d, h, w) of a network that has it obeys ``logit_k = bias_k + mean over the cells of evidence_k``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medrail.types import Evidence, Image

FloatArray = npt.NDArray[np.float32]
Places = tuple[tuple[float, float], ...]

EXACT = (
    "exact: the mean over the cells of the network's last map, plus a constant, is the class's logit less the others'"
)

EXACT_OF_LABEL = "exact: the mean over the cells of the network's last map, plus a constant, is the label's logit"


def contrast(evidence: FloatArray, index: int) -> FloatArray:
    """Evidence for one class against the mean of the others, (K, ...) -> (...).

    Softmax does not change when a number is added to all logits, so evidence for a class means something only beside
    that of the others. With two classes the mean over the cells, plus a constant, is the log-odds of the class.

    >>> contrast(np.array([[1.0, 2.0], [0.5, 4.0]], np.float32), 1).tolist()
    [-0.5, 2.0]
    """
    others = np.delete(evidence, index, axis=0).mean(axis=0)
    return np.asarray(evidence[index] - others, dtype=np.float32)


def on_grid(cells: FloatArray, grid: Sequence[int], places: Places = ()) -> FloatArray:
    """A map drawn on a grid: each cell is a tent along each axis, highest at its centre, 0 at its neighbours' centres.

    So between centres it is linear, and towards the borders it falls off instead of claiming what no cell is near. For
    the eye only: cells and voxels are not equally large, so it is the mean over the cells that gives the logit.

    Parameters
    ----------
    cells, grid:
        Shape (d, h, w) -> (D, H, W).
    places:
        For the last axes (stride, first): the centre of cell i lies at voxel ``first + stride * i``. Axes without have
        their cells evenly over the grid.
    """
    drawn = np.asarray(cells, dtype=np.float32)
    known = (None,) * (cells.ndim - len(places)) + tuple(places)
    for axis, (have, want, place) in enumerate(zip(cells.shape, grid, known, strict=True)):
        stride, first = place or (want / have, (want / have - 1) / 2)
        away = np.abs(np.arange(want)[:, np.newaxis] - (first + stride * np.arange(have)))
        tents = np.maximum(0, 1 - away / max(stride, 1)) * min(stride, 1)
        drawn = np.moveaxis(np.tensordot(tents.astype(np.float32), drawn, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(drawn, dtype=np.float32)


def exact_evidence(class_name: str, values: Image, *, by_itself: bool = False) -> Evidence:
    """Of a map on the raw grid, made from the network's own evidence; ``by_itself``: of one label of several."""
    return Evidence(class_name, values, exact=True, method=EXACT_OF_LABEL if by_itself else EXACT)
