"""Whether a prepared case suits the network; if not, an error that names the step that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medrail.config import Task
from medrail.errors import CaseError, PrepareError
from medrail.types import Case, Geometry, Voxels


@dataclass(frozen=True)
class Needs:
    """What a network needs of its samples.

    task, classes, network:
        The task, the class names in the order of the outputs, the network's name.
    dims, channels:
        2: every slice is a sample, 3: every volume; input channels.
    patch:
        ([D,] H, W) of random patches, or () for whole slices or volumes.
    multi_label:
        Whether a sample has any number of the classes.
    size_factor, smallest:
        Every spatial size must be a multiple of the one and at least the other.
    """

    task: Task
    classes: tuple[str, ...]
    network: str
    dims: int
    channels: int
    patch: tuple[int, ...] = ()
    size_factor: int = 1
    smallest: int = 1
    multi_label: bool = False


def check_case(case: Case, voxels: Voxels, mask: Voxels | None, needs: Needs) -> None:
    """Channels, finite values, and the mask where one is needed; (C, D, H, W) and (1, D, H, W), as they are stored.

    Raises
    ------
    PrepareError
        If the prepared image does not suit the network.
    CaseError
        If a mask is missing or has labels that are none of the classes.
    """
    if len(voxels) != needs.channels:
        remedy = f"Set model.channels: {len(voxels)}"
        if {len(voxels), needs.channels} == {1, 3}:
            step = "rgb_to_grey" if needs.channels == 1 else "grey_to_rgb"
            remedy += f", or add {{kind: {step}}} to prepare.steps"
        raise PrepareError(
            f"{len(voxels)} channels after preparation",
            needed=f"{needs.channels}, as model.channels says",
            where=f"case {case.id}",
            remedy=f"{remedy}.",
        )
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():  # others are not even read for it
        raise PrepareError(
            "values that are not finite after preparation",
            where=f"case {case.id}",
            remedy="Take the case out, or clip its values first ({kind: clip_percentile}).",
        )
    if needs.task != "segmentation":
        return
    if mask is None:
        raise CaseError(
            "no mask",
            needed="one for every training and validation case",
            where=f"case {case.id}",
            remedy="Add the mask or take the case out of the data, then `medrail prepare` again.",
        )
    n_classes = len(needs.classes)
    if int(mask.max()) >= n_classes:
        raise CaseError(
            f"the mask has the class index {int(mask.max())}",
            needed=f"0 to {n_classes - 1}",
            where=f"case {case.id}",
            remedy="Correct data.classes, then `medrail prepare` again.",
        )


def check_size(case: Case | None, size: Sequence[int], needs: Needs) -> None:
    """Refuse sizes that the network cannot halve; ``case`` None: the configured patch.

    Raises
    ------
    PrepareError
        With the nearest size that will do.
    """
    factor, smallest = needs.size_factor, needs.smallest
    least = -(-smallest // factor) * factor
    nearest = [max(least, round(length / factor) * factor) for length in size]
    if all(length % factor == 0 and length >= smallest for length in size):
        return
    axes = "x".join("DHW"[-len(size) :])
    needed = f"at least {smallest}" if factor == 1 else f"multiples of {factor}"
    if case is None:
        raise PrepareError(
            f"patch {list(size)}",
            needed=f"{needed} for {needs.network}",
            where="model.patch",
            remedy=f"Set it to {nearest}.",
        )
    raise PrepareError(
        f"{_shown(size)} ({axes}) after preparation",
        needed=f"{needed} for {needs.network}",
        where=f"case {case.id}",
        remedy=_step(nearest, needs),
    )


def check_same_size(first_case: Case, wanted: Sequence[int], case: Case, found: Sequence[int], needs: Needs) -> None:
    """Refuse cases of different sizes ([D,] H, W), which cannot stand in one batch.

    Raises
    ------
    PrepareError
        Naming both cases and the step to add.
    """
    if tuple(wanted) == tuple(found):
        return
    factor = needs.size_factor
    typical = [max(factor, round((a + b) / 2 / factor) * factor) for a, b in zip(wanted, found, strict=True)]
    patch = "" if needs.task == "classification" else " Or set model.patch to train on patches."
    raise PrepareError(
        f"{_shown(found)} ({'x'.join('DHW'[-needs.dims :])}) after preparation",
        needed=f"{_shown(wanted)}, the size of case {first_case.id}: all samples of a batch have one size",
        where=f"case {case.id}",
        remedy=_step(typical, needs) + patch,
    )


def spacing_of(geometry: Geometry | None, dims: int) -> tuple[float, ...]:
    """Of ([D,] H, W) in mm, or ones where there is no physical space."""
    return (geometry.spacing_mm if geometry else (1.0, 1.0, 1.0))[-dims:]


def _step(size: Sequence[int], needs: Needs) -> str:
    if needs.task == "classification":
        return f"Add {{kind: resize, size: {list(size)}}} to prepare.steps."
    return f"Add {{kind: resize, size: {list(size)}}} or {{kind: crop_pad, size: {list(size)}}} to prepare.steps."


def _shown(size: Sequence[int]) -> str:
    return " x ".join(str(length) for length in size)
