"""Two thumbnails, one of which may show a part of the other -> that part, and how alike they are there.

Gauss-Newton on the crop's edges, many pairs at once (the way of Lucas and Kanade, 1981, in the cosine spectrum).
"""

from __future__ import annotations

import numpy as np

from medrail.cases.near.signature import Values
from medrail.cases.near.spectrum import Floats, cosines, emphasis, unit

# Of the length of an axis: how far an edge can be found inside the larger picture, and outside (rounding of sizes).
_FURTHEST, _OUTSIDE = 0.12, 0.02
_STEP = 0.004


def fit(whole: Values, part: Values, edges: Floats, k: int, rounds: int) -> tuple[Floats, Floats]:
    """Find which part of each ``whole`` looks like each ``part``.

    Parameters
    ----------
    whole, part:
        (P, n, n[, n]), in the same orientation.
    edges:
        (P, axes, 2) where to begin: start and end of the part as fractions of each axis of the whole.
    k:
        Coefficients along each axis that count.
    rounds:
        Steps of Gauss-Newton at most.

    Returns
    -------
    edges, scores:
        As found, and (P,) the correlation of the emphasised spectra, -1 to 1.
    """
    axes, side = whole.ndim - 1, whole.shape[1]
    target = _spectra(part, [np.broadcast_to(cosines(k, side), (len(part), k, side))] * axes)
    best_edges = edges.copy()
    current = _cropped(whole, best_edges, k)
    scores = (current * target).sum(axis=1)
    for _ in range(rounds):
        slopes = _slopes(whole, best_edges, current, k)
        normal = np.einsum("pid,pjd->pij", slopes, slopes)
        wanted = np.einsum("pid,pd->pi", slopes, target - current)
        size = np.einsum("pii->p", normal)[:, None, None] / normal.shape[1]
        damped = normal + (0.01 * size + 1e-9) * np.eye(normal.shape[1])
        moves = np.linalg.solve(damped, wanted[..., None])[..., 0].reshape(edges.shape)
        tried = _inside(best_edges + np.clip(moves, -0.03, 0.03))
        now = _cropped(whole, tried, k)
        found = (now * target).sum(axis=1)
        better = found > scores
        if not better.any():
            break
        best_edges[better], current[better], scores[better] = tried[better], now[better], found[better]
    return best_edges, scores.astype(np.float64)


def _inside(edges: Floats) -> Floats:
    starts = np.clip(edges[..., 0], -_OUTSIDE, _FURTHEST)
    ends = np.clip(edges[..., 1], 1 - _FURTHEST, 1 + _OUTSIDE)
    return np.stack([starts, ends], axis=-1)


def _slopes(whole: Values, edges: Floats, current: Values, k: int) -> Values:
    """(P, edges, coefficients): how the spectrum changes as each edge moves."""
    slopes = []
    matrices = _matrices(whole, edges, k)
    for axis, end in np.ndindex(edges.shape[1:]):
        moved = edges.copy()
        moved[:, axis, end] += _STEP
        changed = [*matrices]
        changed[axis] = _matrix(moved[:, axis], k, whole.shape[1])
        slopes.append((_spectra(whole, changed) - current) / _STEP)
    return np.stack(slopes, axis=1)


def _cropped(whole: Values, edges: Floats, k: int) -> Values:
    """(P, coefficients): spectra of the parts between the edges."""
    return _spectra(whole, _matrices(whole, edges, k))


def _matrices(whole: Values, edges: Floats, k: int) -> list[Values]:
    return [_matrix(edges[:, axis], k, whole.shape[1]) for axis in range(whole.ndim - 1)]


def _matrix(edges: Floats, k: int, side: int) -> Values:
    """(P, k, side): from the samples of an axis to the spectrum between two fractions (P, 2) of it, linearly."""
    at = edges[:, :1] + (edges[:, 1:] - edges[:, :1]) * ((np.arange(side) + 0.5) / side)
    at = np.clip(at * side - 0.5, 0, side - 1).astype(np.float32)
    distance = np.abs(at[..., None] - np.arange(side, dtype=np.float32))
    return np.asarray(cosines(k, side) @ np.maximum(1 - distance, 0), np.float32)


def _spectra(thumbnails: Values, matrices: list[Values]) -> Values:
    """(P, n, n[, n]) and a matrix (P, k, n) an axis -> (P, coefficients) of unit length."""
    if len(matrices) == 2:
        result = matrices[0] @ thumbnails @ matrices[1].transpose(0, 2, 1)
    else:
        result = np.einsum("pabc,pkc->pabk", thumbnails, matrices[2], optimize=True)
        result = np.einsum("pabk,pjb->pajk", result, matrices[1], optimize=True)
        result = np.einsum("pajk,pia->pijk", result, matrices[0], optimize=True)
    weighted = result * emphasis(matrices[0].shape[1], len(matrices), 1.0)
    return unit(weighted.reshape(len(weighted), -1).astype(np.float32))
