"""OpenVINO IR: model.xml with the operators and model.bin with the weights, made from the ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle.backend import Batch, Engine
from medrail.bundle.openvino_backend import openvino_runtime
from medrail.errors import ExportError

XML, WEIGHTS = "model.xml", "model.bin"


def write_openvino(network: Path, folder: Path, *, half: bool = False) -> None:
    """Write model.xml and model.bin for an ONNX file, with its free batch size and the names of its outputs.

    OpenVINO would store weights as float16 unless told not to.

    Parameters
    ----------
    half:
        Store the weights as float16 all the same: half the size.

    Raises
    ------
    ExportError
        If OpenVINO does not know an operator of the network.
    """
    openvino = openvino_runtime()
    try:
        # Not convert_model, which does the same and reports its use to the makers.
        model = openvino.Core().read_model(str(network))
        openvino.save_model(model, str(folder / XML), compress_to_fp16=half)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [""])[-1][:300]
        raise ExportError(f"OpenVINO cannot take the network ({reason})", where=str(network)) from None


def openvino_backend(folder: Path, threads: int = 0) -> Engine:
    """An IR on the CPU in float32, whatever the processor could do faster."""
    openvino = openvino_runtime()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = openvino.Core().compile_model(str(folder / XML), "CPU", settings)
    outputs = tuple(output.get_any_name() for output in compiled.outputs)

    def answer(batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
        found = compiled.create_infer_request().infer({0: np.ascontiguousarray(batch, dtype=np.float32)})
        return {name: np.array(found[outputs.index(name)], dtype=np.float32) for name in names}

    return Engine(outputs, answer)
