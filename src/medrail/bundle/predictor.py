"""Predictor: a raw image in, an answer on that image's own grid out. The same object in evaluation and in service."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, Backend, fetch, outputs_of
from medrail.bundle.calibration import FINDING_FROM, Calibration, Ood
from medrail.bundle.evidence import Places, contrast, exact_evidence, on_grid
from medrail.bundle.probability import as_probabilities, joined_label_logits, joined_logits
from medrail.bundle.settle import Taken
from medrail.bundle.sliding import OVERLAP, SLICES_A_BATCH, calls_of, sliding_window
from medrail.bundle.spec import NetworkSpec
from medrail.bundle.usual import input_statistics
from medrail.errors import BundleError, InputError, PrepareError
from medrail.prepare import Pipeline
from medrail.types import Applied, Evidence, Image, Prediction, Progress

FloatArray = npt.NDArray[np.float32]


class Answers(NamedTuple):
    """What a network says of one prepared image, before any calibration.

    logits:
        Classification (K,); of a volume that a 2-D network sees by slices the logarithms of the mean probabilities.
        Segmentation (K, D, H, W) on the prepared grid.
    evidence:
        (K, d, h, w): of a 3-D network the cells of its last map, of a 2-D one those of each slice (d = D), where
        each slice's own logits are the means. None where the network has none or it was not asked for.
    features:
        (F,): the mean over slices, or over the sliding window's places, each with the same weight. None as above.
    """

    logits: FloatArray
    evidence: FloatArray | None
    features: FloatArray | None


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
    calibration:
        What is applied to the network's answers; None: nothing.
    taken:
        The engine that ``backend`` is, where it was chosen among several.

    Raises
    ------
    BundleError
        If the calibration is not one of such a network.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        backend: Backend,
        bundle_id: str = "",
        calibration: Calibration | None = None,
        taken: Taken | None = None,
    ) -> None:
        self.spec = spec
        self.backend = backend
        self.bundle_id = bundle_id
        self.calibration = calibration
        self.taken = taken
        self.pipeline = Pipeline.from_dict(spec.pipeline)
        if calibration:
            calibration.check(spec)
            if calibration.ood and FEATURES not in outputs_of(backend):
                raise BundleError(
                    "the calibration tells images unlike the training data by features, and the network gives none",
                    where=bundle_id,
                    remedy="Export the run again.",
                )

    def behind(self, wrap: Callable[[Backend], Backend]) -> Predictor:
        """The same with its backend within another one."""
        return Predictor(self.spec, wrap(self.backend), self.bundle_id, self.calibration, self.taken)

    @property
    def has_evidence(self) -> bool:
        """Whether the network has exact maps of evidence."""
        return EVIDENCE in outputs_of(self.backend)

    def __call__(
        self, image: Image, roi: Image | None = None, *, evidence: bool = False, progress: Progress | None = None
    ) -> Prediction:
        """Predict for one raw image.

        Parameters
        ----------
        image:
            As ``read`` gave it, (C, D, H, W), without history.
        roi:
            A mask (1, D, H, W) drawn on the image, for pipelines that crop to one; its axes may be turned.
        evidence:
            Whether the evidence for the decided class (of several labels the most probable) is wanted, where the
            network has it.
        progress:
            Called before each call of the network; what it raises ends the prediction.

        Returns
        -------
        Classification: the probability of each class, averaged over D where the network is 2-D; where there may be
        several, those from their thresholds on are its ``findings``. Segmentation: the most
        probable class of each voxel, uint8 (1, D, H, W) on the raw grid. ``timings_ms`` has prepare, model and post.
        Where there is a calibration, it is applied.

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
        wanted = (LOGITS, *((FEATURES,) if self._ood else ()), *((EVIDENCE,) if evidence else ()))
        answers = self.answers(prepared, wanted, progress)
        probabilities = self._probabilities(answers.logits)
        after_model = time.perf_counter()
        prediction = self._classified(probabilities) if self.spec.task == "classification" else self._unnamed()
        mask = self._mask(probabilities, prepared, image) if self.spec.task == "segmentation" else None
        shown = None
        if answers.evidence is not None:
            most_probable = max(prediction.probabilities, key=prediction.probabilities.__getitem__)
            shown = self._shown(answers.evidence, prediction.class_name or most_probable, prepared, image)
        score = self._ood.score(answers.features) if self._ood and answers.features is not None else None
        end = time.perf_counter()
        return replace(
            prediction,
            mask=mask,
            evidence=shown,
            ood_score=score,
            unlike_training=None if score is None or self._ood is None else score > self._ood.threshold,
            input_statistics=input_statistics(prepared.voxels),
            timings_ms={
                "prepare": (after_prepare - begin) * 1e3,
                "model": (after_model - after_prepare) * 1e3,
                "post": (end - after_model) * 1e3,
            },
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

    def answers(
        self,
        prepared: Image,
        wanted: tuple[str, ...] = (LOGITS, FEATURES, EVIDENCE),
        progress: Progress | None = None,
    ) -> Answers:
        """What the network says of a prepared image, not calibrated; of the wanted outputs those that it has.

        ``progress`` as in a call.
        """
        asked, calls = itertools.count(), self._calls(prepared.grid)
        voxels = np.asarray(prepared.voxels, dtype=np.float32)
        names = tuple(name for name in wanted if name in outputs_of(self.backend))
        more: dict[str, list[FloatArray]] = {name: [] for name in names if name != LOGITS}

        def run(batch: FloatArray) -> FloatArray:
            if progress:
                progress(next(asked), calls)
            found = fetch(self.backend, batch, (LOGITS, *more))
            for name, kept in more.items():
                kept.append(found[name])
            return self._checked(found[LOGITS], batch)

        if self.spec.task == "segmentation" and self._window(prepared.grid):
            logits = sliding_window(voxels, self._window(prepared.grid), OVERLAP, run)
        elif self.spec.dims == 3:
            logits = run(voxels[np.newaxis])[0]
        else:
            slices = np.moveaxis(voxels, 1, 0)
            chunks = [slices[first : first + SLICES_A_BATCH] for first in range(0, len(slices), SLICES_A_BATCH)]
            by_slice = np.concatenate([run(chunk) for chunk in chunks])
            logits = self._joined(by_slice) if self.spec.task == "classification" else np.moveaxis(by_slice, 0, 1)
        return Answers(logits, self._cells(more.get(EVIDENCE, [])), _mean(more.get(FEATURES, [])))

    def probabilities(self, prepared: Image) -> FloatArray:
        """Softmax of the network's answer for a prepared image, of several labels the sigmoid of each; calibrated where
        there is a calibration.

        Returns
        -------
        Classification (K,): for a 2-D network the mean over D. Segmentation (K, D, H, W) on the prepared grid.
        """
        return self._probabilities(self.answers(prepared, (LOGITS,)).logits)

    def _probabilities(self, logits: FloatArray) -> FloatArray:
        temperature = self.calibration.temperature if self.calibration else 1.0
        return as_probabilities(logits, multi_label=self.spec.multi_label, temperature=temperature)

    def _joined(self, by_slice: FloatArray) -> FloatArray:
        return joined_label_logits(by_slice) if self.spec.multi_label else joined_logits(by_slice)

    def _unnamed(self) -> Prediction:
        return Prediction(self.spec.task, self.spec.classes, self.bundle_id)

    def _classified(self, probabilities: FloatArray) -> Prediction:
        by_name = {name: float(value) for name, value in zip(self.spec.classes, probabilities, strict=True)}
        if self.spec.multi_label:
            chosen = self.calibration.thresholds if self.calibration else {}
            thresholds = {name: chosen.get(name, FINDING_FROM) for name in by_name}
            findings = tuple(name for name, value in by_name.items() if value >= thresholds[name])
            return replace(self._unnamed(), probabilities=by_name, findings=findings, thresholds=thresholds)
        if self.calibration is None:
            return replace(self._unnamed(), probabilities=by_name)
        return replace(
            self._unnamed(),
            probabilities=by_name,
            decision=self.calibration.decide(by_name),
            conformal_set=self.calibration.conformal_set(by_name),
        )

    @property
    def _ood(self) -> Ood | None:
        return self.calibration.ood if self.calibration else None

    def _cells(self, evidence: list[FloatArray]) -> FloatArray | None:
        """(N, K, [d,] h, w) of each batch -> (K, d, h, w) of the image."""
        if not evidence:
            return None
        return evidence[0][0] if self.spec.dims == 3 else np.moveaxis(np.concatenate(evidence), 0, 1)

    def explain(self, image: Image, class_name: str = "", roi: Image | None = None) -> Evidence | None:
        """The exact evidence for a class ("": the one decided for), on the raw grid; None where the network has none.

        Raises
        ------
        InputError
            If there is no such class, or as a call does.
        """
        if not self.has_evidence:
            return None
        if class_name and class_name not in self.spec.classes:
            raise InputError(f"no class {class_name!r}", needed=f"one of {', '.join(self.spec.classes)}")
        prepared = self.prepare(image, roi)
        answers = self.answers(prepared, (LOGITS, EVIDENCE))
        assert answers.evidence is not None  # noqa: S101 - ``has_evidence`` says so
        decided = self._classified(self._probabilities(answers.logits))
        name = class_name or decided.class_name or max(decided.probabilities, key=decided.probabilities.__getitem__)
        return self._shown(answers.evidence, name, prepared, image)

    def spread(self, cells: FloatArray, prepared: Image, image: Image, places: Places = ()) -> Image:
        """A map (d, h, w) of the prepared image, stretched to it and brought back to the raw image's grid.

        ``places`` says where its cells lie, as ``NetworkSpec.cells``; (): evenly.
        """
        voxels = self._inverted(on_grid(cells, prepared.grid, places)[np.newaxis], prepared, image)
        return Image(voxels, image.geometry, source=image.source)

    def _shown(self, evidence: FloatArray, class_name: str, prepared: Image, image: Image) -> Evidence:
        """Of several labels each has its own map; else what speaks for the class against the others."""
        index = self.spec.classes.index(class_name)
        cells = evidence[index] if self.spec.multi_label else contrast(evidence, index)
        values = self.spread(cells, prepared, image, self.spec.cells)
        return exact_evidence(class_name, values, by_itself=self.spec.multi_label)

    def on_raw_grid(self, image: Image) -> FloatArray:
        """Segmentation: the probability of each class, (K, D, H, W) on the raw image's grid, for answers put together.

        Raises
        ------
        As a call does.
        """
        prepared = self.prepare(image)
        return self._inverted(self.probabilities(prepared), prepared, image)

    def _checked(self, logits: FloatArray, batch: FloatArray) -> FloatArray:
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

    def _calls(self, grid: tuple[int, int, int]) -> int:
        """How often the network is asked for a prepared grid."""
        if self.spec.task == "segmentation" and (window := self._window(grid)):
            return calls_of(grid, window, OVERLAP)
        return 1 if self.spec.dims == 3 else math.ceil(grid[0] / SLICES_A_BATCH)

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
    if image.unit == "label" or not unit_fits(spec, image.unit):
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


def _mean(features: list[FloatArray]) -> FloatArray | None:
    """(N, F) of each batch -> (F,)."""
    if not features:
        return None
    return np.asarray(np.concatenate(features).mean(axis=0, dtype=np.float64), dtype=np.float32)


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


def unit_fits(spec: NetworkSpec, unit: str) -> bool:
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
