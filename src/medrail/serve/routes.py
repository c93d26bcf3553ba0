"""The service's routes below /v1, and its health."""

from __future__ import annotations

import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, Response

from medrail.serve.answers import Answer, Form, Question, answer
from medrail.serve.openapi import FORM_BODY, PREDICTION_RESPONSES, problems
from medrail.serve.problems import Refusal
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import Health, ModelCard, ModelList
from medrail.serve.screen import SCREENS
from medrail.serve.service import Service
from medrail.serve.upload import receive

router = APIRouter()

FORMS: dict[str, Form] = {
    "application/json": "application/json",
    "application/x-nifti": "application/gzip",
    "application/gzip": "application/gzip",
    "image/png": "image/png",
}
_FILE_NAMES: dict[Form, str] = {"application/gzip": "mask.nii.gz", "image/png": "mask.png"}


@router.post(
    "/v1/predict/image",
    tags=["prediction"],
    summary="Classify or segment one image",
    responses=PREDICTION_RESPONSES,
    openapi_extra={"requestBody": FORM_BODY},
    response_class=Response,
)
async def predict_image(
    request: Request,
    preview: Annotated[bool, Query(description="add a PNG of the image with the mask laid over it")] = False,
    model: Annotated[str, Query(description="NAME or NAME/VERSION of a served model; empty: the default")] = "",
) -> Response:
    """Send one image; its kind is told by its content, never by its name or declared type.

    A classifier answers with the probability of every class. A segmenter answers with a mask on the grid of the file
    that was sent: within JSON, or, where `Accept` asks for `application/x-nifti`, `application/gzip` or `image/png`, as
    that file itself.
    """
    service = _service(request)
    served = service.registry.find(model)
    media_type = negotiate(request.headers.get("accept", ""), served.predictor.spec.task)
    record = request.state.record
    record.update(model=served.name, version=served.version, bundle_id=served.predictor.bundle_id)
    with service.workers.admitted():
        folder = Path(tempfile.mkdtemp(dir=service.uploads))
        begin = time.perf_counter()
        try:
            files = await receive(request, folder, service.settings, required=["file"], optional=["roi"])
            received = time.perf_counter()
            record.update(input_sha256=files["file"].sha256, input_bytes=files["file"].bytes)
            question = Question(
                files=files,
                folder=folder,
                model=served,
                form=FORMS[media_type],
                media_type=media_type,
                preview=preview,
                request_id=request.state.request_id,
                upload_ms=(received - begin) * 1e3,
                received_at_s=received,
                max_values=service.settings.max_values,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        answered = await service.work(request, folder, partial(answer, question, service.registry.gate))
    record.update(timings_ms=answered.timings.model_dump(), result=answered.result)
    return _respond(answered, question.form)


def _respond(answered: Answer, form: Form) -> Response:
    timings = answered.timings.model_dump().items()
    headers = {"Server-Timing": ", ".join(f"{name};dur={value:.1f}" for name, value in timings)}
    if answered.media_type != "application/json":
        headers["Content-Disposition"] = f'attachment; filename="{_FILE_NAMES[form]}"'
    return Response(answered.body, 200, headers, answered.media_type)


def negotiate(accept: str, task: str) -> str:
    """The media type to answer with: the one of the highest weight that exists for the task.

    Raises
    ------
    Refusal
        "not-acceptable".
    """
    available = list(FORMS) if task == "segmentation" else ["application/json"]
    asked = [entry for part in accept.lower().split(",") if (entry := _weighted(part))]
    for weight, media_type in sorted(asked or [(1.0, "*/*")], key=lambda entry: -entry[0]):
        if weight <= 0:
            break
        if media_type in available:
            return media_type
        if media_type in ("*/*", "application/*", "application/problem+json"):
            return "application/json"
        if media_type == "image/*" and "image/png" in available:
            return "image/png"
    raise Refusal("not-acceptable", f"This model answers with {', '.join(available)}.")


def _weighted(part: str) -> tuple[float, str] | None:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((entry[2:] for entry in parameters if entry.startswith("q=")), "1")
    try:
        return (float(weight), media_type) if media_type else None
    except ValueError:
        return 1.0, media_type


@router.get("/v1/models", tags=["models"], summary="The served models and the limits", responses=problems("internal"))
async def list_models(request: Request) -> ModelList:
    """The first model is the default."""
    service = _service(request)
    return ModelList(
        models=[_card(model, default=model is service.registry.default) for model in service.registry.models],
        formats=sorted(SCREENS),
        max_upload_bytes=service.settings.max_upload_bytes,
    )


def _card(model: ServedModel, *, default: bool) -> ModelCard:
    spec = model.predictor.spec
    return ModelCard(
        name=model.name,
        version=model.version,
        bundle_id=model.predictor.bundle_id,
        default=default,
        task=spec.task,
        classes=list(spec.classes),
        multi_label=spec.multi_label,
        dims=spec.dims,
        input=str(spec.input_kind),
        needs_roi=spec.needs_roi,
        engine=str(model.predictor.taken.choice) if model.predictor.taken else "",
        metrics={name: dict(values) for name, values in model.manifest.metrics.items()},
    )


@router.get(
    "/v1/models/{name}/card",
    tags=["models"],
    summary="A model's card",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}, **problems("unknown-model")},
)
async def model_card(request: Request, name: str) -> Response:
    """What the model is for, what it was trained and tested on, and how well it did; Markdown."""
    return PlainTextResponse(_service(request).registry.find(name).card, media_type="text/markdown")


@router.get("/healthz", tags=["health"], summary="Whether the process lives")
async def healthz() -> Health:
    """Always 200 while the service answers at all."""
    return Health(status="ok")


@router.get("/readyz", tags=["health"], summary="Whether models are loaded", responses=problems("not-ready"))
async def readyz(request: Request) -> Health:
    """200 as soon as every model is loaded and warm."""
    _service(request)
    return Health(status="ready")


def _service(request: Request) -> Service:
    service: Service | None = request.app.state.service
    if service is None:
        raise Refusal("not-ready")
    return service
