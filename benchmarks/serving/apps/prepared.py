"""What every contender but the usual app does with a JPEG: the bundle's steps, as quickly as they can be done by hand.

Decoded at a reduced size where that is at least 224 pixels a side, resized by area, normalised: as the bundle says.
"""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg

SIDE = 224
MEAN = np.array([123.7, 116.3, 103.5], np.float32)
INVERSE = 1 / np.array([58.4, 57.1, 57.4], np.float32)

cv2.setNumThreads(1)


def prepared(content: bytes) -> np.ndarray:
    """(1, 3, 224, 224) float32."""
    pixels = simplejpeg.decode_jpeg(content, "RGB", fastdct=False, min_height=SIDE, min_width=SIDE)
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    scaled = (small.astype(np.float32) - MEAN) * INVERSE
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))[None]


def answer(logits: np.ndarray) -> dict[str, object]:
    """What is sent back for (K,) logits."""
    shifted = np.exp(logits - logits.max())
    probabilities = shifted / shifted.sum()
    return {"class": int(probabilities.argmax()), "probabilities": [float(value) for value in probabilities]}


def session(path: str):
    """The bundle's network in ONNX Runtime on one thread, and the name of its input."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return opened, opened.get_inputs()[0].name, opened.get_outputs()[0].name
