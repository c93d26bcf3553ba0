"""Samples: the prepared cases of one split, ready to be indexed a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from medrail.cases import target_index
from medrail.data.fit import Needs, check_case, check_same_size, check_size, spacing_of
from medrail.data.memory import allocate, as_tensor
from medrail.prepare import Store
from medrail.types import Case

ForegroundVoxels = npt.NDArray[np.int64]
MOST_VOXELS_KEPT = 20_000


class Samples(Protocol):
    """What the training loop needs.

    count:
        Samples in an epoch that takes each once.
    size:
        Spatial size of every sample, ([D,] H, W).
    spacing_mm:
        Of those axes, (1, ...) where there is no physical space.
    class_counts:
        Classification: samples of each class; segmentation: ().
    """

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> tuple[int, ...]: ...

    @property
    def spacing_mm(self) -> tuple[float, ...]: ...

    @property
    def class_counts(self) -> tuple[int, ...]: ...

    def batch(self, indices: torch.Tensor, source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (N, C, [D,] H, W) and int64 targets, (N,) or (N, [D,] H, W); ``source`` for what is drawn."""
        ...


@dataclass(frozen=True)
class Wholes:
    """Whole slices (2-D) or volumes (3-D), in one array of the prepared data's own type."""

    images: torch.Tensor
    targets: torch.Tensor
    spacing_mm: tuple[float, ...]
    class_counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, ...]:
        return tuple(self.images.shape[2:])

    def batch(self, indices: torch.Tensor, source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[indices].float(), self.targets[indices].long()


@dataclass(frozen=True)
class Patches:
    """Random patches of volumes (or of slices); half of them are centred on a foreground voxel.

    In a batch that is every second one; whether the first is, is drawn, so that it is half of them at any batch size.
    An epoch has about as many patches as would tile all cases, each case in proportion to its size. ``volumes`` are
    (C, D, H, W) and ``masks`` (D, H, W), at least as large as the patch, which has three axes also in 2-D, (1, H, W).
    """

    volumes: tuple[torch.Tensor, ...]
    masks: tuple[torch.Tensor, ...]
    foreground: tuple[tuple[ForegroundVoxels, ...], ...]
    patch: tuple[int, int, int]
    case_of: torch.Tensor
    flat: bool
    spacing_mm: tuple[float, ...]
    class_counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return len(self.case_of)

    @property
    def size(self) -> tuple[int, ...]:
        return self.patch[1:] if self.flat else self.patch

    def batch(self, indices: torch.Tensor, source: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        images, masks = [], []
        first = _below(2, source)
        for position, case in enumerate(self.case_of[indices].tolist(), first):
            corner = self._corner(case, centred=position % 2 == 1, source=source)
            box = tuple(slice(start, start + length) for start, length in zip(corner, self.patch, strict=True))
            images.append(self.volumes[case][(slice(None), *box)].float())
            masks.append(self.masks[case][box].long())
        stacked, targets = torch.stack(images), torch.stack(masks)
        return (stacked[:, :, 0], targets[:, 0]) if self.flat else (stacked, targets)

    def _corner(self, case: int, *, centred: bool, source: torch.Generator) -> list[int]:
        grid = self.masks[case].shape
        last = [length - want for length, want in zip(grid, self.patch, strict=True)]
        present = self.foreground[case]
        if not (centred and present):
            return [_below(most + 1, source) for most in last]
        voxels = present[_below(len(present), source)]
        centre = np.unravel_index(int(voxels[_below(len(voxels), source)]), grid)
        wanted = (int(at) - want // 2 for at, want in zip(centre, self.patch, strict=True))
        return [min(max(0, start), most) for start, most in zip(wanted, last, strict=True)]


def load_samples(store: Store, cases: Sequence[Case], needs: Needs, *, budget_bytes: int | None = None) -> Samples:
    """Load prepared cases into memory.

    2-D: every slice (index of D) of every case is a sample. 3-D: every volume is one. With ``needs.patch``
    (segmentation): random patches.

    Parameters
    ----------
    budget_bytes:
        What is larger lies in a temporary file in the store's folder; None: half of the free memory.

    Raises
    ------
    PrepareError
        If a case's size, channels or values do not suit the network, or the cases differ in size; it names the case and
        the step that mends it.
    CaseError
        If a case has no label or mask.
    RunError
        If a case is not prepared.
    """
    if needs.patch and needs.task == "segmentation":
        return _load_patches(store, cases, needs, budget_bytes)
    return _load_wholes(store, cases, needs, budget_bytes)


def _load_wholes(store: Store, cases: Sequence[Case], needs: Needs, budget_bytes: int | None) -> Wholes:
    """Two passes: the sizes first, so that one array of the right size is filled a case at a time."""
    first, _ = store.load(cases[0].id)
    depths, spacings, kinds = [], [], []
    for case in cases:
        image, mask = store.load(case.id)
        check_case(case, image, mask, needs)
        check_size(case, image.grid[-needs.dims :], needs)
        check_same_size(cases[0], first, case, image, needs)
        depths.append(image.grid[0] if needs.dims == 2 else 1)
        spacings.append(spacing_of(image, needs.dims))
        kinds.append(image.voxels.dtype)
    size, total, masked = first.grid[-needs.dims :], sum(depths), needs.task == "segmentation"
    images = allocate((total, first.channels, *size), np.result_type(*kinds), store.folder, budget_bytes)
    target_shape = (total, *size) if masked else (total,)
    targets = allocate(target_shape, np.uint8 if masked else np.int64, store.folder, budget_bytes)
    start = 0
    for case, depth in zip(cases, depths, strict=True):
        image, mask = store.load(case.id)
        rows = slice(start, start + depth)
        images[rows] = np.moveaxis(image.voxels, 1, 0) if needs.dims == 2 else image.voxels[np.newaxis]
        if masked and mask is not None:
            targets[rows] = mask.voxels[0] if needs.dims == 2 else mask.voxels
        else:
            targets[rows] = target_index(case, needs.classes)
        start += depth
    counts = () if masked else tuple(np.bincount(targets, minlength=len(needs.classes)).tolist())
    return Wholes(as_tensor(images), as_tensor(targets), _middle(spacings), counts)


def _load_patches(store: Store, cases: Sequence[Case], needs: Needs, budget_bytes: int | None) -> Patches:
    depth, height, width = (1, *needs.patch) if needs.dims == 2 else needs.patch
    patch = (depth, height, width)
    check_size(None, needs.patch, needs)
    volumes, masks, foreground, spacings, case_of = [], [], [], [], []
    for number, case in enumerate(cases):
        image, mask = store.load(case.id)
        check_case(case, image, mask, needs)
        assert mask is not None  # noqa: S101 - checked in the line above
        voxels, labels = _padded(image.voxels, patch), _padded(mask.voxels, patch)[0]
        volumes.append(as_tensor(_kept(voxels, store.folder, budget_bytes)))
        masks.append(as_tensor(_kept(labels, store.folder, budget_bytes)))
        foreground.append(_foreground(labels, len(needs.classes)))
        spacings.append(spacing_of(image, needs.dims))
        case_of += [number] * math.ceil(math.prod(image.grid) / math.prod(patch))
    return Patches(
        tuple(volumes),
        tuple(masks),
        tuple(foreground),
        patch,
        torch.tensor(case_of),
        needs.dims == 2,
        _middle(spacings),
    )


def _kept(array: npt.NDArray[np.generic], folder: Path, budget_bytes: int | None) -> npt.NDArray[np.generic]:
    kept = allocate(array.shape, array.dtype, folder, budget_bytes)
    kept[...] = array
    return kept


def _padded(voxels: npt.NDArray[np.generic], patch: Sequence[int]) -> npt.NDArray[np.generic]:
    """Zeros on both sides where a volume is smaller than the patch: what the sliding window does in service."""
    gaps = [max(0, want - have) for want, have in zip(patch, voxels.shape[1:], strict=True)]
    return np.pad(voxels, [(0, 0), *((gap // 2, gap - gap // 2) for gap in gaps)]) if any(gaps) else voxels


def _foreground(labels: npt.NDArray[np.generic], n_classes: int) -> tuple[ForegroundVoxels, ...]:
    """For each foreground class that occurs, the flat indices of at most 20,000 of its voxels, evenly taken."""
    found = (np.flatnonzero(labels == label) for label in range(1, n_classes))
    return tuple(voxels[:: -(-len(voxels) // MOST_VOXELS_KEPT)] for voxels in found if len(voxels))


def _below(end: int, source: torch.Generator) -> int:
    return int(torch.randint(end, (), generator=source))


def _middle(spacings: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(float(value) for value in np.median(np.array(spacings), axis=0))
