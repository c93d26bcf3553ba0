"""The Open Inference Protocol's part of the OpenAPI document: its own errors, bodies and examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI

from medrail.serve.access import describe_keys
from medrail.serve.openapi import OF_KEYS, RETRY, TO_TRY_AGAIN
from medrail.serve.problems import PROBLEMS
from medrail.serve.v2_errors import sentence
from medrail.serve.v2_schemas import InferenceRequest, InferenceResponse, ProtocolError

JSON_LENGTH = "Inference-Header-Content-Length"
TAG = {"name": "inference protocol", "description": "For clients of Triton and KServe"}
_REFERENCE = "#/components/schemas/{model}"
_JSON = "application/json"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_QUESTION = {
    "inputs": [{"name": "image", "shape": [1, 1, 2, 2], "datatype": "FP32", "data": [0.0, 0.5, -0.5, 1.0]}],
    "outputs": [{"name": "logits"}],
}
_ANSWER = {
    "model_name": "chest-xray",
    "model_version": "1",
    "outputs": [{"name": "logits", "shape": [1, 2], "datatype": "FP32", "data": [-1.5, 1.0]}],
}


def errors(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The responses of these kinds of problem, by status, each with an example in the protocol's form."""
    responses: dict[int | str, dict[str, Any]] = {}
    for name in kinds:
        kind = PROBLEMS[name]
        response = responses.setdefault(
            kind.status, {"model": ProtocolError, "description": kind.title, "content": {_JSON: {"examples": {}}}}
        )
        value = {"error": sentence({"detail": f"{kind.title}.", "remedy": kind.remedy})}
        response["content"][_JSON]["examples"][name] = {"summary": kind.title, "value": value}
        if kind.status in TO_TRY_AGAIN:
            response["headers"] = RETRY
    return responses


UNKNOWN = errors("unknown-model", "not-ready")
INFER: dict[str, Any] = {
    "responses": {
        200: {
            "model": InferenceResponse,
            "description": "The outputs",
            "content": {_JSON: {"example": _ANSWER}, "application/octet-stream": _BINARY},
            "headers": {
                JSON_LENGTH: {"description": "where tensors follow the JSON object", "schema": {"type": "integer"}}
            },
        },
        **errors(
            *("bad-inference-request", "empty-file", "cross-site", "unknown-model", "upload-timeout", "too-large"),
            *("too-many-voxels", "unsupported-encoding", "unsupported-format", "corrupt-file", "unreadable-file"),
            *("unfitting-geometry", "unsuitable-image", "preparation-failed", "busy", "internal", "not-ready"),
        ),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                _JSON: {"schema": {"$ref": _REFERENCE.format(model="InferenceRequest")}, "example": _QUESTION},
                "application/octet-stream": _BINARY,
            },
        },
        "parameters": [
            {
                "name": JSON_LENGTH,
                "in": "header",
                "required": False,
                "description": "bytes of the JSON object where tensors follow it; 0: the body is the one input",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
    },
}


def with_protocol(openapi: Callable[[], dict[str, Any]], router: APIRouter) -> Callable[[], dict[str, Any]]:
    """The application's document with the protocol's part added, once; the rest is left as it is."""

    def both() -> dict[str, Any]:
        schema = openapi()
        if TAG not in schema.setdefault("tags", []):
            part = _part(router)
            schema["tags"].append(TAG)
            schema["paths"] |= part["paths"]
            schema["components"]["schemas"] |= part["components"]["schemas"]
        return schema

    return both


def _part(router: APIRouter) -> dict[str, Any]:
    alone = FastAPI()
    alone.include_router(router)
    part = alone.openapi()
    schemas = part["components"]["schemas"]
    request = InferenceRequest.model_json_schema(ref_template=_REFERENCE)  # FastAPI knows only what it reads itself
    schemas |= {**request.pop("$defs"), "InferenceRequest": request}
    for path in part["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422", "")):
                del operation["responses"]["422"]  # the parameters are text of the address: nothing can be wrong there
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    describe_keys(part, _of_keys())
    return part


def _of_keys() -> dict[str, Any]:
    """What the lack of a key answers, in the protocol's form."""
    form = {"schema": {"$ref": _REFERENCE.format(model="ProtocolError")}}
    return {
        str(status): {
            "description": one["description"],
            "content": {_JSON: {**form, **one["content"][_JSON]}},
            **({"headers": one["headers"]} if "headers" in one else {}),
        }
        for status, one in errors(*OF_KEYS).items()
    }
