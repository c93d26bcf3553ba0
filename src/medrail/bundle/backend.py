"""The inference engine behind one call: a batch of float32 in, logits out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrail.errors import BundleError, InputError

Backend: TypeAlias = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""(N, C, [D,] H, W) float32 -> logits (N, K[, [D,] H, W]) float32."""


def onnx_backend(model: str | Path | bytes, threads: int = 0) -> Backend:
    """An ONNX network on the CPU, through ONNX Runtime.

    One session serves all threads of the process: ``InferenceSession.run`` may be called from several at once.

    Parameters
    ----------
    model:
        The ONNX file, or its bytes (so that what was verified is what is loaded).
    threads:
        Threads within one operator; 0: the CPUs this process may use.

    Raises
    ------
    BundleError
        If the file is missing, is not an ONNX network, or has not exactly one input and one output.
    """
    # Read by ONNX Runtime when it is imported; medical software sends nothing to anyone.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _usable_cpus()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    where = "" if isinstance(model, bytes) else str(model)
    if where and not Path(where).is_file():
        raise BundleError("there is no such file", where=where, remedy="`medrail export` writes the network.")
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else where, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own exceptions share no base but Exception
        raise BundleError(
            f"not a network that ONNX Runtime can load ({_first_line(error)})",
            where=where,
            remedy="The file is truncated, damaged or of a newer ONNX version: export it again.",
        ) from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BundleError(f"{len(inputs)} inputs and {len(outputs)} outputs", needed="one of each", where=where)
    input_name, input_shape = inputs[0].name, inputs[0].shape

    def run(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        try:
            (logits,) = session.run(None, {input_name: np.ascontiguousarray(batch, dtype=np.float32)})
        except Exception as error:  # noqa: BLE001 - as above
            raise InputError(
                f"the network does not take an input of shape {batch.shape} ({_first_line(error)})",
                needed=f"{tuple(input_shape)}",
            ) from None
        return np.asarray(logits, dtype=np.float32)

    return run


def _usable_cpus() -> int:
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
