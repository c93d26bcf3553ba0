"""Pipeline: the steps in order, from a raw image to what the network sees, and back to the raw grid."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from medrail.errors import ConfigError, PrepareError
from medrail.prepare.steps import Step, make_steps
from medrail.read import on_grid
from medrail.types import Applied, Image, Voxels

# Goes into the fingerprint: raise it when a step's result changes, and prepared data is made anew.
_VERSION = 2


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

    def __call__(self, image: Image, roi: Image | None = None) -> Image:
        """Prepare one image.

        Parameters
        ----------
        image:
            Voxels (C, D, H, W) as ``medrail.read`` gives them; 64-bit numbers are taken as 32-bit ones.
        roi:
            A mask (1, D, H, W) drawn on the image, for ``crop_roi``; put on its grid by ``medrail.read.on_grid``.

        Returns
        -------
        Image
            Its history has one ``Applied`` a step, with all that ``replay`` and ``invert`` need.

        Raises
        ------
        PrepareError
            If voxels are NaN or infinite, or a step cannot be applied: the step, the reason and the remedy.
        GeometryError
            If the region of interest lies on another grid than the image.
        """
        _check_finite(image)
        if image.voxels.dtype in (np.float64, np.float16):
            image = image.with_voxels(image.voxels.astype(np.float32))
        if roi is not None:
            roi = on_grid(roi, image, "the region of interest")
        roi_until = max((n for n, step in enumerate(self.steps) if step.kind == "crop_roi"), default=-1)
        applied = []
        for number, step in enumerate(self.steps):
            with _naming(image, f"step {number + 1} ({step.kind})"):
                params = step.params(image, roi)
                image = step.apply(image, params)
                if roi is not None and step.spatial and number < roi_until:
                    roi = step.apply(roi, params, labels=True)
            applied.append(Applied(step.kind, params))
        return replace(image, history=(*image.history, *applied))

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
                with _naming(mask, step.kind):
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
                with _naming(image, step.kind):
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


@contextmanager
def _naming(image: Image, place: str) -> Iterator[None]:
    """Say in a PrepareError which image and which step it is about."""
    try:
        yield
    except PrepareError as error:
        if not error.where:
            error.where = f"{image.source}, {place}" if image.source else place
        raise
