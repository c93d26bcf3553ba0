"""What a model looks like in the Open Inference Protocol: its names, its tensors, and the documents that tell of them.

Each bundle is there under two names. ``NAME`` is the network: it takes the *prepared* image, as Triton would with the
repository that `medrail export --to triton` writes, and gives what the network says, not calibrated. ``NAME:file``
takes an image file and gives the bundle's whole answer; no bundle's name can have a colon.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from medrail.bundle.backend import EVIDENCE, FEATURES, LOGITS, outputs_of
from medrail.bundle.sliding import SLICES_A_BATCH, VOLUMES_A_BATCH
from medrail.serve.problems import Refusal
from medrail.serve.registry import ServedModel

FILE_SUFFIX = ":file"
IMAGE, FILE, ROI = "image", "file", "roi"
CLASS_NAME, CONFIDENCE, PROBABILITIES, ABSTAIN = "class_name", "confidence", "probabilities", "abstain"
FINDINGS, OOD_SCORE, UNLIKE_TRAINING, MASK, MASK_FILE = "findings", "ood_score", "unlike_training", "mask", "mask_file"
Datatype = Literal["FP64", "FP32", "FP16", "UINT8", "BOOL", "BYTES"]
ANY = -1


@dataclass(frozen=True)
class TensorKind:
    """One input or output: its name, its datatype and its shape, in which ANY is any size from 1 on.

    also:
        Other datatypes in which an input may come.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    also: tuple[Datatype, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """As in the protocol's model metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def config(self, *, batched: bool) -> dict[str, Any]:
        """As in Triton's model configuration, whose shapes are without the batch where there is one."""
        kind = {"BYTES": "STRING"}.get(self.datatype, self.datatype)
        return {"name": self.name, "data_type": f"TYPE_{kind}", "dims": list(self.shape[1:] if batched else self.shape)}


@dataclass(frozen=True)
class Signature:
    """A served model under one of its two names."""

    model: ServedModel
    whole: bool
    inputs: tuple[TensorKind, ...]
    outputs: tuple[TensorKind, ...]

    @staticmethod
    def of(model: ServedModel, *, whole: bool) -> Signature:
        """``whole``: from the file to the answer; else the network alone."""
        if whole:
            return Signature(model, True, _file_inputs(model), _file_outputs(model))
        spec = model.predictor.spec
        size = spec.patch or spec.grid or (ANY,) * spec.dims
        shapes = {
            LOGITS: (ANY, len(spec.classes), *(size if spec.task == "segmentation" else ())),
            FEATURES: (ANY, ANY),
            EVIDENCE: (ANY, len(spec.classes), *(ANY,) * spec.dims),
        }
        outputs = [TensorKind(name, "FP32", shapes[name]) for name in outputs_of(model.predictor.backend)]
        image = TensorKind(IMAGE, "FP32", (ANY, spec.channels, *size), also=("FP16",))
        return Signature(model, False, (image,), tuple(outputs))

    @property
    def name(self) -> str:
        return self.model.name + (FILE_SUFFIX if self.whole else "")

    @property
    def largest_batch(self) -> int:
        """Images that the network gets at a time, as in the evaluation; 0: the model takes one, without a batch."""
        if self.whole:
            return 0
        return SLICES_A_BATCH if self.model.predictor.spec.dims == 2 else VOLUMES_A_BATCH

    def metadata(self, versions: Iterable[str]) -> dict[str, Any]:
        """The protocol's model metadata."""
        return {
            "name": self.name,
            "versions": list(versions),
            "platform": "medrail" if self.whole else _platform(self.model),
            "inputs": [kind.metadata() for kind in self.inputs],
            "outputs": [kind.metadata() for kind in self.outputs],
        }

    def config(self) -> dict[str, Any]:
        """Of Triton's model configuration what can be said of a model here."""
        batched = self.largest_batch > 0
        return {
            "name": self.name,
            "platform": "medrail" if self.whole else _platform(self.model),
            "backend": "medrail",
            "max_batch_size": self.largest_batch,
            "input": [kind.config(batched=batched) for kind in self.inputs],
            "output": [kind.config(batched=batched) for kind in self.outputs],
        }


def split_name(name: str) -> tuple[str, bool]:
    """The bundle's name, and whether the whole way from the file is meant."""
    return (name.removesuffix(FILE_SUFFIX), True) if name.endswith(FILE_SUFFIX) else (name, False)


def versions_of(models: Iterable[ServedModel], name: str) -> list[str]:
    """The served versions of a model.

    Raises
    ------
    Refusal
        "unknown-model", if there is none.
    """
    found = [model.version for model in models if model.name == split_name(name)[0]]
    if not found:
        raise Refusal("unknown-model", remedy="POST /v2/repository/index lists the models.")
    return found


def _platform(model: ServedModel) -> str:
    taken = model.predictor.taken
    return f"{taken.choice.engine if taken else 'onnxruntime'}_onnx"


def _file_inputs(model: ServedModel) -> tuple[TensorKind, ...]:
    names = (FILE, ROI) if model.predictor.spec.needs_roi else (FILE,)
    return tuple(TensorKind(name, "BYTES", (1,)) for name in names)


def _file_outputs(model: ServedModel) -> tuple[TensorKind, ...]:
    spec, calibration = model.predictor.spec, model.predictor.calibration
    unlike = (TensorKind(OOD_SCORE, "FP64", (1,)), TensorKind(UNLIKE_TRAINING, "BOOL", (1,)))
    known = unlike if calibration and calibration.ood else ()
    if spec.task == "segmentation":
        return (TensorKind(MASK, "UINT8", (1, ANY, ANY, ANY)), TensorKind(MASK_FILE, "BYTES", (1,)), *known)
    probabilities = TensorKind(PROBABILITIES, "FP32", (1, len(spec.classes)))
    if spec.multi_label:
        return (TensorKind(FINDINGS, "BYTES", (ANY,)), probabilities, TensorKind(ABSTAIN, "BOOL", (1,)), *known)
    return (
        TensorKind(CLASS_NAME, "BYTES", (1,)),
        TensorKind(CONFIDENCE, "FP32", (1,)),
        probabilities,
        TensorKind(ABSTAIN, "BOOL", (1,)),
        *known,
    )
