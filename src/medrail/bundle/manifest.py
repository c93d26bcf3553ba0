"""Manifest: bundle.json, the list of what a bundle is, how good it is, where it comes from and what is in it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medrail.bundle.calibration import CALIBRATION_FILE, Calibration
from medrail.bundle.engines import PRECISIONS, Choice
from medrail.bundle.settle import choice_of
from medrail.bundle.spec import NetworkSpec
from medrail.errors import BundleError, MedrailError
from medrail.workspace import write_json

FORMAT = 3
_READS = (1, 2, 3)
# In 2 there may be a calibration, without which the answers would be others; in 3 an engine, of which an older medrail
# knows nothing and whose answers it would not prove, and bundle.json has a SHA-256 of itself.
_WITH_ENGINE = _SEALED = 3
MANIFEST_FILE, MODEL_FILE, CARD_FILE = "bundle.json", "model.onnx", "card.md"
SEAL = "sha256"
"""The key of bundle.json with the SHA-256 of all its others."""
LARGEST_MANIFEST_BYTES = 8 * 2**20
LARGEST_FILE_BYTES = 2 * 2**30  # a protobuf message, so an ONNX file without external data, cannot be larger
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 (hex) of one file of the bundle."""

    bytes: int
    sha256: str

    @staticmethod
    def of(path: Path) -> FileEntry:
        """Measured from the file itself."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(path.stat().st_size, digest)


@dataclass(frozen=True)
class Manifest:
    """What bundle.json says.

    name, version:
        As in the folder ``bundles/NAME/VERSION``.
    spec:
        How to feed the network and read its answer, including the pipeline.
    metrics:
        Metric name -> ``{value, low, high, n, method}`` as ``medrail.evaluate`` found them.
    provenance:
        Where it comes from: run, passport fingerprint, data fingerprint, packages, date.
    parity:
        How closely the ONNX network answered as the trained one: ``{cases, max_abs_difference, metric_change}``.
    files:
        File name -> size and SHA-256, for every file of the bundle except bundle.json itself.
    engine:
        What the judge chose to run it with; its precision "int8" says that the network is a quantised one. None: nobody
        has chosen.
    tolerance:
        Precision -> the largest gap to the answers in reference.npz (``medrail.bundle.reference``).
    calibration:
        ``Calibration.numbers`` of the calibration.json that lies beside it; {} where there is none.
    """

    name: str
    version: str
    spec: NetworkSpec
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    engine: Choice | None = None
    tolerance: Mapping[str, float] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what in (self.name, self.version, *self.files):
            if not isinstance(what, str) or not _NAME.fullmatch(what):
                raise BundleError(
                    f"the name {what!r} in the bundle", needed="letters, digits, '.', '_' and '-', no folders"
                )
        for precision, limit in self.tolerance.items():
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if precision not in PRECISIONS or not is_number or not 0 < limit <= 1:
                raise BundleError(
                    f"tolerance {limit!r} of {precision!r} in the bundle",
                    needed=f"a number above 0 and at most 1 for {', '.join(PRECISIONS)}",
                )

    @property
    def bundle_id(self) -> str:
        """``NAME/VERSION@`` and the first 12 digits of the model's SHA-256: what a Prediction is signed with."""
        model = self.files.get(MODEL_FILE)
        return f"{self.name}/{self.version}@{model.sha256[:12] if model else 'unsaved'}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values; ``Manifest.from_dict(manifest.to_dict()) == manifest``, also after a trip through JSON text."""
        values = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "spec": self.spec.to_dict(),
            "pipeline_fingerprint": self.spec.pipeline_fingerprint,
            "metrics": {name: dict(values) for name, values in self.metrics.items()},
            "provenance": dict(self.provenance),
            "parity": dict(self.parity),
            "engine": self.engine.to_dict() if self.engine else None,
            "tolerance": dict(self.tolerance),
            "calibration": dict(self.calibration),
            "files": {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in self.files.items()},
        }
        return values | {SEAL: sealed(values)}

    @staticmethod
    def from_dict(values: Any) -> Manifest:
        """The inverse of ``to_dict``.

        Raises
        ------
        BundleError
            If the format version is unknown, a field is missing or of the wrong type, the pipeline is not the one
            whose fingerprint is written beside it, or anything is not as it was written.
        """
        if not isinstance(values, Mapping):
            raise BundleError(f"{MANIFEST_FILE} holds a {type(values).__name__}", needed="an object")
        if values.get("format") not in _READS:
            raise BundleError(
                f"format version {values.get('format')!r}",
                needed=" or ".join(map(str, _READS)),
                remedy="Use the medrail that wrote this bundle, or export the run again.",
            )
        missing = {"name", "version", "spec", "pipeline_fingerprint", "files"} - values.keys()
        if missing:
            raise BundleError(f"{MANIFEST_FILE} lacks {', '.join(sorted(missing))}")
        known = values["format"] >= _WITH_ENGINE
        manifest = Manifest(
            name=values["name"],
            version=values["version"],
            spec=NetworkSpec.from_dict(values["spec"]),
            metrics=_mapping(values, "metrics"),
            provenance=_mapping(values, "provenance"),
            parity=_mapping(values, "parity"),
            files={name: _entry(name, entry) for name, entry in _mapping(values, "files").items()},
            engine=choice_of(values) if known else None,
            tolerance=_mapping(values, "tolerance") if known else {},
            calibration=_mapping(values, "calibration") if known else {},
        )
        if manifest.spec.pipeline_fingerprint != values["pipeline_fingerprint"]:
            raise BundleError(
                "the preprocessing steps are not those whose fingerprint is written beside them",
                remedy="The bundle was edited or this medrail reads the steps differently: export the run again.",
            )
        if values["format"] >= _SEALED and values.get(SEAL) != sealed(values):
            raise BundleError(
                f"the SHA-256 in {MANIFEST_FILE} is not that of what else it says",
                needed="the file as it was written: names of classes, steps and thresholds decide what an answer means",
                remedy="It was edited or damaged: export or copy the bundle again.",
            )
        return manifest

    def write(self, folder: Path, file_names: Sequence[str] = (MODEL_FILE, CARD_FILE)) -> Manifest:
        """Measure the named files in ``folder``, write bundle.json beside them, and return the complete manifest."""
        files = {name: FileEntry.of(folder / name) for name in file_names}
        known = CALIBRATION_FILE in files
        numbers = Calibration.read(folder / CALIBRATION_FILE).numbers() if known else {}
        manifest = replace(self, files=files, calibration=numbers)
        write_json(folder / MANIFEST_FILE, manifest.to_dict())
        return manifest

    @staticmethod
    def read(folder: str | Path) -> Manifest:
        """bundle.json of a bundle's folder, without looking at the other files (``verify`` does).

        Raises
        ------
        BundleError
            If there is none or it cannot be used.
        """
        path = Path(folder) / MANIFEST_FILE
        try:
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise BundleError("a link, or not a plain file", needed="a copy of the file itself")
            if path.stat().st_size > LARGEST_MANIFEST_BYTES:
                raise BundleError(f"{path.stat().st_size} bytes", needed=f"at most {LARGEST_MANIFEST_BYTES}")
            return Manifest.from_dict(json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant))
        except FileNotFoundError:
            raise BundleError(
                "there is no bundle", where=str(path), remedy="`medrail export` makes one below bundles/NAME/VERSION."
            ) from None
        except BundleError as error:
            error.where = error.where or str(path)
            raise
        except MedrailError as error:
            raise BundleError(f"its preprocessing is not usable: {error}", where=str(path)) from None
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(
                f"not readable as JSON ({type(error).__name__})",
                where=str(path),
                remedy="The file is truncated or damaged: export or copy the bundle again.",
            ) from None


def sealed(values: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of all that bundle.json says but this, whatever its spaces and the order of its keys.

    It finds damage and edits by hand; who wants to deceive writes it anew, as any of the others.
    """
    plain = json.loads(json.dumps({key: value for key, value in values.items() if key != SEAL}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name, {})
    if not isinstance(found, Mapping):
        raise BundleError(f"{name} in {MANIFEST_FILE} is a {type(found).__name__}", needed="an object")
    return found


def _entry(name: str, values: Any) -> FileEntry:
    try:
        size, digest = values["bytes"], values["sha256"]
    except (TypeError, KeyError):
        raise BundleError(f"the entry of {name!r} in {MANIFEST_FILE}", needed="bytes and sha256") from None
    if not isinstance(size, int) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise BundleError(f"the entry of {name!r} in {MANIFEST_FILE}", needed="bytes and 64 hexadecimal digits")
    return FileEntry(size, digest)


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)
