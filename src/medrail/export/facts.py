"""facts.json: what a program that is not medrail must know to use an exported network correctly."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medrail import __version__
from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, Engine, fetch
from medrail.bundle.manifest import FileEntry
from medrail.export.formats import Format, Subject

FACTS_FILE = "facts.json"
FORMAT = 1
_MEANINGS = {
    FEATURES: "what the network knows of the whole image; medrail tells by it what is unlike the training data",
    EVIDENCE: "for each class, where it speaks for it: the mean over the places, plus a constant, is the logit",
}
_PACKAGES = {"torchscript": ("torch",), "openvino": ("openvino",)}


def facts(subject: Subject, to: Format, folder: Path, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """JSON values: the files with their SHA-256, input, outputs, how to read the answer, and the preprocessing.

    Parameters
    ----------
    shapes:
        Output name -> its shape without the batch, as ``output_shapes`` finds them.
    """
    spec, calibration = subject.spec, subject.evaluated.calibration
    multi = spec.multi_label
    return {
        "format": FORMAT,
        "to": to.name,
        "precision": "fp32, weights stored as fp16" if to.name == "openvino" and subject.half else "as evaluated",
        "files": {name: vars(FileEntry.of(folder / name)) for name in to.files},
        "evaluated_network_sha256": FileEntry.of(subject.network).sha256,
        "input": {
            "name": "image",
            "type": "float32",
            "layout": "NCHW" if spec.dims == 2 else "NCDHW",
            "shape": ["batch", *subject.input_shape],
            "what": "the image after every step of `preprocessing`"
            + (f"; windows of {list(spec.patch)} are slid over it" if spec.patch else ""),
            "raw": str(spec.input_kind),
        },
        "outputs": [
            {
                "name": name,
                "type": "float32",
                "shape": ["batch", *shapes[name]],
                "what": _MEANINGS.get(name, f"{'sigmoid of each' if multi else 'softmax over them'} is the answer"),
            }
            for name in subject.outputs
        ],
        "answer": {
            "task": spec.task,
            "classes": list(spec.classes),
            "multi_label": multi,
            "from_logits": ("sigmoid" if multi else "softmax over axis 1") + " of logits / temperature",
            "temperature": calibration.temperature if calibration else 1.0,
            "thresholds": dict(calibration.thresholds) if calibration else {},
        },
        "preprocessing": [dict(step) for step in spec.pipeline],
        "preprocessing_fingerprint": spec.pipeline_fingerprint,
        "spec": spec.to_dict(),
        "made_with": {
            "medrail": __version__,
            **{name: importlib.metadata.version(name) for name in _PACKAGES.get(to.name, ())},
        },
        "not_a_medical_device": "For research and teaching only.",
    }


def output_shapes(engine: Engine, subject: Subject) -> dict[str, tuple[int, ...]]:
    """Output name -> its shape without the batch."""
    found = fetch(engine, np.zeros((1, *subject.input_shape), dtype=np.float32), (LOGITS, FEATURES, EVIDENCE))
    return {name: tuple(array.shape[1:]) for name, array in found.items()}
