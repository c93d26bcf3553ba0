"""What the routes share: the service, the wishes of a request, its upload, and its work, at once or as a job."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import Header, Query, Request
from fastapi import Path as InPath
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from medrail.serve.access import counted_by
from medrail.serve.answers import Answer
from medrail.serve.archive import ArchiveLimits
from medrail.serve.decode import Upload
from medrail.serve.forms import MaskParts, Wishes
from medrail.serve.job import Job, Outcome, State
from medrail.serve.jobs import Task
from medrail.serve.problems import Refusal, document
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import JobAnswer, JobLinks, ProblemDocument
from medrail.serve.service import Service
from medrail.serve.upload import Received, receive
from medrail.serve.wanted import Unwanted, Watch

_RETRY_AFTER_S = 1
_WAIT = re.compile(r"wait=(\d{1,6})")


@dataclass(frozen=True)
class Arrived:
    """A request's upload and when it came (ms of receiving; seconds of ``perf_counter`` at its end)."""

    upload: Upload
    upload_ms: float
    received_at_s: float


def service_of(request: Request) -> Service:
    """The running service. Raises Refusal ("not-ready") while there is none."""
    service: Service | None = request.app.state.service
    if service is None:
        raise Refusal("not-ready")
    return service


def wishes_of(
    preview: Annotated[bool, Query(description="add a PNG of the image with the mask laid over it")] = False,
    evidence: Annotated[
        bool,
        Query(
            description="of a classifier, add a PNG of where it sees what it decided by; exact, or said to be absent"
        ),
    ] = False,
    evidence_map: Annotated[bool, Query(description="the same as numbers, on the grid of the file")] = False,
    mask: Annotated[
        MaskParts, Query(description="what of a mask stands in JSON: its file, its run lengths, both, only its volumes")
    ] = "both",
) -> Wishes:
    """The wishes that stand in the address; the form stands in the header ``Accept``."""
    return Wishes(preview=preview, evidence=evidence, evidence_map=evidence_map, mask=mask)


Name = Annotated[str, InPath(description="of a served model", examples=["chest"])]
Version = Annotated[str, InPath(description="of that model", examples=["1"])]
Prefer = Annotated[
    str,
    Header(
        description="`respond-async`: answer with a job at once; `wait=SECONDS`: wait no longer than that (RFC 7240)",
        examples=["respond-async"],
    ),
]


def name_model(request: Request, model: ServedModel) -> None:
    """Let the audit know who answers."""
    request.state.record.update(model=model.name, version=model.version, bundle_id=model.predictor.bundle_id)


def name_input(request: Request, received: Received) -> None:
    """Let the audit know what was sent, by its digest."""
    request.state.record.update(input_sha256=received.sha256, input_bytes=received.bytes)


@asynccontextmanager
async def own_folder(service: Service) -> AsyncIterator[Path]:
    """A private folder for an upload, removed if receiving it fails; afterwards whoever works in it removes it."""
    folder = Path(tempfile.mkdtemp(dir=service.uploads))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


async def arrive(request: Request, service: Service, folder: Path, kinds: frozenset[str]) -> Arrived:
    """Receive the form's ``file`` and ``roi`` into a folder; errors as ``receive``."""
    begin = time.perf_counter()
    files = await receive(request, folder, service.settings, required=["file"], optional=["roi"])
    received = time.perf_counter()
    name_input(request, files["file"])
    limits = ArchiveLimits.of(service.settings)
    upload = Upload(files, folder, service.settings.max_values, kinds, limits)
    return Arrived(upload, (received - begin) * 1e3, received)


async def at_once(
    request: Request, service: Service, kinds: frozenset[str], task_of: Callable[[Arrived], Task]
) -> Response:
    """Receive and answer on a worker's thread; a client that goes away ends the work where it next looks up."""
    with service.workers.admitted():
        async with own_folder(service) as folder:
            arrived = await arrive(request, service, folder, kinds)
        watch = Watch()
        try:
            answered = await service.work(request, folder, partial(_unless_unwanted, task_of(arrived), watch))
        finally:
            watch.stop()
    return respond_with(request, answered)


async def as_job(
    request: Request,
    service: Service,
    model: ServedModel,
    kinds: frozenset[str],
    task_of: Callable[[Arrived], Task],
    prefer: str = "",
) -> Response:
    """Receive, begin a job, and wait a little for its answer; if it takes longer, the answer is where it will be."""
    owner = str(request.state.record.get("key_id", ""))
    asking = owner, request.state.request_id, model.name, model.version, counted_by(request)
    job = await asyncio.to_thread(service.jobs.open, *asking)
    try:
        arrived = await arrive(request, service, job.upload, kinds)
        record = dict(request.state.record)
        future = await asyncio.to_thread(service.jobs.start, job, task_of(arrived), record)
        wait_s = wait_of(prefer, service.settings.job_wait_s)
        outcome = await _outcome(request, asyncio.wrap_future(future), wait_s) if wait_s else None
    except BaseException:
        await forget_job(service, job)
        raise
    if outcome is None:
        return await _accepted(request, service, job, prefer)
    await forget_job(service, job)
    refusal = outcome.state.refusal
    if refusal is not None or outcome.answer is None:
        raise refusal or Refusal("job-cancelled")
    return respond_with(request, outcome.answer)


async def forget_job(service: Service, job: Job) -> None:
    """On a thread, since it may remove files; also where the request itself was cancelled."""
    job.watch.stop()
    await asyncio.shield(asyncio.to_thread(service.jobs.forget, job))


def wait_of(prefer: str, longest_s: float) -> float:
    """How long to wait for an answer before a job is answered with instead.

    >>> wait_of("respond-async", 10), wait_of("respond-async, wait=3", 10), wait_of("", 10), wait_of("wait=99", 10)
    (0.0, 3.0, 10, 10)
    """
    wishes = [part.strip().lower() for part in prefer.split(",")]
    asked = next((float(found[1]) for wish in wishes if (found := _WAIT.fullmatch(wish))), None)
    if asked is None:
        return 0.0 if "respond-async" in wishes else longest_s
    return min(asked, longest_s)


async def _outcome(request: Request, answering: asyncio.Future[Outcome], wait_s: float) -> Outcome | None:
    """The job's, if it ends in time. Raises ClientDisconnect if the client does not wait for it."""
    leaving = asyncio.ensure_future(_client_leaves(request))
    try:
        either: set[asyncio.Future[Any]] = {answering, leaving}
        await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if answering.cancelled():
            raise Refusal("not-ready")
        if answering.done():
            return answering.result()
        if leaving.done():
            raise ClientDisconnect
        return None
    finally:
        leaving.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _unless_unwanted(task: Task, watch: Watch) -> Answer:
    """A task whose client has gone ends with an error that nobody is told of."""
    try:
        return task(watch)
    except Unwanted:
        raise Refusal("job-cancelled") from None


async def _accepted(request: Request, service: Service, job: Job, prefer: str) -> Response:
    state = await asyncio.to_thread(service.jobs.accept, job)
    request.state.record.update(job_id=state.job_id)
    answer = job_answer(request, state)
    headers = {"Location": answer.links.self, "Retry-After": str(_RETRY_AFTER_S)}
    if "respond-async" in prefer.lower():
        headers["Preference-Applied"] = "respond-async"
    return JSONResponse(answer.model_dump(mode="json"), 202, headers)


def job_answer(request: Request, state: State) -> JobAnswer:
    """How a job stands, as it is told."""
    place = f"{request.scope.get('root_path', '')}/v1/jobs/{state.job_id}"
    refusal = state.refusal
    told = None if refusal is None else ProblemDocument.model_validate(document(refusal, state.request_id))
    return JobAnswer(
        job_id=state.job_id,
        status=state.status,
        progress=state.progress,
        model_name=state.model,
        model_version=state.version,
        created=state.created,
        links=JobLinks(self=place, result=f"{place}/result"),
        problem=told,
        request_id=state.request_id,
    )


def respond_with(request: Request, answered: Answer) -> Response:
    """The answer with its headers; the audit gets its timings and result."""
    request.state.record.update(timings_ms=answered.timings.model_dump(), result=dict(answered.result))
    timings = answered.timings.model_dump().items()
    headers = {"Server-Timing": ", ".join(f"{name};dur={value:.1f}" for name, value in timings)}
    return Response(answered.body, headers=headers | saved_as(answered.file_name), media_type=answered.media_type)


def saved_as(file_name: str) -> dict[str, str]:
    """The header by which a browser saves the answer."""
    return {"Content-Disposition": f'attachment; filename="{file_name}"'} if file_name else {}
