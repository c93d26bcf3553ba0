"""Whether contenders made the same numbers: the largest difference, and the share of voxels that differ by > 0.01."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

FAR = 0.01

Turn = Callable[[np.ndarray], np.ndarray]


class Results:
    """What each contender has made of one case, by the contender's name.

    Parameters
    ----------
    case:
        Its id, with which the names of its files begin.
    turns:
        Contender -> what brings its array to (D, H, W) in the order of LPS.
    """

    def __init__(self, case: str, turns: Mapping[str, Turn] | None = None) -> None:
        self._case, self._turns = case, turns or {}
        self._made: dict[str, np.ndarray] = {}

    def look(self, name: str, made: Path) -> None:
        """Keep what lies below ``made``, if the case is there."""
        files = sorted(made.rglob(f"{self._case}*.npy"))
        if files:
            array = np.load(files[0]).astype(np.float32)
            self._made[name] = self._turns.get(name, np.squeeze)(array)

    def said(self, reference: str, *names: str) -> list[str]:
        """One sentence for each of the names that has made something."""
        return [self._one(reference, name) for name in names if name in self._made]

    def _one(self, reference: str, name: str) -> str:
        ours, theirs = self._made[name], self._made[reference]
        if ours.shape != theirs.shape:
            return f"{name} against {reference}: another grid, {ours.shape} and {theirs.shape}"
        return f"{name} against {reference}: {difference(ours, theirs)}"


def difference(ours: np.ndarray, theirs: np.ndarray) -> str:
    """In words."""
    apart = np.abs(ours - theirs)
    far = float((apart > FAR).mean())
    return f"largest difference {apart.max():.1e}, {far:.2%} of the values differ by more than {FAR}"
