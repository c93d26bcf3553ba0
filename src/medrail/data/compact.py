"""Compact: a batch in the type it is stored in, which becomes the network's float32 all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Levels:
    """What stored numbers mean, for each of n samples (or cases): ``float32(stored) * scale + offset``; (n, C) float32.

    Two roundings, in this order, as numpy does it in service.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    @staticmethod
    def of(scales: Sequence[npt.NDArray[np.float32]], offsets: Sequence[npt.NDArray[np.float32]]) -> Levels | None:
        """From one (C,) for each sample; None where stored numbers are the network's input as they are."""
        scale, offset = np.stack(scales).astype(np.float32), np.stack(offsets).astype(np.float32)
        if (scale == 1).all() and (offset == 0).all():
            return None
        return Levels(torch.from_numpy(scale), torch.from_numpy(offset))

    def take(self, indices: torch.Tensor) -> Levels:
        """Those of some samples, in their order."""
        return Levels(self.scale.index_select(0, indices), self.offset.index_select(0, indices))


@dataclass(frozen=True)
class Compact:
    """Images of a batch as they are stored.

    values:
        (N, C, [D,] H, W): uint8, int16, float16, float32 or another type that torch computes with.
    levels:
        For each of the N, or None: the values are the input.
    """

    values: torch.Tensor
    levels: Levels | None = None

    def to(self, device: torch.device | str) -> Compact:
        """On another device; what travels is the compact type."""
        levels = self.levels and Levels(self.levels.scale.to(device), self.levels.offset.to(device))
        return Compact(self.values.to(device), levels)

    def part(self, part: slice) -> Compact:
        """Some of the samples; no copy."""
        levels = self.levels and Levels(self.levels.scale[part], self.levels.offset[part])
        return Compact(self.values[part], levels)

    def floats(self) -> torch.Tensor:
        """(N, C, [D,] H, W) float32, always in memory of its own."""
        result = self.values.to(torch.float32, copy=True)
        if self.levels is not None:
            ones = (1,) * (result.ndim - 2)
            scale, offset = (part.view(*part.shape, *ones) for part in (self.levels.scale, self.levels.offset))
            result.mul_(scale).add_(offset)  # never addcmul: it may round once where the service rounds twice
        return result
