"""NetworkSpec: everything about a network that its weights do not say. It travels in network.json and bundle.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from medrail.config import SlideConfig
from medrail.errors import BundleError
from medrail.prepare import Pipeline
from medrail.types import READ_AS_STORED, Image, ReadOptions

LARGEST_MASK_CLASSES = 256


@dataclass(frozen=True)
class InputKind:
    """The raw images a network was trained on, as they came out of ``read``.

    picture:
        True: all had D = 1; False: all had more; None: some of each, so neither is refused.
    channels:
        Channels of the raw image, before the pipeline; 0 when they differed.
    unit:
        Unit of the raw image ("HU", "uint8", ...); "" when they differed.
    """

    picture: bool | None
    channels: int
    unit: str

    @staticmethod
    def of(*images: Image) -> InputKind:
        """What these raw training images have in common.

        >>> import numpy as np
        >>> InputKind.of(Image(np.zeros((3, 1, 8, 8), np.uint8), unit="uint8"))
        InputKind(picture=True, channels=3, unit='uint8')
        """
        return InputKind(
            _common({image.grid[0] == 1 for image in images}, None),
            _common({image.channels for image in images}, 0),
            _common({str(image.unit) for image in images}, ""),
        )

    @staticmethod
    def merge(*kinds: InputKind) -> InputKind:
        """What several kinds have in common; for training sets that are looked at one image at a time."""
        return InputKind(
            _common({kind.picture for kind in kinds}, None),
            _common({kind.channels for kind in kinds}, 0),
            _common({kind.unit for kind in kinds}, ""),
        )

    def __str__(self) -> str:
        what = {True: "pictures (D = 1)", False: "volumes (D > 1)", None: "pictures and volumes"}[self.picture]
        channels = f"{self.channels} channel{'s' if self.channels != 1 else ''}" if self.channels else "mixed channels"
        return f"{what} with {channels}, unit {self.unit or 'mixed'}"


@dataclass(frozen=True)
class NetworkSpec:
    """How to feed a network and how to read its answer.

    task:
        "classification" (logits (N, K)) or "segmentation" (logits (N, K, [D,] H, W)).
    classes:
        The K names in the order of the outputs; segmentation: the background first.
    dims:
        2: the network takes (N, C, H, W) and an image's D is the batch; 3: (N, C, D, H, W).
    channels:
        C of the network's input, after the pipeline.
    pipeline:
        ``Pipeline.to_dict()`` of the preprocessing.
    patch:
        Sliding-window size in voxels of the prepared grid, (D, H, W) or (H, W); () for the whole image at once.
    grid:
        The prepared size the network was trained with, (D, H, W) or (H, W); () if any size will do.
    input_kind:
        What the raw training images were, so that images of another kind can be refused.
    read_options:
        How the raw training images were read, so that others are read in the same way.
    slide:
        How whole slides were cut into the tiles it was trained on; None where it was trained on something else.
    multi_label:
        Classification in which an image has none, one or several of the classes: a sigmoid of each logit, no softmax.
    cells:
        Where a cell of its evidence lies in the prepared grid: for each axis (stride, first), in voxels; () if it has
        no evidence. The centre of cell i is at voxel ``first + stride * i``.

    Raises
    ------
    BundleError
        If the fields contradict each other.
    """

    task: Literal["classification", "segmentation"]
    classes: tuple[str, ...]
    dims: Literal[2, 3]
    channels: int
    pipeline: tuple[dict[str, Any], ...]
    input_kind: InputKind
    patch: tuple[int, ...] = ()
    grid: tuple[int, ...] = ()
    read_options: ReadOptions = READ_AS_STORED
    slide: SlideConfig | None = None
    multi_label: bool = False
    cells: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("classes", "pipeline", "patch", "grid"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "cells", tuple((float(stride), float(first)) for stride, first in self.cells))
        wrong = _wrong(self)
        if wrong:
            raise BundleError(f"the network's description is wrong: {wrong}", remedy="Export the run again.")

    @property
    def pipeline_fingerprint(self) -> str:
        """``Pipeline.fingerprint`` of the preprocessing."""
        return Pipeline.from_dict(self.pipeline).fingerprint

    @property
    def needs_roi(self) -> bool:
        """Whether the preprocessing crops to a region-of-interest mask, which must then come with each image."""
        return any(step.get("kind") == "crop_roi" for step in self.pipeline)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``NetworkSpec.from_dict(spec.to_dict()) == spec``, also after a trip through JSON text."""
        values = asdict(self)
        for name in ("classes", "pipeline", "patch", "grid"):
            values[name] = list(values[name])
        values["cells"] = [list(place) for place in self.cells]
        values["slide"] = self.slide.model_dump(mode="json") if self.slide else None
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> NetworkSpec:
        """The inverse of ``to_dict``.

        Raises
        ------
        BundleError
            If a field is missing, unknown or of the wrong type.
        """
        try:
            known = dict(values)
            slide = known.pop("slide", None)
            return NetworkSpec(
                input_kind=InputKind(**known.pop("input_kind")),
                read_options=ReadOptions(**known.pop("read_options", {})),
                slide=SlideConfig(**slide) if slide is not None else None,
                **known,
            )
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise BundleError(
                f"the network's description is not readable ({error})", remedy="Export the run again."
            ) from None


def _common(values: set[Any], otherwise: Any) -> Any:
    return values.pop() if len(values) == 1 else otherwise


def _wrong(spec: NetworkSpec) -> str:
    if spec.task not in ("classification", "segmentation"):
        return f"task {spec.task!r}"
    if spec.dims not in (2, 3):
        return f"dims {spec.dims!r}"
    few = len(spec.classes) < (1 if spec.multi_label else 2)
    if few or len(set(spec.classes)) != len(spec.classes):
        return f"classes {list(spec.classes)} (at least {'one' if spec.multi_label else 'two'}, all different)"
    if not isinstance(spec.multi_label, bool) or (spec.multi_label and spec.task != "classification"):
        return f"multi_label {spec.multi_label!r} for task {spec.task}"
    if spec.task == "segmentation" and len(spec.classes) > LARGEST_MASK_CLASSES:
        return f"{len(spec.classes)} classes (masks are 8 bit: at most {LARGEST_MASK_CLASSES})"
    if not isinstance(spec.channels, int) or spec.channels < 1:
        return f"channels {spec.channels!r}"
    if spec.cells and (
        len(spec.cells) != spec.dims
        or not all(stride > 0 and math.isfinite(stride) and math.isfinite(first) for stride, first in spec.cells)
    ):
        return f"cells {list(spec.cells)} for dims {spec.dims}"
    for name, sizes in (("patch", spec.patch), ("grid", spec.grid)):
        if sizes and (len(sizes) != spec.dims or not all(isinstance(size, int) and size > 0 for size in sizes)):
            return f"{name} {list(sizes)} for dims {spec.dims}"
    return ""
