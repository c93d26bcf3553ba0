"""The route for several files in one form, each answered or refused by itself."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from medrail.serve.answers import Question, document, say, tell_shadows
from medrail.serve.archive import ArchiveLimits
from medrail.serve.asked import name_model, own_folder, service_of, wishes_of
from medrail.serve.audit import result_of
from medrail.serve.decode import ANYTHING, Upload
from medrail.serve.forms import Wishes, only_json
from medrail.serve.gate import share_of
from medrail.serve.openapi import BATCH_RESPONSES, SEVERAL_BODY
from medrail.serve.problems import NO_SPACE, Refusal
from medrail.serve.problems import document as document_of
from medrail.serve.registry import Chosen
from medrail.serve.schemas import BatchAnswer, BatchItem, ProblemDocument, Timings
from medrail.serve.service import Janitor, Service
from medrail.serve.settings import MEBIBYTE
from medrail.serve.upload import Received, receive_several
from medrail.serve.wanted import Unwanted, Watch

router = APIRouter(tags=["prediction"])
Part = Received | Refusal
"""A file that arrived, or why it counts as none."""
_NO_ITEMS = b'"items":[]'


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
    chosen = service.registry.choose(model)
    name_model(request, chosen.model)
    with service.workers.admitted():
        async with own_folder(service) as folder:
            begin = time.perf_counter()
            parts = await receive_several(request, folder, service.settings)
            upload_ms = (time.perf_counter() - begin) * 1e3
            _record(request, parts)
        room = _Room(service.settings.max_upload_bytes)
        held = _Folder(folder, service.janitor)
        batch = _Batch(service, chosen, wishes, request.state.request_id, upload_ms, held, room)
        items = await _all(request, batch, parts)
    request.state.record.update(result=batch.results, timings_ms=batch.timings_ms())
    answered = len(batch.results)
    frame = BatchAnswer(items=[], answered=answered, refused=len(items) - answered, request_id=request.state.request_id)
    return _streamed(_around(frame, items))


def _around(frame: BatchAnswer, items: Sequence[bytes]) -> list[bytes]:
    """The answer in pieces: each item is JSON already."""
    before, between, after = frame.model_dump_json().encode().partition(_NO_ITEMS)
    assert between  # noqa: S101 - the items are the first thing in it
    pieces = [before, _NO_ITEMS[:-1]]
    for number, item in enumerate(items):
        pieces += [b"," if number else b"", item]
    return [*pieces, _NO_ITEMS[-1:], after]


def _streamed(pieces: Sequence[bytes]) -> Response:
    """Sent piece by piece, so that the whole is never in memory twice."""

    async def each() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    headers = {"Content-Length": str(sum(map(len, pieces)))}
    return StreamingResponse(each(), headers=headers, media_type="application/json")


class _Room:
    """How much of the answers is held in memory; any thread may ask."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises Refusal ("too-large") where all answers together would be larger than a request may be."""
        with self._lock:
            if self._held + size > self._most:
                raise Refusal(
                    "too-large",
                    f"The answers together would be of more than {self._most / MEBIBYTE:g} MiB.",
                    "Send fewer files in a request, or ask for less: `mask=none`, no preview, no evidence.",
                )
            self._held += size


class _Folder:
    """The request's folder: it goes when the request has ended and no file in it is worked on any more."""

    def __init__(self, path: Path, janitor: Janitor) -> None:
        self._path = path
        self._janitor = janitor
        self._inside = 0
        self._left = False
        self._lock = threading.Lock()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Work on one of the files. Raises Refusal ("job-cancelled") where the request has ended."""
        with self._lock:
            if self._left:
                raise Refusal("job-cancelled")
            self._inside += 1
        try:
            yield
        finally:
            self._end(-1)

    def leave(self) -> None:
        """The request has ended."""
        with self._lock:
            self._left = True
        self._end(0)

    def _end(self, change: int) -> None:
        with self._lock:
            self._inside += change
            is_last = self._left and not self._inside
        if is_last:
            self._janitor.remove(self._path)


@dataclass(frozen=True)
class _Batch:
    """What is the same for all files of one request."""

    service: Service
    chosen: Chosen
    wishes: Wishes
    request_id: str
    upload_ms: float
    folder: _Folder
    room: _Room
    results: list[dict[str, Any]] = field(default_factory=list)
    """What the audit keeps of each answer, as they came."""
    timings: list[Timings] = field(default_factory=list)

    def timings_ms(self) -> dict[str, float]:
        """Of all answers together; the upload was one."""
        if not self.timings:
            return {}
        names = type(self.timings[0]).model_fields
        summed = {name: round(sum(getattr(each, name) for each in self.timings), 3) for name in names}
        return {**summed, "upload": round(self.upload_ms, 3)}

    def question(self, part: Received) -> Question:
        settings = self.service.settings
        upload = Upload({"file": part}, part.path.parent, settings.max_values, ANYTHING, ArchiveLimits.of(settings))
        return Question(
            upload,
            self.chosen.model,
            self.wishes,
            self.request_id,
            self.upload_ms,
            shadows=self.chosen.shadows,
        )


def _record(request: Request, parts: Sequence[Part]) -> None:
    """Let the audit know what was sent: each file's digest, and one for all of them."""
    received = [part for part in parts if isinstance(part, Received)]
    digests = [part.sha256 for part in received]
    whole = hashlib.sha256("".join(digests).encode()).hexdigest()
    request.state.record.update(
        input_sha256=whole, inputs_sha256=digests, input_bytes=sum(part.bytes for part in received), files=len(parts)
    )


async def _all(request: Request, batch: _Batch, parts: Sequence[Part]) -> list[bytes]:
    """As many at a time as there are cores, so that one request does not fill the line of all the others."""
    places = asyncio.Semaphore(share_of(batch.service.settings))

    async def one(index: int, part: Part) -> bytes:
        async with places:
            return await _item(request, batch, index, part)

    try:
        found = await asyncio.gather(*(one(*entry) for entry in enumerate(parts)), return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException):
                raise each
        return [each for each in found if isinstance(each, bytes)]
    finally:
        batch.folder.leave()


async def _item(request: Request, batch: _Batch, index: int, part: Part) -> bytes:
    """As JSON, which is made on the worker's thread, too."""
    watch = Watch()
    try:
        if isinstance(part, Refusal):
            raise part
        work = partial(_answered, batch, index, part, watch)
        item, result, timings = await batch.service.work(request, part.path.parent, work)
        batch.results.append(result)
        batch.timings.append(timings)
        return item
    except Refusal as refusal:
        return _refused(index, refusal, batch.request_id)
    except ClientDisconnect:
        raise
    except Exception as error:  # noqa: BLE001 - one file's failure is not the others'
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return _refused(index, Refusal("no-space"), batch.request_id)
        batch.service.log.unexpected(error, batch.request_id)
        return _refused(index, Refusal("internal"), batch.request_id)
    finally:
        watch.stop()


def _refused(index: int, refusal: Refusal, request_id: str) -> bytes:
    problem = ProblemDocument.model_validate(document_of(refusal, request_id))
    return BatchItem(index=index, status=problem.status, problem=problem).model_dump_json().encode()


def _answered(batch: _Batch, index: int, part: Received, watch: Watch) -> tuple[bytes, dict[str, Any], Timings]:
    """The item, what the audit keeps of it, and where the time went."""
    service, question = batch.service, batch.question(part)
    try:
        with batch.folder.inside():
            said = say(question, service.registry.gate, watch)
            tell_shadows(question, said, service.shadows)
            made = document(question, said)
        item = BatchItem(index=index, status=200, answer=made).model_dump_json().encode()
        batch.room.take(len(item))
        return item, result_of(said.prediction), made.timings_ms
    except Unwanted:
        raise Refusal("job-cancelled") from None
