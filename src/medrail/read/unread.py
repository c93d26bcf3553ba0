"""An image whose header is read and whose slices are not: for work that takes them one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.types import Defect, Geometry, Image, Unit


class Slice(NamedTuple):
    """One slice of a volume: its index ``d`` along D, and (H, W) numbers to which ``bias`` is added.

    The sum is the value: a whole number, or a float32 with bias 0. ``values`` may be overwritten by the next slice.
    """

    d: int
    values: npt.NDArray[Any]
    bias: float


@dataclass(frozen=True, eq=False)
class UnreadImage:
    """What ``Image`` says of one grey volume without its voxels, and the two ways to them.

    slices:
        Indices along D -> these slices, in that order, each read when it is asked for. Raises as ``read`` does.
    read:
        All of it at once: the image that ``medrail.read`` gives.
    """

    grid: tuple[int, int, int]
    geometry: Geometry
    unit: Unit
    source: str
    defects: tuple[Defect, ...]
    slices: Callable[[Sequence[int]], Iterator[Slice]]
    read: Callable[[], Image]

    @property
    def stand_in(self) -> Image:
        """An image of the same grid, geometry and unit without memory for its voxels, which are all 0."""
        nothing = np.broadcast_to(np.int16(0), (1, *self.grid))
        return Image(nothing, self.geometry, self.unit, self.source, defects=self.defects)
