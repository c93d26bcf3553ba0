"""Routes below /v1/admin/models: which version answers, a canary, a shadow, the way back. For whoever runs the service.

A change is made at once in the process that was asked, written into serving.json, and followed by the service's other
processes at their next look (``serve.watch_s``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from medrail.serve.access import needs
from medrail.serve.models import refused_bundles
from medrail.serve.openapi import problems
from medrail.serve.problems import Refusal
from medrail.serve.registry import Registry
from medrail.serve.schemas import RefusedBundle

router = APIRouter(prefix="/v1/admin/models", tags=["administration"], dependencies=[Depends(needs("admin"))])

Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_RESPONSES = problems("bad-form", "unknown-model", "version-conflict", "bad-parameter")


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pin(_Order):
    """The version that is to answer."""

    version: Version = Field("latest", description="latest: the newest one, whichever that is")


class Canary(_Order):
    """A version that is to answer some of the requests."""

    version: Version
    share: float = Field(ge=0, le=1, description="of the requests that name no version; 0 ends it")


class Shadow(_Order):
    """A version that is to answer, too, seen by nobody."""

    version: Version | None = Field(None, description="null ends it")


class ModelTraffic(BaseModel):
    """How a model's requests are divided."""

    name: str
    answers: str = Field(description="the version that answers requests which name none")
    latest: str = Field(description="the newest loaded version")
    loaded: list[str]
    pinned: str | None
    canary: str | None
    share: float
    shadow: str | None
    before: list[str] = Field(description="versions that answered before, newest last: what a rollback goes back to")


class Administration(BaseModel):
    """All models, and the bundles that are not served."""

    models: list[ModelTraffic]
    refused: list[RefusedBundle]


@router.get("", summary="How the requests are divided between versions")
async def administration(request: Request) -> Administration:
    """Of each model the version that answers, its pin, canary and shadow, and which bundles were refused, and why."""
    return _all(_registry(request))


@router.post("/{name}/pin", summary="Pin a version", responses=_RESPONSES)
def pin(request: Request, name: str, order: Pin) -> ModelTraffic:
    """From now on that version answers; it is loaded first where it is not. `latest` lets the newest one answer."""
    registry = _registry(request)
    registry.pin(name, order.version)
    return _traffic(registry, name)


@router.post("/{name}/canary", summary="Send a share of the requests to another version", responses=_RESPONSES)
def canary(request: Request, name: str, order: Canary) -> ModelTraffic:
    """Of n requests floor(n x share) go there, evenly; requests that name a version go where they say."""
    registry = _registry(request)
    registry.canary(name, order.version, order.share)
    return _traffic(registry, name)


@router.post("/{name}/shadow", summary="Let another version answer, unseen", responses=_RESPONSES)
def shadow(request: Request, name: str, order: Shadow) -> ModelTraffic:
    """Both answer, one is sent; the log's event `shadow` says how they differ."""
    registry = _registry(request)
    registry.shadow(name, order.version or "")
    return _traffic(registry, name)


@router.post("/{name}/rollback", summary="Go back to the version that answered before", responses=_RESPONSES)
def rollback(request: Request, name: str) -> ModelTraffic:
    """It is pinned, so that no newer version takes over; canary and shadow end."""
    registry = _registry(request)
    registry.rollback(name)
    return _traffic(registry, name)


@router.post("/reload", summary="Look at the models folder now")
def reload(request: Request) -> Administration:
    """What was refused is tried again, and a loaded version goes whose folder is not there any more."""
    registry = _registry(request)
    registry.reload()
    return _all(registry)


def _all(registry: Registry) -> Administration:
    names = dict.fromkeys(model.name for model in registry.models)
    return Administration(models=[_traffic(registry, name) for name in names], refused=refused_bundles(registry))


def _traffic(registry: Registry, name: str) -> ModelTraffic:
    traffic = registry.traffic(name)
    loaded = [model.version for model in registry.models if model.name == name]
    return ModelTraffic(
        name=name,
        answers=registry.find(name).version,
        latest=registry.find(f"{name}/latest").version,
        loaded=loaded,
        pinned=traffic.pinned or None,
        canary=traffic.canary or None,
        share=traffic.share,
        shadow=traffic.shadow or None,
        before=list(traffic.before),
    )


def _registry(request: Request) -> Registry:
    service = request.app.state.service
    if service is None:
        raise Refusal("not-ready")
    registry: Registry = service.registry
    return registry
