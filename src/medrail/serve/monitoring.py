"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from medrail.serve.openapi import problems
from medrail.serve.problems import Refusal

router = APIRouter()


@router.get(
    "/metrics",
    tags=["health"],
    summary="Counters for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems("not-found")},
)
def metrics(request: Request) -> Response:
    """Requests, times by stage, batches, memory, models and drift, of all processes; text of Prometheus, 404 if off."""
    told = request.app.state.telemetry.exposition()
    if told is None:
        raise Refusal("not-found", "The metrics are off.", "Set serve.metrics to true.")
    content, media_type = told
    return Response(content, media_type=media_type)
