"""From a network's evidence, a number for each class and cell of its last map, to a map that a person can look at.

``evidence`` (K, d, h, w) of a network that has it obeys ``logit_k = bias_k + mean over the cells of evidence_k``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medrail.types import Evidence, Image

FloatArray = npt.NDArray[np.float32]

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


def on_grid(cells: FloatArray, grid: tuple[int, ...]) -> FloatArray:
    """A map stretched to a grid, linearly along each axis; the outermost cells reach to the border.

    Half-pixel aligned, as torch's ``interpolate(align_corners=False)``. For the eye only: cells and voxels are not
    equally large, so it is the mean over the cells that gives the logit.
    """
    stretched = np.asarray(cells, dtype=np.float32)
    for axis, (have, want) in enumerate(zip(cells.shape, grid, strict=True)):
        place = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
        low = np.floor(place).astype(np.intp)
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(cells.ndim)])
        high = np.minimum(low + 1, have - 1)
        stretched = np.take(stretched, low, axis) * (1 - share) + np.take(stretched, high, axis) * share
    return np.asarray(stretched, dtype=np.float32)


def exact_evidence(class_name: str, values: Image, *, by_itself: bool = False) -> Evidence:
    """Of a map on the raw grid, made from the network's own evidence; ``by_itself``: of one label of several."""
    return Evidence(class_name, values, exact=True, method=EXACT_OF_LABEL if by_itself else EXACT)
