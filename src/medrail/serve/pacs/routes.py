"""The routes below /v1/pacs: what the PACS has, and one series answered and stored. There only with a PACS."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.params import Depends
from starlette.responses import JSONResponse, Response

from medrail import dicom_out
from medrail.bundle import NetworkSpec
from medrail.config import PacsConfig
from medrail.errors import ServeError
from medrail.serve.access import counted_by
from medrail.serve.asked import forget_job, job_answer, name_model, saved_as, service_of
from medrail.serve.openapi import problems
from medrail.serve.pacs.attributes import LONGEST_UID, UID
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.listing import list_series, list_studies
from medrail.serve.pacs.schemas import (
    PacsRequest,
    PacsSearch,
    PacsSeriesList,
    PacsStatus,
    PacsStudyList,
)
from medrail.serve.pacs.work import Work, answer_series
from medrail.serve.problems import PROBLEMS, Refusal
from medrail.serve.schemas import JobAnswer

router = APIRouter(prefix="/v1/pacs", tags=["pacs"])

_ASKED = ("unknown-model", "bad-parameter", "busy", "pacs-unreachable", "pacs-denied", "pacs-answer", "pacs-slow")
_A_JOB: dict[int | str, dict[str, Any]] = {
    202: {"model": JobAnswer, "description": "The work goes on as a job"},
    **problems("bad-form", "bad-parameter", "unknown-model", "too-many-jobs"),
}
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_Model = Annotated[str, Query(description="NAME or NAME/VERSION that `takes` is said of; empty: the default")]
_Date = Annotated[str | None, Query(pattern=_DATE, examples=["2026-01-31"])]
_Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many, and never more than serve.pacs.max_listed")]


@dataclass(frozen=True)
class Attached:
    """The PACS of one application, and how many listings may run at a time."""

    pacs: Pacs
    places: threading.BoundedSemaphore

    @contextmanager
    def listing(self) -> Iterator[Pacs]:
        """Raises Refusal "busy": a slow PACS shall not take all of the service's threads."""
        if not self.places.acquire(blocking=False):
            raise Refusal("busy", "As many lists are asked of the PACS as may be at a time.", retry_after_s=1)
        try:
            yield self.pacs
        finally:
            self.places.release()


def attach(app: FastAPI, config: PacsConfig, dependencies: Sequence[Depends] = ()) -> None:
    """Add the routes, behind what else a request must pass; ``app.state.pacs`` is closed by the application.

    Raises
    ------
    ConfigError
        If the address, the credentials or the certificates are not usable.
    ServeError
        If no DICOM objects can be made here.
    """
    if not dicom_out.installed():
        raise ServeError(
            "answers cannot be stored in a PACS without the package highdicom",
            remedy="Install it: pip install 'medrail[dicom-out]'",
        )
    app.state.pacs = Attached(Pacs(config), threading.BoundedSemaphore(config.listings))
    app.include_router(router, dependencies=list(dependencies))


@router.get("", summary="Whether the PACS answers", responses=problems("busy"))
def status(request: Request) -> PacsStatus:
    """Asks it for one study. For whoever runs the service; nothing of the study is told."""
    try:
        with _attached(request).listing() as pacs:
            pacs.studies({"limit": "1"})
    except Refusal as refusal:
        if refusal.kind == "busy":
            raise
        return PacsStatus(answers=False, problem=refusal.kind, detail=refusal.detail or PROBLEMS[refusal.kind].title)
    return PacsStatus(answers=True, problem=None, detail=None)


@router.get("/studies", summary="Studies in the PACS", responses=problems(*_ASKED))
def studies(
    request: Request,
    modality: Annotated[str | None, Query(pattern=r"^[A-Z0-9_]{1,16}$", examples=["CT"])] = None,
    date_from: _Date = None,
    date_to: _Date = None,
    limit: _Limit = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    model: _Model = "",
) -> PacsStudyList:
    """By modality and date, without whose they are; `takes` says in which the model may find something to answer."""
    query = {"ModalitiesInStudy": modality} if modality else {}
    if date_from or date_to:
        query["StudyDate"] = f"{_day(date_from)}-{_day(date_to)}"
    return _studies(request, model, query, limit, offset)


@router.post("/search", summary="Studies of one patient or order", responses=problems("bad-form", *_ASKED))
def search(request: Request, wanted: PacsSearch, limit: _Limit = 50, model: _Model = "") -> PacsStudyList:
    """By accession number or patient ID: in the body, since addresses are written into logs on the way."""
    named = {"AccessionNumber": wanted.accession_number, "PatientID": wanted.patient_id}
    query = {key: value for key, value in named.items() if value}
    if not query:
        raise Refusal("bad-parameter", "Neither accession_number nor patient_id is given.")
    return _studies(request, model, query | ({"ModalitiesInStudy": wanted.modality} if wanted.modality else {}), limit)


@router.get(
    "/studies/{study_uid}/series",
    summary="The series of a study",
    responses=problems(*_ASKED, "pacs-not-found"),
)
def series(
    request: Request,
    study_uid: Annotated[str, InPath(pattern=rf"^{UID}$", max_length=LONGEST_UID)],
    model: _Model = "",
) -> PacsSeriesList:
    """Each with whether the model may take it, and why not."""
    spec = _spec(request, model)
    with _attached(request).listing() as pacs:
        return list_series(pacs, spec, study_uid)


@router.post("/predict", summary="Answer a series and store the answer", status_code=202, responses=_A_JOB)
async def predict(request: Request, wanted: PacsRequest) -> JSONResponse:
    """A job: the series is pulled and answered, and the answer stored in its study as new series: of a segmenter a
    DICOM-SEG and a structured report, of a classifier a report. The job's result is a `PacsAnswer`, in JSON. Asked
    again, it stores again.
    """
    service = service_of(request)
    chosen = service.registry.choose(wanted.model)
    model = chosen.model
    name_model(request, model)
    owner, request_id = _owner(request), request.state.request_id
    asking = owner, request_id, model.name, model.version, counted_by(request)
    job = await asyncio.to_thread(service.jobs.open, *asking)
    try:
        pacs, gate, most = _attached(request).pacs, service.registry.gate, service.settings.max_values
        work = Work(pacs, chosen, gate, wanted, job, most, service.shadows)
        await asyncio.to_thread(service.jobs.start, job, partial(answer_series, work), dict(request.state.record))
        state = await asyncio.to_thread(service.jobs.accept, job)
    except BaseException:
        await forget_job(service, job)
        raise
    request.state.record.update(job_id=state.job_id)
    answer = job_answer(request, state)
    headers = {"Location": answer.links.self, "Retry-After": "1"}
    return JSONResponse(answer.model_dump(mode="json"), 202, headers)


@router.get(
    "/jobs/{job_id}/{kind}.dcm",
    summary="A DICOM object that a job made",
    response_class=Response,
    responses={
        200: {"content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}}},
        **problems("unknown-job", "bad-parameter"),
    },
)
async def made(request: Request, job_id: str, kind: Literal["seg", "sr"]) -> Response:
    """As long as the job is kept; whether or not the PACS has it."""
    service = service_of(request)
    state = await asyncio.to_thread(service.jobs.find, job_id, _owner(request))
    path = service.jobs.folder / state.job_id / f"{kind}.dcm"
    try:
        content = await asyncio.to_thread(path.read_bytes)
    except OSError:
        raise Refusal("unknown-job", "The job made no such object.") from None
    return Response(content, headers=saved_as(f"{kind}.dcm"), media_type="application/dicom")


def _owner(request: Request) -> str:
    return str(request.state.record.get("key_id", ""))


def _studies(request: Request, model: str, query: dict[str, str], limit: int, offset: int = 0) -> PacsStudyList:
    spec = _spec(request, model)
    with _attached(request).listing() as pacs:
        return list_studies(pacs, spec, query, min(limit, pacs.config.max_listed), offset)


def _day(date: str | None) -> str:
    return (date or "").replace("-", "")


def _spec(request: Request, model: str) -> NetworkSpec:
    return service_of(request).registry.find(model).predictor.spec


def _attached(request: Request) -> Attached:
    attached: Attached = request.app.state.pacs
    return attached
