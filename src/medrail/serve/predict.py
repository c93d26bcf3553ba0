"""The routes that ask one model about one image or volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from medrail.serve.answers import Question, answer
from medrail.serve.asked import Arrived, Name, Prefer, Version, as_job, at_once, name_model, service_of, wishes_of
from medrail.serve.decode import ANYTHING, VOLUMES
from medrail.serve.forms import Wishes, negotiate
from medrail.serve.jobs import Task
from medrail.serve.openapi import FORM_BODY, OR_A_JOB, PREDICTION_RESPONSES
from medrail.serve.registry import Chosen
from medrail.serve.service import Service

router = APIRouter(tags=["prediction"])
Asked = Annotated[str, Query(description="NAME or NAME/VERSION of a served model; empty: the default")]
_FORM = {"requestBody": FORM_BODY}


@router.post(
    "/v1/predict/image",
    summary="Classify or segment one image",
    responses=PREDICTION_RESPONSES,
    openapi_extra=_FORM,
    response_class=Response,
)
async def predict_image(request: Request, wishes: Annotated[Wishes, Depends(wishes_of)], model: Asked = "") -> Response:
    """Send one image; its kind is told by its content, never by its name or declared type. A zip of one DICOM series is
    one image, too; what takes long is better asked of `/v1/predict/volume`.

    A classifier answers with the probability of every class; where the image is DICOM and `Accept` asks for
    `application/dicom`, with a structured report. A segmenter answers with a mask on the grid of the file that was
    sent: within JSON, or, where `Accept` asks for `application/x-nifti`, `application/gzip`, `image/png` or
    `application/dicom` (DICOM-SEG), as that file itself.
    """
    service = service_of(request)
    chosen, wishes = _chosen(request, service, model, wishes)
    return await at_once(request, service, ANYTHING, _tasks(request, service, chosen, wishes))


@router.post(
    "/v1/predict/volume",
    summary="Classify or segment one volume, as a job where it takes long",
    responses=PREDICTION_RESPONSES | OR_A_JOB,
    openapi_extra=_FORM,
    response_class=Response,
)
async def predict_volume(
    request: Request, wishes: Annotated[Wishes, Depends(wishes_of)], model: Asked = "", prefer: Prefer = ""
) -> Response:
    """Send a volume: NIfTI, NRRD, MetaImage, DICOM, or a zip of one DICOM series.

    What is done within some seconds (`serve.job_wait_s`) is answered at once, as `/v1/predict/image` does. What takes
    longer, and everything where the header `Prefer: respond-async` is given, is answered with 202 and a job: its
    address is in the header `Location`.
    """
    service = service_of(request)
    chosen, wishes = _chosen(request, service, model, wishes)
    tasks = _tasks(request, service, chosen, wishes)
    return await as_job(request, service, chosen.model, VOLUMES, tasks, prefer)


@router.post(
    "/v1/models/{name}/versions/{version}/predict",
    summary="Ask one version of one model",
    responses=PREDICTION_RESPONSES | OR_A_JOB,
    openapi_extra=_FORM,
    response_class=Response,
)
async def predict_version(
    request: Request, name: Name, version: Version, wishes: Annotated[Wishes, Depends(wishes_of)], prefer: Prefer = ""
) -> Response:
    """As `/v1/predict/volume` where the model was trained on volumes or `Prefer: respond-async` is given, else as
    `/v1/predict/image`; any kind of file.
    """
    service = service_of(request)
    chosen, wishes = _chosen(request, service, f"{name}/{version}", wishes)
    tasks = _tasks(request, service, chosen, wishes)
    if chosen.model.predictor.spec.input_kind.picture is False or "respond-async" in prefer.lower():
        return await as_job(request, service, chosen.model, ANYTHING, tasks, prefer)
    return await at_once(request, service, ANYTHING, tasks)


def _chosen(request: Request, service: Service, wanted: str, wishes: Wishes) -> tuple[Chosen, Wishes]:
    """Who answers, and the wishes with the form that ``Accept`` asks for."""
    chosen = service.registry.choose(wanted)
    media_type = negotiate(request.headers.get("accept", ""), chosen.model.predictor.spec.task)
    name_model(request, chosen.model)
    return chosen, replace(wishes, media_type=media_type)


def _tasks(request: Request, service: Service, chosen: Chosen, wishes: Wishes) -> Callable[[Arrived], Task]:
    def task_of(arrived: Arrived) -> Task:
        question = Question(
            arrived.upload,
            chosen.model,
            wishes,
            request.state.request_id,
            arrived.upload_ms,
            arrived.received_at_s,
            chosen.shadows,
        )
        return partial(answer, question, service.registry.gate, service.shadows)

    return task_of
