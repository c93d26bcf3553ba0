"""The sign-flip test: were the two runs alike, each patient's difference could as well have had the other sign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.evaluate.bootstrap import FloatArray

IntArray = npt.NDArray[np.int64]

ENUMERATED = 16
"""With up to so many patients all 2^n sign patterns are looked at."""
_LONGEST_SUM = 500_000
_CHUNK_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Chance:
    """The chance of so large a difference, in either direction, were the runs alike; how it was found.

    smallest:
        The smallest p that so many patients can give, whatever they show.
    """

    p: float
    method: str
    smallest: float


def flip_signs(differences: npt.ArrayLike, *, permutations: int, seed: int) -> Chance:
    """Two-sided test that the mean of the patients' differences is 0, from all or many patterns of their signs.

    Under the null hypothesis that the two runs' answers on a patient could be exchanged, each difference is as likely
    with the other sign (Fisher, The Design of Experiments, 1935, section 21). Up to 16 patients all patterns are
    counted; beyond, ``permutations`` patterns are drawn and p is (as large ones + 1) / (drawn + 1), which is never
    below what the drawing can support (Phipson and Smyth, Stat Appl Genet Mol Biol 9:39, 2010). Differences of 0 change
    nothing in any pattern.

    Parameters
    ----------
    differences:
        (P,), one number a patient; the order does not matter.
    """
    sizes: FloatArray = np.sort(np.abs(np.asarray(differences, dtype=np.float64)))
    sizes = np.asarray(sizes[sizes > 0])
    found = abs(float(np.sum(np.asarray(differences, dtype=np.float64))))
    bar = found - 1e-9 * float(sizes.sum())  # sums of the same numbers in another order differ in the last bits
    if len(sizes) <= ENUMERATED:
        signs = 2.0 * all_ways(len(sizes)) - 1.0
        p = float(np.mean(np.abs(signs @ sizes) >= bar))
        return Chance(p, "exact sign-flip permutation by patient", _smallest(len(sizes)))
    as_large = 0
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_NUMBERS // len(sizes))
    for first in range(0, permutations, chunk):
        shape = (min(chunk, permutations - first), len(sizes))
        signs = 2.0 * generator.integers(0, 2, size=shape, dtype=np.int8) - 1.0
        as_large += int(np.sum(np.abs(signs @ sizes) >= bar))
    p = (as_large + 1) / (permutations + 1)
    method = f"sign-flip permutation by patient, {permutations} drawn"
    return Chance(p, method, max(_smallest(len(sizes)), 1 / (permutations + 1)))


def flip_whole_numbers(differences: npt.ArrayLike) -> Chance | None:
    """``flip_signs`` of whole numbers, exactly, for any number of patients; None if their sum is too large for it.

    With differences of -1, 0 and 1 only this is McNemar's exact test.
    """
    whole = np.abs(np.asarray(differences, dtype=np.int64))
    whole = np.sort(whole[whole > 0])
    if int(whole.sum()) > _LONGEST_SUM or len(whole) * int(whole.sum()) > 1e9:
        return None
    total = abs(int(np.sum(np.asarray(differences, dtype=np.int64))))
    chances = signed_sums(whole)
    reach = int(whole.sum())
    p = float(chances[: reach - total + 1].sum() + chances[reach + total :].sum()) if total else 1.0
    return Chance(min(1.0, p), "exact sign-flip permutation by patient", _smallest(len(whole)))


def signed_sums(sizes: IntArray) -> FloatArray:
    """The chance of each sum of whole numbers whose signs are tossed like coins.

    Parameters
    ----------
    sizes:
        (m,), above 0.

    Returns
    -------
    (2 S + 1,) with S the sum of ``sizes``: the chances of the sums -S, ..., S.
    """
    reach = 0
    chances: FloatArray = np.ones(1)
    for size in sizes.tolist():
        grown = np.zeros(2 * (reach + size) + 1)
        grown[: len(chances)] += 0.5 * chances
        grown[2 * size :] += 0.5 * chances
        chances, reach = grown, reach + size
    return chances


def all_ways(count: int) -> FloatArray:
    """(2^count, count): every pattern of zeros and ones."""
    return np.asarray(np.arange(2**count)[:, np.newaxis] >> np.arange(count) & 1, dtype=np.float64)


def _smallest(count: int) -> float:
    return float(min(1.0, 2.0 ** (1 - count)))
