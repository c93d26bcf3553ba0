"""The route that asks two models about one input, and says what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from medrail.serve.answers import Answer, Question, document, say
from medrail.serve.asked import Arrived, Prefer, as_job, at_once, name_model, service_of, wishes_of
from medrail.serve.decode import ANYTHING
from medrail.serve.difference import difference
from medrail.serve.documents import said_shortly
from medrail.serve.forms import Wishes, only_json
from medrail.serve.jobs import Task
from medrail.serve.openapi import COMPARE_RESPONSES, FORM_BODY, OR_A_JOB
from medrail.serve.problems import Refusal
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import CompareAnswer, Timings
from medrail.serve.wanted import Watch
from medrail.serve.workers import Gate

router = APIRouter(tags=["prediction"])


@router.post(
    "/v1/compare",
    summary="Ask two models about one input",
    responses=COMPARE_RESPONSES | OR_A_JOB,
    openapi_extra={"requestBody": FORM_BODY},
    response_class=Response,
)
async def compare(
    request: Request,
    wishes: Annotated[Wishes, Depends(wishes_of)],
    first: Annotated[str, Query(description="NAME or NAME/VERSION", min_length=1, examples=["brain/1"])],
    second: Annotated[str, Query(description="NAME or NAME/VERSION", min_length=1, examples=["brain/2"])],
    prefer: Prefer = "",
) -> Response:
    """Both answers to one image or volume, and the difference: of classes by probability; of masks as a mask of the
    differences, with its voxels and ml. Volumes are a job where they take long, as at `/v1/predict/volume`.
    """
    service = service_of(request)
    models = service.registry.find(first), service.registry.find(second)
    only_json(request.headers.get("accept", ""))
    tasks = {model.predictor.spec.task for model in models}
    if len(tasks) > 1:
        raise Refusal("not-comparable", f"One answers with a {tasks.pop()}, the other with a {tasks.pop()}.")
    name_model(request, models[0])
    request.state.record.update(second_model=models[1].name, second_version=models[1].version)
    work = _tasks(request, models, wishes, service.registry.gate)
    is_long = any(model.predictor.spec.input_kind.picture is False for model in models)
    if is_long or "respond-async" in prefer.lower():
        return await as_job(request, service, models[0], ANYTHING, work, prefer)
    return await at_once(request, service, ANYTHING, work)


def _tasks(
    request: Request, models: tuple[ServedModel, ServedModel], wishes: Wishes, gate: Gate
) -> Callable[[Arrived], Task]:
    def task_of(arrived: Arrived) -> Task:
        first = Question(
            arrived.upload, models[0], wishes, request.state.request_id, arrived.upload_ms, arrived.received_at_s
        )
        return partial(compared, first, models[1], gate)

    return task_of


def compared(first: Question, model: ServedModel, gate: Gate, watch: Watch) -> Answer:
    """Both models' answers to one question, as JSON; errors as ``answer``, and "not-comparable"."""
    second = replace(first, model=model, upload_ms=0.0)
    ours = say(first, gate, watch.part(0.0, 0.5))
    same_way = first.model.predictor.spec.read_options == model.predictor.spec.read_options
    second = replace(second, received_at_s=ours.predicted_s)
    theirs = say(second, gate, watch.part(0.5, 1.0), ours.decoded if same_way else None)
    found = difference(ours.prediction, theirs.prediction)
    documents = document(first, ours), document(second, theirs)
    timings = _sum(documents[0].timings_ms, documents[1].timings_ms)
    answer = CompareAnswer(
        first=documents[0],
        second=documents[1],
        difference=found,
        inference_time_ms=round(sum(each.inference_time_ms for each in documents), 3),
        timings_ms=timings,
        request_id=first.request_id,
    )
    result = {"first": said_shortly(ours.prediction), "second": said_shortly(theirs.prediction)}
    return Answer(answer.model_dump_json().encode(), "application/json", timings, result)


def _sum(first: Timings, second: Timings) -> Timings:
    return Timings(**{name: round(value + getattr(second, name), 3) for name, value in first.model_dump().items()})
