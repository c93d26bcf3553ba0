"""Two predictions for one image -> what differs between them. Pure."""

from __future__ import annotations

import numpy as np

from medrail.serve.masks import mask_answer, voxel_ml
from medrail.serve.problems import Refusal
from medrail.serve.schemas import ClassificationDifference, MaskClassDifference, MaskDifference
from medrail.types import Image, Prediction, Voxels

MAP_CLASSES = ("same", "only the first", "only the second", "another class")


def difference(first: Prediction, second: Prediction) -> ClassificationDifference | MaskDifference:
    """What the second says otherwise than the first.

    Classes are matched by their names; of two masks the first class of either is the background.

    Raises
    ------
    Refusal
        "not-comparable": another task, no class in common, masks on other grids.
    """
    if first.mask is None or second.mask is None:
        return classes_difference(first, second)
    return mask_difference(first.mask, first.classes, second.mask, second.classes)


def classes_difference(first: Prediction, second: Prediction) -> ClassificationDifference:
    """How the probabilities and the decisions of two classifiers differ; errors as ``difference``."""
    if first.task != second.task:
        raise Refusal("not-comparable", f"One answers with a {first.task}, the other with a {second.task}.")
    common = [name for name in first.classes if name in second.classes]
    if not common:
        raise Refusal("not-comparable", "The two models have no class in common.")
    changes = {name: second.probabilities[name] - first.probabilities[name] for name in common}
    return ClassificationDifference(
        same_decision=(first.class_name, _found(first)) == (second.class_name, _found(second)),
        probabilities=changes,
        largest=min(max(map(abs, changes.values())), 1.0),
    )


def _found(prediction: Prediction) -> frozenset[str] | None:
    return None if prediction.findings is None else frozenset(prediction.findings)


def mask_difference(
    first: Image, first_classes: tuple[str, ...], second: Image, second_classes: tuple[str, ...]
) -> MaskDifference:
    """Where two masks (1, D, H, W) of one image differ; errors as ``difference``."""
    names, ours, theirs = _alike(first, first_classes, second, second_classes)
    where = np.zeros(ours.shape, np.uint8)
    differs = ours != theirs
    where[differs & (theirs == 0)] = 1
    where[differs & (ours == 0)] = 2
    where[differs & (ours > 0) & (theirs > 0)] = 3
    each_ml, count = voxel_ml(first), int(np.count_nonzero(differs))
    shown = Image(where[np.newaxis], first.geometry, unit="label")
    return MaskDifference(
        voxels=count,
        volume_ml=None if each_ml is None else round(count * each_ml, 6),
        share=count / where.size,
        classes=[_of_class(name, ours == number, theirs == number, each_ml) for number, name in enumerate(names, 1)],
        map=mask_answer(shown, MAP_CLASSES, None, "rle"),
    )


def share_differing(
    first: Image, first_classes: tuple[str, ...], second: Image, second_classes: tuple[str, ...]
) -> float:
    """``mask_difference(...).share`` alone, without the map of it; errors as ``difference``."""
    _, ours, theirs = _alike(first, first_classes, second, second_classes)
    return int(np.count_nonzero(ours != theirs)) / ours.size


def _alike(
    first: Image, first_classes: tuple[str, ...], second: Image, second_classes: tuple[str, ...]
) -> tuple[tuple[str, ...], Voxels, Voxels]:
    """The classes of either but the background, and both masks (D, H, W) in their numbers from 1 on."""
    names = tuple(dict.fromkeys([*first_classes[1:], *second_classes[1:]]))
    if set(first_classes[1:]).isdisjoint(second_classes[1:]):
        raise Refusal("not-comparable", "The two models have no class in common.")
    if first.grid != second.grid:
        raise Refusal("not-comparable", "The two models read the image on different grids.")
    return names, _renumbered(first, first_classes, names), _renumbered(second, second_classes, names)


def _renumbered(mask: Image, classes: tuple[str, ...], names: tuple[str, ...]) -> Voxels:
    """The mask (D, H, W) with class k of ``names`` as k + 1, whatever number its model gives it."""
    numbers = np.array([0, *(names.index(name) + 1 for name in classes[1:])], np.int32)
    renumbered: Voxels = numbers[mask.voxels[0]]
    return renumbered


def _of_class(name: str, ours: Voxels, theirs: Voxels, each_ml: float | None) -> MaskClassDifference:
    counts = int(np.count_nonzero(ours)), int(np.count_nonzero(theirs))
    both = int(np.count_nonzero(ours & theirs))
    return MaskClassDifference(
        name=name,
        voxels=counts,
        volume_ml=None if each_ml is None else (round(counts[0] * each_ml, 6), round(counts[1] * each_ml, 6)),
        volume_difference_ml=None if each_ml is None else round((counts[1] - counts[0]) * each_ml, 6),
        dice=2 * both / sum(counts) if sum(counts) else None,
    )
