"""What the service answers, as frozen values. Keys that this medrail does not know are no error: ``raw`` has all."""

from __future__ import annotations

import base64
import dataclasses
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from medrail.errors import ServiceError
from medrail.read import read_mask
from medrail.types import Image

Kind = TypeVar("Kind")
Raw: TypeAlias = Mapping[str, Any]
_SUFFIXES = {"nifti.gz;base64": ".nii.gz", "png;base64": ".png"}


@dataclass(frozen=True)
class Model:
    """One served model, as `GET /v1/models` describes it."""

    name: str
    version: str
    bundle_id: str
    task: str
    classes: tuple[str, ...]
    default: bool = False
    multi_label: bool = False
    dims: int = 2
    input: str = ""
    needs_roi: bool = False
    engine: str = ""
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Evidence:
    """Where a classifier sees what it decided by.

    exact:
        Whether it is the answer itself, taken apart by place; where False, ``reason`` says why there is none.
    overlay_png:
        To look at: orange speaks for the class, blue against it.
    map:
        (D, H, W) float32 on the grid of the file, where it was asked for.
    """

    exact: bool
    reason: str | None = None
    class_name: str | None = None
    method: str | None = None
    overlay_png: bytes | None = field(default=None, repr=False)
    map: npt.NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Classification:
    """The class decided for, or of several labels those that were found; and every class's probability."""

    model_name: str
    model_version: str
    bundle_id: str
    request_id: str
    probabilities: Mapping[str, float]
    class_name: str | None = None
    confidence: float | None = None
    conformal_set: tuple[str, ...] | None = None
    abstain: bool = False
    findings: tuple[str, ...] | None = None
    thresholds: Mapping[str, float] | None = None
    evidence: Evidence | None = None
    unlike_training: bool | None = None
    ood_score: float | None = None
    preview_png: bytes | None = field(default=None, repr=False)
    inference_time_ms: float = 0.0
    timings_ms: Mapping[str, float] = field(default_factory=dict, compare=False)
    disclaimer: str = field(default="", repr=False)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class MaskClass:
    """One class of a mask; ``volume_ml`` is None where the image has no physical space."""

    index: int
    name: str
    voxels: int
    volume_ml: float | None = None
    colour: str | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Mask:
    """A mask on the grid of the file that was sent, (D, H, W).

    It came as a file (``encoding``, ``data``), as run lengths (``rle``), as both, or not at all: only its volumes did.
    """

    shape: tuple[int, ...]
    classes: tuple[MaskClass, ...]
    spacing_mm: tuple[float, ...] | None = None
    encoding: str | None = field(default=None, repr=False)
    data: str | None = field(default=None, repr=False)
    rle: Mapping[str, Any] | None = field(default=None, repr=False)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    def labels(self) -> npt.NDArray[np.uint8]:
        """The class of each voxel, (D, H, W).

        Raises
        ------
        ServiceError
            If the answer came without the mask, or with a broken one.
        """
        if self.rle is None:
            return np.asarray(self.image().voxels[0], dtype=np.uint8)
        try:
            values, lengths = np.asarray(self.rle["values"], np.uint8), np.asarray(self.rle["lengths"], np.int64)
            if lengths.sum() != prod(self.shape):  # before anything is made of them
                raise ValueError
            return np.repeat(values, lengths).reshape(self.shape)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _not_understood("run lengths that are none") from None

    def image(self) -> Image:
        """The mask with its geometry, voxels uint8 (1, D, H, W); only the mask's file knows it.

        Raises
        ------
        ServiceError
            If the answer came without that file.
        """
        suffix = _SUFFIXES.get(self.encoding or "")
        if self.data is None or suffix is None:
            raise ServiceError("the answer has no mask in it", remedy="Ask with mask=True.")
        return mask_of(base64.b64decode(self.data), suffix)


@dataclass(frozen=True)
class Segmentation:
    """A class for every voxel."""

    model_name: str
    model_version: str
    bundle_id: str
    request_id: str
    mask: Mask
    unlike_training: bool | None = None
    ood_score: float | None = None
    preview_png: bytes | None = field(default=None, repr=False)
    inference_time_ms: float = 0.0
    timings_ms: Mapping[str, float] = field(default_factory=dict, compare=False)
    disclaimer: str = field(default="", repr=False)
    raw: Raw = field(default_factory=dict, repr=False, compare=False)

    @property
    def volumes_ml(self) -> dict[str, float | None]:
        """Class name -> ml, without the background; None where the image has no physical space."""
        return {each.name: each.volume_ml for each in self.mask.classes if each.index}


Answer: TypeAlias = Classification | Segmentation


@dataclass(frozen=True)
class ClassificationDifference:
    """What the second answer says otherwise: probabilities are the second's minus the first's."""

    same_decision: bool
    probabilities: Mapping[str, float]
    largest: float
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class MaskClassDifference:
    """One class in both masks, first and second; ``dice`` is None where neither has it."""

    name: str
    voxels: tuple[int, ...]
    volume_ml: tuple[float, ...] | None = None
    volume_difference_ml: float | None = None
    dice: float | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class MaskDifference:
    """Where two masks differ; in ``map`` 0 is the same, 1 only the first, 2 only the second, 3 both, not the same."""

    voxels: int
    share: float
    classes: tuple[MaskClassDifference, ...]
    map: Mask
    volume_ml: float | None = None
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to one input, and what differs."""

    first: Answer
    second: Answer
    difference: ClassificationDifference | MaskDifference
    request_id: str = ""
    inference_time_ms: float = 0.0
    raw: Raw = field(default_factory=dict, repr=False, compare=False)


def model_of(values: Any) -> Model:
    """A Model of its JSON object. Raises ServiceError, as all of these do, where what is needed is not there."""
    return _taken(Model, values, classes=tuple)


def answer_of(values: Any) -> Answer:
    """A Classification or a Segmentation of its JSON object."""
    task = values.get("task") if isinstance(values, Mapping) else None
    if task == "segmentation":
        return _taken(Segmentation, values, mask=_mask, preview_png=_bytes)
    if task == "classification":
        converters: dict[str, Callable[[Any], Any]] = dict.fromkeys(("conformal_set", "findings"), _tuple)
        return _taken(Classification, values, evidence=_evidence, preview_png=_bytes, **converters)
    raise _not_understood("an answer of a task that this medrail does not know")


def comparison_of(values: Any) -> Comparison:
    """A Comparison of its JSON object."""
    return _taken(Comparison, values, first=answer_of, second=answer_of, difference=_difference)


def mask_of(content: bytes, suffix: str) -> Image:
    """A mask file's Image. Raises DataError where it is damaged."""
    with tempfile.TemporaryDirectory(prefix="medrail-") as folder:
        path = Path(folder) / f"mask{suffix}"
        path.write_bytes(content)
        return dataclasses.replace(read_mask(path), source="")


def _taken(kind: Callable[..., Kind], values: Any, **converters: Callable[[Any], Any]) -> Kind:
    """Of a JSON object what the dataclass has a field for, each through its converter."""
    if not isinstance(values, Mapping):
        raise _not_understood("something that is no object")
    names = [each.name for each in dataclasses.fields(kind) if each.name != "raw"]  # type: ignore[arg-type]
    try:
        known = {name: converters.get(name, _same)(values[name]) for name in names if name in values}
        return kind(**known, raw=dict(values))
    except (TypeError, ValueError, KeyError, AttributeError, zlib.error):
        raise _not_understood("an object that lacks something, or has it in another form") from None


def _not_understood(what: str) -> ServiceError:
    return ServiceError(
        f"the service answered with {what}",
        needed="the answers of `medrail serve`",
        remedy="Is the address that of medrail's service? Else its version and this one do not fit: update the older.",
    )


def _same(value: Any) -> Any:
    return value


def _tuple(value: Any) -> tuple[Any, ...] | None:
    return None if value is None else tuple(value)


def _bytes(value: Any) -> bytes | None:
    return None if value is None else base64.b64decode(value)


def _mask(values: Any) -> Mask:
    return _taken(Mask, values, shape=tuple, spacing_mm=_tuple, classes=_mask_classes)


def _mask_classes(values: Any) -> tuple[MaskClass, ...]:
    return tuple(_taken(MaskClass, each) for each in values)


def _evidence(values: Any) -> Evidence | None:
    return None if values is None else _taken(Evidence, values, overlay_png=_bytes, map=_map)


def _map(values: Any) -> npt.NDArray[np.float32] | None:
    if values is None:
        return None
    numbers = np.frombuffer(zlib.decompress(base64.b64decode(values["data"])), "<f4")
    return numbers.astype(np.float32).reshape(values["shape"])


def _difference(values: Any) -> ClassificationDifference | MaskDifference:
    if isinstance(values, Mapping) and values.get("kind") == "segmentation":
        return _taken(MaskDifference, values, classes=_class_differences, map=_mask)
    return _taken(ClassificationDifference, values)


def _class_differences(values: Any) -> tuple[MaskClassDifference, ...]:
    return tuple(_taken(MaskClassDifference, each, voxels=tuple, volume_ml=_tuple) for each in values)
