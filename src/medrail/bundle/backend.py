"""The inference engine behind one call: a batch of float32 in, logits out; and everything else it can say on demand."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from medrail.errors import BundleError, InputError

Batch: TypeAlias = npt.NDArray[np.float32]
Backend: TypeAlias = Callable[[Batch], Batch]
"""(N, C, [D,] H, W) float32 -> logits (N, K[, [D,] H, W]) float32. An ``Engine`` is one that can say more."""

LOGITS, FEATURES, EVIDENCE = "logits", "features", "evidence"
ORDER = (LOGITS, FEATURES, EVIDENCE)


@dataclass(frozen=True)
class Engine:
    """A backend that can answer with more than logits.

    outputs:
        What it can answer: "logits", and of "features" (N, F) and "evidence" (N, K, [D,] h, w) what the network has.
    fetch:
        (batch, names) -> name -> float32 array; each name is one of ``outputs``.
    """

    outputs: tuple[str, ...]
    fetch: Callable[[Batch, tuple[str, ...]], Mapping[str, Batch]]

    def __call__(self, batch: Batch) -> Batch:
        """The logits alone."""
        return self.fetch(batch, (LOGITS,))[LOGITS]


def outputs_of(backend: Backend) -> tuple[str, ...]:
    """What a backend can answer; a plain function has logits only."""
    return backend.outputs if isinstance(backend, Engine) else (LOGITS,)


def fetch(backend: Backend, batch: Batch, names: tuple[str, ...]) -> Mapping[str, Batch]:
    """Those of the named outputs that the backend has."""
    if isinstance(backend, Engine):
        return backend.fetch(batch, tuple(name for name in names if name in backend.outputs))
    return {LOGITS: backend(batch)} if LOGITS in names else {}


def onnx_backend(model: str | Path | bytes, threads: int = 0, device: str = "cpu") -> Engine:
    """An ONNX network on the CPU or a GPU, through ONNX Runtime.

    One session serves all threads of the process: ``InferenceSession.run`` may be called from several at once. ONNX
    Runtime computes all outputs whichever are wanted (its option to execute only what is needed works in training
    builds alone); features and evidence are a mean and one matrix product of the smallest map, so they cost next to
    nothing, and what is not wanted is not copied.

    Parameters
    ----------
    model:
        The ONNX file, or its bytes (so that what was verified is what is loaded).
    threads:
        Threads within one operator; 0: the CPUs this process may use.
    device:
        "cpu", or "cuda": the first NVIDIA GPU, in float32 without TF32, and never silently the CPU instead.

    Raises
    ------
    BundleError
        If the file is missing, is not an ONNX network, or its inputs and outputs are not those of a bundle: one input,
        and either one output of any name (the logits) or several that are named as in ``Engine.outputs``; or there is
        no such device.
    """
    ort = onnx_runtime()
    where = "" if isinstance(model, bytes) else str(model)
    if isinstance(model, bytes):
        check_whole(model)
    if where and not Path(where).is_file():
        raise BundleError("there is no such file", where=where, remedy="`medrail export` writes the network.")
    try:
        session = ort.InferenceSession(
            model if isinstance(model, bytes) else where, _options(ort, threads), providers=_PROVIDERS[device]
        )
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own exceptions share no base but Exception
        raise not_a_network("ONNX Runtime", error, where) from None
    if device == "cuda" and _CUDA not in session.get_providers():
        raise BundleError("ONNX Runtime found no GPU that it can use", where=where, remedy=_GPU)
    inputs = session.get_inputs()
    found = [output.name for output in session.get_outputs()]
    names = called(found)
    if len(inputs) != 1 or not names:
        raise not_those(len(inputs), found, where)
    input_name, input_shape = inputs[0].name, inputs[0].shape

    def run(batch: Batch, wanted: tuple[str, ...]) -> Mapping[str, Batch]:
        feed = {input_name: np.ascontiguousarray(batch, dtype=np.float32)}
        try:
            answers = session.run([names[name] for name in wanted], feed)
        except Exception as error:  # noqa: BLE001 - as above
            raise InputError(
                f"the network does not take an input of shape {batch.shape} ({first_line(error)})",
                needed=f"{tuple(input_shape)}",
            ) from None
        return {name: np.asarray(answer, dtype=np.float32) for name, answer in zip(wanted, answers, strict=True)}

    return Engine(tuple(names), run)


_CUDA = "CUDAExecutionProvider"
_PROVIDERS: Mapping[str, list[Any]] = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [(_CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"],
}
_GPU = "pip install onnxruntime-gpu in place of onnxruntime, and an NVIDIA driver"


def cuda_problem() -> str:
    """Why ONNX Runtime cannot use a GPU here, and what to install; "" if it was built for one."""
    return "" if _CUDA in onnx_runtime().get_available_providers() else f"this ONNX Runtime knows no GPU: {_GPU}"


def onnx_runtime() -> Any:
    """The package, imported so that it tells nobody."""
    # Read by ONNX Runtime when it is imported; medical software sends nothing to anyone.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cpus()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    return options


# The key of an entry that names another file (ONNX: TensorProto.external_data), however its tag and length are written.
_ELSEWHERE = re.compile(rb"(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location")


def check_whole(content: bytes) -> None:
    """Refuse a network with weights in another file: engines read whatever it names in the working folder.

    Raises
    ------
    BundleError
        If it has any.
    """
    if b"location" in content and _ELSEWHERE.search(content):
        raise BundleError("the network's weights are in another file", needed="one file with all of them")


def called(found: Sequence[str]) -> dict[str, str]:
    """Our name -> the file's name; {} if they are none of ours. Bundles of old have one output of any name."""
    if len(found) == 1:
        return {LOGITS: found[0]}
    if LOGITS not in found or not set(found) <= set(ORDER):
        return {}
    return {name: name for name in ORDER if name in found}


def not_a_network(engine: str, error: Exception, where: str = "") -> BundleError:
    """What to raise where an engine cannot load a file."""
    return BundleError(
        f"not a network that {engine} can load ({first_line(error)})",
        where=where,
        remedy="The file is truncated, damaged or of a newer ONNX version: export it again.",
    )


def not_those(inputs: int, outputs: Sequence[str], where: str = "") -> BundleError:
    """What to raise where a network's inputs and outputs are not those of a bundle."""
    return BundleError(
        f"{inputs} inputs, and the outputs {', '.join(outputs)}",
        needed=f"one input, and the outputs {', '.join(ORDER)} or only the first of them",
        where=where,
    )


def usable_cpus() -> int:
    """The CPUs that this process may use."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def first_line(error: Exception) -> str:
    """Of what an engine says went wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
