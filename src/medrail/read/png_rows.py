"""The inner loop of PNG, compiled: filtered rows of bytes -> planes (PNG specification, section 9, "Filtering").

Each byte was stored as its difference to a guess from its neighbours: a (to the left), b (above), c (above a).
Importing this module loads numba.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]

_compiled = njit(cache=True, nogil=True, boundscheck=False)
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)
_AT_ONCE = 4


@_compiled
def unfilter(rows: Bytes, out: Bytes) -> bool:  # pragma: no cover  (compiled)
    """``rows`` (H, 1 + W * S): the kind of filter and the samples, S >= C a pixel -> ``out`` (C, H, W).

    False where a row is of an unknown kind. Samples behind the C first (alpha) are passed over.
    """
    channels, height, width = out.shape
    step = (rows.shape[1] - 1) // width
    above = np.zeros((channels, width), np.uint8)
    y = 0
    while y < height:
        if channels == 1 and _alike(rows, y):
            _paeth_rows(rows[y : y + _AT_ONCE], above, out[0, y : y + _AT_ONCE], step)
            y += _AT_ONCE
        elif rows[y, 0] == _PAETH and channels == 3:
            _paeth_colour(rows[y], above, out[:, y], step)
            y += 1
        elif rows[y, 0] <= _PAETH:
            for channel in range(channels):
                _any_row(rows[y], above[channel], out[channel, y], channel, step)
            y += 1
        else:
            return False
        above = out[:, y - 1]
    return True


@_compiled
def _alike(rows: Bytes, y: int) -> bool:  # pragma: no cover  (compiled)
    if y + _AT_ONCE > len(rows):
        return False
    for row in rows[y : y + _AT_ONCE]:  # noqa: SIM110  numba has no all()
        if row[0] != _PAETH:
            return False
    return True


@_compiled
def _any_row(row: Bytes, above: Bytes, out: Bytes, channel: int, step: int) -> None:  # pragma: no cover  (compiled)
    a, c = np.int32(0), np.int32(0)
    for x in range(len(out)):
        b = np.int32(above[x])
        guess = np.int32(0)
        if row[0] == _SUB:
            guess = a
        elif row[0] == _UP:
            guess = b
        elif row[0] == _AVERAGE:
            guess = (a + b) >> 1
        elif row[0] == _PAETH:
            guess = _nearest(a, b, c)
        a, c = (row[1 + channel + x * step] + guess) & 255, b
        out[x] = a


@njit(cache=True, nogil=True, inline="always")
def _nearest(a: Any, b: Any, c: Any) -> Any:  # pragma: no cover  (compiled)
    """Paeth's guess: the neighbour that is nearest to a + b - c; without jumps."""
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - c - c)
    guess = b if to_b <= to_c else c
    return a if to_a <= min(to_b, to_c) else guess


@_compiled
def _paeth_colour(row: Bytes, above: Bytes, out: Bytes, step: int) -> None:  # pragma: no cover  (compiled)
    """Three channels at once: each waits for its own left neighbour only."""
    ar, ag, ab = np.int32(0), np.int32(0), np.int32(0)
    cr, cg, cb = np.int32(0), np.int32(0), np.int32(0)
    reds, greens, blues = out[0], out[1], out[2]
    above_r, above_g, above_b = above[0], above[1], above[2]
    r, g, b_ = row[1::step], row[2::step], row[3::step]
    for x in range(len(reds)):
        br, bg, bb = np.int32(above_r[x]), np.int32(above_g[x]), np.int32(above_b[x])
        ar = (np.int32(r[x]) + _nearest(ar, br, cr)) & 255
        ag = (np.int32(g[x]) + _nearest(ag, bg, cg)) & 255
        ab = (np.int32(b_[x]) + _nearest(ab, bb, cb)) & 255
        reds[x], greens[x], blues[x] = ar, ag, ab
        cr, cg, cb = br, bg, bb


@_compiled
def _paeth_rows(rows: Bytes, above: Bytes, out: Bytes, step: int) -> None:  # pragma: no cover  (compiled)
    """Four rows at once, each one pixel behind the one above: what it needs of that has just been made."""
    width = out.shape[1]
    a0, a1, a2, a3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    c0, c1, c2, c3 = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for t in range(width + _AT_ONCE - 1):
        if t >= 3:
            b = a2
            a3 = (rows[3, 1 + (t - 3) * step] + _nearest(a3, b, c3)) & 255
            out[3, t - 3], c3 = a3, b
        if 2 <= t < width + 2:
            b = a1
            a2 = (rows[2, 1 + (t - 2) * step] + _nearest(a2, b, c2)) & 255
            out[2, t - 2], c2 = a2, b
        if 1 <= t < width + 1:
            b = a0
            a1 = (rows[1, 1 + (t - 1) * step] + _nearest(a1, b, c1)) & 255
            out[1, t - 1], c1 = a1, b
        if t < width:
            b = np.int32(above[0, t])
            a0 = (rows[0, 1 + t * step] + _nearest(a0, b, c0)) & 255
            out[0, t], c0 = a0, b
