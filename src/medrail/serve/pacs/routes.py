"""The routes below /v1/pacs: what the PACS has, and one series answered and stored. There only with a PACS."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as InPath
from fastapi.params import Depends
from starlette.responses import FileResponse, Response

from medrail import dicom_out
from medrail.bundle import NetworkSpec
from medrail.config import PacsConfig
from medrail.errors import ServeError
from medrail.serve.openapi import problems
from medrail.serve.pacs.attributes import LONGEST_UID, UID
from medrail.serve.pacs.client import Pacs
from medrail.serve.pacs.jobs import find_job, start_job
from medrail.serve.pacs.listing import list_series, list_studies
from medrail.serve.pacs.schemas import (
    PacsAnswer,
    PacsRequest,
    PacsSearch,
    PacsSeriesList,
    PacsStatus,
    PacsStudyList,
)
from medrail.serve.pacs.work import Told, Work, answer_series
from medrail.serve.problems import PROBLEMS, Refusal
from medrail.serve.registry import ServedModel
from medrail.serve.service import Service

SCOPE = "pacs"
"""What a key must be allowed beyond predictions: these routes list and change what belongs to patients."""

router = APIRouter(prefix="/v1/pacs", tags=["pacs"])

_KINDS = tuple(kind for kind in PROBLEMS if kind.startswith("pacs-") and kind != "pacs-too-large")
_PROBLEMS = problems("bad-parameter", "unknown-model", "internal", "not-ready", *_KINDS)
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
        """Raises Refusal "pacs-busy": a slow PACS shall not take all of the service's threads."""
        if not self.places.acquire(blocking=False):
            raise Refusal("pacs-busy", retry_after_s=1)
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


@router.get("", summary="Whether the PACS answers", responses=_PROBLEMS)
def status(request: Request) -> PacsStatus:
    """Asks it for one study. For whoever runs the service; nothing of the study is told."""
    try:
        with _attached(request).listing() as pacs:
            pacs.studies({"limit": "1"})
    except Refusal as refusal:
        if refusal.kind == "pacs-busy":
            raise
        return PacsStatus(answers=False, problem=refusal.kind, detail=refusal.detail or PROBLEMS[refusal.kind].title)
    return PacsStatus(answers=True, problem=None, detail=None)


@router.get("/studies", summary="Studies in the PACS", responses=_PROBLEMS)
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


@router.post("/search", summary="Studies of one patient or order", responses=_PROBLEMS)
def search(request: Request, wanted: PacsSearch, limit: _Limit = 50, model: _Model = "") -> PacsStudyList:
    """By accession number or patient ID: in the body, since addresses are written into logs on the way."""
    named = {"AccessionNumber": wanted.accession_number, "PatientID": wanted.patient_id}
    query = {key: value for key, value in named.items() if value}
    if not query:
        raise Refusal("bad-parameter", "Neither accession_number nor patient_id is given.")
    return _studies(request, model, query | ({"ModalitiesInStudy": wanted.modality} if wanted.modality else {}), limit)


@router.get("/studies/{study_uid}/series", summary="The series of a study", responses=_PROBLEMS)
def series(
    request: Request,
    study_uid: Annotated[str, InPath(pattern=rf"^{UID}$", max_length=LONGEST_UID)],
    model: _Model = "",
) -> PacsSeriesList:
    """Each with whether the model may take it, and why not."""
    spec = _spec(request, model)
    with _attached(request).listing() as pacs:
        return list_series(pacs, spec, study_uid)


@router.post(
    "/predict",
    summary="Answer a series and store the answer",
    status_code=202,
    responses={**_PROBLEMS, **problems("busy")},
    response_class=Response,
)
async def predict(request: Request, wanted: PacsRequest) -> Response:
    """A job: the series is pulled and answered, and the answer stored in its study as new series: of a segmenter a
    DICOM-SEG and a structured report, of a classifier a report. Its result is a PacsAnswer. Each call stores anew.
    """
    service = _service(request)
    model = service.registry.find(wanted.model)
    request.state.record.update(
        model=model.name, version=model.version, bundle_id=model.predictor.bundle_id, pacs_store=wanted.store
    )
    return await start_job(request, partial(_do, _attached(request).pacs, model, wanted, service.settings.max_values))


@router.get(
    "/jobs/{job_id}/{kind}.dcm",
    summary="A DICOM object that a job made",
    response_class=Response,
    responses={200: {"content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def made(request: Request, job_id: str, kind: Literal["seg", "sr"]) -> Response:
    """As long as the job is kept; whether or not the PACS has it."""
    path = find_job(request, job_id).folder / f"{kind}.dcm"
    if not path.is_file():
        raise Refusal("not-found")
    return FileResponse(path, media_type="application/dicom")


def _do(
    pacs: Pacs, model: ServedModel, wanted: PacsRequest, max_values: int, job_id: str, folder: Path, tell: Told
) -> PacsAnswer:
    of = (wanted.study_uid, wanted.series_uid, wanted.item, wanted.store)
    return answer_series(Work(pacs, model, *of, job_id, folder, max_values), tell)


def _studies(request: Request, model: str, query: dict[str, str], limit: int, offset: int = 0) -> PacsStudyList:
    spec = _spec(request, model)
    with _attached(request).listing() as pacs:
        return list_studies(pacs, spec, query, min(limit, pacs.config.max_listed), offset)


def _day(date: str | None) -> str:
    return (date or "").replace("-", "")


def _spec(request: Request, model: str) -> NetworkSpec:
    return _service(request).registry.find(model).predictor.spec


def _attached(request: Request) -> Attached:
    attached: Attached = request.app.state.pacs
    return attached


def _service(request: Request) -> Service:
    service: Service | None = request.app.state.service
    if service is None:
        raise Refusal("not-ready")
    return service
