"""The routes that an orchestrator asks."""

from __future__ import annotations

from fastapi import APIRouter, Request

from medrail.serve.asked import service_of
from medrail.serve.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Whether the process lives")
async def healthz() -> Health:
    """Always 200 while the service answers at all."""
    return Health(status="ok")


@router.get("/readyz", summary="Whether models are loaded")
async def readyz(request: Request) -> Health:
    """200 as soon as every model is loaded and warm."""
    service_of(request)
    return Health(status="ready")
