"""Slices in, slices of the resampled volume out: what ``resampling`` defines, computed a slice at a time in float32.

Each slice is resampled within its plane as soon as it is there, first along H, then along W; the few planes that a
slice of the result draws on are kept, and it is made when the last of them has come. So neither the stored volume nor a
copy of it in float32 is ever in memory. Before the first and after the last interpolation a ``Line`` may stand, as a
window: resampling and windowing then take one pass, with the very numbers of two.

Compiled by numba where that is installed and the work is worth its loading, else by numpy: the same bits.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.prepare.resampling import Floats, Taps
from medrail.read import Slice
from medrail.types import Voxels

# Below this many voxels numpy is done before numba is loaded.
_WORTH_LOADING = 20_000_000
_KERNELS = "medrail.prepare.kernels"
_INFINITY = float("inf")


class Line(NamedTuple):
    """``min(max((v - subtract) * multiply, low), high)`` in float32, one operation after another."""

    subtract: float = 0.0
    multiply: float = 1.0
    low: float = -_INFINITY
    high: float = _INFINITY

    def __call__(self, values: Voxels) -> Floats:
        """Any real numbers -> float32 of the same shape, a new array."""
        changed = values.astype(np.float32)
        if self.subtract != 0:
            changed -= np.float32(self.subtract)
        if self.multiply != 1:
            changed *= np.float32(self.multiply)
        if (self.low, self.high) != (-_INFINITY, _INFINITY):
            np.clip(changed, np.float32(self.low), np.float32(self.high), out=changed)
        return changed


NO_CHANGE = Line()
Kind = Literal["float32", "float16", "uint8", "uint16"]


@dataclass(frozen=True)
class Sampling:
    """What becomes of a volume: ``before`` each voxel, ``taps`` along D, H, W, ``after`` each voxel, kept as ``kind``.

    Whole kinds are rounded half to even; what does not fit into a kind is the caller's fault.
    """

    taps: tuple[Taps, Taps, Taps]
    before: Line = NO_CHANGE
    after: Line = NO_CHANGE
    kind: Kind = "float32"

    @property
    def grid(self) -> tuple[int, int, int]:
        """(D', H', W')."""
        d, h, w = (len(taps.first) for taps in self.taps)
        return d, h, w

    @property
    def needed(self) -> list[int]:
        """The slices that the result draws on, ascending."""
        return [int(index) for index in self.taps[0].drawn_on]


def resample(voxels: Voxels, taps: tuple[Taps, Taps, Taps]) -> Floats:
    """(C, D, H, W) of any real dtype -> float32 (C, D', H', W')."""
    return sample(voxels, Sampling(taps))


def sample(voxels: Voxels, sampling: Sampling) -> Voxels:
    """(C, D, H, W) of any real dtype -> (C, D', H', W') of ``sampling.kind``."""
    out = np.empty((voxels.shape[0], *sampling.grid), sampling.kind)
    for channel, volume in enumerate(voxels):
        slices = (Slice(d, volume[d], 0.0) for d in sampling.needed)
        sample_slices(slices, sampling, out[channel], volume.size * voxels.shape[0])
    return out


def sample_slices(slices: Iterable[Slice], sampling: Sampling, out: Voxels, voxels: int) -> None:
    """Slices in ascending order of ``Slice.d``, all that are ``needed`` -> ``out`` (D', H', W').

    ``voxels``: how many there are in all, to judge whether numba is worth its loading.
    """
    kernels = compiled() if _compiled_is_worth_it(voxels) else None
    if kernels is None:
        _sample_with_numpy(slices, sampling, out)
    else:
        _sample_compiled(kernels, slices, sampling, out)


@cache
def compiled() -> Any:
    """The compiled loops; None where numba is not installed, or finds no folder for what it compiles."""
    try:
        return importlib.import_module(_KERNELS)
    except (ImportError, RuntimeError, OSError):
        return None


def _compiled_is_worth_it(voxels: int) -> bool:
    return _KERNELS in sys.modules or voxels >= _WORTH_LOADING


def as_halves(values: Floats) -> npt.NDArray[np.float16]:
    """Float32 below 65520 -> float16, as numpy casts it; several times quicker where the compiled way is loaded."""
    kernels = compiled() if _KERNELS in sys.modules else None
    if kernels is None or values.dtype != np.float32:
        return values.astype(np.float16)
    out = np.empty(values.shape, np.float16)
    kernels.halves(np.ascontiguousarray(values).reshape(-1), out.reshape(-1).view(np.uint16))
    return out


class _Output(NamedTuple):
    """A slice of the result that can be made now, and where the planes lie that it draws on."""

    d: int
    slots: npt.NDArray[np.intp]
    weights: Floats


class _Waiting:
    """Which planes are kept, in a ring as long as the taps along D, and which slices of the result wait for them."""

    def __init__(self, taps: Taps) -> None:
        self.length = int(taps.weight.shape[1])
        self._taps = taps
        drawn = [np.flatnonzero(row) for row in taps.weight]
        self._last = [int(first + row[-1]) for first, row in zip(taps.first, drawn, strict=True)]
        self._order = np.argsort(self._last, kind="stable").tolist()
        self._made = 0

    def slot(self, d: int) -> int:
        return d % self.length

    def ready(self, d: int) -> Iterator[_Output]:
        """The slices of the result whose last plane is that of the input's slice ``d``."""
        while self._made < len(self._order) and self._last[out := self._order[self._made]] <= d:
            used = np.flatnonzero(self._taps.weight[out])
            weights = np.ascontiguousarray(self._taps.weight[out, used[0] : used[-1] + 1])
            slots = (self._taps.first[out] + np.arange(used[0], used[-1] + 1)) % self.length
            yield _Output(out, slots, weights)
            self._made += 1


def _sample_compiled(kernels: Any, slices: Iterable[Slice], sampling: Sampling, out: Voxels) -> None:
    along_d, along_h, along_w = sampling.taps
    before, after = np.array(sampling.before, np.float32), np.array(sampling.after, np.float32)
    in_plane = (
        *(along_h.first, along_h.weight),
        *(along_w.first.astype(np.uint32), np.ascontiguousarray(along_w.weight.T)),
    )
    rows = out.view(np.uint16) if sampling.kind == "float16" else out
    if sampling.kind == "float16" and along_d.leaves_alone(len(along_d.first)):
        for d, values, bias in slices:
            plane = np.ascontiguousarray(values)
            kernels.in_plane_half(plane, np.float32(bias), before, *in_plane, after, rows[d])
        return
    waiting = _Waiting(along_d)
    planes = np.empty((waiting.length, *sampling.grid[1:]), np.float32)
    flat = planes.reshape(waiting.length, -1)
    across = {"float32": kernels.across, "float16": kernels.across_half}.get(sampling.kind, kernels.across_whole)
    for d, values, bias in slices:
        plane = np.ascontiguousarray(values)
        kernels.in_plane(plane, np.float32(bias), before, *in_plane, planes[waiting.slot(d)])
        for made in waiting.ready(d):
            across(flat, made.slots, made.weights, after, rows[made.d].reshape(-1))


def _sample_with_numpy(slices: Iterable[Slice], sampling: Sampling, out: Voxels) -> None:
    along_d, along_h, along_w = sampling.taps
    waiting = _Waiting(along_d)
    planes = np.empty((waiting.length, *sampling.grid[1:]), np.float32)
    for d, values, bias in slices:
        plane = values.astype(np.float32)
        if bias:
            plane += np.float32(bias)
        planes[waiting.slot(d)] = _in_plane(sampling.before(plane), along_h, along_w)
        for made in waiting.ready(d):
            total = planes[made.slots[0]] * made.weights[0]
            for slot, weight in zip(made.slots[1:], made.weights[1:], strict=True):
                total += planes[slot] * weight
            total = sampling.after(total)
            out[made.d] = total if out.dtype.kind == "f" else np.rint(total)


def _in_plane(plane: Floats, along_h: Taps, along_w: Taps) -> Floats:
    if not along_h.leaves_alone(plane.shape[0]):
        plane = _along_rows(plane, along_h)
    if not along_w.leaves_alone(plane.shape[1]):
        plane = _along_rows(np.ascontiguousarray(plane.T), along_w).T
    return plane


def _along_rows(plane: Floats, taps: Taps) -> Floats:
    total: Floats = plane.take(taps.first, axis=0)
    total *= taps.weight[:, :1]
    for k in range(1, taps.weight.shape[1]):
        part = plane.take(taps.first + k, axis=0)
        part *= taps.weight[:, k : k + 1]
        total += part
    return total
