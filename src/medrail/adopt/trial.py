"""A first look at an ONNX file from a stranger, in a process of its own with limits of time and memory.

What the libraries that read it do with a file made to break them, or with a layer that asks for a terabyte, then ends
that process and nothing else. ``look_at(content, wanted)`` starts ``python -m medrail.adopt.trial``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medrail.bundle.manifest import LARGEST_FILE_BYTES
from medrail.bundle.onnx_parts import external_tensors
from medrail.errors import BundleError, MedrailError

LEAST_OPSET = 8  # of older ones the operators that are added here do not broadcast
LIMIT_S = 300
_MEMORY_BYTES, _TIMES_FILE = 8 * 2**30, 6
_TYPES = {1: "float32", 2: "uint8", 10: "float16", 11: "float64"}  # TensorProto.DataType -> of NumPy
_NEEDS_ONNX = "pip install onnx onnxruntime"


@dataclass(frozen=True)
class Tensor:
    """One input or output: its name, type as NumPy calls it, and shape; None where the file leaves a size free."""

    name: str
    type: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Looked:
    """What the file says of itself, and that it answers.

    answers:
        Output name -> the shape of the answer to one image.
    """

    input: Tensor
    outputs: tuple[Tensor, ...]
    opset: int
    ir_version: int
    producer: str
    answers: dict[str, tuple[int, ...]]


def look_at(content: bytes, free: Mapping[str, int], layout: str, where: str = "") -> Looked:
    """Check a file and let it answer to one image of zeros.

    Parameters
    ----------
    free:
        Letter of the layout -> size, where the file leaves it free.

    Raises
    ------
    BundleError
        If it is no ONNX network with one input of that layout, wants other files, is too large, old or new, or does
        not answer within the limits.
    """
    if len(content) > LARGEST_FILE_BYTES:
        raise BundleError(f"{len(content)} bytes", needed=f"at most {LARGEST_FILE_BYTES}", where=where)
    command = [sys.executable, "-P", "-m", "medrail.adopt.trial", json.dumps({"free": dict(free), "layout": layout})]
    quiet = {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            command, input=content, capture_output=True, timeout=LIMIT_S, env={**os.environ, **quiet}
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"the network did not answer within {LIMIT_S} s", where=where) from None
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise BundleError(
            f"the network's first trial broke off ({how})",
            needed=f"a network that answers one image with at most {_memory_limit(content) // 2**30} GiB of memory",
            where=where,
        ) from None
    if "found" in found:
        raise BundleError(found["found"], needed=found["needed"], where=where, remedy=found["remedy"])
    return Looked(
        _tensor_of(found["input"]),
        tuple(map(_tensor_of, found["outputs"])),
        found["opset"],
        found["ir_version"],
        found["producer"],
        {name: tuple(shape) for name, shape in found["answers"].items()},
    )


def full_shape(tensor: Tensor, layout: str, free: Mapping[str, int]) -> tuple[int, ...]:
    """The input's shape for one image.

    Raises
    ------
    BundleError
        If it has other axes than the layout, a size is neither in the file nor given, or both are and differ.
    """
    if len(tensor.shape) != len(layout):
        raise BundleError(
            f"the input {tensor.name} has the shape {_shown(tensor.shape)}", needed=f"{len(layout)} axes, as {layout}"
        )
    sizes = []
    for letter, size in zip(layout, tensor.shape, strict=True):
        said = 1 if letter == "N" else free.get(letter, 0)
        if size is not None and letter != "N" and said not in (0, size):
            raise BundleError(f"{letter} is {size} in the file", needed=f"{said}, as was said")
        if size is None and not said:
            option = "--channels" if letter == "C" else "--size"
            raise BundleError(
                f"the input {tensor.name} has the shape {_shown(tensor.shape)}, which leaves {letter} free",
                needed=f"a size for {letter}",
                remedy=f"Give it with {option}.",
            )
        sizes.append(int(size or said))
    return tuple(sizes)


def _looked(content: bytes, free: Mapping[str, int], layout: str) -> Looked:
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # noqa: BLE001 - of protobuf, whichever it is here
        raise BundleError(
            f"not an ONNX file ({type(error).__name__})", needed="what torch.onnx or tf2onnx writes"
        ) from None
    outside = external_tensors(model)
    if outside:
        raise BundleError(
            f"the weights of {len(outside)} tensors, as {outside[0][:60]!r}, are in other files",
            needed="one file with everything in it",
            remedy="onnx.save_model(onnx.load_model(PATH), NEW_PATH, save_as_external_data=False) makes one.",
        )
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if opset < LEAST_OPSET:
        raise BundleError(f"opset {opset}", needed=f"{LEAST_OPSET} or later", remedy="Export the network again.")
    try:
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(model), full_check=True)
    except Exception as error:  # noqa: BLE001 - the checker's own, and what its shape inference raises
        raise BundleError(f"not a valid ONNX network ({_first_line(error)})") from None
    given = {one.name for one in model.graph.initializer}
    inputs = [_tensor(one) for one in model.graph.input if one.name not in given]
    if len(inputs) != 1:
        names = ", ".join(one.name for one in inputs) or "none"
        raise BundleError(f"{len(inputs)} inputs ({names})", needed="one: the image")
    if inputs[0].type not in _TYPES.values():
        raise BundleError(f"an input of type {inputs[0].type}", needed=f"one of {', '.join(_TYPES.values())}")
    outputs = tuple(_tensor(one) for one in model.graph.output)
    return Looked(
        inputs[0],
        outputs,
        opset,
        int(model.ir_version),
        _plain(f"{model.producer_name} {model.producer_version}"),
        _answers(content, inputs[0], full_shape(inputs[0], layout, free)),
    )


def _answers(content: bytes, tensor: Tensor, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        answers = session.run(names, {tensor.name: np.zeros(shape, dtype=tensor.type)})
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's own exceptions share no base but Exception
        raise BundleError(f"ONNX Runtime cannot run the network ({_first_line(error)})") from None
    return {name: tuple(np.shape(answer)) for name, answer in zip(names, answers, strict=True)}


def _tensor(value: Any) -> Tensor:
    described = value.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in described.shape.dim]
    return Tensor(value.name, _TYPES.get(described.elem_type, f"ONNX type {described.elem_type}"), tuple(sizes))


def _tensor_of(values: Mapping[str, Any]) -> Tensor:
    return Tensor(values["name"], values["type"], tuple(values["shape"]))


def _shown(shape: tuple[int | None, ...]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape)


def _plain(text: str) -> str:
    """Printable ASCII, short: it stands on the card, and a stranger wrote it."""
    return "".join(letter for letter in text if letter.isascii() and letter.isprintable())[:60].strip()


def _first_line(error: Exception) -> str:
    return _plain((str(error).strip().splitlines() or [type(error).__name__])[0]) or type(error).__name__


def _memory_limit(content: bytes) -> int:
    return _MEMORY_BYTES + _TIMES_FILE * len(content)


def _limit_memory(to: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the limit of time is left
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (to, to))


def main(wanted: str) -> None:
    """Read a file from stdin and print what was found, or what is wrong with it, as one JSON object."""
    content = sys.stdin.buffer.read()
    asked = json.loads(wanted)
    _limit_memory(_memory_limit(content))
    try:
        found = asdict(_looked(content, asked["free"], asked["layout"]))
    except MedrailError as error:
        found = {"found": error.found, "needed": error.needed, "remedy": error.remedy}
    except ModuleNotFoundError as error:
        found = {"found": f"the package {error.name!r} is not installed", "needed": "", "remedy": _NEEDS_ONNX}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
