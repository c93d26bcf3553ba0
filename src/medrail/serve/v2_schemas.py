"""What the routes of the Open Inference Protocol take and give: the source of their part of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Parameters = dict[str, str | int | float | bool]


class _Protocol(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class ServerMetadata(_Protocol):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class Live(_Protocol):
    """Whether the process lives."""

    live: bool


class Ready(_Protocol):
    """Whether every model is loaded."""

    ready: bool


class ModelReady(_Protocol):
    """Whether a model answers."""

    name: str
    ready: bool


class TensorMetadata(_Protocol):
    """One input or output; -1 in its shape is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_Protocol):
    """A model's versions and tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(_Protocol):
    """One input or output, without the batch where ``max_batch_size`` is more than 0."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(_Protocol):
    """Of Triton's model configuration what there is here."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]


class IndexEntry(_Protocol):
    """One version of a model."""

    name: str
    version: str
    state: Literal["READY"] = "READY"
    reason: str = ""


class RequestInput(_Protocol):
    """An input tensor: in `data`, or behind the JSON object with `parameters.binary_data_size`."""

    name: str
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    datatype: Literal["FP32", "FP16", "BYTES"]
    parameters: Parameters | None = None
    data: list[Any] | None = None


class RequestOutput(_Protocol):
    """An output that is wanted."""

    name: str
    parameters: Parameters | None = Field(None, description="binary_data, classification")


class InferenceRequest(_Protocol):
    """The JSON object of an inference request."""

    id: str | None = None
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = Field(None, description="none: all")
    parameters: Parameters | None = Field(None, description="binary_data_output; others are not looked at")


class ResponseOutput(_Protocol):
    """An output tensor: in `data`, or behind the JSON object with `parameters.binary_data_size`."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: list[Any] | None = None


class InferenceResponse(_Protocol):
    """The JSON object of an inference response."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[ResponseOutput]


class ProtocolError(_Protocol):
    """What went wrong and what to do about it, in a sentence."""

    error: str
