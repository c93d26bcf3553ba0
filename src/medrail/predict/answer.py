"""What became of one input, small enough to be kept of thousands: no voxels, which are in files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle import Predictor
from medrail.bundle.calibration import FINDING_FROM
from medrail.predict.inputs import Input
from medrail.types import Prediction

_VALUES = ("task", "bundle_id", "probabilities", "timings_ms", "decision", "ood_score", "unlike_training", "thresholds")
_TUPLES = ("classes", "conformal_set", "findings")


@dataclass(frozen=True)
class Answer:
    """What became of one input: a prediction and the files written, or a reason.

    name:
        What its files are called after.
    prediction:
        Without mask and evidence.
    reason:
        Why there is no prediction; "" where there is one.
    notes:
        What was wanted and could not be written, with the reason.
    volumes_ml, areas_mm2:
        Segmentation: of each class but the background; None without physical space. Areas are of whole slides.
    thresholds:
        Those that decide (``deciding``).
    kept:
        Whether it was there from an earlier call.
    """

    input: Input
    name: str = ""
    prediction: Prediction | None = None
    files: tuple[Path, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    volumes_ml: Mapping[str, float | None] = field(default_factory=dict)
    areas_mm2: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    kept: bool = False

    @property
    def summary(self) -> str:
        """The prediction in a few words, after what speaks against relying on it; empty where there is none."""
        if self.prediction is None:
            return ""
        return unlike_sentence(self.prediction) + self._found(self.prediction)

    @property
    def unlike_training(self) -> bool:
        return bool(self.prediction and self.prediction.unlike_training)

    def _found(self, prediction: Prediction) -> str:
        if self.areas_mm2:
            return ", ".join(f"{name} {area:.3f} mm2" for name, area in self.areas_mm2.items())
        if prediction.task == "segmentation":
            return ", ".join(f"{name} {ml:.1f} ml" if ml is not None else name for name, ml in self.volumes_ml.items())
        return said(prediction, self.thresholds)

    def to_dict(self) -> dict[str, Any]:
        """JSON values of all but the input, the files, the thresholds and ``kept``."""
        values = None
        if self.prediction is not None:
            plain = asdict(replace(self.prediction, mask=None, evidence=None))
            values = {key: plain[key] for key in (*_VALUES, *_TUPLES)}
        return {
            "prediction": values,
            "notes": list(self.notes),
            "volumes_ml": dict(self.volumes_ml),
            "areas_mm2": dict(self.areas_mm2),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any], one: Input, name: str, files: tuple[Path, ...]) -> Answer:
        """The inverse of ``to_dict``, of what an earlier call found.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            If a field is missing or of the wrong type.
        """
        given = values["prediction"]
        plain: dict[str, Any] = {key: given[key] for key in _VALUES}
        tuples: dict[str, Any] = {key: None if given[key] is None else tuple(given[key]) for key in _TUPLES}
        return Answer(
            one,
            name,
            Prediction(**plain, **tuples),
            files,
            notes=tuple(values["notes"]),
            volumes_ml=dict(values["volumes_ml"]),
            areas_mm2=dict(values["areas_mm2"]),
            kept=True,
        )


def unlike_sentence(prediction: Prediction) -> str:
    """A warning that goes before an answer for an image unlike the training data; else empty."""
    return f"unlike the training data (score {prediction.ood_score:.3g}): " if prediction.unlike_training else ""


def deciding(predictor: Predictor) -> dict[str, float]:
    """Class -> the threshold that decides, in the order of the classes; of several classes one of which is meant none
    does.
    """
    spec = predictor.spec
    known = predictor.calibration.thresholds if predictor.calibration else {}
    if spec.multi_label:
        return {name: known.get(name, FINDING_FROM) for name in spec.classes}
    return {name: known[name] for name in spec.classes if name in known and len(spec.classes) == 2}


def said(prediction: Prediction, thresholds: Mapping[str, float] | None = None) -> str:
    """A classification in a few words, with the thresholds that decided where these are not 0.5."""
    apart = {name: value for name, value in (thresholds or {}).items() if value != FINDING_FROM}
    if prediction.findings is None:
        name = prediction.class_name
        by = [f"threshold {f'of {one} ' * (one != name)}{value:.3g}" for one, value in apart.items()]
        words = f"{name} ({'; '.join([f'{prediction.confidence:.3f}', *by])})"
        possible = " or ".join(prediction.conformal_set or ()) or "none of the classes"
        return f"{words}; undecided, possible: {possible}" if prediction.undecided else words
    found = [f"{name} ({prediction.probabilities[name]:.3f}{_threshold(name, apart)})" for name in prediction.findings]
    return ", ".join(found) or "no finding"


def _threshold(name: str, thresholds: Mapping[str, float]) -> str:
    return f"; threshold {thresholds[name]:.3g}" if name in thresholds else ""


def volumes_ml(prediction: Prediction) -> dict[str, float | None]:
    """Volume in millilitres of each class but the background; None without physical space.

    Raises
    ------
    ValueError
        For a classification.
    """
    if prediction.mask is None:
        raise ValueError("a classification has no volumes")
    geometry = prediction.mask.geometry
    voxel_ml = None if geometry is None else abs(float(np.linalg.det(geometry.affine_ras_mm[:3, :3]))) / 1000
    counts = np.bincount(prediction.mask.voxels.ravel(), minlength=len(prediction.classes))
    return {
        name: None if voxel_ml is None else int(counts[index]) * voxel_ml
        for index, name in enumerate(prediction.classes[1:], 1)
    }
