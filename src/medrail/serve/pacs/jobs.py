"""Work that goes on after the answer 202. A thin stand-in until serve/jobs.py is there (helper ROUTES)."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from medrail.serve.pacs.schemas import PacsAnswer
from medrail.serve.pacs.work import Told
from medrail.serve.problems import Refusal, document, respond

Job = Callable[[str, Path, Told], PacsAnswer]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@dataclass
class _Job:
    folder: Path
    request_id: str
    progress: float = 0.0
    cancelled: bool = False
    future: Future[PacsAnswer] | None = field(default=None)

    def tell(self, progress: float) -> None:
        if self.cancelled:
            raise Refusal("not-found")
        self.progress = progress


async def start_job(request: Request, work: Job) -> Response:
    service = request.app.state.service
    jobs = request.app.state.__dict__.setdefault("jobs", {})
    one = _Job(Path(tempfile.mkdtemp(dir=service.uploads)), request.state.request_id)
    job_id = str(uuid.uuid4())
    jobs[job_id] = one
    request.state.record["job_id"] = job_id
    one.future = service.workers.submit(lambda: work(job_id, one.folder, one.tell))
    return _json(_state(job_id, one), 202)


@router.get("/{job_id}")
async def state(request: Request, job_id: str) -> Response:
    return _json(_state(job_id, find_job(request, job_id)), 200)


@router.get("/{job_id}/result")
async def result(request: Request, job_id: str) -> Response:
    one = find_job(request, job_id)
    if one.future is None or not one.future.done():
        raise Refusal("not-found")
    error = one.future.exception()
    if isinstance(error, Refusal):
        return respond(error, one.request_id)
    return Response(one.future.result().model_dump_json(), 200, media_type="application/json")


@router.delete("/{job_id}")
async def cancel(request: Request, job_id: str) -> Response:
    one = find_job(request, job_id)
    one.cancelled = True
    shutil.rmtree(one.folder, ignore_errors=True)
    return Response(status_code=204)


def find_job(request: Request, job_id: str) -> _Job:
    one: _Job | None = getattr(request.app.state, "jobs", {}).get(job_id)
    if one is None:
        raise Refusal("not-found")
    return one


def _state(job_id: str, one: _Job) -> dict[str, Any]:
    status = "running"
    problem = None
    if one.future is not None and one.future.done():
        error = one.future.exception()
        status = "failed" if error else "done"
        problem = document(error, one.request_id) if isinstance(error, Refusal) else None
    links = {"self": f"/v1/jobs/{job_id}", "result": f"/v1/jobs/{job_id}/result"}
    return {"job_id": job_id, "status": status, "progress": one.progress, "links": links, "problem": problem}


def _json(value: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(value), status, media_type="application/json")
