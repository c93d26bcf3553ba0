"""The route for several files in one form, each answered or refused by itself."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from medrail.serve.answers import Question, document, say
from medrail.serve.archive import ArchiveLimits
from medrail.serve.asked import name_model, own_folder, service_of, wishes_of
from medrail.serve.decode import ANYTHING, Upload
from medrail.serve.forms import Wishes, only_json
from medrail.serve.openapi import BATCH_RESPONSES, SEVERAL_BODY
from medrail.serve.problems import Refusal
from medrail.serve.problems import document as document_of
from medrail.serve.registry import ServedModel
from medrail.serve.schemas import BatchAnswer, BatchItem, ClassificationAnswer, ProblemDocument, SegmentationAnswer
from medrail.serve.service import Service
from medrail.serve.upload import Received, receive_several
from medrail.serve.wanted import Unwanted, Watch
from medrail.serve.workers import Gate, usable_cores

router = APIRouter(tags=["prediction"])
Part = Received | Refusal
"""A file that arrived, or why it counts as none."""


@router.post(
    "/v1/predict/batch",
    summary="Classify or segment several images",
    responses=BATCH_RESPONSES,
    openapi_extra={"requestBody": SEVERAL_BODY},
    response_class=Response,
)
async def predict_batch(
    request: Request,
    wishes: Annotated[Wishes, Depends(wishes_of)],
    model: Annotated[str, Query(description="NAME or NAME/VERSION of a served model; empty: the default")] = "",
) -> Response:
    """Send several files, each as a field `file` of one form. The answer has an item for each, in their order: its
    answer, or the problem that it would have had alone.
    """
    service = service_of(request)
    only_json(request.headers.get("accept", ""))
    chosen = service.registry.find(model)
    name_model(request, chosen)
    with service.workers.admitted():
        async with own_folder(service) as folder:
            begin = time.perf_counter()
            parts = await receive_several(request, folder, service.settings)
            batch = _Batch(service, chosen, wishes, request.state.request_id, (time.perf_counter() - begin) * 1e3)
            _record(request, parts)
        items = await _all(request, batch, parts, folder)
    answered = [item for item in items if item.answer is not None]
    request.state.record["result"] = {"answered": len(answered), "refused": len(items) - len(answered)}
    answer = BatchAnswer(
        items=items,
        answered=len(answered),
        refused=len(items) - len(answered),
        request_id=request.state.request_id,
    )
    return Response(answer.model_dump_json(), media_type="application/json")


@dataclass(frozen=True)
class _Batch:
    """What is the same for all files of one request."""

    service: Service
    model: ServedModel
    wishes: Wishes
    request_id: str
    upload_ms: float

    def question(self, part: Received) -> Question:
        settings = self.service.settings
        upload = Upload({"file": part}, part.path.parent, settings.max_values, ANYTHING, ArchiveLimits.of(settings))
        return Question(upload, self.model, self.wishes, self.request_id, self.upload_ms)


def _record(request: Request, parts: Sequence[Part]) -> None:
    """Let the audit know what was sent: each file's digest, and one for all of them."""
    received = [part for part in parts if isinstance(part, Received)]
    digests = [part.sha256 for part in received]
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    request.state.record.update(
        input_sha256=whole, inputs_sha256=digests, input_bytes=sum(part.bytes for part in received), files=len(parts)
    )


async def _all(request: Request, batch: _Batch, parts: Sequence[Part], folder: Path) -> list[BatchItem]:
    """As many at a time as there are cores, so that one request does not fill the line of all the others."""
    places = asyncio.Semaphore(usable_cores())

    async def one(index: int, part: Part) -> BatchItem:
        async with places:
            return await _item(request, batch, index, part)

    try:
        found = await asyncio.gather(*(one(*entry) for entry in enumerate(parts)), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, BatchItem)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _item(request: Request, batch: _Batch, index: int, part: Part) -> BatchItem:
    watch = Watch()
    try:
        if isinstance(part, Refusal):
            raise part
        question = batch.question(part)
        work = partial(_answered, question, batch.service.registry.gate, watch)
        return BatchItem(index=index, status=200, answer=await batch.service.work(request, part.path.parent, work))
    except Refusal as refusal:
        return _refused(index, refusal, batch.request_id)
    except ClientDisconnect:
        raise
    except Exception as error:  # noqa: BLE001 - one file's failure is not the others'
        batch.service.log.unexpected(error, batch.request_id)
        return _refused(index, Refusal("internal"), batch.request_id)
    finally:
        watch.stop()


def _refused(index: int, refusal: Refusal, request_id: str) -> BatchItem:
    problem = ProblemDocument.model_validate(document_of(refusal, request_id))
    return BatchItem(index=index, status=problem.status, problem=problem)


def _answered(question: Question, gate: Gate, watch: Watch) -> ClassificationAnswer | SegmentationAnswer:
    try:
        return document(question, say(question, gate, watch))
    except Unwanted:
        raise Refusal("job-cancelled") from None
