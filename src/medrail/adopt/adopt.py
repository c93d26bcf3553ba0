"""adopt: an ONNX file and what is said of it -> a bundle, after it was shown that the bundle answers as the file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail import __version__
from medrail.adopt.answers import answer_of, ending_by
from medrail.adopt.card import write_imported_card
from medrail.adopt.given import Given
from medrail.adopt.original import Original, largest_gap, noise_for, real_inputs
from medrail.adopt.rewrite import Answer, Ending, Rewriting
from medrail.adopt.trial import Looked, full_shape, look_at
from medrail.bundle import InputKind, Manifest, NetworkSpec, Predictor, load_bundle, onnx_backend, verify_bundle
from medrail.bundle.backend import Batch, Engine
from medrail.bundle.manifest import CARD_FILE, LARGEST_FILE_BYTES, MODEL_FILE
from medrail.bundle.reference import REFERENCE_FILE, TOLERANCES, Reference
from medrail.errors import BundleError, ConfigError, MedrailError
from medrail.prepare import Pipeline
from medrail.types import Image, Prediction
from medrail.workspace import write_folder, write_text

LARGEST_GAP = 1e-4
"""Between the answers of file and bundle: in a probability, or in units of the larger of 1 and the largest logit."""
LARGEST_GAP_OF_HALVES = 2e-3
"""Where the file answers in float16, which has three digits."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Label:
    """What the bundle is called, and what its card says of the network's origin."""

    name: str
    version: str = "1"
    about: str = ""

    def __post_init__(self) -> None:
        for option, text in (("--name", self.name), ("--version", self.version)):
            if not _NAME.fullmatch(text):
                raise ConfigError(
                    f"{option} {text!r}",
                    needed="letters, digits, '.', '_' and '-', no folders",
                    remedy=f"Say another one with {option}.",
                )


@dataclass(frozen=True)
class Adopted:
    """The bundle's folder, what it says, and its answers for the images that it was tried on."""

    folder: Path
    manifest: Manifest
    tried: tuple[Prediction, ...]


def adopt(path: Path, given: Given, bundles: Path, label: Label, tried: Sequence[Image] = ()) -> Adopted:
    """Take a network that was trained elsewhere into ``BUNDLES/NAME/VERSION``.

    Parameters
    ----------
    tried:
        Raw images that it is to answer for before it is written.

    Raises
    ------
    ConfigError
        If what is said of it cannot be.
    BundleError
        If the file is not usable, the bundle would answer otherwise than the file, or one of that name and version is
        there that was not imported.
    InputError, PrepareError
        If it cannot answer for an image that it is tried on.
    """
    content = _content(path)
    free = dict(zip("DHW"[3 - given.dims :], given.size, strict=False)) if given.size else {}
    free |= {"C": given.channels} if given.channels else {}
    looked = look_at(content, free, given.layout, str(path))
    import onnx  # after that, which says how to install it

    whole = full_shape(looked.input, given.layout, free)
    shape = (whole[-1], *whole[1:-1]) if given.channels_last else whole[1:]
    pipeline = given.pipeline(shape[0], shape[1:])
    _refuse_to_replace(bundles / label.name / label.version)
    noise = noise_for(pipeline, given, shape)
    probes = [*noise, *real_inputs([pipeline(image) for image in tried], given, shape)]
    original = Original(content, looked, given)
    answer = answer_of(looked, given, shape[1:])
    ending = ending_by(onnx.load_model_from_string(content), answer, given, original, probes)
    network, engine, changes, several = _rewritten(content, looked, given, answer, ending, probes)
    as_logits = ending.gives == "logits" and not ending.last
    gap = largest_gap(original, engine, answer, given, probes, logits=as_logits)
    limit = LARGEST_GAP_OF_HALVES if _in_halves(looked, answer) else LARGEST_GAP
    if not gap <= limit:
        raise BundleError(
            f"the bundle would answer otherwise than the file, by {gap:.2g}",
            needed=f"at most {limit:g}",
            where=str(path),
            remedy="This is a defect of medrail: please report it with the network.",
        )
    spec = _spec(given, answer, shape, pipeline, several=several)
    predictions = tuple(Predictor(spec, engine, label.name)(image) for image in tried)
    imported = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "opset": looked.opset,
        "ir_version": looked.ir_version,
        "producer": looked.producer,
        "changes": changes,
        "about": label.about,
    }
    packages = {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "numpy")}
    manifest = Manifest(
        label.name,
        label.version,
        spec,
        provenance={"imported": imported, "medrail": __version__, "packages": packages},
        parity={"cases": len(probes), "max_abs_difference": gap, "against": "the imported file in ONNX Runtime"},
        tolerance=TOLERANCES,
    )
    folder = _write(bundles, manifest, network, Reference.of(np.concatenate(noise), engine, engine))
    return Adopted(folder, verify_bundle(folder), predictions)


def _refuse_to_replace(folder: Path) -> None:
    """One that was imported may be imported again, with another scale; one of a run knows how good it is."""
    try:
        provenance = Manifest.read(folder).provenance
    except BundleError:
        return
    if "imported" not in provenance:
        raise BundleError(
            "there is a bundle of a run",
            needed="a name and version that are free",
            where=str(folder),
            remedy="Give another one with --name or --version.",
        )


def _in_halves(looked: Looked, answer: Answer) -> bool:
    return any(output.name == answer.output and output.type == "float16" for output in looked.outputs)


def _content(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_BYTES:
            raise BundleError(f"{size} bytes", needed=f"at most {LARGEST_FILE_BYTES}", where=str(path))
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError("there is no such file", needed="an ONNX file", where=str(path)) from None


def _rewritten(
    content: bytes, looked: Looked, given: Given, answer: Answer, ending: Ending, probes: Sequence[Batch]
) -> tuple[bytes, Engine, list[str], bool]:
    """The network for the bundle, opened, what was changed, and whether it takes any number of images.

    Its number of images is left free if it then answers for three as for one.
    """
    import onnx

    for free_batch in (True, False):
        made = Rewriting(onnx.load_model_from_string(content), given, free_batch)
        made.begin(looked, probes[0].shape[1:])
        made.finish(answer, ending)
        network = made.model.SerializeToString(deterministic=True)
        if not free_batch:
            break
        try:
            engine = onnx_backend(network)
            together = engine(np.concatenate([probes[0], probes[1], probes[0]]))
            if np.allclose(together[1:2], engine(probes[1]), rtol=LARGEST_GAP, atol=LARGEST_GAP):
                return network, engine, made.changes, True
        except MedrailError:
            continue
    return network, onnx_backend(network), [*made.changes, "it takes one image at a time"], False


def _spec(given: Given, answer: Answer, shape: tuple[int, ...], pipeline: Pipeline, *, several: bool) -> NetworkSpec:
    """Slices of a volume are a batch for a 2-D network; one that takes a single image gets pictures alone."""
    pictures = given.dims == 2 and (given.unit in ("uint8", "uint16") or not several)
    return NetworkSpec(
        task="segmentation" if answer.spatial else "classification",
        classes=given.classes,
        dims=given.dims,
        channels=shape[0],
        pipeline=tuple(pipeline.to_dict()),
        input_kind=InputKind(True if pictures else False if given.dims == 3 else None, 0, given.unit),
        grid=shape[1:],
        multi_label=given.multi_label,
    )


def _write(bundles: Path, manifest: Manifest, network: bytes, reference: Reference) -> Path:
    def fill(folder: Path) -> None:
        (folder / MODEL_FILE).write_bytes(network)
        (folder / REFERENCE_FILE).write_bytes(reference.to_bytes())
        write_text(folder / CARD_FILE, write_imported_card(manifest))
        manifest.write(folder, [MODEL_FILE, CARD_FILE, REFERENCE_FILE])
        load_bundle(folder, engine="onnxruntime")

    return write_folder(bundles / manifest.name / manifest.version, fill)
