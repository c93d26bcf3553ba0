"""Pipeline: the steps in order, from a raw image to what the network sees, and back to the raw grid."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from medrail.errors import ConfigError, PrepareError
from medrail.prepare.fused import fuse
from medrail.prepare.intensity import Normalise, Round
from medrail.prepare.sampling import Line
from medrail.prepare.steps import Step, make_steps, naming, naming_step
from medrail.read import UnreadImage, on_grid
from medrail.types import Applied, Image, Voxels

Clock = Callable[[str, float], None]

# A line of larger whole numbers is no smaller than its result.
_COMPACT_BYTES = 2
# Goes into the fingerprint: raise it when a step's result changes, and prepared data is made anew.
_VERSION = 3


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared image in the most compact type that loses nothing.

    image:
        Its voxels may be uint8, uint16, int16, ..., float16 or float32; the unit is theirs.
    lines:
        For each channel what makes the network's numbers of the voxels, which are "arbitrary" then; () where the voxels
        are these numbers.
    """

    image: Image
    lines: tuple[Line, ...] = ()

    def decoded(self) -> Image:
        """What the network sees: float32, or whole numbers where no step made others of them."""
        voxels = self.image.voxels
        if self.lines:
            numbers = np.stack([line(channel) for line, channel in zip(self.lines, voxels, strict=True)])
            return replace(self.image, voxels=numbers, unit="arbitrary")
        return self.image.with_voxels(voxels.astype(np.float32)) if voxels.dtype == np.float16 else self.image


@dataclass(frozen=True)
class Pipeline:
    """Raw image -> model-ready image; frozen, written as data into every bundle.

    The same object prepares training data and serves requests, so that the two cannot differ. ``fingerprint`` names it.
    """

    steps: tuple[Step, ...] = ()

    @staticmethod
    def from_dict(steps: Sequence[Mapping[str, Any]]) -> Pipeline:
        """Make a pipeline from ``[{"kind": "orient"}, ...]``.

        Raises
        ------
        ConfigError
            With every problem of every step at once.
        """
        made, problems = make_steps(steps)
        if problems:
            count = "1 mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
            raise ConfigError(f"{count} in the preparation's steps", problems=tuple(problems))
        return Pipeline(tuple(made))

    def to_dict(self) -> list[dict[str, Any]]:
        """Every step with every parameter, defaults too, as JSON values; ``from_dict`` reads it back."""
        return [step.to_dict() for step in self.steps]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the canonical JSON of the steps: the same however keys are ordered or defaults spelt."""
        canonical = json.dumps(
            {"version": _VERSION, "steps": self.to_dict()}, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def needs_roi(self) -> bool:
        """Whether a step crops to the region-of-interest mask of the case."""
        return any(step.kind == "crop_roi" for step in self.steps)

    def __call__(self, image: Image | UnreadImage, roi: Image | None = None) -> Image:
        """Prepare one image: ``compact``, decoded. Parameters and errors as there."""
        return self.compact(image, roi).decoded()

    def compact(
        self, image: Image | UnreadImage, roi: Image | None = None, clock: Clock | None = None, *, first: int = 0
    ) -> Prepared:
        """Prepare one image, in the type in which it is stored.

        Parameters
        ----------
        image:
            Voxels (C, D, H, W) as ``medrail.read`` gives them, or an image whose slices are read on the way; 64-bit
            numbers are taken as 32-bit ones.
        roi:
            A mask (1, D, H, W) drawn on the image, for ``crop_roi``; put on its grid by ``medrail.read.on_grid``.
        clock:
            Told after each step, or fused pass of steps, its name and its seconds.
        first:
            So many steps are done already, and stand at the end of the image's history.

        Returns
        -------
        Prepared
            Its image's history has one ``Applied`` a step, with all that ``replay`` and ``invert`` need.

        Raises
        ------
        PrepareError
            If voxels are NaN or infinite, or a step cannot be applied: the step, the reason and the remedy.
        GeometryError
            If the region of interest lies on another grid than the image.
        """
        tell = clock or _nobody
        if isinstance(image, Image):
            image = _checked(image)
        roi_until = max((n for n, step in enumerate(self.steps) if step.kind == "crop_roi"), default=-1)
        fused = fuse(self.steps[first:], image) if roi is None else None
        applied: list[Applied] = []
        begin = time.perf_counter()
        if fused is not None:
            image, applied = fused(image), list(fused.applied)
            tell("+".join(step.step for step in applied), time.perf_counter() - begin)
        elif isinstance(image, UnreadImage):
            image = _checked(image.read())
            tell("read", time.perf_counter() - begin)
        if roi is not None:
            roi = on_grid(roi, image, "the region of interest")
        lines: tuple[Line, ...] = ()
        for number, step in enumerate(self.steps[first + len(applied) :], first + len(applied)):
            begin = time.perf_counter()
            with naming_step(image.source, number, step):
                params = step.params(image, roi)
                last = number + 1 == len(self.steps)
                image, lines = _kept_compact(step, image, params) if last else (step.apply(image, params), ())
                if roi is not None and step.spatial and number < roi_until:
                    roi = step.apply(roi, params, labels=True)
            applied.append(Applied(step.kind, params))
            tell(step.kind, time.perf_counter() - begin)
        return Prepared(replace(image, history=(*image.history, *applied)), lines)

    def begins_with(self, other: Pipeline) -> bool:
        """Whether the steps of another pipeline are the first of this one's."""
        return self.steps[: len(other.steps)] == other.steps

    def replay(self, mask: Image, history: tuple[Applied, ...]) -> Image:
        """Take a mask (1, D, H, W) on the raw grid through the spatial steps that an image went through.

        Nearest neighbour, padded with 0; the dtype stays, the unit becomes "label".

        Raises
        ------
        PrepareError
            If the history is of another pipeline, or the mask is on another grid than the image was.
        """
        for step, applied in self._matched(history):
            if step.spatial:
                with naming(mask.source, step.kind):
                    mask = step.apply(mask, applied.params, labels=True)
        return replace(mask, unit="label", history=())

    def invert(self, image: Image, history: tuple[Applied, ...], *, labels: bool = False) -> Image:
        """Bring an answer on the prepared grid (K, D, H, W) back to the raw image's grid.

        Probabilities go back by linear interpolation, ``labels`` by nearest neighbour. Voxels that were cut away were
        not seen by the network: there every probability is 0, so that argmax gives class 0, the background.

        Raises
        ------
        PrepareError
            If the history is of another pipeline, or the answer is on another grid than the prepared image.
        """
        for step, applied in reversed(self._matched(history)):
            if step.spatial:
                with naming(image.source, step.kind):
                    image = step.invert(image, applied.params, labels=labels)
        return replace(image, unit="label" if labels else "arbitrary", history=())

    def _matched(self, history: tuple[Applied, ...]) -> list[tuple[Step, Applied]]:
        own = history[len(history) - len(self.steps) :] if len(history) >= len(self.steps) else ()
        if [applied.step for applied in own] != [step.kind for step in self.steps]:
            raise PrepareError(
                f"a history of the steps {', '.join(a.step for a in history) or '(none)'}",
                needed=", ".join(step.kind for step in self.steps),
                remedy="Pass the history of an image that this very pipeline prepared.",
            )
        return list(zip(self.steps, own, strict=True))


def _kept_compact(step: Step, image: Image, params: dict[str, Any]) -> tuple[Image, tuple[Line, ...]]:
    """The last step: where it is a line of whole numbers, these are kept, with the line."""
    if isinstance(step, Round):
        image, line = step.compact(image, params)
        return image, (line,) * image.channels if line else ()
    dtype = image.voxels.dtype
    if isinstance(step, Normalise) and dtype.kind in "iu" and dtype.itemsize <= _COMPACT_BYTES:
        return image, tuple(step.lines(params))
    return step.apply(image, params), ()


def _nobody(step: str, seconds: float) -> None:
    """Nobody wants to know how long it took."""


def _checked(image: Image) -> Image:
    _check_finite(image)
    if image.voxels.dtype in (np.float64, np.float16):
        return image.with_voxels(image.voxels.astype(np.float32))
    return image


def _check_finite(image: Image) -> None:
    voxels: Voxels = image.voxels
    if voxels.dtype.kind not in "fiub":
        raise PrepareError(f"voxels of type {voxels.dtype}", needed="real numbers", where=image.source)
    if voxels.dtype.kind != "f" or all(np.isfinite(plane).all() for volume in voxels for plane in volume):
        return
    nan, infinite = int(np.isnan(voxels).sum()), int(np.isinf(voxels).sum())
    raise PrepareError(
        f"{nan} {'voxel is' if nan == 1 else 'voxels are'} NaN and {infinite} infinite, of {voxels.size}",
        needed="finite numbers",
        where=image.source,
        remedy="Replace them where the file is made, or leave the case out.",
    )
