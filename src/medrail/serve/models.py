"""The routes that say what is served."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from medrail.serve.asked import Name, Version, service_of
from medrail.serve.decode import ZIP
from medrail.serve.openapi import CARD_RESPONSES, problems
from medrail.serve.problems import Refusal
from medrail.serve.registry import Registry, ServedModel
from medrail.serve.schemas import ModelCard, ModelList, ModelVersions, RefusedBundle
from medrail.serve.screen import SCREENS

router = APIRouter(tags=["models"])


@router.get("/v1/models", summary="The served models and the limits")
async def list_models(request: Request) -> ModelList:
    """The first model is the default."""
    service = service_of(request)
    return ModelList(
        models=[_card(model, service.registry) for model in service.registry.models],
        refused=refused_bundles(service.registry),
        formats=sorted([*SCREENS, ZIP]),
        max_upload_bytes=service.settings.max_upload_bytes,
    )


@router.get("/v1/models/{name}", summary="The served versions of a model", responses=problems("unknown-model"))
async def model_versions(request: Request, name: Name) -> ModelVersions:
    """The first one is the one that answers where only the model's name is given."""
    registry = service_of(request).registry
    found = [model for model in registry.models if model.name == name]
    if not found:
        raise Refusal("unknown-model", f"Served here: {', '.join(sorted({each.name for each in registry.models}))}.")
    return ModelVersions(name=name, versions=[_card(model, registry) for model in found])


@router.get(
    "/v1/models/{name}/versions/{version}", summary="One version of a model", responses=problems("unknown-model")
)
async def model_version(request: Request, name: Name, version: Version) -> ModelCard:
    """What is known of it."""
    registry = service_of(request).registry
    return _card(registry.find(f"{name}/{version}"), registry)


@router.get(
    "/v1/models/{name}/card", summary="A model's card", response_class=PlainTextResponse, responses=CARD_RESPONSES
)
async def model_card(request: Request, name: Name) -> Response:
    """What the model is for, what it was trained and tested on, and how well it did; Markdown."""
    return _markdown(service_of(request).registry.find(name))


@router.get(
    "/v1/models/{name}/versions/{version}/card",
    summary="A version's card",
    response_class=PlainTextResponse,
    responses=CARD_RESPONSES,
)
async def version_card(request: Request, name: Name, version: Version) -> Response:
    """As the model's card."""
    return _markdown(service_of(request).registry.find(f"{name}/{version}"))


def refused_bundles(registry: Registry) -> list[RefusedBundle]:
    """What lies in the models folder and is not served."""
    return [RefusedBundle(name=one.name, version=one.version, reason=one.reason) for one in registry.refused]


def _markdown(model: ServedModel) -> Response:
    return PlainTextResponse(model.card, media_type="text/markdown")


def _card(model: ServedModel, registry: Registry) -> ModelCard:
    spec = model.predictor.spec
    return ModelCard(
        name=model.name,
        version=model.version,
        bundle_id=model.predictor.bundle_id,
        default=registry.is_default(model),
        task=spec.task,
        classes=list(spec.classes),
        multi_label=spec.multi_label,
        dims=spec.dims,
        input=str(spec.input_kind),
        needs_roi=spec.needs_roi,
        has_evidence=spec.task == "classification" and model.predictor.has_evidence,
        engine=str(model.predictor.taken.choice) if model.predictor.taken else "",
        metrics={name: dict(values) for name, values in model.manifest.metrics.items()},
    )
