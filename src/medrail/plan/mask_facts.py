"""What masks hold: labels (a few values that mean classes), instances (numbered objects), or grey values after all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medrail.errors import MedrailError
from medrail.read import open_label_picture, read, read_mask
from medrail.types import Image, Voxels

Looks = Literal["labels", "instances", "grey", "empty"]

# In a drawn mask most neighbours are equal; in an image few are (a brain-only MR: 1 in 8; a label atlas: 19 in 20).
_LEAST_EQUAL_NEIGHBOURS = 0.5
_MOST_LABELS = 40
_MOST_KEPT = 1000
# A value in so few of the masks, with so little of the foreground, is an error of drawing rather than a class.
_MOST_RARE_MASKS = 0.05
_MOST_RARE_VOXELS = 0.001
_FEWEST_TO_JUDGE_BY = 5


@dataclass(frozen=True)
class MaskSample:
    """One mask: its values other than 0 (at most 1,000) with their voxels, how often neighbours are equal, its grid."""

    values: tuple[int, ...]
    equal_neighbours: float
    foreground_share: float
    same_grid: bool
    problem: str = ""
    counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class MaskFacts:
    """What a sample of masks told.

    values:
        (value, masks that have it), ascending, 0 included.
    problems:
        What was wrong with some of them.
    rare:
        (value, masks that have it, voxels) of values above 0 that are likely errors: in one mask or 5 % of them at
        most, and less than 0.1 % of all foreground. They are among ``values``, too.
    """

    read: int
    looks: Looks
    values: tuple[tuple[int, int], ...]
    foreground_share: float
    other_grid: int = 0
    problems: tuple[str, ...] = ()
    rare: tuple[tuple[int, int, int], ...] = ()

    @property
    def foreground(self) -> tuple[int, ...]:
        """The values other than 0."""
        return tuple(value for value, _ in self.values if value != 0)


def sample_mask(path: str, image: Image, item: str = "") -> MaskSample:
    """Look at one mask; one that is no mask of whole numbers is looked at as the image it is.

    ``item``: the tile of a whole slide, whose mask is looked at all over the slide, coarsely.
    """
    if item.startswith("x="):
        return _sample_slide_mask(path)
    try:
        mask, problem = read_mask(path), ""
    except MedrailError as error:
        problem = error.found
        try:
            mask = read(path)
        except MedrailError:
            return MaskSample((), 0.0, 0.0, same_grid=True, problem=problem)
    voxels = mask.voxels
    values, counts = np.unique(voxels, return_counts=True)
    counts, values = counts[values != 0][:_MOST_KEPT], values[values != 0][:_MOST_KEPT]
    kept = tuple(int(value) for value in values)
    foreground = float((voxels != 0).mean())
    same = sorted(mask.grid) == sorted(image.grid)
    return MaskSample(kept, _equal_neighbours(voxels), foreground, same, problem, tuple(map(int, counts)))


def _sample_slide_mask(path: str) -> MaskSample:
    try:
        picture = open_label_picture(Path(path))
        rows, columns = (np.arange(0, size, max(1, size // 1024)) for size in (picture.height, picture.width))
        voxels = picture.values(rows, columns)
    except MedrailError as error:
        return MaskSample((), 1.0, 0.0, same_grid=True, problem=error.found)
    values, counts = np.unique(voxels[voxels != 0], return_counts=True)
    kept, many = (tuple(map(int, numbers[:_MOST_KEPT])) for numbers in (values, counts))
    return MaskSample(kept, _equal_neighbours(voxels), float((voxels != 0).mean()), True, "", many)


def _equal_neighbours(voxels: Voxels) -> float:
    """Share of neighbouring foreground voxels along W that have the same value; 1 where there are none."""
    left, right = voxels[..., :-1], voxels[..., 1:]
    both = (left != 0) & (right != 0)
    return float((left[both] == right[both]).mean()) if both.any() else 1.0


def mask_facts(masks: Sequence[MaskSample]) -> MaskFacts | None:
    """All sampled masks together; None where there were none."""
    if not masks:
        return None
    counts = Counter(value for mask in masks for value in mask.values)
    counts[0] = len(masks)
    return MaskFacts(
        read=len(masks),
        looks=_looks(masks),
        values=tuple(sorted(counts.items())),
        foreground_share=float(np.median([mask.foreground_share for mask in masks])),
        other_grid=sum(not mask.same_grid for mask in masks),
        problems=tuple(sorted({mask.problem for mask in masks if mask.problem})),
        rare=_rare(masks),
    )


def _rare(masks: Sequence[MaskSample]) -> tuple[tuple[int, int, int], ...]:
    if len(masks) < _FEWEST_TO_JUDGE_BY:
        return ()
    in_masks: Counter[int] = Counter()
    voxels: Counter[int] = Counter()
    for mask in masks:
        in_masks.update(mask.values[: len(mask.counts)])
        voxels.update(dict(zip(mask.values, mask.counts, strict=False)))
    most_masks, most_voxels = max(1, _MOST_RARE_MASKS * len(masks)), _MOST_RARE_VOXELS * voxels.total()
    return tuple(
        (value, in_masks[value], voxels[value])
        for value in sorted(voxels)
        if value > 0 and in_masks[value] <= most_masks and voxels[value] < most_voxels
    )


def _looks(masks: Sequence[MaskSample]) -> Looks:
    filled = [mask for mask in masks if mask.values]
    if not filled:
        return "empty"
    if float(np.median([mask.equal_neighbours for mask in filled])) < _LEAST_EQUAL_NEIGHBOURS:
        return "grey"
    distinct = {value for mask in filled for value in mask.values}
    if len(distinct) > _MOST_LABELS or _are_numbered(filled):
        return "instances"
    return "labels"


def _are_numbered(masks: Sequence[MaskSample]) -> bool:
    """Whether each mask counts its own objects 1, 2, 3, ...: as many as there happen to be, far from equally many."""
    counts = [len(mask.values) for mask in masks]
    consecutive = sum(mask.values == tuple(range(1, len(mask.values) + 1)) for mask in masks)
    return max(counts) > 4 and max(counts) >= 2 * min(counts) and consecutive >= 0.8 * len(masks)
