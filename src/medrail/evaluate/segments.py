"""One segmented case against its reference: overlap, distance of the surfaces, volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medrail.evaluate.metrics import IntArray, dice, iou, slice_confusion, volume_error_ml
from medrail.evaluate.surface import surface_distances_of_classes
from medrail.types import Image


def score_masks(
    truth: Image, predicted: Image, classes: Sequence[str], tolerance: float = 2.0
) -> tuple[dict[str, float], IntArray]:
    """The metrics of one segmented case, and the confusion counts of its axial slices (S, K, K).

    With one foreground class the names are ``dice``, ``iou``, ``hd95_mm``, ``nsd`` and ``volume_error_ml``; with more,
    each class has its own as ``dice/CLASS`` and the plain name is the mean over the classes. Without geometry distances
    are in pixels (``hd95_px``) and there is no volume.

    Parameters
    ----------
    tolerance:
        Surfaces this close agree, in mm; in pixels without geometry.
    """
    geometry = predicted.geometry
    axial = next((a for a, code in enumerate(geometry.axis_codes) if code in "SI"), 0) if geometry else 0
    true, found = (np.moveaxis(image.voxels[0], axial, 0).astype(np.uint8) for image in (truth, predicted))
    spacing = np.array(geometry.spacing_mm if geometry else (1.0, 1.0, 1.0))
    spacing = np.concatenate([spacing[[axial]], np.delete(spacing, axial)])
    counts = slice_confusion(true, found, len(classes))
    total = counts.sum(axis=0)
    surfaces = surface_distances_of_classes(true, found, spacing, len(classes))
    by_metric: dict[str, Sequence[float]] = {
        "dice": dice(total).tolist(),
        "iou": iou(total).tolist(),
        "hd95_mm" if geometry else "hd95_px": [one.hd95() for one in surfaces],
        "nsd": [one.within(tolerance) for one in surfaces],
    }
    if geometry:
        by_metric["volume_error_ml"] = volume_error_ml(total, geometry).tolist()
    scores: dict[str, float] = {}
    for name, values in by_metric.items():
        defined = [value for value in values if math.isfinite(value)]
        scores[name] = sum(defined) / len(defined) if defined else math.nan
        if len(values) > 1:
            scores |= {f"{name}/{label}": value for label, value in zip(classes[1:], values, strict=True)}
    return scores, counts
