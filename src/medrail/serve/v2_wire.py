"""The Open Inference Protocol on the wire: bytes -> checked tensors, and output tensors -> bytes.

The JSON object is that of KServe's "Predict Protocol - Version 2"; tensors stand in it, or as little-endian bytes
behind it (Triton's binary tensor data extension). Nothing of what is sent is quoted in a refusal.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from medrail.serve.problems import Refusal
from medrail.serve.settings import Settings
from medrail.serve.v2_signature import ANY, Datatype, TensorKind

Tensor: TypeAlias = "npt.NDArray[np.float32] | bytes | memoryview"
"""Numbers, or a file: in binary a view of the body, so that none of it is held in memory."""
_DTYPES: Mapping[str, str] = {"FP64": "<f8", "FP32": "<f4", "FP16": "<f2", "UINT8": "u1", "BOOL": "?"}
_LENGTH = struct.Struct("<I")
_DIGITS_A_VALUE = 22  # the longest float32 that Python writes, with its comma


@dataclass(frozen=True)
class Wanted:
    """One output that is asked for.

    binary:
        Whether it goes behind the JSON object.
    classes:
        0, or how many of its highest values are wanted as "value:index:label" instead.
    """

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """An inference request, checked against the model: float32 arrays, and files as bytes or views of the body."""

    id: str
    tensors: Mapping[str, Tensor]
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True)
class Output:
    """One output tensor; BYTES are a list of bytes."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | Sequence[bytes]


@dataclass(frozen=True)
class Reply:
    """The body of the answer; ``json_bytes`` is the length of its JSON object where tensors follow it, else None."""

    body: bytes
    json_bytes: int | None


def parse(
    body: memoryview,
    json_bytes: int | None,
    inputs: Sequence[TensorKind],
    outputs: Sequence[TensorKind],
    settings: Settings,
) -> Asked:
    """Check a request from end to end.

    Parameters
    ----------
    body:
        All of it, not compressed. Tensors that are sent in binary are views of it.
    json_bytes:
        What `Inference-Header-Content-Length` says; None: all is JSON; 0: all is the one input's data.

    Raises
    ------
    Refusal
        For whatever does not follow the protocol, does not fit the model, or is too large.
    """
    if json_bytes == 0:
        every = tuple(Wanted(kind.name, binary=False) for kind in outputs)
        return Asked("", {inputs[0].name: _raw(body, inputs, settings)}, every)
    if json_bytes is not None and json_bytes > len(body):
        raise _bad("Inference-Header-Content-Length is more than the body.")
    length = len(body) if json_bytes is None else json_bytes
    document = _json(body[:length], settings)
    given = _listed(document, "inputs")
    if given is None:
        raise _bad("There are no inputs.")
    binary = _Behind(body[length:])
    tensors: dict[str, Tensor] = {}
    for entry in given:
        name, tensor = _input(entry, inputs, binary, settings)
        if name in tensors:
            raise _bad("An input comes twice.")
        tensors[name] = tensor
    binary.check_all_taken()
    missing = [kind.name for kind in inputs if kind.name not in tensors]
    if missing:
        raise _bad(f"The input `{missing[0]}` is missing.")
    identity = _given(document, "id", "")
    if not isinstance(identity, str):
        raise _bad("`id` is not text.")
    return Asked(identity, tensors, _wanted(document, outputs))


def reply(identity: str, model: tuple[str, str], outputs: Sequence[tuple[Wanted, Output]], settings: Settings) -> Reply:
    """The inference response.

    Parameters
    ----------
    model:
        Name and version.

    Raises
    ------
    Refusal
        If the answer would be larger than a request may be, or holds what JSON cannot.
    """
    described, behind = [], []
    for wanted, output in outputs:
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if wanted.binary:
            data = _to_bytes(output)
            entry["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        else:
            entry["data"] = _to_json(output, settings)
        described.append(entry)
    head: dict[str, Any] = {"model_name": model[0], "model_version": model[1], "outputs": described}
    if identity:
        head["id"] = identity
    try:
        content = json.dumps(head, allow_nan=False).encode()
    except ValueError:
        raise Refusal("unsuitable-image", "The answer has values that are not finite.") from None
    return Reply(b"".join([content, *behind]), len(content) if behind else None)


def _bad(detail: str, remedy: str = "") -> Refusal:
    return Refusal("bad-inference-request", detail, remedy)


def _json(content: memoryview, settings: Settings) -> dict[str, Any]:
    if len(content) > settings.max_json_bytes:
        raise Refusal(
            "too-large",
            f"At most {settings.max_json_mb:g} MiB of JSON are accepted.",
            "Send the tensors in binary, behind the JSON object.",
        )
    try:
        document = from_json(bytes(content), allow_inf_nan=False)
    except ValueError:
        raise _bad("The inference header is not JSON, or holds NaN or Infinity.") from None
    if not isinstance(document, dict):
        raise _bad("The inference header is not a JSON object.")
    return document


def _listed(document: Mapping[str, Any], key: str) -> list[dict[str, Any]] | None:
    """The objects of a list; None where it is missing or empty."""
    entries = document.get(key)
    if entries is None or entries == []:
        return None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise _bad(f"`{key}` is not a list of objects.")
    return entries


def _given(entry: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    """Many clients write null for what they leave out."""
    value = entry.get(key)
    return otherwise if value is None else value


def _parameters(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = _given(entry, "parameters", {})
    if not isinstance(parameters, dict):
        raise _bad("`parameters` is not an object.")
    if any(name.startswith("shared_memory") for name in parameters):
        raise _bad("There is no shared memory here.", "Send the tensors with the request.")
    return parameters


class _Behind:
    """The bytes behind the JSON object, handed out from first to last."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, size: Any) -> memoryview:
        if not _is_whole(size) or size < 0:
            raise _bad("`binary_data_size` is not a whole number.")
        if size > len(self._data) - self._at:
            raise _bad(f"An input's binary data of {size} bytes is not all there.")
        self._at += size
        return self._data[self._at - size : self._at]

    def check_all_taken(self) -> None:
        left = len(self._data) - self._at
        if left:
            raise _bad(f"{left} bytes of binary data belong to no input.")


def _input(
    entry: Mapping[str, Any], inputs: Sequence[TensorKind], binary: _Behind, settings: Settings
) -> tuple[str, Tensor]:
    kind = next((kind for kind in inputs if kind.name == entry.get("name")), None)
    if kind is None:
        raise _bad(f"An input has a name that the model does not know; needed: {_names(inputs)}.")
    datatype = entry.get("datatype")
    if datatype != kind.datatype and datatype not in kind.also:
        raise _bad(f"`{kind.name}` is of another datatype; needed: {' or '.join((kind.datatype, *kind.also))}.")
    shape = _shape(entry.get("shape"), kind, settings)
    parameters = _parameters(entry)
    listed, size = entry.get("data"), parameters.get("binary_data_size")
    if (size is None) == (listed is None):
        raise _bad(f"`{kind.name}` has data twice or not at all; needed: `data` or `binary_data_size`.")
    if size is not None:
        data = binary.take(size)
        return kind.name, _element(data, kind) if datatype == "BYTES" else _numbers(data, datatype, shape, kind)
    if datatype == "BYTES":
        return kind.name, _decoded(_flat(listed, shape, kind), kind)
    return kind.name, _floats(_flat(listed, shape, kind), shape, kind)


def _names(kinds: Sequence[TensorKind]) -> str:
    return ", ".join(kind.name for kind in kinds)


def _shape(given: Any, kind: TensorKind, settings: Settings) -> tuple[int, ...]:
    needed = " x ".join("any" if size == ANY else str(size) for size in kind.shape)
    if not isinstance(given, list) or not all(_is_whole(size) and size > 0 for size in given):
        raise _bad(f"The shape of `{kind.name}` is not a list of positive whole numbers; needed: {needed}.")
    fits = len(given) == len(kind.shape) and all(
        want in (ANY, size) for size, want in zip(given, kind.shape, strict=True)
    )
    if not fits:
        raise _bad(f"`{kind.name}` is of another shape; needed: {needed}.")
    if prod(given) > settings.max_values:
        raise Refusal("too-many-voxels", f"The limit is {settings.max_values / 1e6:,.1f} million values.")
    return tuple(given)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _numbers(data: memoryview, datatype: str, shape: tuple[int, ...], kind: TensorKind) -> npt.NDArray[np.float32]:
    dtype = np.dtype(_DTYPES[datatype])
    if len(data) != prod(shape) * dtype.itemsize:
        raise _bad(f"`{kind.name}` has {len(data)} bytes; its shape and datatype need {prod(shape) * dtype.itemsize}.")
    return np.frombuffer(data, dtype).astype(np.float32, copy=False).reshape(shape)


def _element(data: memoryview, kind: TensorKind) -> memoryview:
    """The one element of a BYTES tensor: its length in four bytes, then itself."""
    if len(data) < _LENGTH.size or _LENGTH.unpack(data[: _LENGTH.size])[0] != len(data) - _LENGTH.size:
        raise _bad(f"The binary data of `{kind.name}` is not one element: four bytes of length, then the file.")
    return data[_LENGTH.size :]


def _flat(data: Any, shape: tuple[int, ...], kind: TensorKind) -> list[Any]:
    """JSON data may be nested as the shape says, or flat."""
    nested = isinstance(data, list) and bool(data) and isinstance(data[0], list)
    level = [data]
    for size in shape if nested else (prod(shape),):
        if not all(isinstance(each, list) and len(each) == size for each in level):
            raise _bad(f"The data of `{kind.name}` is neither a list of {prod(shape)} values nor nested as its shape.")
        level = list(chain.from_iterable(level))
    return level


def _floats(values: list[Any], shape: tuple[int, ...], kind: TensorKind) -> npt.NDArray[np.float32]:
    try:
        if not set(map(type, values)) <= {int, float}:
            raise TypeError
        with np.errstate(over="ignore"):
            return np.asarray(array("d", values), dtype=np.float32).reshape(shape)
    except (TypeError, OverflowError):
        raise _bad(f"The data of `{kind.name}` holds something that is no number in float32.") from None


def _decoded(values: list[Any], kind: TensorKind) -> bytes:
    """JSON has text only, and a file is none; so it comes in base64."""
    try:
        return base64.b64decode(values[0].encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error):
        raise _bad(f"The data of `{kind.name}` is not base64.", "Send it in base64, or as binary data.") from None


def _raw(body: memoryview, inputs: Sequence[TensorKind], settings: Settings) -> Tensor:
    """A body without any JSON: the data of the only input; of several images, as many as there are."""
    if len(inputs) != 1:
        raise _bad(f"The model has the inputs {_names(inputs)}, so the request needs its JSON object.")
    kind = inputs[0]
    if kind.datatype == "BYTES":
        return body
    fixed, size = kind.shape[1:], np.dtype(_DTYPES[kind.datatype]).itemsize
    if ANY in fixed or not len(body) or len(body) % (prod(fixed) * size):
        raise _bad("The shape cannot be told from the number of bytes.", "Send the JSON object with the shape.")
    shape = _shape([len(body) // (prod(fixed) * size), *fixed], kind, settings)
    return _numbers(body, kind.datatype, shape, kind)


def _wanted(document: Mapping[str, Any], outputs: Sequence[TensorKind]) -> tuple[Wanted, ...]:
    everywhere = _flag(_parameters(document), "binary_data_output", otherwise=False)
    entries = _listed(document, "outputs")
    if entries is None:
        return tuple(Wanted(kind.name, everywhere) for kind in outputs)
    wanted: dict[str, Wanted] = {}
    for entry in entries:
        kind = next((kind for kind in outputs if kind.name == entry.get("name")), None)
        if kind is None:
            raise _bad(f"An output has a name that the model does not know; known: {_names(outputs)}.")
        if kind.name in wanted:
            raise _bad("An output comes twice.")
        parameters = _parameters(entry)
        classes = _given(parameters, "classification", 0)
        if not _is_whole(classes) or classes < 0 or (classes and (kind.datatype != "FP32" or len(kind.shape) != 2)):
            raise _bad(f"`{kind.name}` cannot be given as that many classes.")
        wanted[kind.name] = Wanted(kind.name, _flag(parameters, "binary_data", otherwise=everywhere), classes)
    return tuple(wanted.values())


def _flag(parameters: Mapping[str, Any], name: str, *, otherwise: bool) -> bool:
    value = _given(parameters, name, otherwise)
    if not isinstance(value, bool):
        raise _bad(f"`{name}` is neither true nor false.")
    return value


def _to_bytes(output: Output) -> bytes:
    if isinstance(output.values, np.ndarray):
        return output.values.astype(_DTYPES[output.datatype], copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(value)) + value for value in output.values)


def _to_json(output: Output, settings: Settings) -> list[Any]:
    if isinstance(output.values, np.ndarray):
        size = output.values.size * _DIGITS_A_VALUE
    else:
        size = sum(len(value) for value in output.values)
    if size > settings.max_json_bytes:
        raise Refusal("too-large", f"`{output.name}` is too large for JSON.", "Ask for it as binary data.")
    if isinstance(output.values, np.ndarray):
        return list(output.values.ravel().tolist())
    try:
        return [value.decode() for value in output.values]
    except UnicodeDecodeError:
        raise _bad(f"`{output.name}` is a file, and JSON holds text only.", "Ask for it as binary data.") from None
