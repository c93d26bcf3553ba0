"""The network as it came, in ONNX Runtime: what the bundle's answers are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.adopt.given import Given
from medrail.adopt.rewrite import Answer
from medrail.adopt.trial import Looked
from medrail.bundle.backend import Batch, Engine
from medrail.bundle.probability import as_probabilities
from medrail.errors import BundleError, MedrailError
from medrail.prepare import Pipeline
from medrail.types import Image

_NOISE = {2: 4, 3: 2}
"""Dimensions -> images of noise that the answers are compared on."""
_HU = 1000.0


class Original:
    """Answers to one prepared image, (1, C, [D,] H, W), as the file itself does: in its own layout and type."""

    def __init__(self, content: bytes, looked: Looked, given: Given) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._input, self._given = looked.input, given

    def __call__(self, batch: Batch, output: str) -> npt.NDArray[Any]:
        """The output as it is, in float64."""
        turned = batch[:, ::-1] if self._given.blue_first else batch
        laid = np.moveaxis(turned, 1, -1) if self._given.channels_last else turned
        feed = {self._input.name: np.ascontiguousarray(laid, dtype=self._input.type)}
        return np.asarray(self._session.run([output], feed)[0], dtype=np.float64)


def noise_for(pipeline: Pipeline, given: Given, shape: tuple[int, ...]) -> list[Batch]:
    """Inputs for the network, (1, C, [D,] H, W) each, of noise that was prepared as an image is: they travel in the
    bundle, where an image of a patient must not.
    """
    rng = np.random.default_rng(0)
    return [_noise(rng, pipeline, given, shape) for _ in range(_NOISE[given.dims])]


def real_inputs(prepared: Sequence[Image], given: Given, shape: tuple[int, ...]) -> list[Batch]:
    """Inputs for the network from prepared images, of each one; not of those that have another size."""
    all_voxels = [np.asarray(image.voxels, dtype=np.float32) for image in prepared]
    middle = [voxels[:, len(voxels[0]) // 2] if given.dims == 2 else voxels for voxels in all_voxels]
    return [voxels[np.newaxis] for voxels in middle if voxels.shape == shape]


def _noise(
    rng: np.random.Generator, pipeline: Pipeline, given: Given, shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    grid = shape[1:] if given.dims == 3 else (1, *shape[1:])
    raw: npt.NDArray[Any] = rng.integers(0, 256, (shape[0], *grid), dtype=np.uint8)
    if given.unit not in ("uint8", "uint16"):
        raw = rng.uniform(-_HU, _HU, raw.shape).astype(np.float32)
    try:
        found = pipeline(Image(raw, unit=given.unit)).voxels.astype(np.float32)
    except MedrailError:  # steps that need a geometry, or a region of interest
        found = rng.normal(size=(shape[0], *grid)).astype(np.float32)
    fitting = found[:, 0] if given.dims == 2 else found
    if fitting.shape != shape:
        fitting = rng.normal(size=shape).astype(np.float32)
    return np.asarray(fitting[np.newaxis], dtype=np.float32)


def largest_gap(
    original: Original, engine: Engine, answer: Answer, given: Given, probes: Sequence[Batch], *, logits: bool
) -> float:
    """How far the bundle's answers are from the file's: of probabilities, or of logits in units of the largest one.

    Parameters
    ----------
    logits:
        Whether the file gives logits; else probabilities.

    Raises
    ------
    BundleError
        If the file's own answers are no numbers.
    """
    gaps = []
    for probe in probes:
        theirs = classes_second(original(probe, answer.output), answer)
        if not np.isfinite(theirs).all():
            raise BundleError(
                "the network answers with numbers that are not finite",
                needed="a network that works",
                remedy="Look whether --scale and --layout are right, and what it answers before it was made ONNX.",
            )
        ours: npt.NDArray[Any] = engine(probe)
        if not logits:
            ours = np.moveaxis(
                as_probabilities(np.moveaxis(ours, 1, 0), multi_label=given.multi_label).astype(np.float64), 0, 1
            )
        if answer.count == 1 and not given.multi_label:
            ours = ours[:, 1:] - (ours[:, :1] if logits else 0)
        scale = max(1.0, float(np.abs(theirs).max())) if logits else 1.0
        gaps.append(float(np.abs(theirs - ours).max()) / scale if theirs.shape == ours.shape else float("inf"))
    return max(gap if np.isfinite(gap) else float("inf") for gap in gaps)


def classes_second(found: npt.NDArray[Any], answer: Answer) -> npt.NDArray[Any]:
    """(N, K) or (N, K, [D,] H, W)."""
    return np.moveaxis(found, answer.axis, 1) if answer.spatial else found.reshape(len(found), -1)
