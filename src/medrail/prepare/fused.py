"""The leading steps of a pipeline as one pass over the slices of an image.

What is fused, and why the numbers are the same: ``orient`` where it only turns the order of the slices; one ``window``
or ``normalise`` with given numbers before the interpolation and one after it, which are computed voxel by voxel, in the
same float32 operations, wherever they stand; one ``resample`` or ``resize``; and a ``round`` right behind it. A window
stays on the side of the interpolation on which it was written, since clipping does not commute with it. Everything that
must see the voxels before it knows what to do (percentiles, Otsu, z-scores, crops to a foreground) ends the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medrail.prepare.intensity import Normalise, Round, Window
from medrail.prepare.resampling import Taps
from medrail.prepare.sampling import NO_CHANGE, Kind, Line, Sampling, sample, sample_slices
from medrail.prepare.spatial import Orient, Resample, Resize, kept_kind, taps_to_grid
from medrail.prepare.steps import Step, naming_step
from medrail.read import Slice, UnreadImage
from medrail.types import Applied, Image


@dataclass
class _Pass:
    """What was gathered from the steps so far."""

    image: Image
    backwards: bool = False
    before: Line = NO_CHANGE
    taps: tuple[Taps, Taps, Taps] | None = None
    after: Line = NO_CHANGE
    kind: Kind = "float32"
    whole: bool = False
    applied: list[Applied] = field(default_factory=list)


@dataclass(frozen=True)
class Fused:
    """The first ``len(applied)`` steps of a pipeline, for one image.

    image:
        The result without its voxels.
    backwards:
        Slices are taken from the last to the first.
    """

    image: Image
    backwards: bool
    sampling: Sampling
    applied: tuple[Applied, ...]

    def __call__(self, source: Image | UnreadImage) -> Image:
        """The image after those steps.

        Raises
        ------
        ReadError
            If a slice cannot be read.
        """
        if isinstance(source, Image):
            voxels = source.voxels[:, ::-1] if self.backwards else source.voxels
            return replace(self.image, voxels=sample(voxels, self.sampling))
        out = np.empty((1, *self.sampling.grid), self.sampling.kind)
        needed, last = self.sampling.needed, source.grid[0] - 1
        stored = source.slices([last - d for d in needed] if self.backwards else needed)
        slices = (Slice(d, values, bias) for d, (_, values, bias) in zip(needed, stored, strict=True))
        sample_slices(slices, self.sampling, out[0], int(np.prod(source.grid)))
        return replace(self.image, voxels=out)


def fuse(steps: Sequence[Step], source: Image | UnreadImage) -> Fused | None:
    """The pass that the leading steps make; None where there is no interpolation among them, or not for this image.

    Raises
    ------
    PrepareError
        If one of these steps cannot be applied to this image.
    """
    stand_in = source.stand_in if isinstance(source, UnreadImage) else _without_voxels(source)
    state = _Pass(stand_in)
    for number, step in enumerate(steps):
        with naming_step(source.source, number, step):
            if not _take(step, state):
                break
    if state.taps is None:
        return None
    sampling = Sampling(state.taps, state.before, state.after, state.kind)
    return Fused(state.image, state.backwards, sampling, tuple(state.applied))


def reads_by_slices(steps: Sequence[Step]) -> bool:
    """Whether an interpolation comes before any step that must see all voxels, so that plain series are streamed."""
    for step in steps:
        if isinstance(step, (Resample, Resize)):
            return True
        if not isinstance(step, (Orient, Window)):
            return False
    return False


def _without_voxels(image: Image) -> Image:
    return image.with_voxels(np.broadcast_to(np.zeros((), image.voxels.dtype), image.voxels.shape))


def _take(step: Step, state: _Pass) -> bool:
    """Take one more step into the pass, if it fits."""
    if isinstance(step, Orient):
        return state.taps is None and _take_orient(step, state)
    if isinstance(step, (Resample, Resize)):
        return state.taps is None and _take_interpolation(step, state)
    if isinstance(step, Window) or (isinstance(step, Normalise) and step.method == "custom"):
        return state.image.channels == 1 and _take_line(step, state)
    if isinstance(step, Round):
        return state.taps is not None and _take_round(step, state)
    return False


def _note(step: Step, params: dict[str, Any], state: _Pass) -> bool:
    state.applied.append(Applied(step.kind, params))
    return True


def _take_orient(step: Orient, state: _Pass) -> bool:
    params = step.params(state.image)
    if params["order"] != [0, 1, 2] or params["flip"][1] or params["flip"][2]:
        return False
    state.image = step.moved(state.image, state.image.voxels, params)
    state.backwards ^= bool(params["flip"][0])
    return _note(step, params, state)


def _take_line(step: Window | Normalise, state: _Pass) -> bool:
    line = state.before if state.taps is None else state.after
    if line != NO_CHANGE or state.whole or state.kind != "float32":
        return False
    params = step.params(state.image)
    if state.taps is None:
        state.before = step.line(params)
    else:
        state.after = step.line(params)
    voxels = np.broadcast_to(np.float32(0), state.image.voxels.shape)
    state.image = replace(state.image, voxels=voxels, unit="arbitrary")
    return _note(step, params, state)


def _take_interpolation(step: Resample | Resize, state: _Pass) -> bool:
    if isinstance(step, Resize) and isinstance(step.pad_value, str):
        return False
    params = step.params(state.image)
    if isinstance(step, Resize) and params["inner"] != params["size"]:
        return False
    kept = kept_kind(state.image)
    state.taps, state.whole = taps_to_grid(state.image, params, antialias=step.antialias), kept is not None
    state.kind = kept or "float32"
    voxels = np.broadcast_to(np.zeros((), state.kind), (state.image.channels, *params["size"]))
    state.image = step.moved(state.image, voxels, params)
    return _note(step, params, state)


def _take_round(step: Round, state: _Pass) -> bool:
    """Where the values are bounded by a window; else only the values themselves tell whether they fit."""
    line = state.after if state.after != NO_CHANGE else state.before
    largest = max(abs(line.low), abs(line.high))
    if step.to != "float16" or state.whole or not largest <= Round.LARGEST:
        return False
    state.kind = "float16"
    state.image = state.image.with_voxels(np.broadcast_to(np.float16(0), state.image.voxels.shape))
    return _note(step, {"dtype": "float16"}, state)
