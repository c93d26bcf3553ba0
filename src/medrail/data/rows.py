"""Rows: the images of all samples, of which any few can be taken at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Rows(Protocol):
    """Images of one size, (C, [D,] H, W) each."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(count, C, [D,] H, W)."""
        ...

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        """Those of these numbers, (N, C, [D,] H, W), in memory of their own."""
        ...


@dataclass(frozen=True)
class Together:
    """All in one array (count, C, [D,] H, W)."""

    array: torch.Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        return self.array.index_select(0, indices)


@dataclass(frozen=True)
class Apart:
    """A piece (n, C, [D,] H, W) for each case, where the store's own files are used in place.

    ``piece``, ``row``: (count,), where each sample lies. Pieces may differ in type; ``kind`` holds all of them.
    """

    pieces: tuple[torch.Tensor, ...]
    piece: torch.Tensor
    row: torch.Tensor
    kind: torch.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.piece), *self.pieces[0].shape[1:])

    def take(self, indices: torch.Tensor) -> torch.Tensor:
        places = zip(self.piece[indices].tolist(), self.row[indices].tolist(), strict=True)
        return torch.stack([self.pieces[piece][row].to(self.kind) for piece, row in places])
