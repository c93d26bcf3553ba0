"""Samples: the prepared cases of one split, ready to be indexed a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from medrail.data.compact import Compact, Levels
from medrail.data.rows import Rows

ForegroundVoxels = npt.NDArray[np.int64]


class Samples(Protocol):
    """What the training loop needs.

    count:
        Samples in an epoch that takes each once.
    size:
        Spatial size of every sample, ([D,] H, W).
    spacing_mm:
        Of those axes, (1, ...) where there is no physical space.
    class_counts:
        Classification: samples of each class (multi-label: that have it); segmentation: ().
    """

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> tuple[int, ...]: ...

    @property
    def spacing_mm(self) -> tuple[float, ...]: ...

    @property
    def class_counts(self) -> tuple[int, ...]: ...

    def take(self, indices: torch.Tensor, source: torch.Generator) -> tuple[Compact, torch.Tensor]:
        """Images (N, C, [D,] H, W) as they are stored, and integer targets, (N,) or (N, [D,] H, W), or of several
        labels float32 (N, K).

        Both are in memory of their own. ``source``: for what is drawn.
        """
        ...


@dataclass(frozen=True)
class Wholes:
    """Whole slices (2-D) or volumes (3-D), in the prepared data's own type, with each one's levels."""

    images: Rows
    levels: Levels | None
    targets: torch.Tensor
    spacing_mm: tuple[float, ...]
    class_counts: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return len(self.targets)

    @property
    def size(self) -> tuple[int, ...]:
        return self.images.shape[2:]

    def take(self, indices: torch.Tensor, source: torch.Generator) -> tuple[Compact, torch.Tensor]:
        levels = self.levels and self.levels.take(indices)
        return Compact(self.images.take(indices), levels), self.targets.index_select(0, indices)


@dataclass(frozen=True)
class Patches:
    """Random patches of volumes (or of slices); half of them are centred on a foreground voxel.

    In a batch that is every second one; whether the first is, is drawn, so that it is half of them at any batch size.
    An epoch has about as many patches as would tile all cases, each case in proportion to its size. ``volumes`` are
    (C, D, H, W) and ``masks`` (D, H, W), at least as large as the patch, which has three axes also in 2-D, (1, H, W).
    Volumes may differ in type, and ``kind`` holds all of them; ``levels`` are those of the cases.
    """

    volumes: tuple[torch.Tensor, ...]
    kind: torch.dtype
    levels: Levels | None
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

    def take(self, indices: torch.Tensor, source: torch.Generator) -> tuple[Compact, torch.Tensor]:
        images, masks, cases = [], [], self.case_of[indices]
        first = _below(2, source)
        for position, case in enumerate(cases.tolist(), first):
            corner = self._corner(case, centred=position % 2 == 1, source=source)
            box = tuple(slice(start, start + length) for start, length in zip(corner, self.patch, strict=True))
            images.append(self.volumes[case][(slice(None), *box)].to(self.kind))
            masks.append(self.masks[case][box])
        stacked, targets = torch.stack(images), torch.stack(masks)
        if self.flat:
            stacked, targets = stacked[:, :, 0], targets[:, 0]
        return Compact(stacked, self.levels and self.levels.take(cases)), targets

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


def _below(end: int, source: torch.Generator) -> int:
    return int(torch.randint(end, (), generator=source))
