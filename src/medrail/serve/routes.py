"""The service's routes: one file a noun, put together here."""

from __future__ import annotations

from fastapi import APIRouter

from medrail.serve import compare, health, job_routes, models, predict, several

router = APIRouter()
for part in (predict, several, compare, job_routes, models, health):
    router.include_router(part.router)
