"""Signatures -> pairs that show the same: copied, re-encoded, resized, mirrored, turned, cropped a little.

Three sieves, each finer and dearer than the one before: the lowest frequencies of all against all (matrix products,
block by block), which leaves each image a few candidates; a grid of crops and all orientations of those; then the crop
itself is fitted and the fine frequencies are compared. `docs/explanation/leaks.md` has the thresholds' reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from medrail.cases.near.cropfit import fit
from medrail.cases.near.signature import Signature, Values, signature_of
from medrail.cases.near.spectrum import Floats, cropped_cosines, ranks, spectra, symmetries

__all__ = ["NearPair", "Signature", "near_pairs", "signature_of"]

Indices = npt.NDArray[np.int64]

# Candidates that each image keeps. On the training half of four real sets a true copy was never behind the second.
_CANDIDATES = 32
# Correlation that a candidate needs in the second sieve, and after the crop was fitted coarsely.
# A match as good as this on grey values is not tried on their ranks.
_CLEAR = 0.99
_SECOND, _COARSE = 0.80, 0.88
# Coefficients along each axis in each sieve: pictures, volumes. Of the third's the finest that both images can fill.
_K1, _K2 = {2: 8, 3: 4}, {2: 12, 3: 5}
_K3 = {2: (24, 16, 12), 3: (10, 8, 6)}
# In the first sieve each query is this much cropped at every side: halfway to the largest crop that is looked for.
_HALFWAY = 0.025
_GRID = ((0.0, 1.0), (0.05, 1.0), (0.0, 0.95), (0.05, 0.95))
# Images from which the scatter of cropping is learnt.
_LEARNT_FROM = 256
_BLOCK_BYTES = 1 << 27
_CROPPED = 0.015
# What a pair needs to be reported, and to be sure (docs/explanation/leaks.md): the scores of different patients' images
# ended at 0.85 (X-rays), 0.89 (cells) and 0.93 (28 x 28 X-rays), those of copies began at 0.95 in all but the worst.
LIKELY, SURE = 0.93, 0.96
# Two heads (Colin27 and the MNI152 average), cropped to their bounds, reach 0.93, plain phantoms 0.985; copies cropped
# by 5 % begin at 0.98. Heads registered to one template may be as alike as that: only what is all but equal is sure.
_LIKELY_3D, _SURE_3D = 0.97, 0.995
# Below the thumbnail's size there is less to compare: sure at this score only, and never below 24 samples.
_SURE_SMALL, _LIKELY_TINY = 0.98, 0.97
# Of 490 pictures put into frames and coded anew, ten strangers reached 0.96 within the frames.
_SURE_INNER = 0.985


@dataclass(frozen=True)
class NearPair:
    """Two images that show the same.

    a, b:
        Their names, ``a`` the earlier one.
    how:
        What was done to one of them, as "rotated by 90 degrees, cropped".
    score:
        Correlation of their structure, after the crop is undone: 1 for equal ones.
    sure:
        Whether the score is so high that different patients' images have not reached it.
    """

    a: str
    b: str
    how: str
    score: float
    sure: bool


def near_pairs(signatures: Mapping[str, Signature]) -> list[NearPair]:
    """All pairs of names whose images show the same, the most alike first.

    Pictures are compared with pictures, volumes with volumes; what is nearly blank is left out. Of more than 32
    copies of one image each is paired with some of the others, so that they still hang together.
    """
    names = [name for name, signature in signatures.items() if not signature.nearly_blank]
    pairs: list[NearPair] = []
    for axes in (2, 3):
        of_kind = [name for name in names if signatures[name].thumbnail.ndim == axes]
        if len(of_kind) > 1:
            pairs += _pairs(of_kind, [signatures[name] for name in of_kind])
    return sorted(pairs, key=lambda pair: -pair.score)


@dataclass(frozen=True, eq=False)
class _Matches:
    """Rows of one length: image ``whole`` may show, between ``edges``, image ``part`` in orientation ``turn``."""

    whole: Indices
    part: Indices
    turn: Indices
    edges: Floats
    score: Floats

    def __getitem__(self, rows: npt.NDArray[np.generic]) -> _Matches:
        return _Matches(self.whole[rows], self.part[rows], self.turn[rows], self.edges[rows], self.score[rows])

    def best(self, margin: float) -> _Matches:
        """For each pair of images, whichever is the whole, the best row and those that are worse by less."""
        key = np.minimum(self.whole, self.part) * (max(self.whole.max(), self.part.max()) + 1)
        key = key + np.maximum(self.whole, self.part)
        _, inverse = np.unique(key, return_inverse=True)
        highest = np.full(inverse.max() + 1, -np.inf)
        np.maximum.at(highest, inverse, self.score)
        return self[self.score >= highest[inverse] - margin]


def _pairs(names: Sequence[str], signatures: Sequence[Signature]) -> list[NearPair]:
    shown = [(n, one) for n, made in enumerate(signatures) for one in (made.thumbnail, made.inner) if one is not None]
    owner = np.array([n for n, _ in shown])
    framed = np.array([one is signatures[n].inner for n, one in shown])
    thumbnails = np.stack([thumbnail for _, thumbnail in shown])
    samples = np.array([signatures[n].samples for n in owner])
    matches = _candidates(thumbnails)
    matches = matches[owner[matches.whole] != owner[matches.part]]
    if not len(matches.score):
        return []
    matches = _in_any_contrast(thumbnails, samples, matches.best(0.02))
    matches = matches[np.argsort(-matches.score, kind="stable")]
    turns = symmetries(thumbnails.ndim - 1)
    found: dict[tuple[int, int], NearPair] = {}
    likely, sure = _thresholds(thumbnails, np.minimum(samples[matches.whole], samples[matches.part]))
    sure = np.where(framed[matches.whole] & framed[matches.part], np.maximum(sure, _SURE_INNER), sure)
    for row in np.flatnonzero(matches.score >= likely):
        a, b = sorted((int(owner[matches.whole[row]]), int(owner[matches.part[row]])))
        cropped = np.abs(matches.edges[row] - (0, 1)).max() > _CROPPED
        how = turns[matches.turn[row]].name + (", cropped" if cropped else "")
        score = float(matches.score[row])
        found.setdefault((a, b), NearPair(names[a], names[b], how, round(score, 4), score >= float(sure[row])))
    return list(found.values())


def _thresholds(thumbnails: npt.NDArray[np.uint8], samples: Indices) -> tuple[Floats, Floats]:
    """What each match needs to be reported and to be sure, by the fewest samples of its two images."""
    if thumbnails.ndim == 4:
        return np.full(len(samples), _LIKELY_3D), np.full(len(samples), _SURE_3D)
    tiny = samples < _K3[2][0]
    sure = np.where(samples < thumbnails.shape[1], _SURE_SMALL, SURE)
    return np.where(tiny, _LIKELY_TINY, LIKELY), np.where(tiny, np.inf, sure)


def _candidates(thumbnails: npt.NDArray[np.uint8]) -> _Matches:
    """The first two sieves."""
    axes, side = thumbnails.ndim - 1, thumbnails.shape[1]
    size = max(1, min(1024, _BLOCK_BYTES // (4 * len(thumbnails))))
    low, middle = _all_spectra(thumbnails, _K1[axes], 0.5), _all_spectra(thumbnails, _K2[axes], 1.0)
    whitener = _Whitener.learnt(thumbnails, low)
    others = whitener.places(low)
    halfway = [cropped_cosines(_K1[axes], side, _HALFWAY, 1 - _HALFWAY)] * axes
    found: list[tuple[int, Indices, Indices, Indices, Floats]] = []
    for start in range(0, len(thumbnails), size):
        block = thumbnails[start : start + size].astype(np.float32)
        chosen = _first_sieve(spectra(block, halfway, 0.5), others, whitener, start)
        crops = _grid_spectra(block, _K2[axes], 1.0)
        for row, candidates in enumerate(chosen):
            found.append((start + row, *_second_sieve(crops[row], middle[candidates], candidates)))
    return _joined(found, axes)


def _all_spectra(thumbnails: npt.NDArray[np.uint8], k: int, power: float) -> Values:
    axes, side = thumbnails.ndim - 1, thumbnails.shape[1]
    matrices = [cropped_cosines(k, side, 0.0, 1.0)] * axes
    starts = range(0, len(thumbnails), 2048)
    return np.concatenate([spectra(thumbnails[i : i + 2048].astype(np.float32), matrices, power) for i in starts])


@dataclass(frozen=True, eq=False)
class _Whitener:
    """From spectra to a space in which what cropping changes counts little, and what tells images apart counts much.

    The mean of the set is taken away, and the scatter that cropping makes within an image is whitened (the first half
    of Fisher's linear discriminant): in a set of chest X-rays the common chest would else hide which is which.
    """

    mean: Values
    matrix: Values

    @staticmethod
    def learnt(thumbnails: npt.NDArray[np.uint8], low: Values) -> _Whitener:
        axes, side = thumbnails.ndim - 1, thumbnails.shape[1]
        sample = thumbnails[:: -(-len(thumbnails) // _LEARNT_FROM)].astype(np.float32)
        halfway = [cropped_cosines(_K1[axes], side, _HALFWAY, 1 - _HALFWAY)] * axes
        centre = spectra(sample, halfway, 0.5).reshape(len(sample), 1, -1)
        moved = (_grid_spectra(sample, _K1[axes], 0.5) - centre).reshape(-1, centre.shape[-1])
        scatter = moved.T.astype(np.float64) @ moved / len(moved)
        scatter += np.eye(len(scatter)) * (0.05 * np.trace(scatter) / len(scatter) + 1e-9)
        lengths, directions = np.linalg.eigh(scatter)
        matrix = directions / np.sqrt(lengths)
        return _Whitener(low.reshape(len(low), -1).mean(axis=0), matrix.astype(np.float32))

    def places(self, low: Values) -> Values:
        """(N, d) so that the inner product with ``seekers`` is minus half the squared distance."""
        at = (low.reshape(len(low), -1) - self.mean) @ self.matrix
        half = -0.5 * (at * at).sum(axis=1, keepdims=True)
        return np.hstack([at, half, np.ones_like(half)])

    def seekers(self, low: Values) -> Values:
        places = self.places(low)
        places[:, [-2, -1]] = places[:, [-1, -2]]
        return places


def _first_sieve(queries: Values, others: Values, whitener: _Whitener, start: int) -> Indices:
    """(B, K) the nearest of each query in the best orientation, itself left out."""
    nearest = np.full((len(queries), len(others)), -np.inf, np.float32)
    for turn in symmetries(queries.ndim - 1):
        np.maximum(nearest, whitener.seekers(turn.of_spectra(queries)) @ others.T, out=nearest)
    rows = np.arange(len(queries))
    nearest[rows, start + rows] = -np.inf
    count = min(_CANDIDATES, len(others) - 1)
    return np.argpartition(nearest, -count, axis=1)[:, -count:]


def _grid_spectra(block: Values, k: int, power: float) -> Values:
    """(B, crops, coefficients): every image cropped in every way of the grid."""
    axes, side = block.ndim - 1, block.shape[1]
    ways = [[cropped_cosines(k, side, *part) for part in parts] for parts in product(_GRID, repeat=axes)]
    return np.stack([spectra(block, way, power).reshape(len(block), -1) for way in ways], axis=1)


def _second_sieve(crops: Values, candidates: Values, indices: Indices) -> tuple[Indices, Indices, Indices, Floats]:
    """Candidates' indices, orientations, crops and scores, where they are similar enough."""
    turns = symmetries(candidates.ndim - 1)
    turned = np.stack([turn.of_spectra(candidates).reshape(len(candidates), -1) for turn in turns])
    scores = turned @ crops.T  # (orientations, candidates, crops)
    crop, score = scores.argmax(axis=2), scores.max(axis=2)
    turn, candidate = np.nonzero((score >= _SECOND) & (score >= score.max(axis=0) - 0.02))
    return indices[candidate], turn, crop[turn, candidate], score[turn, candidate].astype(np.float64)


def _joined(found: Sequence[tuple[int, Indices, Indices, Indices, Floats]], axes: int) -> _Matches:
    grid = np.array(list(product(_GRID, repeat=axes)))
    if not found:
        nothing = np.zeros(0, np.int64)
        return _Matches(nothing, nothing, nothing, np.zeros((0, axes, 2)), np.zeros(0))
    whole = np.repeat([row[0] for row in found], [len(row[1]) for row in found])
    part, turn, crop = (np.concatenate([row[column] for row in found]) for column in (1, 2, 3))
    return _Matches(whole, part, turn, grid[crop], np.concatenate([row[4] for row in found]))


def _in_any_contrast(thumbnails: npt.NDArray[np.uint8], samples: Indices, matches: _Matches) -> _Matches:
    """The third sieve on grey values, then on their ranks, which no gamma curve changes: of each match the better."""
    as_stored = _fitted(thumbnails, samples, matches)
    open_rows = np.flatnonzero(as_stored.score < _CLEAR)
    if not open_rows.size:
        return as_stored
    concerned, within = np.unique([matches.whole[open_rows], matches.part[open_rows]], return_inverse=True)
    whole, part = within.reshape(2, -1)
    again = matches[open_rows]
    again = _Matches(whole, part, again.turn, again.edges, again.score)
    by_rank = _fitted(ranks(thumbnails[concerned]), samples[concerned], again)
    better = by_rank.score > as_stored.score[open_rows]
    rows = open_rows[better]
    as_stored.score[rows], as_stored.edges[rows] = by_rank.score[better], by_rank.edges[better]
    return as_stored


def _fitted(thumbnails: npt.NDArray[np.uint8], samples: Indices, matches: _Matches) -> _Matches:
    """The third sieve: the crop fitted coarsely, then finely, as finely as the smaller image was sampled."""
    axes = thumbnails.ndim - 1
    turns = symmetries(axes)
    edges, score = matches.edges.copy(), matches.score.copy()
    limit = np.minimum(samples[matches.whole], samples[matches.part])
    fineness = np.array([next((k for k in _K3[axes] if k <= size), _K3[axes][-1]) for size in limit])
    for k in np.unique(fineness):
        for rows in _blocks(np.flatnonzero(fineness == k), 512):
            whole = thumbnails[matches.whole[rows]].astype(np.float32)
            part = np.empty_like(whole)
            for turn in np.unique(matches.turn[rows]):
                inside = matches.turn[rows] == turn
                part[inside] = turns[turn].of_pixels(thumbnails[matches.part[rows][inside]])
            edges[rows], score[rows] = fit(whole, part, edges[rows], _K2[axes], rounds=2)
            good = score[rows] >= _COARSE
            fine = rows[good]
            if fine.size:
                edges[fine], score[fine] = fit(whole[good], part[good], edges[fine], int(k), rounds=3)
            score[rows[~good]] = 0
    return _Matches(matches.whole, matches.part, matches.turn, edges, score)


def _blocks(rows: Indices, size: int) -> list[Indices]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
