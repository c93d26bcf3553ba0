"""From logits to probabilities, of one picture or of a volume's slices together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def softmax(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Over the first axis, float32, safe against overflow.

    >>> softmax(np.array([1000.0, 1000.0], np.float32)).tolist()
    [0.5, 0.5]
    """
    shifted = logits - logits.max(axis=0, keepdims=True)
    if temperature != 1:
        shifted = shifted / np.float32(temperature)
    shifted = np.exp(shifted)
    shifted /= shifted.sum(axis=0, keepdims=True)
    return np.asarray(shifted, dtype=np.float32)


def joined_logits(logits: FloatArray) -> FloatArray:
    """(D, K) logits of a volume's slices -> (K,) whose softmax is the mean of the slices' probabilities.

    They are the logarithms of that mean. Of one slice they are its own logits, unchanged.
    """
    if len(logits) == 1:
        only: FloatArray = logits[0]
        return only
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(axis=1, keepdims=True))
    highest = exact.max(axis=0)
    return np.asarray(highest + np.log(np.exp(exact - highest).mean(axis=0)), dtype=np.float32)
