"""Predictor: a raw image in, an answer on that image's own grid out. The same object in evaluation and in service."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import Backend
from medrail.bundle.sliding import OVERLAP, SLICES_A_BATCH, sliding_window
from medrail.bundle.spec import NetworkSpec
from medrail.errors import BundleError, InputError, PrepareError
from medrail.prepare import Pipeline
from medrail.types import Applied, Image, Prediction

FloatArray = npt.NDArray[np.float32]

FINDING_FROM = 0.5
"""Where an image may have several of the classes: the probability from which one is a finding."""


class Predictor:
    """Answers for raw images. Holds no state between calls, so one object serves all threads.

    A batch holds slices or patches of one image alone, at most 16, and is cut the same way every time; only an image's
    last batch may be smaller. So an image gets the same numbers wherever, after and beside whatever it is predicted.

    Parameters
    ----------
    spec:
        How to feed the network and how to read its answer.
    backend:
        (N, C, [D,] H, W) float32 -> logits.
    bundle_id:
        What predictions are signed with.
    """

    def __init__(self, spec: NetworkSpec, backend: Backend, bundle_id: str = "") -> None:
        self.spec = spec
        self.backend = backend
        self.bundle_id = bundle_id
        self.pipeline = Pipeline.from_dict(spec.pipeline)

    def __call__(self, image: Image, roi: Image | None = None) -> Prediction:
        """Predict for one raw image.

        Parameters
        ----------
        image:
            As ``read`` gave it, (C, D, H, W), without history.
        roi:
            A mask (1, D, H, W) drawn on the image, for pipelines that crop to one; its axes may be turned.

        Returns
        -------
        Classification: the probability of each class, averaged over D where the network is 2-D; where there may be
        several, those from their thresholds on are its ``findings``. Segmentation: the most
        probable class of each voxel, uint8 (1, D, H, W) on the raw grid. ``timings_ms`` has prepare, model and post.

        Raises
        ------
        InputError
            If the image is of another kind than the training images; it says what they were and what arrived.
        GeometryError
            If the region of interest lies on another grid than the image.
        PrepareError
            If a preprocessing step cannot be applied to this image.
        """
        begin = time.perf_counter()
        prepared = self.prepare(image, roi)
        after_prepare = time.perf_counter()
        probabilities = self.probabilities(prepared)
        after_model = time.perf_counter()
        by_name: dict[str, float] = {}
        mask, findings, thresholds = None, None, dict[str, float]()
        if self.spec.task == "classification":
            by_name = {name: float(value) for name, value in zip(self.spec.classes, probabilities, strict=True)}
            if self.spec.multi_label:
                thresholds = dict.fromkeys(by_name, FINDING_FROM)
                findings = tuple(name for name, value in by_name.items() if value >= thresholds[name])
        else:
            mask = self._mask(probabilities, prepared, image)
        end = time.perf_counter()
        return Prediction(
            task=self.spec.task,
            classes=self.spec.classes,
            bundle_id=self.bundle_id,
            probabilities=by_name,
            mask=mask,
            timings_ms={
                "prepare": (after_prepare - begin) * 1e3,
                "model": (after_model - after_prepare) * 1e3,
                "post": (end - after_model) * 1e3,
            },
            findings=findings,
            thresholds=thresholds,
        )

    def prepare(self, image: Image, roi: Image | None = None) -> Image:
        """The network's input for a raw image, (C, D, H, W) float32, after checking that it is of the right kind."""
        check_input(self.spec, image, roi)
        try:
            prepared = self.pipeline(image, roi)
        except PrepareError:
            self._check_channels(image, prepared=None)
            raise
        self._check_channels(image, prepared)
        if self.spec.task == "classification" and self.spec.grid:
            found = prepared.grid[-self.spec.dims :]
            if found != self.spec.grid:
                raise InputError(
                    f"the image is {_sizes(found)} after preparation",
                    needed=f"{_sizes(self.spec.grid)}, as in training",
                    where=image.source,
                    remedy="Use an image of the training images' size, or add a resize step and train again.",
                )
        if not np.isfinite(prepared.voxels).all():
            raise InputError("the image has values that are not finite", where=image.source)
        return prepared

    def probabilities(self, prepared: Image) -> FloatArray:
        """Softmax of the network's answer for a prepared image; of several labels the sigmoid of each.

        Returns
        -------
        Classification (K,): for a 2-D network the mean over D. Segmentation (K, D, H, W) on the prepared grid.
        """
        voxels = np.asarray(prepared.voxels, dtype=np.float32)
        if self.spec.task == "segmentation" and self._window(prepared.grid):
            logits = sliding_window(voxels, self._window(prepared.grid), OVERLAP, self._run)
        elif self.spec.dims == 3:
            logits = self._run(voxels[np.newaxis])[0]
        else:
            slices = np.moveaxis(voxels, 1, 0)
            chunks = [slices[first : first + SLICES_A_BATCH] for first in range(0, len(slices), SLICES_A_BATCH)]
            logits = np.moveaxis(np.concatenate([self._run(chunk) for chunk in chunks]), 0, 1)
        probabilities = as_probabilities(logits, self.spec)
        if self.spec.task == "classification" and self.spec.dims == 2:
            probabilities = probabilities.mean(axis=1, dtype=np.float64).astype(np.float32)
        return probabilities

    def on_raw_grid(self, image: Image) -> FloatArray:
        """Segmentation: the probability of each class, (K, D, H, W) on the raw image's grid, for answers put together.

        Raises
        ------
        As a call does.
        """
        prepared = self.prepare(image)
        return self._inverted(self.probabilities(prepared), prepared, image)

    def _run(self, batch: FloatArray) -> FloatArray:
        logits = self.backend(batch)
        spatial = batch.shape[2:] if self.spec.task == "segmentation" else ()
        needed = (len(batch), len(self.spec.classes), *spatial)
        if logits.shape != needed:
            raise BundleError(
                f"the network answers with shape {logits.shape}",
                needed=f"{needed} for {len(self.spec.classes)} classes",
                where=self.bundle_id,
                remedy="The network and its description do not belong together: export the run again.",
            )
        return logits

    def _window(self, grid: tuple[int, int, int]) -> tuple[int, ...]:
        """The sliding window for a prepared grid, or () where the network takes the whole of it."""
        size = self.spec.patch or self.spec.grid
        return () if grid[-self.spec.dims :] == size else size

    def _mask(self, probabilities: FloatArray, prepared: Image, image: Image) -> Image:
        labels = np.argmax(self._inverted(probabilities, prepared, image), axis=0).astype(np.uint8)[np.newaxis]
        return Image(labels, image.geometry, unit="label", source=image.source)

    def _inverted(self, probabilities: FloatArray, prepared: Image, image: Image) -> FloatArray:
        answer = Image(probabilities, prepared.geometry, unit="arbitrary", source=image.source)
        steps: tuple[Applied, ...] = prepared.history[len(image.history) :]
        on_raw_grid: FloatArray = self.pipeline.invert(answer, steps).voxels
        return on_raw_grid

    def _check_channels(self, image: Image, prepared: Image | None) -> None:
        kind = self.spec.input_kind
        if prepared is None and kind.channels in (0, image.channels):
            return
        if prepared is None or prepared.channels != self.spec.channels:
            raise InputError(
                f"the image has {image.channels} channels",
                needed=f"the network was trained on {kind}",
                where=image.source,
                remedy=f"Use an image with {kind.channels or self.spec.channels} channel(s).",
            )


def check_input(spec: NetworkSpec, image: Image, roi: Image | None = None) -> None:
    """Refuse a raw image of another kind than the network's training images.

    Raises
    ------
    InputError
        For a picture where volumes were trained on or the reverse, values on another scale, or a missing region of
        interest. What the channels must be, and whether the region lies on the image, is left to the pipeline.
    """
    kind = spec.input_kind
    arrived = (
        f"{'a picture' if image.grid[0] == 1 else 'a volume'} of {_sizes(image.grid)} (D x H x W), unit {image.unit}"
    )
    trained = f"the network was trained on {kind}"
    if kind.picture is not None and kind.picture != (image.grid[0] == 1):
        raise InputError(
            f"the image is {arrived}",
            needed=trained,
            where=image.source,
            remedy=_SHAPE_REMEDY[kind.picture],
        )
    if image.unit == "label" or not _unit_fits(spec, image.unit):
        raise InputError(
            f"the image is {arrived}", needed=trained, where=image.source, remedy=_UNIT_REMEDY.get(kind.unit, "")
        )
    if spec.needs_roi and roi is None:
        raise InputError(
            "there is no region of interest",
            needed="a mask on the image's grid, because the network was trained on crops to one",
            where=image.source,
            remedy="Give the mask with the image: `--roi MASK`, or the argument or form field `roi`.",
        )


def softmax(logits: FloatArray) -> FloatArray:
    """Over the first axis, float32, safe against overflow.

    >>> softmax(np.array([1000.0, 1000.0], np.float32)).tolist()
    [0.5, 0.5]
    """
    shifted = np.exp(logits - logits.max(axis=0, keepdims=True))
    shifted /= shifted.sum(axis=0, keepdims=True)
    return np.asarray(shifted, dtype=np.float32)


def sigmoid(logits: FloatArray) -> FloatArray:
    """Of each number, float32, safe against overflow.

    >>> sigmoid(np.array([0.0, 1000.0, -1000.0], np.float32)).tolist()
    [0.5, 1.0, 0.0]
    """
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), dtype=np.float32)


def as_probabilities(logits: FloatArray, spec: NetworkSpec) -> FloatArray:
    """What a network's logits (K, ...) say: one class of all, or of several labels each by itself."""
    return sigmoid(logits) if spec.multi_label else softmax(logits)


# NIfTI, NRRD and MetaImage do not say what their numbers are, so "arbitrary" passes for a physical unit.
_UNIT_ACCEPTS = {"HU": {"HU", "arbitrary"}, "SUV": {"SUV", "arbitrary"}, "uint8": {"uint8"}, "uint16": {"uint16"}}
_STORED = {"uint8", "uint16"}
_SHAPE_REMEDY = {
    True: "Use a single picture (D = 1).",
    False: "Use the whole volume: one file that holds it (NIfTI, NRRD, MetaImage), or on disk its series' folder.",
}
_UNIT_REMEDY = {
    "HU": "Use CT in Hounsfield units: DICOM, or a NIfTI made from it.",
    "SUV": "Use PET in standardised uptake values.",
    "arbitrary": "Use an image of the training images' kind; CT and PET have units that those did not have.",
    "uint8": "Use an 8-bit picture (PNG or JPEG).",
    "uint16": "Use a 16-bit picture (PNG or TIFF).",
}


def _unit_fits(spec: NetworkSpec, unit: str) -> bool:
    """Whether numbers of this unit mean to the pipeline what the training images' did."""
    trained = spec.input_kind.unit
    accepts = _UNIT_ACCEPTS.get(trained, {unit})
    if trained in _STORED:
        methods = {str(step.get("method", "zscore")) for step in spec.pipeline if step.get("kind") == "normalise"}
        if methods & {"zscore", "minmax"}:  # scaled by the image's own values, so the stored scale does not matter
            accepts = accepts | _STORED | {"arbitrary"}
        elif "imagenet" in methods:  # knows the full scale of both depths
            accepts = accepts | _STORED
    if trained == "arbitrary" and unit in ("HU", "SUV"):
        # A file without units may well have been CT, but only a window in HU says so; MR's steps take any numbers.
        return any(step.get("kind") == "window" for step in spec.pipeline)
    return unit in accepts


def _sizes(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)
