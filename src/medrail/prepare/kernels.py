"""The two inner loops of resampling, compiled: a slice within its plane, and slices into a slice of the result.

They do what ``sampling`` does with numpy, operation by operation in float32, so that both give the same bits; numba
adds no fused multiply-add by itself. Compiled once for each type of voxels and kept beside this file, or where numba
keeps its cache. ``line`` is (subtract, multiply, low, high): v -> min(max((v - subtract) * multiply, low), high).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float32]
Array = npt.NDArray[Any]

_ONE, _TWO = np.uint32(1), np.uint32(2)
_CHUNK = 4096  # voxels that stay in the processor's first cache
# 2^-14 and 0.5 as the bits of a float32.
_SMALLEST_NORMAL_HALF, _BITS_OF_A_HALF = np.uint32(0x38800000), np.uint32(0x3F000000)

_compiled = njit(cache=True, nogil=True, boundscheck=False, error_model="numpy")


@_compiled
def _row(
    plane: Array, bias: Any, line: Floats, begin: int, weights: Floats, row: Floats
) -> None:  # pragma: no cover  (compiled)
    """One row of the result, still of the input's width."""
    count, width = len(weights), plane.shape[1]
    sub, mul, low, high = line[0], line[1], line[2], line[3]
    if count == 2:
        w0, w1 = weights[0], weights[1]
        for x in range(width):
            a = min(max((np.float32(plane[begin, x]) + bias - sub) * mul, low), high)
            b = min(max((np.float32(plane[begin + 1, x]) + bias - sub) * mul, low), high)
            row[x] = a * w0 + b * w1
        return
    if count == 3:
        w0, w1, w2 = weights[0], weights[1], weights[2]
        for x in range(width):
            a = min(max((np.float32(plane[begin, x]) + bias - sub) * mul, low), high)
            b = min(max((np.float32(plane[begin + 1, x]) + bias - sub) * mul, low), high)
            c = min(max((np.float32(plane[begin + 2, x]) + bias - sub) * mul, low), high)
            row[x] = a * w0 + b * w1 + c * w2
        return
    w0 = weights[0]
    for x in range(width):
        row[x] = min(max((np.float32(plane[begin, x]) + bias - sub) * mul, low), high) * w0
    k = 1
    while k + 2 < count:
        w0, w1, w2 = weights[k], weights[k + 1], weights[k + 2]
        for x in range(width):
            a = min(max((np.float32(plane[begin + k, x]) + bias - sub) * mul, low), high)
            b = min(max((np.float32(plane[begin + k + 1, x]) + bias - sub) * mul, low), high)
            c = min(max((np.float32(plane[begin + k + 2, x]) + bias - sub) * mul, low), high)
            row[x] = row[x] + a * w0 + b * w1 + c * w2
        k += 3
    while k < count:
        w0 = weights[k]
        for x in range(width):
            row[x] += min(max((np.float32(plane[begin + k, x]) + bias - sub) * mul, low), high) * w0
        k += 1


@_compiled
def _along_row(row: Floats, first: Array, weight: Floats, out: Floats) -> None:  # pragma: no cover  (compiled)
    """``weight`` (taps, n); ``first`` unsigned, as signed indices may be negative, which costs a fifth of the time."""
    count = len(weight)
    if count == 1:
        w0 = weight[0]
        for x in range(len(first)):
            out[x] = row[first[x]] * w0[x]
    elif count == 2:
        w0, w1 = weight[0], weight[1]
        for x in range(len(first)):
            i = first[x]
            out[x] = row[i] * w0[x] + row[i + _ONE] * w1[x]
    elif count == 3:
        w0, w1, w2 = weight[0], weight[1], weight[2]
        for x in range(len(first)):
            i = first[x]
            out[x] = row[i] * w0[x] + row[i + _ONE] * w1[x] + row[i + _TWO] * w2[x]
    else:
        for x in range(len(first)):
            i = first[x]
            total = row[i] * weight[0, x]
            for k in range(1, count):
                total += row[i + np.uint32(k)] * weight[k, x]
            out[x] = total


@_compiled
def in_plane(
    plane: Array,
    bias: Any,
    line: Floats,
    first_h: Array,
    weight_h: Floats,
    first_w: Array,
    weight_w: Floats,
    out: Floats,
) -> None:  # pragma: no cover  (compiled)
    """(H, W) numbers -> (H', W') float32: plus ``bias``, through ``line``, then along H, then along W.

    ``weight_h`` (H', taps), ``weight_w`` (taps, W').
    """
    row = np.empty(plane.shape[1], np.float32)
    for y in range(len(first_h)):
        _row(plane, bias, line, first_h[y], weight_h[y], row)
        _along_row(row, first_w, weight_w, out[y])


@_compiled
def in_plane_half(
    plane: Array,
    bias: Any,
    line: Floats,
    first_h: Array,
    weight_h: Floats,
    first_w: Array,
    weight_w: Floats,
    after: Floats,
    out: Array,
) -> None:  # pragma: no cover  (compiled)
    """As ``in_plane`` where nothing is done along D: through ``after``, as the bits of float16 (uint16)."""
    row, found = np.empty(plane.shape[1], np.float32), np.empty(out.shape[1], np.float32)
    shifted = np.empty(out.shape[1], np.float32)
    sub, mul, low, high = after[0], after[1], after[2], after[3]
    for y in range(len(first_h)):
        _row(plane, bias, line, first_h[y], weight_h[y], row)
        _along_row(row, first_w, weight_w, found)
        for x in range(len(found)):
            found[x] = min(max((found[x] - sub) * mul, low), high)
        _chunk_of_halves(found, shifted, out[y])


@_compiled
def _combined(
    planes: Floats, slots: Array, weights: Floats, line: Floats, begin: int, part: Floats
) -> None:  # pragma: no cover  (compiled)
    """A chunk of the weighted sum of some planes (n, voxels), through ``line``."""
    sub, mul, low, high = line[0], line[1], line[2], line[3]
    first, w0 = planes[slots[0]], weights[0]
    if len(slots) == 2:
        second, w1 = planes[slots[1]], weights[1]
        for x in range(len(part)):
            total = first[begin + x] * w0 + second[begin + x] * w1
            part[x] = min(max((total - sub) * mul, low), high)
        return
    for x in range(len(part)):
        part[x] = first[begin + x] * w0
    for k in range(1, len(slots)):
        plane, wk = planes[slots[k]], weights[k]
        for x in range(len(part)):
            part[x] += plane[begin + x] * wk
    for x in range(len(part)):
        part[x] = min(max((part[x] - sub) * mul, low), high)


@_compiled
def across(planes: Floats, slots: Array, weights: Floats, line: Floats, out: Floats) -> None:  # pragma: no cover
    """Float32 slice of the result from the planes (n, voxels) that it draws on."""
    for begin in range(0, len(out), _CHUNK):
        _combined(planes, slots, weights, line, begin, out[begin : begin + _CHUNK])


@_compiled
def across_whole(planes: Floats, slots: Array, weights: Floats, line: Floats, out: Array) -> None:  # pragma: no cover
    """As ``across``, rounded to whole numbers, half to even."""
    part = np.empty(_CHUNK, np.float32)
    for begin in range(0, len(out), _CHUNK):
        count = min(_CHUNK, len(out) - begin)
        _combined(planes, slots, weights, line, begin, part[:count])
        for x in range(count):
            out[begin + x] = np.rint(part[x])


@_compiled
def across_half(planes: Floats, slots: Array, weights: Floats, line: Floats, out: Array) -> None:  # pragma: no cover
    """As ``across``, as the bits of float16 (uint16)."""
    part, shifted = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32)
    for begin in range(0, len(out), _CHUNK):
        count = min(_CHUNK, len(out) - begin)
        _combined(planes, slots, weights, line, begin, part[:count])
        _chunk_of_halves(part[:count], shifted[:count], out[begin : begin + count])


@_compiled
def halves(values: Floats, out: Array) -> None:  # pragma: no cover  (compiled)
    """Float32 below 65520 -> bits of float16 (uint16), to the nearest, half to even (IEEE 754, as numpy's cast)."""
    shifted = np.empty(_CHUNK, np.float32)
    for begin in range(0, len(out), _CHUNK):
        count = min(_CHUNK, len(out) - begin)
        _chunk_of_halves(values[begin : begin + count], shifted[:count], out[begin : begin + count])


@_compiled
def _chunk_of_halves(values: Floats, shifted: Floats, out: Array) -> None:  # pragma: no cover  (compiled)
    """Below 2^-14 a half counts steps of 2^-24, as a float32 from 0.5 to 1 does: adding 0.5 rounds to them."""
    half = np.float32(0.5)
    for x in range(len(values)):
        shifted[x] = abs(values[x]) + half
    bits, steps = values.view(np.uint32), shifted.view(np.uint32)
    rest, rounding, rebias = np.uint32(0x7FFFFFFF), np.uint32(0xFFF), np.uint32(0x38000000)
    thirteen, one, shift, sign_bit = np.uint32(13), np.uint32(1), np.uint32(16), np.uint32(0x8000)
    for x in range(len(bits)):
        size = bits[x] & rest
        normal = (size + rounding + ((size >> thirteen) & one) - rebias) >> thirteen
        small = steps[x] - _BITS_OF_A_HALF
        out[x] = ((bits[x] >> shift) & sign_bit) | (small if size < _SMALLEST_NORMAL_HALF else normal)
