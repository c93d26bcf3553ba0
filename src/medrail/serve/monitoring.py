"""GET /metrics, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from medrail.serve.metrics import telemetry_of
from medrail.serve.openapi import problems
from medrail.serve.problems import Refusal

router = APIRouter()
_EXAMPLE = {
    "schema": {"type": "string"},
    "example": '# TYPE medrail_model_info gauge\nmedrail_model_info{model="chest",version="1"} 1.0\n',
}


@router.get(
    "/metrics",
    tags=["health"],
    summary="Counters for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": _EXAMPLE}}, **problems("not-found")},
)
def metrics(request: Request) -> Response:
    """Requests, times by stage, batches, memory, models and drift, of all processes; text of Prometheus, 404 if off."""
    told = telemetry_of(request.scope).exposition()
    if told is None:
        raise Refusal("not-found", "The metrics are off.", "Set serve.metrics to true.")
    content, media_type = told
    return Response(content, media_type=media_type)
