"""quantise: an ONNX network -> the same in whole numbers of 8 bits, a quarter of its size.

Static quantisation: every layer's weights (one scale a channel) and the range of what flows between the layers are
fixed before the network answers, the latter by what flows there for real prepared inputs. The file is plain ONNX with
QuantizeLinear and DequantizeLinear (Jacob et al., CVPR 2018, sections 2 and 3), which ONNX Runtime and OpenVINO turn
into 8-bit layers of their own. Which tool does it, and why: docs/explanation/engines.md.

What turns a classifier's last map into logits, features and evidence stays in float: so evidence stays exact. So do the
layers that read the image: they are a small part of the work and cost the most accuracy, and with the one or three
channels of an image OpenVINO writes past its memory there (see ``medrail.bundle.openvino_trial``).
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.bundle.backend import onnx_backend
from medrail.bundle.onnx_parts import forget_origin
from medrail.bundle.reference import gap_between, thinned
from medrail.errors import ExportError
from medrail.export.quiet import quiet

FloatArray = npt.NDArray[np.float32]

TOOL = "onnxruntime.quantization, the image's layers in float"
LARGEST_GAP = 0.05
"""Of the logits, as ``Reference.gap``: above it layers are left in float, where that helps."""
LARGEST_SHARE = 1 / 3
"""Of the layers that may be left in float."""
_WORTH_IT = 0.75
_SEARCHED_S = 60
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_AROUND = ("Add", "Concat", "MaxPool", "AveragePool", "Relu", "Clip", "Resize", "Pad", "Split")
_KEEPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose")
_AFTER_THE_MAP = (*_KEEPING, "Gemm", "MatMul", "ReduceMean", "GlobalAveragePool")


@dataclass(frozen=True)
class Quantised:
    """What came of it.

    layers:
        How many there are with weights.
    in_float:
        Names of those that were left in float because of their error, besides the last one of a classifier.
    gap:
        Between the quantised network's logits and the exact ones, on inputs that it was not calibrated on.
    """

    layers: int
    in_float: tuple[str, ...]
    gap: float


def quantise(network: Path, out: Path, batches: Sequence[FloatArray], *, exclude: Sequence[str] = ()) -> None:
    """Write a quantised network.

    Parameters
    ----------
    network:
        The ONNX file, in float32.
    out:
        Where to write.
    batches:
        (N, C, [D,] H, W) each: prepared training cases, from which the ranges are found.
    exclude:
        Names of layers that stay in float (``layers_of``).

    Raises
    ------
    ExportError
        If it cannot be quantised, or has no such layer.
    """
    with _Workshop(network, batches) as workshop:
        unknown = sorted(set(exclude) - set(workshop.layers))
        if unknown:
            raise ExportError(f"no layer {', '.join(unknown)}", needed=f"of {', '.join(workshop.layers)}")
        workshop.write(out, exclude)


def quantise_within(
    network: Path,
    out: Path,
    batches: Sequence[FloatArray],
    held_out: Sequence[FloatArray],
    largest_gap: float = LARGEST_GAP,
) -> Quantised:
    """Write a quantised network, with as few layers in float as keep its answers.

    First all layers are quantised. If the logits are then off by more than ``largest_gap``, it is measured for each
    layer how far off they are when it alone stays in float; for a minute at most, the first and last layers first. Then
    the layer that helps most stays in float, the best two, four, ..., up to a third of them, until the logits are
    within ``largest_gap``. Where that is never reached, layers stay in float only if that takes away a quarter of the
    error, and whoever judges the network sees by how much it is off.

    Parameters
    ----------
    network, out, batches:
        As of ``quantise``.
    held_out:
        Other inputs, on which the error is measured.

    Raises
    ------
    ExportError
        If it cannot be quantised.
    """
    with _Workshop(network, batches, held_out) as workshop:
        whole = workshop.tried(out, ())
        if not math.isfinite(whole.gap):
            raise ExportError("the quantised network answers with what are no numbers")
        if whole.gap <= largest_gap:
            return whole
        best, count, helpful = whole, 1, _most_helpful(workshop, out)
        while count <= min(len(helpful), max(1, int(LARGEST_SHARE * len(workshop.layers)))):
            found = workshop.tried(out, helpful[:count])
            if found.gap <= largest_gap:
                return found
            best = min(best, found, key=lambda one: one.gap)
            count *= 2
        chosen = best if best.gap < _WORTH_IT * whole.gap else whole
        workshop.write(out, chosen.in_float)
        return chosen


def _most_helpful(workshop: _Workshop, out: Path) -> list[str]:
    """The layers that were measured, the one first without whose error the logits are nearest."""
    layers = workshop.layers
    inwards = [layers[place] for index in range((len(layers) + 1) // 2) for place in {index, len(layers) - 1 - index}]
    gaps: dict[str, float] = {}
    began = time.monotonic()
    for layer in inwards:
        if time.monotonic() - began > _SEARCHED_S:
            break
        gaps[layer] = workshop.tried(out, (layer,)).gap
    return sorted(gaps, key=gaps.__getitem__)


def layers_of(network: Path) -> tuple[str, ...]:
    """The layers that can be quantised, in the order of the computation."""
    graph = _loaded(network).graph
    kept = _ending(graph) | _reading(graph)
    return tuple(node.name for node in graph.node if node.op_type in _LAYERS and node.name not in kept)


class _Workshop:
    """A network that is quantised several times: its ranges are found once."""

    def __init__(self, network: Path, batches: Sequence[FloatArray], held_out: Sequence[FloatArray] = ()) -> None:
        if not batches:
            raise ExportError("no inputs to calibrate by", remedy="Run `medrail prepare` first.")
        self._network, self._batches, self._held_out = network, batches, held_out
        self._folder = tempfile.TemporaryDirectory(prefix="medrail-")
        self._float, self._ranges = Path(self._folder.name, "float.onnx"), Path(self._folder.name, "ranges.json")

    def __enter__(self) -> _Workshop:
        _fused(self._network, self._float)
        self._graph = _loaded(self._float).graph
        self._ending = _ending(self._graph) | _reading(self._graph)
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    @property
    def layers(self) -> tuple[str, ...]:
        """As ``layers_of``."""
        return tuple(
            node.name for node in self._graph.node if node.op_type in _LAYERS and node.name not in self._ending
        )

    def write(self, out: Path, in_float: Sequence[str]) -> None:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        written = Path(self._folder.name, "quantised.onnx")
        try:
            with quiet("", logging.CRITICAL):
                quantize_static(
                    self._float,
                    written,
                    _Reader(self._input, self._batches),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=[*_LAYERS, *_AROUND],
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=[*self._ending, *in_float],
                    calibrate_method=CalibrationMethod.MinMax,
                    calibration_cache_path=self._ranges,
                )
            model = _loaded(written)
        except Exception as error:  # its own exceptions share no base but Exception
            reason = (str(error).strip().splitlines() or [""])[0][:300]
            raise ExportError(f"the network cannot be quantised ({type(error).__name__}: {reason})") from error
        forget_origin(model)
        out.write_bytes(model.SerializeToString(deterministic=True))

    def tried(self, out: Path, in_float: Sequence[str]) -> Quantised:
        """Write it, and measure it in ONNX Runtime on what was held out."""
        self.write(out, in_float)
        return Quantised(len(self.layers), tuple(in_float), gap_between(self._exact, self._answers(out)))

    @cached_property
    def _exact(self) -> FloatArray:
        return self._answers(self._network)

    def _answers(self, network: Path) -> FloatArray:
        backend = onnx_backend(network)
        return np.concatenate([thinned(backend(batch)) for batch in self._held_out])

    @property
    def _input(self) -> str:
        return str(self._graph.input[0].name)


class _Reader:
    """What calibrates: one batch at a time, as ``{name of the input: batch}``; None at the end."""

    def __init__(self, name: str, batches: Sequence[FloatArray]) -> None:
        self._left = iter([{name: np.ascontiguousarray(batch, dtype=np.float32)} for batch in batches])

    def get_next(self) -> Mapping[str, FloatArray] | None:
        return next(self._left, None)


def _fused(network: Path, out: Path) -> None:
    """The same network with its normalisations folded into the convolutions before them."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    ort.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])


def _loaded(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _ending(graph: Any) -> set[str]:
    """Names of the nodes that come after the last map of a network that ends in a vector; none of one that segments."""
    by_output = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    ending: set[str] = set()
    for output in graph.output:
        node = by_output.get(output.name)
        while node is not None and (
            node.op_type in _AFTER_THE_MAP or (node.op_type == "Add" and node.input[1] in constants)
        ):
            ending.add(node.name)
            node = by_output.get(node.input[0])
    return ending


def _reading(graph: Any) -> set[str]:
    """Names of the layers that read the image itself; none where no other layer would be left."""
    image, reading = {graph.input[0].name}, set()
    for node in graph.node:
        if node.input and node.input[0] in image:
            if node.op_type in _LAYERS:
                reading.add(node.name)
            elif node.op_type in ("Pad", *_KEEPING):
                image.update(node.output)
    layers = {node.name for node in graph.node if node.op_type in _LAYERS} - _ending(graph)
    return reading if layers - reading else set()
