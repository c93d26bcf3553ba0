"""Evaluation: what was found, as evaluation.json keeps it, and what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrail import __version__
from medrail.bundle.calibration import CALIBRATION_FILE
from medrail.bundle.load import NETWORK_SPEC_FILE
from medrail.bundle.manifest import FileEntry
from medrail.cases import FileHashes, Leaked, source_fingerprint
from medrail.config import Config
from medrail.errors import DataError, RunError
from medrail.evaluate.bootstrap import Measured
from medrail.types import Case
from medrail.workspace import Run, read_json, source_sha256, write_json

FORMAT = 3
NOTHING_LEAKED = Leaked()
Points = Sequence[tuple[float, float]]
EVALUATION_FILE, CASE_FILE = "evaluation.json", "cases.csv"


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating one run on one split.

    split:
        Which cases were asked for.
    multi_label:
        Whether a case may have several of the classes, or none.
    settings:
        ``evaluate.*`` of the configuration that it was made with, with the split that was judged.
    n, patients:
        Cases that were evaluated, and how many patients they come from.
    metrics:
        Metric name -> value with interval.
    failed:
        ``{case, reason}`` of the cases that could not be evaluated; they are in none of the numbers.
    fingerprint:
        SHA-256 over the network, the cases' content, the settings and the source of medrail that it was made from.
    confusion:
        Classification: counts, rows are the true classes and columns the predicted ones; else ().
    timings_ms:
        Median over the cases of prepare, model and post.
    strata:
        Name -> value -> metrics of the cases that have it: "sex", "age", "scanner", "centre", "defects" (with,
        without), "leaked" (yes, no), columns of the user's table. A name by which all cases are alike is left out.
    too_small:
        Name -> value -> why these metrics cannot be read, of the parts for which it is so.
    accepted_leaks:
        ``medrail.cases.Leaked.to_json`` where cases were judged that the network has seen; else empty.
    calibration:
        ``Calibration.summary``: temperature, thresholds and their rule, conformal, ood, and what they were fitted on.
    operating_points:
        Class -> sensitivity, specificity, ppv, npv of that class against the rest at its threshold.
    conformal, ood:
        Coverage and mean size of the conformal sets; share of the cases that were called unlike the training data.
    explanation:
        Whether the maps of evidence are to be trusted, on ``evaluate.explained_cases`` cases: the numbers of
        ``measure_explanations``; empty where the network has no map, or none was asked for.
    curves:
        Name of a picture -> name of a curve -> points (x, y), thinned: roc, precision_recall, reliability, abstention.
    patients_needed:
        {metric, half_width, patients, more, sentence}: what it would take to halve its interval; else empty.
    warnings:
        What must be known before the numbers are read.
    seconds:
        What judging, measuring, testing the maps and drawing took.
    """

    split: str
    n: int
    patients: int
    metrics: Mapping[str, Measured]
    failed: tuple[Mapping[str, str], ...] = ()
    fingerprint: str = ""
    confusion: tuple[tuple[int, ...], ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    strata: Mapping[str, Mapping[str, Mapping[str, Measured]]] = field(default_factory=dict)
    accepted_leaks: Mapping[str, Any] = field(default_factory=dict)
    too_small: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    operating_points: Mapping[str, Mapping[str, Measured]] = field(default_factory=dict)
    conformal: Mapping[str, Measured] = field(default_factory=dict)
    ood: Mapping[str, Measured] = field(default_factory=dict)
    explanation: Mapping[str, Measured] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Points]] = field(default_factory=dict)
    patients_needed: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    multi_label: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values: split, n, patients, metrics {name: {value, low, high, n, method}}, failed, ..."""
        return {
            "format": FORMAT,
            "split": self.split,
            "multi_label": self.multi_label,
            "settings": dict(self.settings),
            "n": self.n,
            "patients": self.patients,
            "metrics": _to_json(self.metrics),
            "operating_points": {name: _to_json(metrics) for name, metrics in self.operating_points.items()},
            "conformal": _to_json(self.conformal),
            "ood": _to_json(self.ood),
            "explanation": _to_json(self.explanation),
            "calibration": dict(self.calibration),
            "patients_needed": dict(self.patients_needed),
            "warnings": list(self.warnings),
            "strata": {
                name: {value: _to_json(metrics) for value, metrics in values.items()}
                for name, values in self.strata.items()
            },
            "too_small": {name: dict(values) for name, values in self.too_small.items()},
            "accepted_leaks": dict(self.accepted_leaks),
            "failed": [dict(entry) for entry in self.failed],
            "confusion": [list(row) for row in self.confusion],
            "curves": {
                name: {curve: [list(point) for point in points] for curve, points in curves.items()}
                for name, curves in self.curves.items()
            },
            "timings_ms": dict(self.timings_ms),
            "seconds": dict(self.seconds),
            "fingerprint": self.fingerprint,
        }

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Evaluation:
        """The inverse of ``to_json``."""
        return Evaluation(
            split=str(values["split"]),
            n=int(values["n"]),
            patients=int(values["patients"]),
            metrics=_from_json(values["metrics"]),
            strata={
                name: {value: _from_json(metrics) for value, metrics in parts.items()}
                for name, parts in values["strata"].items()
            },
            accepted_leaks=dict(values["accepted_leaks"]),
            failed=tuple(dict(entry) for entry in values["failed"]),
            fingerprint=str(values["fingerprint"]),
            confusion=tuple(tuple(int(count) for count in row) for row in values["confusion"]),
            timings_ms={name: float(value) for name, value in values["timings_ms"].items()},
            too_small={name: dict(reasons) for name, reasons in values["too_small"].items()},
            calibration=dict(values["calibration"]),
            operating_points={name: _from_json(metrics) for name, metrics in values["operating_points"].items()},
            conformal=_from_json(values["conformal"]),
            ood=_from_json(values["ood"]),
            explanation=_from_json(values["explanation"]),
            curves={
                name: {curve: [(float(x), float(y)) for x, y in points] for curve, points in curves.items()}
                for name, curves in values["curves"].items()
            },
            patients_needed=dict(values["patients_needed"]),
            warnings=tuple(map(str, values["warnings"])),
            seconds={name: float(value) for name, value in values["seconds"].items()},
            multi_label=bool(values["multi_label"]),
            settings=dict(values["settings"]),
        )

    def save(self, run: Run) -> None:
        """Write run/evaluation/evaluation.json."""
        write_json(run.evaluation / EVALUATION_FILE, self.to_json())

    @staticmethod
    def load(run: Run) -> Evaluation:
        """Read run/evaluation/evaluation.json.

        Raises
        ------
        RunError
            If there is none or it is not one that this medrail wrote.
        """
        return Evaluation.read(run.evaluation)

    @staticmethod
    def read(folder: Path) -> Evaluation:
        """Read the evaluation.json of a folder that ``evaluate`` wrote; errors as ``load``."""
        path = folder / EVALUATION_FILE
        if not path.is_file():
            raise RunError("not evaluated yet", where=str(path), remedy="`medrail evaluate` does it.")
        values = read_json(path)
        try:
            if values["format"] != FORMAT:
                raise RunError(
                    f"format version {values['format']!r}",
                    needed=str(FORMAT),
                    where=str(path),
                    remedy="It is of another medrail: `medrail evaluate` writes it anew.",
                )
            return Evaluation.from_json(values)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RunError(
                "not an evaluation that this medrail reads",
                where=str(path),
                remedy="`medrail evaluate` writes it anew.",
            ) from None

    @staticmethod
    def is_current(
        run: Run, config: Config, cases: Sequence[Case], split: str | None = None, leaked: Leaked = NOTHING_LEAKED
    ) -> bool:
        """Whether run/evaluation holds the evaluation of exactly this network on exactly these cases and settings.

        An evaluation by another source of medrail is not current either: its metrics may be computed differently.
        """
        try:
            recorded = Evaluation.load(run)
        except RunError:
            return False
        if not (run.evaluation / CASE_FILE).is_file() or not run.network.is_file():
            return False
        return recorded.fingerprint == evaluation_fingerprint(run, config, cases, split, leaked)


def _to_json(metrics: Mapping[str, Measured]) -> dict[str, Any]:
    return {name: measured.to_json() for name, measured in metrics.items()}


def _from_json(metrics: Mapping[str, Any]) -> dict[str, Measured]:
    return {name: Measured.from_json(measured) for name, measured in metrics.items()}


def evaluation_fingerprint(
    run: Run, config: Config, cases: Sequence[Case], split: str | None = None, leaked: Leaked = NOTHING_LEAKED
) -> str:
    """SHA-256 (hex) over everything an evaluation's numbers, and what is said of them, depend on."""
    wanted = split or config.evaluate.split
    with FileHashes.of(run.workspace) as hashes:
        contents = sorted(
            [case.id, case.patient, case.centre, case.defects, case.groups, content_of(case, config, hashes)]
            for case in cases
            if case.split == wanted
        )
    calibration = run.folder / CALIBRATION_FILE
    made_from = {
        "medrail": [__version__, source_sha256()],
        "format": FORMAT,
        "network": FileEntry.of(run.network).sha256,
        "network_spec": FileEntry.of(run.network.with_name(NETWORK_SPEC_FILE)).sha256,
        **({} if config.serve.engine == "auto" else {"engine": config.serve.engine}),
        "calibration": FileEntry.of(calibration).sha256 if calibration.is_file() else "",
        "split": wanted,
        "evaluate": config.evaluate.model_dump(mode="json"),
        **({"ordered": True} if config.data.ordered else {}),
        "masks": [list(config.data.mask_values), config.data.foreground_nonzero],
        "cases": contents,
        "accepted_leaks": leaked.to_json(),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def content_of(case: Case, config: Config, hashes: FileHashes) -> str:
    """What a case's files hold, as a fingerprint; "unreadable" where they cannot be read."""
    try:
        return source_fingerprint(case, hashes, config.read_options)
    except (DataError, OSError):
        return "unreadable"  # evaluate() records why
