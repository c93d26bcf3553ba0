"""OpenVINO behind the same call as ONNX Runtime: a batch of float32 in, logits and all else it can say out.

Left to itself, OpenVINO computes in bfloat16 wherever the processor has instructions for it, and answers otherwise than
what was evaluated. Here the precision is always said.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from medrail.bundle.backend import (
    ORDER,
    Batch,
    Engine,
    called,
    check_whole,
    first_line,
    not_a_network,
    not_those,
    usable_cpus,
)
from medrail.bundle.openvino_trial import try_apart
from medrail.bundle.sliding import SLICES_A_BATCH
from medrail.errors import BundleError, InputError

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Of what is not quantised: a quantised layer says its precision itself."""
_OWN_PLAN, _ANY_SIZE = (1, SLICES_A_BATCH), 0


def openvino_runtime() -> Any:
    """The package, imported so that it tells nobody: import it nowhere else.

    Left alone, ``import openvino`` makes a folder ``intel`` in the user's home and reports itself to Google Analytics
    by the package openvino_telemetry (2025.2), without which it does neither.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # so an import of it fails
    import openvino

    return openvino


INT8_ALLOWED = "MEDRAIL_OPENVINO_INT8"
_INT8 = (
    "OpenVINO (2025.2 to 2026.4) writes past its memory at many quantised networks, whose answers and process are then"
    f" not to be trusted; {INT8_ALLOWED}=1 allows those at which that was not seen"
)


def openvino_problem(precision: str) -> str:
    """Why OpenVINO cannot, or must not, compute in a precision on this CPU; "" if it can. Imports it."""
    if precision == "int8" and os.environ.get(INT8_ALLOWED) != "1":
        return _INT8
    return _cpu_problem(precision)


@cache
def _cpu_problem(precision: str) -> str:
    if precision != "bf16":
        return ""
    capable = openvino_runtime().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "" if "BF16" in capable else "this CPU has no instructions for bfloat16"


def openvino_backend(content: bytes, precision: str, threads: int = 0, at_once: int = 0) -> Engine:
    """An ONNX network on the CPU, through OpenVINO.

    The engine may be called from several threads at once. For a batch of one and a whole batch of slices the network is
    compiled for just that size, when the first one comes, and once for all other sizes: where the size is free,
    OpenVINO plans worse (measured: up to 1.4 times as slow).

    Parameters
    ----------
    content:
        The ONNX file's bytes.
    precision:
        "fp32", "bf16" or "int8" (a quantised network, whose other layers are computed in fp32).
    threads:
        Of one inference; 0: the CPUs this process may use.
    at_once:
        Inferences that run at a time, while others wait; each has memory of its own. 0: as many as the CPUs carry.

    Raises
    ------
    BundleError
        If it is not a network that OpenVINO takes, its inputs and outputs are not those of a bundle, OpenVINO would
        compute in another precision, or it crashes while it compiles a quantised one (``openvino_trial``).
    """
    check_whole(content)
    if precision == "int8":
        try_apart(content, precision, threads)
    compiled, ours = _compiled(content, precision, threads, at_once)
    compiled.of_batch(1)

    def run(batch: Batch, wanted: tuple[str, ...]) -> Mapping[str, Batch]:
        return compiled.answer(np.ascontiguousarray(batch, dtype=np.float32), {name: ours[name] for name in wanted})

    return Engine(tuple(ours), run)


def answer_in_all_sizes(content: bytes, precision: str, threads: int) -> None:
    """Everything that ``openvino_backend`` may compile, early or late, and an answer of each."""
    compiled, ours = _compiled(content, precision, threads, 1)
    draw = np.random.default_rng(0)
    for size in (*_OWN_PLAN, max(_OWN_PLAN) + 1):
        shape = compiled.shape_of(size)
        for _ in range(2):
            compiled.answer(draw.normal(size=shape).astype(np.float32), ours)


def _compiled(content: bytes, precision: str, threads: int, at_once: int) -> tuple[_Compiled, Mapping[str, int]]:
    """What compiles the network when a size of batch first comes, and its outputs: name -> index."""
    core = openvino_runtime().Core()
    try:
        model = core.read_model(content, b"")
    except Exception as error:  # noqa: BLE001 - OpenVINO raises RuntimeError, and what its parsers raise
        raise not_a_network("OpenVINO", error) from None
    ours = _called(model.outputs)
    if len(model.inputs) != 1 or not ours:
        raise not_those(len(model.inputs), [name for output in model.outputs for name in sorted(output.names)])
    threads = threads or usable_cpus()
    streams = at_once or max(1, usable_cpus() // threads)
    return _Compiled(core, model, _settings(precision, threads, streams)), ours


def _settings(precision: str, threads: int, streams: int) -> dict[str, Any]:
    """A stream is what one inference runs in."""
    hint = _HINTS[precision]
    return {
        "INFERENCE_PRECISION_HINT": hint,
        "EXECUTION_MODE_HINT": "ACCURACY" if hint == "f32" else "PERFORMANCE",
        "NUM_STREAMS": str(streams),
        "INFERENCE_NUM_THREADS": streams * threads,
        "ENABLE_CPU_PINNING": False,  # two services on one machine would be pinned to the same CPUs
    }


class _Compiled:
    """The network for the sizes of batches, and of each a pool of requests: one is used by one thread at a time."""

    def __init__(self, core: Any, model: Any, settings: Mapping[str, Any]) -> None:
        self._core, self._model, self._settings = core, model, settings
        self._shape = model.inputs[0].get_partial_shape()
        self._by_size: dict[int, tuple[Any, queue.SimpleQueue[Any]]] = {}
        self._lock = threading.Lock()

    def of_batch(self, size: int) -> tuple[Any, queue.SimpleQueue[Any]]:
        """The network for batches of ``size``, and its requests that nobody uses."""
        fixed = size if size in _OWN_PLAN else _ANY_SIZE
        with self._lock:
            if fixed not in self._by_size:
                self._by_size[fixed] = (self._compile(fixed), queue.SimpleQueue())
            return self._by_size[fixed]

    def shape_of(self, size: int) -> tuple[int, ...]:
        """Of a batch; axes of any length are 64 long."""
        return (size, *(64 if axis.is_dynamic else int(axis.get_length()) for axis in list(self._shape)[1:]))

    def _compile(self, size: int) -> Any:
        model = self._model.clone()
        try:
            if size != _ANY_SIZE and self._shape[0].is_dynamic:
                model.reshape({model.inputs[0]: [size, *list(self._shape)[1:]]})
            compiled = self._core.compile_model(model, "CPU", self._settings)
        except Exception as error:  # noqa: BLE001 - as in reading
            raise not_a_network("OpenVINO", error) from None
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if found != (hint := self._settings["INFERENCE_PRECISION_HINT"]):
            raise BundleError(f"OpenVINO would compute in {found} on this CPU", needed=str(hint))
        return compiled

    def answer(self, batch: Batch, wanted: Mapping[str, int]) -> Mapping[str, Batch]:
        """name -> the output at that index, copied: the request's own memory is the next one's."""
        self._check(batch)
        compiled, free = self.of_batch(len(batch))
        try:
            request = free.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            request.infer([batch])
            return {
                name: np.array(request.get_output_tensor(index).data, dtype=np.float32)
                for name, index in wanted.items()
            }
        except Exception as error:  # noqa: BLE001 - as in reading
            raise InputError(
                f"the network does not take an input of shape {batch.shape} ({first_line(error)})",
                needed=str(self._shape),
            ) from None
        finally:
            free.put(request)

    def _check(self, batch: Batch) -> None:
        """Before anything is compiled for its size."""
        fits = len(batch.shape) == len(self._shape) and all(
            wanted.is_dynamic or wanted.get_length() == have
            for wanted, have in zip(self._shape, batch.shape, strict=True)
        )
        if not fits or not len(batch):
            raise InputError(f"the network does not take an input of shape {batch.shape}", needed=str(self._shape))


def _called(outputs: Sequence[Any]) -> dict[str, int]:
    """Our name -> index of the output; {} if they are none of ours.

    An output may have several names, where OpenVINO left out layers that change nothing.
    """
    names = [sorted(output.names) for output in outputs]
    found = [next((name for name in ORDER if name in several), (several or [""])[0]) for several in names]
    return {name: found.index(there) for name, there in called(found).items()}
