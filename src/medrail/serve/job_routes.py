"""The routes of jobs: how far, the result, no longer wanted."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from starlette.responses import FileResponse, JSONResponse, Response

from medrail.serve.asked import job_answer, saved_as, service_of
from medrail.serve.job import State
from medrail.serve.openapi import CANCEL_RESPONSES, JOB_RESPONSES, RESULT_RESPONSES
from medrail.serve.problems import Refusal
from medrail.serve.schemas import JobAnswer

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, InPath(description="from the answer 202", examples=["0f8fad5bd9cb469fa16570867728950e"])]


@router.get("/v1/jobs/{job_id}", summary="How far a job is", responses=JOB_RESPONSES)
async def job_status(request: Request, job_id: JobId) -> JobAnswer:
    """Kept with its result for `serve.job_keep_s` seconds after its end, then gone."""
    service = service_of(request)
    state = await asyncio.to_thread(service.jobs.find, job_id, _owner(request))
    _name(request, state)
    return job_answer(request, state)


@router.get(
    "/v1/jobs/{job_id}/result", summary="A job's answer", responses=RESULT_RESPONSES, response_class=FileResponse
)
async def job_result(request: Request, job_id: JobId) -> Response:
    """In the form that the request asked for which made the job. A failed job answers with its problem."""
    service = service_of(request)
    state, path = await asyncio.to_thread(service.jobs.result, job_id, _owner(request))
    request.state.record.update(state.record)
    _name(request, state)
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:  # it has just gone: its time was over, or its owner dropped it
        raise Refusal("unknown-job") from None
    return Response(content, headers=saved_as(state.file_name), media_type=state.media_type)


@router.delete(
    "/v1/jobs/{job_id}", summary="Cancel a job, or drop its result", responses=CANCEL_RESPONSES, status_code=200
)
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """A job that goes on is cancelled: it stops before its next slice or window, and its files go. Of one that has
    ended nothing is left (204).
    """
    service = service_of(request)
    state = await asyncio.to_thread(service.jobs.cancel, job_id, _owner(request))
    if state is None:
        return Response(status_code=204)
    _name(request, state)
    return JSONResponse(job_answer(request, state).model_dump(mode="json"))


def _owner(request: Request) -> str:
    return str(request.state.record.get("key_id", ""))


def _name(request: Request, state: State) -> None:
    request.state.record.update(job_id=state.job_id, model=state.model, version=state.version)
