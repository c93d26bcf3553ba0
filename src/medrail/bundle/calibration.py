"""Calibration: what was fitted after training so that an answer can be relied on, and how it is applied.

It is fitted on cases that neither trained nor tested the network, lies in the run as ``calibration.json``, and travels
in the bundle, so that what is served is what was evaluated. What is applied:

* probabilities: ``softmax(logits / temperature)`` (temperature scaling: Guo et al., ICML 2017);
* decision: with two classes the one that has a threshold, where its probability reaches it, else the other one; with
  more the most probable;
* conformal set: the classes with ``1 - probability <= quantile`` (split conformal prediction with the score
  1 - p of the true class: Sadinle, Lei and Wasserman, JASA 114, 2019);
* likeness: ``|W (features - mean)| / sqrt(F)`` over F features, about 1 for images like those of the training; above
  the threshold an image is unlike them (Mahalanobis distance: Lee et al., NeurIPS 2018).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.bundle.spec import NetworkSpec
from medrail.bundle.usual import Usual
from medrail.errors import BundleError
from medrail.workspace import write_json

FloatArray = npt.NDArray[np.float32]

FORMAT = 2
_READS = (1, 2)  # in 2 there may be what is usual, which an older medrail does not know
CALIBRATION_FILE = "calibration.json"
FINDING_FROM = 0.5
"""Where an image may have several of the classes: the probability from which one without a threshold is a finding."""
LARGEST_FEATURES = 4096
LARGEST_CALIBRATION_BYTES = 128 * 2**20
_OOD_NUMBERS = ("threshold", "quantile", "features", "components")
_TEMPERATURES = (1e-3, 1e3)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FIT_AGAIN = "`medrail evaluate` fits it anew."


@dataclass(frozen=True)
class Conformal:
    """Sets of classes that hold the true one in at least ``1 - alpha`` of new cases like those it was fitted on."""

    alpha: float
    quantile: float

    def __post_init__(self) -> None:
        _within("conformal.alpha", self.alpha, 0, 1, open_ends=True)
        _within("conformal.quantile", self.quantile, 0, 1)


@dataclass(frozen=True, eq=False)
class Ood:
    """What the features of the training images are like ("out of distribution" is what lies far from them).

    mean, whitening:
        (F,) and (R, F) float32, R at most F: ``whitening @ (features - mean)`` has about unit variance along each axis.
    threshold:
        An image with a higher score is unlike the training images.
    quantile:
        The share of held-out images whose score is not above the threshold.
    """

    mean: FloatArray
    whitening: FloatArray
    threshold: float
    quantile: float

    def __post_init__(self) -> None:
        for name in ("mean", "whitening"):
            array = np.array(getattr(self, name), dtype=np.float32)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        rows, columns = self.whitening.shape if self.whitening.ndim == 2 else (0, 0)
        if self.mean.ndim != 1 or len(self.mean) != columns or not 0 < rows <= columns <= LARGEST_FEATURES:
            raise _wrong(
                f"ood.mean of shape {self.mean.shape} and ood.whitening of shape {self.whitening.shape}",
                f"(F,) and (R, F) with R <= F <= {LARGEST_FEATURES}",
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.whitening).all()):
            raise _wrong("ood has numbers that are not finite", "finite numbers")
        _within("ood.threshold", self.threshold, 0, math.inf, open_ends=True)
        _within("ood.quantile", self.quantile, 0, 1)

    def score(self, features: FloatArray) -> float:
        """How unlike the training images an image with these features (F,) is.

        Raises
        ------
        BundleError
            If the network has another number of features.
        """
        if features.shape != self.mean.shape:
            raise BundleError(
                f"the network has features of shape {features.shape}",
                needed=f"{self.mean.shape}, as the calibration",
                remedy=_FIT_AGAIN,
            )
        away = self.whitening.astype(np.float64) @ (features.astype(np.float64) - self.mean)
        return math.sqrt(float(away @ away) / len(self.mean))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ood) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        rows, columns = self.whitening.shape
        return {
            "threshold": self.threshold,
            "quantile": self.quantile,
            "features": columns,
            "components": rows,
            "mean": _encoded(self.mean),
            "whitening": _encoded(self.whitening),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Ood:
        columns, rows = values["features"], values["components"]
        for count in (columns, rows):
            if type(count) is not int or not 0 < count <= LARGEST_FEATURES:
                raise _wrong(f"ood of {count!r} features or components", f"1 to {LARGEST_FEATURES}")
        return Ood(
            mean=_decoded(values["mean"], (columns,)),
            whitening=_decoded(values["whitening"], (rows, columns)),
            threshold=values["threshold"],
            quantile=values["quantile"],
        )


@dataclass(frozen=True)
class Calibration:
    """All that is applied to a network's answer besides its class names.

    network_sha256:
        Of the ONNX file that it was fitted on; it is never applied to another one.
    temperature:
        Logits are divided by it; 1 for a network that is not calibrated, or segments.
    thresholds:
        Class name -> probability from which on it is decided for. Two classes: at most one of them, which decides.
        More: one-versus-rest operating points, which are reported and do not decide. Several labels: of each the one
        from which it is a finding.
    threshold_rule:
        How they were chosen, in words; "" without thresholds.
    made_from:
        Counts and settings of the fit (JSON values, never the id of a case or a patient).
    usual:
        What answers and images were like on the validation cases, for drift; it is not applied to any answer.
    """

    network_sha256: str
    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    threshold_rule: str = ""
    conformal: Conformal | None = None
    ood: Ood | None = None
    made_from: Mapping[str, Any] = field(default_factory=dict)
    usual: Usual | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network_sha256, str) or not _SHA256.fullmatch(self.network_sha256):
            raise _wrong("network_sha256", "64 hexadecimal digits")
        _within("temperature", self.temperature, *_TEMPERATURES)
        if not isinstance(self.thresholds, Mapping) or not isinstance(self.made_from, Mapping):
            raise _wrong("thresholds or made_from", "an object")
        for name, value in self.thresholds.items():
            _within(f"thresholds[{name!r}]", value, 0, 1)
        if not isinstance(self.threshold_rule, str) or bool(self.thresholds) != bool(self.threshold_rule):
            raise _wrong("thresholds without a rule or the reverse", "both or neither")

    def check(self, spec: NetworkSpec) -> None:
        """Refuse a calibration that is not one of such a network.

        Raises
        ------
        BundleError
            If it names classes that the network has not, or applies to classes what is there for a segmentation.
        """
        unknown = sorted(set(self.thresholds) - set(spec.classes))
        if unknown:
            raise _wrong(f"a threshold for {', '.join(map(repr, unknown))}", f"of {', '.join(spec.classes)}")
        if spec.task == "segmentation" and (self.temperature != 1 or self.thresholds or self.conformal):
            raise _wrong("a temperature, threshold or conformal set", "none of them for a segmentation")
        if spec.multi_label and self.conformal:
            raise _wrong("a conformal set", "none where an image may have several of the classes")
        if len(spec.classes) == 2 and len(self.thresholds) > 1 and not spec.multi_label:
            raise _wrong("a threshold for each of two classes", "one for one of them: it decides for both")

    def decide(self, probabilities: Mapping[str, float]) -> str:
        """The class that is decided for."""
        if len(probabilities) == 2 and self.thresholds:
            ((name, threshold),) = self.thresholds.items()
            (other,) = set(probabilities) - {name}
            return name if probabilities[name] >= threshold else other
        return max(probabilities, key=probabilities.__getitem__)

    def conformal_set(self, probabilities: Mapping[str, float]) -> tuple[str, ...] | None:
        """The classes that cannot be ruled out at the stated level, in the network's order; None if none was fitted."""
        if self.conformal is None:
            return None
        return tuple(name for name, value in probabilities.items() if 1 - value <= self.conformal.quantile)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``Calibration.from_dict(c.to_dict()) == c``, also after a trip through JSON text.

        Without ``usual`` they are those of format 1, so that what bundle.json of an older bundle repeats stays true.
        """
        return {
            "format": FORMAT if self.usual else 1,
            "network_sha256": self.network_sha256,
            "temperature": self.temperature,
            "thresholds": dict(self.thresholds),
            "threshold_rule": self.threshold_rule,
            "conformal": {"alpha": self.conformal.alpha, "quantile": self.conformal.quantile}
            if self.conformal
            else None,
            "made_from": dict(self.made_from),
            "ood": self.ood.to_dict() if self.ood else None,
            **({"usual": self.usual.to_dict()} if self.usual else {}),
        }

    def numbers(self) -> dict[str, Any]:
        """``to_dict`` without the network's SHA-256 and the arrays: what bundle.json says of it, for a reader."""
        values = {key: value for key, value in self.to_dict().items() if key not in ("format", "network_sha256")}
        values["ood"] = {key: values["ood"][key] for key in _OOD_NUMBERS} if self.ood else None
        return values

    @staticmethod
    def from_dict(values: Any) -> Calibration:
        """The inverse of ``to_dict``.

        Raises
        ------
        BundleError
            If it is of another format, a field is missing, unknown or impossible, or an array has not its size.
        """
        if not isinstance(values, Mapping) or values.get("format") not in _READS:
            raise _wrong("not a calibration of this format", f"format {' or '.join(map(str, _READS))}")
        known = {key: value for key, value in values.items() if key != "format"}
        try:
            conformal, ood, usual = known.pop("conformal"), known.pop("ood"), known.pop("usual", None)
            return Calibration(
                conformal=Conformal(**conformal) if conformal is not None else None,
                ood=Ood.from_dict(ood) if ood is not None else None,
                usual=Usual.from_dict(usual) if usual is not None else None,
                **known,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise _wrong(f"not readable ({error})", "the fields that `medrail evaluate` writes") from None

    def write(self, path: Path) -> None:
        write_json(path, self.to_dict())

    @staticmethod
    def read(path: Path) -> Calibration:
        """Of a file.

        Raises
        ------
        BundleError
            If there is none, it is too large, or as in ``from_bytes``.
        """
        if path.is_symlink() or not path.is_file():
            raise BundleError("missing, or not a plain file", where=str(path), remedy=_FIT_AGAIN)
        if path.stat().st_size > LARGEST_CALIBRATION_BYTES:
            raise BundleError(
                f"{path.stat().st_size} bytes", needed=f"at most {LARGEST_CALIBRATION_BYTES}", where=str(path)
            )
        return Calibration.from_bytes(path.read_bytes(), str(path))

    @staticmethod
    def from_bytes(content: bytes, where: str = CALIBRATION_FILE) -> Calibration:
        """Of a file's content.

        Raises
        ------
        BundleError
            If it is not JSON, or as in ``from_dict``.
        """
        if len(content) > LARGEST_CALIBRATION_BYTES:
            raise BundleError(f"{len(content)} bytes", needed=f"at most {LARGEST_CALIBRATION_BYTES}", where=where)
        try:
            return Calibration.from_dict(json.loads(content, parse_constant=_refuse_constant))
        except BundleError as error:
            error.where = error.where or where
            raise
        except (ValueError, RecursionError) as error:
            raise BundleError(
                f"not readable as JSON ({type(error).__name__})", where=where, remedy=_FIT_AGAIN
            ) from None


def _encoded(array: FloatArray) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _decoded(text: Any, shape: tuple[int, ...]) -> FloatArray:
    """No pickle, no header: the bytes are the numbers, and there must be exactly as many as the shape says."""
    wanted = 4 * math.prod(shape)
    if not isinstance(text, str) or len(text) != 4 * -(-wanted // 3):
        raise _wrong("an array of another size than the numbers beside it say", f"{wanted} bytes, base64")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("an array that is not base64", "base64") from None
    if len(content) != wanted:
        raise _wrong(f"an array of {len(content)} bytes", f"{wanted}")
    return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)


def _within(name: str, value: Any, low: float, high: float, *, open_ends: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low < value < high if open_ends else low <= value <= high):
        raise _wrong(f"{name} is {value!r}", f"{'between' if open_ends else 'from'} {low:g} and {high:g}")


def _wrong(found: str, needed: str) -> BundleError:
    return BundleError(f"the calibration is wrong: {found}", needed=needed, remedy=_FIT_AGAIN)


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)
