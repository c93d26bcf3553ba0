"""From files to a Predictor: a run's exported network, or a bundle after every file was verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrail.bundle.backend import onnx_backend
from medrail.bundle.calibration import CALIBRATION_FILE, Calibration
from medrail.bundle.manifest import LARGEST_FILE_BYTES, MODEL_FILE, FileEntry, Manifest
from medrail.bundle.predictor import Predictor
from medrail.bundle.spec import NetworkSpec
from medrail.errors import BundleError
from medrail.workspace import read_json, write_json

NETWORK_FORMAT = 1
NETWORK_FILE, NETWORK_SPEC_FILE = "network.onnx", "network.json"
_COPY_AGAIN = "The bundle was changed or copied incompletely: export or copy it again."


def write_network(folder: str | Path, spec: NetworkSpec, parity: Mapping[str, Any], checkpoint: str = "") -> Path:
    """Write network.json for the network.onnx that lies in ``folder``, with that file's size and SHA-256.

    ``parity`` is ``{cases, max_abs_difference, metric_change}``: how closely ONNX answered as the trained network;
    ``checkpoint`` the SHA-256 of the weights it was exported from.
    """
    path = Path(folder) / NETWORK_SPEC_FILE
    entry = FileEntry.of(path.with_name(NETWORK_FILE))
    write_json(
        path,
        {
            "format": NETWORK_FORMAT,
            "spec": spec.to_dict(),
            "pipeline_fingerprint": spec.pipeline_fingerprint,
            "parity": dict(parity),
            "checkpoint": checkpoint,
            "bytes": entry.bytes,
            "sha256": entry.sha256,
        },
    )
    return path


def load_network(folder: str | Path, threads: int = 0, *, calibrated: bool = True) -> Predictor:
    """The Predictor of a run's folder (``network.onnx`` + ``network.json``, and ``calibration.json`` where it is).

    Parameters
    ----------
    calibrated:
        False: without what ``calibration.json`` says, as it is fitted.

    Raises
    ------
    RunError
        If network.json is missing or broken.
    BundleError
        If network.onnx is missing, is not the file that network.json describes, or cannot be used; or the calibration
        is of another network or unusable.
    """
    folder = Path(folder)
    values = read_json(folder / NETWORK_SPEC_FILE)
    where = str(folder / NETWORK_SPEC_FILE)
    if not isinstance(values, Mapping) or values.get("format") != NETWORK_FORMAT:
        raise BundleError("not the description of a network that this medrail knows", where=where, remedy=_EXPORT)
    try:
        entry = FileEntry(int(values["bytes"]), str(values["sha256"]))
        spec = NetworkSpec.from_dict(values["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"incomplete ({error})", where=where, remedy=_EXPORT) from None
    content = _verified(folder / NETWORK_FILE, entry, remedy=_EXPORT)
    calibration = None
    if calibrated and (folder / CALIBRATION_FILE).exists():
        calibration = _of_network(Calibration.read(folder / CALIBRATION_FILE), entry, folder)
    return Predictor(spec, onnx_backend(content, threads), f"{folder.name}@{entry.sha256[:12]}", calibration)


def verify_bundle(folder: str | Path) -> Manifest:
    """Check every file of a bundle against its manifest.

    Raises
    ------
    BundleError
        If bundle.json cannot be used, or a file is missing, a link, of another size or of another content.
    """
    manifest, contents = _verify(Path(folder))
    _calibration(manifest, contents, Path(folder))
    return manifest


def load_bundle(folder: str | Path, threads: int = 0) -> Predictor:
    """Verify a bundle's folder and load its network.

    Parameters
    ----------
    folder:
        ``bundles/NAME/VERSION`` with bundle.json, model.onnx and card.md, and calibration.json where there is one.
    threads:
        Of the inference engine; 0: all cores.

    Raises
    ------
    BundleError
        As ``verify_bundle``, or if the network cannot be loaded or the calibration is not one of such a network.
    """
    manifest, contents = _verify(Path(folder))
    calibration = _calibration(manifest, contents, Path(folder))
    return Predictor(manifest.spec, onnx_backend(contents[MODEL_FILE], threads), manifest.bundle_id, calibration)


_EXPORT = "`medrail export` writes both files anew."


def _calibration(manifest: Manifest, contents: Mapping[str, bytes], folder: Path) -> Calibration | None:
    if CALIBRATION_FILE not in contents:
        return None
    calibration = Calibration.from_bytes(contents[CALIBRATION_FILE], str(folder / CALIBRATION_FILE))
    return _of_network(calibration, manifest.files[MODEL_FILE], folder)


def _of_network(calibration: Calibration, network: FileEntry, folder: Path) -> Calibration:
    if calibration.network_sha256 != network.sha256:
        raise BundleError(
            f"the calibration is of network {calibration.network_sha256[:12]}...",
            needed=f"one of {network.sha256[:12]}..., which lies beside it",
            where=str(folder / CALIBRATION_FILE),
            remedy="`medrail evaluate` fits it anew; then export again.",
        )
    return calibration


def _verify(folder: Path) -> tuple[Manifest, dict[str, bytes]]:
    manifest = Manifest.read(folder)
    if MODEL_FILE not in manifest.files:
        raise BundleError(f"{MODEL_FILE} is not listed", where=str(folder / "bundle.json"), remedy=_COPY_AGAIN)
    contents = {name: _verified(folder / name, entry) for name, entry in manifest.files.items()}
    return manifest, contents


def _verified(path: Path, entry: FileEntry, remedy: str = _COPY_AGAIN) -> bytes:
    """The file's bytes, if they are the ones that ``entry`` describes; what is returned is what was hashed."""
    if path.is_symlink() or not path.is_file():
        raise BundleError("missing, or not a plain file", where=str(path), remedy=remedy)
    size = path.stat().st_size
    if size > LARGEST_FILE_BYTES:
        raise BundleError(f"{size} bytes", needed=f"at most {LARGEST_FILE_BYTES}", where=str(path))
    if size != entry.bytes:
        raise BundleError(f"{size} bytes", needed=f"{entry.bytes} bytes", where=str(path), remedy=remedy)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise BundleError(f"SHA-256 {digest[:12]}...", needed=f"{entry.sha256[:12]}...", where=str(path), remedy=remedy)
    return content
