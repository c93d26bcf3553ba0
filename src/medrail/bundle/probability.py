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


def sigmoid(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Of each number, float32, safe against overflow.

    >>> sigmoid(np.array([0.0, 1000.0, -1000.0], np.float32)).tolist()
    [0.5, 1.0, 0.0]
    """
    scaled = logits / np.float32(temperature) if temperature != 1 else logits
    small = np.exp(-np.abs(scaled))
    return np.asarray(np.where(scaled >= 0, 1, small) / (1 + small), dtype=np.float32)


def as_probabilities(logits: FloatArray, *, multi_label: bool, temperature: float = 1.0) -> FloatArray:
    """What logits (K, ...) say: one class of all, or of several labels each by itself."""
    return sigmoid(logits, temperature) if multi_label else softmax(logits, temperature)


def joined_label_logits(logits: FloatArray) -> FloatArray:
    """As ``joined_logits``, of several labels: (K,) whose sigmoid is the mean of the slices' probabilities."""
    if len(logits) == 1:
        only: FloatArray = logits[0]
        return only
    exact = logits.astype(np.float64)
    yes, no = -np.logaddexp(0, -exact), -np.logaddexp(0, exact)  # logarithms of p and of 1 - p
    return np.asarray(np.logaddexp.reduce(yes, axis=0) - np.logaddexp.reduce(no, axis=0), dtype=np.float32)
