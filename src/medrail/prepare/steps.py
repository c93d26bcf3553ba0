"""The table of steps, and how a step is made from its dictionary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pydantic

from medrail.config import did_you_mean
from medrail.errors import PrepareError, Problem
from medrail.prepare.crops import CropForeground, CropPad, CropRoi
from medrail.prepare.grids import Params
from medrail.prepare.intensity import ClipPercentile, GreyToRgb, Normalise, RgbToGrey, Round, Window
from medrail.prepare.parameters import Parameters, problems_of
from medrail.prepare.slices import Slices
from medrail.prepare.spatial import Orient, Resample, Resize
from medrail.types import Image


class Step(Protocol):
    """One preprocessing step: its frozen fields are the parameters that the user wrote.

    ``params`` draws what depends on this image and records it, with all that is needed to come back, as JSON;
    ``apply`` and ``invert`` are pure. ``spatial`` tells whether voxels move: only such steps concern masks.
    With ``labels`` voxels are labels (nearest neighbour, padded with 0), else grey values or probabilities (linear).
    """

    @property
    def kind(self) -> str: ...
    @property
    def spatial(self) -> bool: ...
    def to_dict(self) -> dict[str, Any]: ...
    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]: ...
    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image: ...
    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image: ...


_ALL: tuple[type[Parameters], ...] = (
    Orient,
    Resample,
    Window,
    ClipPercentile,
    CropForeground,
    CropRoi,
    CropPad,
    Resize,
    Slices,
    Normalise,
    GreyToRgb,
    RgbToGrey,
    Round,
)
STEPS: dict[str, type[Parameters]] = {str(step.model_fields["kind"].default): step for step in _ALL}
"""Step kind, as it stands in ``prepare.steps``, -> its class."""

_SHORT_FORMS = {"window": ["preset"]}
_NEEDS_GEOMETRY = ("orient", "resample", "slices")


def check_steps(steps: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """Every mistake in ``prepare.steps``, each with the key it stands at and a suggestion; empty if there is none."""
    return make_steps(steps)[1]


def make_steps(steps: Sequence[Mapping[str, Any]]) -> tuple[list[Step], list[Problem]]:
    """The steps that could be made, in order, and every problem found."""
    made: list[Step] = []
    problems: list[Problem] = []
    sliced = False
    for number, values in enumerate(steps):
        at = f"prepare.steps.{number}"
        step, found = _make(values, at)
        problems += found
        if step is None:
            continue
        if sliced and step.kind in _NEEDS_GEOMETRY:
            message = f"{step.kind} after slices, which leaves pictures without geometry"
            problems.append(Problem(at, message, f"Put {step.kind} before slices."))
        sliced = sliced or step.kind == "slices"
        if step.kind == "round" and number + 1 < len(steps):
            problems.append(Problem(at, "round before other steps, which would undo it", "Put it last."))
        made.append(step)
    return made, problems


def _make(values: Mapping[str, Any], at: str) -> tuple[Step | None, list[Problem]]:
    if not isinstance(values, Mapping):
        return None, [Problem(at, f"found {values!r}, needed keys and values, as {{kind: orient}}")]
    kind = values.get("kind")
    if kind is None:
        return None, [Problem(f"{at}.kind", "missing", f"Known: {', '.join(STEPS)}")]
    if not isinstance(kind, str) or kind not in STEPS:
        return None, [Problem(f"{at}.kind", f"there is no step {kind!r}", did_you_mean(str(kind), list(STEPS)))]
    model = STEPS[kind]
    names = [*model.model_fields, *_SHORT_FORMS.get(kind, [])]
    try:
        step: Any = model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        return None, problems_of(error, names, at)
    return step, []


def naming_step(source: str, number: int, step: Step) -> AbstractContextManager[None]:
    """Say in a PrepareError which image and which step of the pipeline, counted from 0, it is about."""
    return naming(source, f"step {number + 1} ({step.kind})")


@contextmanager
def naming(source: str, place: str) -> Iterator[None]:
    """Say in a PrepareError which image and which place it is about, where it does not say so."""
    try:
        yield
    except PrepareError as error:
        if not error.where:
            error.where = f"{source}, {place}" if source else place
        raise
