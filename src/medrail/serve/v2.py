"""The routes of the Open Inference Protocol (V2): the served bundles for clients of Triton and of KServe.

Sources: KServe's "Open Inference Protocol", and Triton's extensions binary_tensor_data, classification,
model_configuration and, of model_repository, the index.
"""

from __future__ import annotations

import time
from functools import partial

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from medrail import __version__
from medrail.serve.asked import name_input, name_model, own_folder, service_of
from medrail.serve.body import receive_body
from medrail.serve.problems import Refusal
from medrail.serve.v2_errors import PREFIX, ProtocolErrors
from medrail.serve.v2_openapi import INFER, JSON_LENGTH, TAG, UNKNOWN, errors, with_protocol
from medrail.serve.v2_run import Inference, infer
from medrail.serve.v2_schemas import (
    IndexEntry,
    Live,
    ModelConfiguration,
    ModelMetadata,
    ModelReady,
    Ready,
    ServerMetadata,
)
from medrail.serve.v2_signature import FILE_SUFFIX, Signature, split_name, versions_of

EXTENSIONS = ["binary_tensor_data", "classification", "model_configuration"]
_LONGEST_NUMBER = 12

router = APIRouter(prefix=PREFIX, tags=[TAG["name"]])


def add_protocol(app: FastAPI) -> None:
    """Put the protocol into an application that is otherwise complete: its errors' form must be the outermost layer."""
    app.include_router(router, include_in_schema=False)
    app.add_middleware(ProtocolErrors)
    app.openapi = with_protocol(app.openapi, router)  # type: ignore[method-assign]


@router.get("", summary="The server")
async def server_metadata() -> ServerMetadata:
    """Its name, version, and the protocol's extensions that it knows."""
    return ServerMetadata(name="medrail", version=__version__, extensions=EXTENSIONS)


@router.get("/health/live", summary="Whether the process lives")
async def live() -> Live:
    """Always 200 while the service answers at all."""
    return Live(live=True)


@router.get("/health/ready", summary="Whether models are loaded", responses=errors("not-ready"))
async def ready(request: Request) -> Ready:
    """200 as soon as every model is loaded and warm."""
    service_of(request)
    return Ready(ready=True)


@router.post("/repository/index", summary="The served models", responses=errors("not-ready"))
async def repository_index(request: Request) -> list[IndexEntry]:
    """Every bundle under both of its names: the network, and the whole way from a file."""
    return [
        IndexEntry(name=model.name + suffix, version=model.version)
        for model in service_of(request).registry.models
        for suffix in ("", FILE_SUFFIX)
    ]


@router.get("/models/{name}/ready", summary="Whether a model answers", responses=UNKNOWN)
async def model_ready(request: Request, name: str) -> ModelReady:
    """A model that is served is ready."""
    return ModelReady(name=_signature(request, name).name, ready=True)


@router.get("/models/{name}/versions/{version}/ready", summary="Whether a version answers", responses=UNKNOWN)
async def version_ready(request: Request, name: str, version: str) -> ModelReady:
    """A version that is served is ready."""
    return ModelReady(name=_signature(request, name, version).name, ready=True)


@router.get("/models/{name}/config", summary="A model's configuration", responses=UNKNOWN)
async def model_config(request: Request, name: str) -> ModelConfiguration:
    """In the words of Triton's config.pbtxt."""
    return ModelConfiguration.model_validate(_signature(request, name).config())


@router.get("/models/{name}/versions/{version}/config", summary="A version's configuration", responses=UNKNOWN)
async def version_config(request: Request, name: str, version: str) -> ModelConfiguration:
    """In the words of Triton's config.pbtxt."""
    return ModelConfiguration.model_validate(_signature(request, name, version).config())


@router.get("/models/{name}", summary="A model's tensors", responses=UNKNOWN)
async def model_metadata(request: Request, name: str) -> ModelMetadata:
    """`NAME` takes the prepared image, `NAME:file` an image file."""
    return _metadata(request, name)


@router.get("/models/{name}/versions/{version}", summary="A version's tensors", responses=UNKNOWN)
async def version_metadata(request: Request, name: str, version: str) -> ModelMetadata:
    """`NAME` takes the prepared image, `NAME:file` an image file."""
    return _metadata(request, name, version)


@router.post("/models/{name}/infer", summary="Ask a model", response_class=Response, **INFER)
async def model_infer(request: Request, name: str) -> Response:
    """Tensors in the JSON object, or as bytes behind it; `Content-Encoding` may be gzip or deflate."""
    return await _infer(request, name)


@router.post("/models/{name}/versions/{version}/infer", summary="Ask a version", response_class=Response, **INFER)
async def version_infer(request: Request, name: str, version: str) -> Response:
    """Tensors in the JSON object, or as bytes behind it; `Content-Encoding` may be gzip or deflate."""
    return await _infer(request, name, version)


def _metadata(request: Request, name: str, version: str = "") -> ModelMetadata:
    signature = _signature(request, name, version)
    versions = versions_of(service_of(request).registry.models, name)
    return ModelMetadata.model_validate(signature.metadata(versions))


async def _infer(request: Request, name: str, version: str = "") -> Response:
    service = service_of(request)
    known, whole = split_name(name)
    chosen = service.registry.choose(f"{known}/{version}" if version else known)
    signature = Signature.of(chosen.model, whole=whole)
    json_bytes = _json_bytes(request)
    record = request.state.record
    name_model(request, signature.model)
    with service.workers.admitted():
        async with own_folder(service) as folder:
            begin = time.perf_counter()
            body = await receive_body(request, folder / "body", service.settings)
            received = time.perf_counter()
            name_input(request, body)
        question = Inference(
            signature=signature,
            body=body,
            json_bytes=json_bytes,
            folder=folder,
            settings=service.settings,
            record=record,
            upload_ms=(received - begin) * 1e3,
            received_at_s=received,
            request_id=request.state.request_id,
            shadows=chosen.shadows,
            shadowing=service.shadows,
        )
        answer = await service.work(request, folder, partial(infer, question, service.registry.gate))
    if answer.json_bytes is None:
        return Response(answer.body, media_type="application/json")
    return Response(answer.body, 200, {JSON_LENGTH: str(answer.json_bytes)}, "application/octet-stream")


def _json_bytes(request: Request) -> int | None:
    text = request.headers.get(JSON_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise Refusal("bad-inference-request", f"{JSON_LENGTH} is not a whole number.")
    return int(text)


def _signature(request: Request, name: str, version: str = "") -> Signature:
    """Of the version that is named, else of the one that stands for the name."""
    known, whole = split_name(name)
    return Signature.of(service_of(request).registry.find(f"{known}/{version}" if version else known), whole=whole)
