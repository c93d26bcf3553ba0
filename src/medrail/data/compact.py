"""Compact: a batch in the type it is stored in, which becomes the network's float32 all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Levels:
    """What stored numbers mean, for each of n samples (or cases): ``(stored - subtract) * multiply``; (n, C) float32.

    Two roundings, in this order, as ``medrail.prepare`` does it in service.
    """

    subtract: torch.Tensor
    multiply: torch.Tensor

    @staticmethod
    def of(
        subtracts: Sequence[npt.NDArray[np.float32]], multiplies: Sequence[npt.NDArray[np.float32]]
    ) -> Levels | None:
        """From one (C,) for each sample; None where stored numbers are the network's input as they are."""
        subtract, multiply = np.stack(subtracts).astype(np.float32), np.stack(multiplies).astype(np.float32)
        if (subtract == 0).all() and (multiply == 1).all():
            return None
        return Levels(torch.from_numpy(subtract), torch.from_numpy(multiply))

    def take(self, indices: torch.Tensor) -> Levels:
        """Those of some samples, in their order."""
        return Levels(self.subtract.index_select(0, indices), self.multiply.index_select(0, indices))


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
        levels = self.levels and Levels(self.levels.subtract.to(device), self.levels.multiply.to(device))
        return Compact(self.values.to(device), levels)

    def part(self, part: slice) -> Compact:
        """Some of the samples; no copy."""
        levels = self.levels and Levels(self.levels.subtract[part], self.levels.multiply[part])
        return Compact(self.values[part], levels)

    def floats(self) -> torch.Tensor:
        """(N, C, [D,] H, W) float32, always in memory of its own."""
        result = self.values.to(torch.float32, copy=True)
        if self.levels is not None:
            ones = (1,) * (result.ndim - 2)
            subtract, multiply = (
                part.view(*part.shape, *ones) for part in (self.levels.subtract, self.levels.multiply)
            )
            result.sub_(subtract).mul_(multiply)  # one after the other: each is rounded, as in the service
        return result
