"""From files to a Predictor: a run's exported network, or a bundle after every file was verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medrail.bundle.calibration import CALIBRATION_FILE, Calibration
from medrail.bundle.engines import AUTO, INT8, Choice
from medrail.bundle.manifest import LARGEST_FILE_BYTES, MANIFEST_FILE, MODEL_FILE, FileEntry, Manifest
from medrail.bundle.predictor import Predictor
from medrail.bundle.reference import REFERENCE_FILE, TOLERANCES, Reference
from medrail.bundle.settle import Network, choice_of, of_run, settle
from medrail.bundle.spec import NetworkSpec
from medrail.errors import BundleError
from medrail.workspace import read_json, write_bytes, write_json

NETWORK_FORMAT = 2
_NETWORK_READS = (1, 2)  # in 2 there may be an engine that was chosen, and a quantised network
NETWORK_FILE, NETWORK_SPEC_FILE = "network.onnx", "network.json"
_COPY_AGAIN = "The bundle was changed or copied incompletely: export or copy it again."


def write_network(
    folder: str | Path,
    spec: NetworkSpec,
    parity: Mapping[str, Any],
    checkpoint: str = "",
    *,
    engine: Choice | None = None,
    quantised: Mapping[str, Any] | None = None,
) -> Path:
    """Write network.json for the network.onnx that lies in ``folder``, with that file's size and SHA-256.

    Parameters
    ----------
    parity:
        ``{cases, max_abs_difference, metric_change}``: how closely ONNX answered as the trained network.
    checkpoint:
        SHA-256 of the weights it was exported from.
    engine:
        What it is evaluated and served with; None: ONNX Runtime in fp32, and a service may choose.
    quantised:
        How it was quantised, where it was; ``engine`` then has the precision "int8".
    """
    path = Path(folder) / NETWORK_SPEC_FILE
    entry = FileEntry.of(path.with_name(NETWORK_FILE))
    reference = path.with_name(REFERENCE_FILE)
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
            **({"reference_sha256": FileEntry.of(reference).sha256} if reference.is_file() else {}),
            **({"engine": engine.to_dict()} if engine else {}),
            **({"quantised": dict(quantised)} if quantised else {}),
        },
    )
    return path


def choose_engine(folder: str | Path, choice: Choice) -> Predictor:
    """Write into a run's network.json what its network is evaluated and served with, from now on.

    The reference answers beside it, where there are any, become those of this engine, after it has proved itself by
    the ones that were there.

    Returns
    -------
    The network, opened so, not calibrated.

    Raises
    ------
    RunError, BundleError
        As ``load_network``; or if the engine does not answer as the reference, or the choice is int8 and the network is
        not, or the reverse.
    """
    folder = Path(folder)
    values, _, network = _network_of(folder)
    if (choice.precision == INT8) != (network.precision == INT8):
        raise BundleError(f"{choice} for a network of {network.precision}", where=str(folder / NETWORK_SPEC_FILE))
    engine = network.opened(choice, 0)
    if network.reference:
        write_bytes(folder / REFERENCE_FILE, content := network.reference.chosen_by(engine).to_bytes())
        values["reference_sha256"] = hashlib.sha256(content).hexdigest()
    write_json(folder / NETWORK_SPEC_FILE, values | {"format": NETWORK_FORMAT, "engine": choice.to_dict()})
    return load_network(folder, calibrated=False)


def load_network(folder: str | Path, threads: int = 0, *, calibrated: bool = True, engine: str = AUTO) -> Predictor:
    """The Predictor of a run's folder (``network.onnx`` + ``network.json``, and ``calibration.json`` where it is).

    Parameters
    ----------
    calibrated:
        False: without what ``calibration.json`` says, as it is fitted.
    engine:
        "auto": what network.json says, else ONNX Runtime, so that a run gives the same numbers every time; or another
        word of ``serve.engine``.

    Raises
    ------
    RunError
        If network.json is missing or broken.
    BundleError
        If network.onnx is missing, is not the file that network.json describes, or cannot be used; the engine is not
        possible here; or the calibration is of another network or unusable.
    """
    folder = Path(folder)
    values, spec, network = _network_of(folder)
    entry = FileEntry(int(values["bytes"]), str(values["sha256"]))
    calibration = None
    if calibrated and (folder / CALIBRATION_FILE).exists():
        calibration = _of_network(Calibration.read(folder / CALIBRATION_FILE), entry, folder)
    taken = of_run(network, engine, threads)
    return Predictor(spec, taken.engine, f"{folder.name}@{entry.sha256[:12]}", calibration, taken)


def _network_of(folder: Path) -> tuple[dict[str, Any], NetworkSpec, Network]:
    """What network.json says, and the network that it describes with its reference, both verified."""
    values = read_json(folder / NETWORK_SPEC_FILE)
    where = str(folder / NETWORK_SPEC_FILE)
    if not isinstance(values, Mapping) or values.get("format") not in _NETWORK_READS:
        raise BundleError("not the description of a network that this medrail knows", where=where, remedy=_EXPORT)
    try:
        entry = FileEntry(int(values["bytes"]), str(values["sha256"]))
        spec = NetworkSpec.from_dict(values["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"incomplete ({error})", where=where, remedy=_EXPORT) from None
    content = _verified(folder / NETWORK_FILE, entry, remedy=_EXPORT)
    reference = None
    if digest := values.get("reference_sha256"):
        path = folder / REFERENCE_FILE
        size = path.stat().st_size if path.is_file() else 0
        reference = Reference.from_bytes(_verified(path, FileEntry(size, str(digest)), _EXPORT), spec, str(path))
    return dict(values), spec, Network(content, choice_of(values), reference)


def verify_bundle(folder: str | Path) -> Manifest:
    """Check every file of a bundle against its manifest.

    Raises
    ------
    BundleError
        If bundle.json cannot be used, or a file is missing, a link, of another size or of another content.
        What is there besides (``unlisted``) is no part of it.
    """
    manifest, contents = _verify(Path(folder))
    _calibration(manifest, contents, Path(folder))
    _reference(manifest, contents, Path(folder))
    return manifest


def unlisted(folder: str | Path, manifest: Manifest) -> list[str]:
    """What lies in a bundle's folder and is no part of the bundle. Nothing ever reads it."""
    return sorted({path.name for path in Path(folder).iterdir()} - {MANIFEST_FILE, *manifest.files})


def load_bundle(folder: str | Path, threads: int = 0, engine: str = AUTO) -> Predictor:
    """Verify a bundle's folder and load its network.

    Parameters
    ----------
    folder:
        ``bundles/NAME/VERSION`` with bundle.json, model.onnx and card.md, and calibration.json and reference.npz where
        there are any.
    threads:
        Of the inference engine; 0: all cores.
    engine:
        As ``serve.engine``; "auto": what the bundle's judge chose, else the quickest that answers as the reference (see
        ``medrail.bundle.settle``). Which it became is ``Predictor.taken``.

    Raises
    ------
    BundleError
        As ``verify_bundle``, or if the network cannot be loaded, no engine is possible here that answers as the
        reference, or the calibration is not one of such a network.
    """
    manifest, contents = _verify(Path(folder))
    calibration = _calibration(manifest, contents, Path(folder))
    reference = _reference(manifest, contents, Path(folder))
    network = Network(contents[MODEL_FILE], manifest.engine, reference, manifest.tolerance or TOLERANCES)
    taken = settle(network, engine, threads)
    return Predictor(manifest.spec, taken.engine, manifest.bundle_id, calibration, taken)


_EXPORT = "`medrail export` writes both files anew."


def _calibration(manifest: Manifest, contents: Mapping[str, bytes], folder: Path) -> Calibration | None:
    if CALIBRATION_FILE not in contents:
        return None
    calibration = Calibration.from_bytes(contents[CALIBRATION_FILE], str(folder / CALIBRATION_FILE))
    if manifest.calibration and manifest.calibration != json.loads(json.dumps(calibration.numbers())):
        raise BundleError(
            f"the calibration in bundle.json is not that of {CALIBRATION_FILE}", where=str(folder), remedy=_COPY_AGAIN
        )
    return _of_network(calibration, manifest.files[MODEL_FILE], folder)


def _reference(manifest: Manifest, contents: Mapping[str, bytes], folder: Path) -> Reference | None:
    if REFERENCE_FILE not in contents:
        return None
    return Reference.from_bytes(contents[REFERENCE_FILE], manifest.spec, str(folder / REFERENCE_FILE))


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
