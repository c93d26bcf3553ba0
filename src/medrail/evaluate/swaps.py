"""The swap test: were the two runs alike, a patient's answers of the one could as well be those of the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medrail.evaluate.bootstrap import FloatArray, Statistic
from medrail.evaluate.signflip import Chance, all_ways

ENUMERATED = 12
"""With up to so many patients all 2^n ways of swapping are looked at."""
_CHUNK_WEIGHTS = 2_000_000


def swap_answers(statistic: Statistic, groups: Sequence[Any], *, permutations: int, seed: int) -> Chance:
    """Two-sided test that any metric is the same for both runs, by swapping their answers patient by patient.

    Each patient's answers, all of them together, go to the other run or stay; the metric's difference is found anew.
    Up to 12 patients all ways are counted; beyond, ``permutations`` are drawn (Good, Permutation, Parametric and
    Bootstrap Tests of Hypotheses, 2005, section 3.3; p as in ``flip_signs``).

    Parameters
    ----------
    statistic:
        Of the weights (R, 2 n) of both runs' answers one after the other: the first run's n cases, then the second's.
        With the weights 1 for the first n and 0 for the rest it is the first run's metric.
    groups:
        For each of the n cases its patient.
    """
    _, members = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    count = int(members.max()) + 1
    found = abs(float(_difference(statistic, np.zeros((1, len(members))))[0]))
    bar = found - 1e-9
    if count <= ENUMERATED:
        # Swapping all is swapping none with the other sign, so the first patient may stay.
        ways = all_ways(count - 1)
        swapped = np.concatenate([np.zeros((len(ways), 1)), ways], axis=1)[:, members]
        values = np.concatenate([_difference(statistic, part) for part in _parts(swapped)])
        defined = values[np.isfinite(values)]
        p = float(np.mean(np.abs(defined) >= bar))
        return Chance(p, "exact permutation by patient, their answers swapped", float(min(1.0, 2.0 ** (1 - count))))
    generator = np.random.default_rng(seed)
    as_large = drawn = 0
    chunk = max(1, _CHUNK_WEIGHTS // (2 * len(members)))
    for first in range(0, permutations, chunk):
        shape = (min(chunk, permutations - first), count)
        swapped = generator.integers(0, 2, size=shape, dtype=np.int8).astype(np.float64)[:, members]
        values = _difference(statistic, swapped)
        defined = values[np.isfinite(values)]
        as_large += int(np.sum(np.abs(defined) >= bar))
        drawn += len(defined)
    method = f"permutation by patient, their answers swapped, {permutations} drawn"
    return Chance((as_large + 1) / (drawn + 1), method, 1 / (drawn + 1))


def _parts(swapped: FloatArray) -> list[FloatArray]:
    chunk = max(1, _CHUNK_WEIGHTS // (2 * swapped.shape[1]))
    return [swapped[first : first + chunk] for first in range(0, len(swapped), chunk)]


def _difference(statistic: Statistic, swapped: FloatArray) -> FloatArray:
    """Second less first, with the answers of the cases swapped where ``swapped`` (R, n) is 1."""
    stay = 1.0 - swapped
    return statistic(np.concatenate([swapped, stay], axis=1)) - statistic(np.concatenate([stay, swapped], axis=1))
