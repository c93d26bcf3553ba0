"""predictions.csv: a row an input, written as soon as it is known."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from medrail.bundle import Predictor
from medrail.predict.answer import Answer, deciding
from medrail.types import Prediction

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Table:
    """A row an input: class and confidence (or findings) and every probability; or ml, of slides mm^2.

    With a calibration that knows them: the classes that cannot be ruled out, the score of likeness, the verdict, and
    the thresholds. Texts that a spreadsheet would take for a formula have an apostrophe before them.
    """

    def __init__(self, path: Path, predictor: Predictor) -> None:
        self._path = path
        self._bundle_id = predictor.bundle_id
        spec = predictor.spec
        self._classification = spec.task == "classification"
        self._classes = spec.classes if self._classification else spec.classes[1:]
        self._told = ["findings"] if spec.multi_label else ["class_name", "confidence"] if self._classification else []
        self._added = _added(predictor)
        self._thresholds = deciding(predictor)
        unit = "mm2" if spec.slide else "ml"
        values = [f"p_{name}" if self._classification else f"{name}_{unit}" for name in self._classes]
        self.columns = [
            *("input", "name", *self._told, *values, *self._added, "reason"),
            *(f"threshold_{name}" for name in self._thresholds),
            *("bundle_id", "note"),
        ]
        self._file: TextIO | None = None

    def __enter__(self) -> Table:
        self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._write(self.columns)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, answer: Answer) -> None:
        """The next row, of which a reader of the file sees all or nothing."""
        prediction = answer.prediction
        done = prediction is not None
        self._write(
            [
                *(str(answer.input), answer.name),
                *(self._values(answer, prediction) if prediction else [""] * (len(self._told) + len(self._classes))),
                *(_cell(prediction, name) for name in self._added),
                answer.reason,
                *(f"{value:.6f}" if done else "" for value in self._thresholds.values()),
                *(self._bundle_id, " | ".join(answer.notes)),
            ]
        )

    def _write(self, cells: list[str]) -> None:
        assert self._file is not None  # noqa: S101 - within ``with``
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([safe(cell) for cell in cells])
        self._file.write(line.getvalue())
        self._file.flush()

    def _values(self, answer: Answer, prediction: Prediction) -> list[str]:
        if not self._classification:
            amounts: Mapping[str, float | None] = answer.areas_mm2 or answer.volumes_ml
            digits = 6 if answer.areas_mm2 else 3
            found = (amounts.get(name) for name in self._classes)
            return ["" if amount is None else f"{amount:.{digits}f}" for amount in found]
        probabilities = [f"{prediction.probabilities[name]:.6f}" for name in self._classes]
        if prediction.findings is not None:
            return ["|".join(prediction.findings), *probabilities]
        return [str(prediction.class_name), f"{prediction.confidence:.6f}", *probabilities]


def safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers (OWASP, CSV injection).

    >>> [safe(text) for text in ("=1+1", "-0.5", "@x", "a=b")]
    ["'=1+1", '-0.5', "'@x", 'a=b']
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    return text.lstrip("+-").replace(".", "", 1).isdecimal() and text.isascii()


def _added(predictor: Predictor) -> list[str]:
    """The columns that a calibration adds."""
    calibration = predictor.calibration
    if calibration is None:
        return []
    of_classes = ["conformal_set", "abstain"] if calibration.conformal and not predictor.spec.slide else []
    return of_classes + (["ood_score", "unlike_training"] if calibration.ood else [])


def _cell(prediction: Prediction | None, name: str) -> str:
    value = getattr(prediction, name, None)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6f}" if isinstance(value, float) else "|".join(value)
