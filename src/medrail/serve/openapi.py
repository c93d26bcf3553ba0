"""What the OpenAPI document says beyond the schemas: the form, the answers, and every problem with an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from medrail import __version__
from medrail.serve.problems import MEDIA_TYPE, PROBLEMS, Refusal, document
from medrail.serve.schemas import DISCLAIMER, ClassificationAnswer, ProblemDocument, SegmentationAnswer

_REQUEST_ID = "6f1c2a34-9d0e-4c57-8b7a-2f4e1d3c5b6a"
_DESCRIPTION = f"""A medical image in, a model's answer out: a class with probabilities, or a mask on the image's grid.

**{DISCLAIMER}**

Errors are `application/problem+json` with a `remedy` and the `request_id` under which the service's log knows them."""

_TIMINGS = {"upload": 2.1, "queue": 0.1, "decode": 3.4, "prepare": 1.9, "model": 8.2, "post": 0.3, "preview": 0.0}
_COMMON = {
    "bundle_id": "chest-xray/1@3f2a9c41d0e7",
    "inference_time_ms": 13.8,
    "timings_ms": _TIMINGS,
    "unlike_training": False,
    "ood_score": 1.07,
    "preview_png": None,
    "request_id": _REQUEST_ID,
    "disclaimer": DISCLAIMER,
}
_CLASSIFICATION = {
    "model_name": "chest-xray",
    "model_version": "1",
    **_COMMON,
    "task": "classification",
    "class_name": "pneumonia",
    "confidence": 0.93,
    "probabilities": {"normal": 0.07, "pneumonia": 0.93},
    "conformal_set": ["pneumonia"],
    "abstain": False,
    "findings": None,
    "thresholds": None,
}
_FINDINGS = {
    **_CLASSIFICATION,
    "model_name": "chest-findings",
    "bundle_id": "chest-findings/1@0c7d52ab9f13",
    "class_name": None,
    "confidence": None,
    "probabilities": {"effusion": 0.81, "mass": 0.12, "nodule": 0.56},
    "findings": ["effusion", "nodule"],
    "conformal_set": None,
    "thresholds": {"effusion": 0.5, "mass": 0.5, "nodule": 0.5},
}
_SEGMENTATION = {
    "model_name": "brain",
    "model_version": "2",
    **_COMMON,
    "bundle_id": "brain/2@81d4c0b7aa12",
    "task": "segmentation",
    "mask": {
        "shape": [91, 109, 91],
        "axes": ["D", "H", "W"],
        "spacing_mm": [2.0, 2.0, 2.0],
        "classes": [
            {"index": 0, "name": "background", "colour": None, "voxels": 673836, "volume_ml": 5390.688},
            {"index": 1, "name": "brain", "colour": "#e69f00", "voxels": 228793, "volume_ml": 1830.344},
        ],
        "encoding": "nifti.gz;base64",
        "data": "H4sIAAAAAAAA...",
    },
}

_ANSWERS = {
    "classification": {"summary": "A classifier", "value": _CLASSIFICATION},
    "findings": {"summary": "A classifier of several labels", "value": _FINDINGS},
    "segmentation": {"summary": "A segmenter", "value": _SEGMENTATION},
}

_BINARY = {"type": "string", "format": "binary"}
FORM_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "additionalProperties": False,
                "properties": {
                    "file": {
                        **_BINARY,
                        "description": "PNG, JPEG, TIFF, BMP, DICOM, NIfTI (.nii, .nii.gz), NRRD or MetaImage (.mha)",
                    },
                    "roi": {
                        **_BINARY,
                        "description": "for models that crop to a region of interest: its mask, on the image's grid",
                    },
                },
            }
        }
    },
}


def problems(*kinds: str) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of these kinds of problem, by status, each with an example."""
    responses: dict[int | str, dict[str, Any]] = {}
    for name in kinds:
        kind = PROBLEMS[name]
        response = responses.setdefault(
            kind.status,
            {"model": ProblemDocument, "description": kind.title, "content": {MEDIA_TYPE: {"examples": {}}}},
        )
        response["content"][MEDIA_TYPE]["examples"][name] = {
            "summary": kind.title,
            "value": document(Refusal(name), _REQUEST_ID),
        }
    return responses


_OF_THE_ADDRESS = {"not-found", "method-not-allowed"}
PREDICTION_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ClassificationAnswer | SegmentationAnswer,
        "description": "The model's answer",
        "content": {
            "application/json": {"examples": _ANSWERS},
            "application/x-nifti": {"schema": _BINARY},
            "application/gzip": {"schema": _BINARY},
            "image/png": {"schema": _BINARY},
        },
        "headers": {"Server-Timing": {"description": "where the time went", "schema": {"type": "string"}}},
    },
    **problems(*(name for name in PROBLEMS if name not in _OF_THE_ADDRESS and not name.startswith("pacs-"))),
}
PREDICTION_RESPONSES[429]["headers"] = {
    "Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}
}


def describe(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The function that makes the application's OpenAPI document, once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title="medrail",
                version=__version__,
                description=_DESCRIPTION,
                routes=app.routes,
                license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
                tags=[
                    {"name": "prediction", "description": "Ask a model"},
                    {"name": "models", "description": "What is served"},
                    {"name": "health", "description": "For orchestrators"},
                ],
            )
            _problems_are_problem_json(schema)
            answered = schema["paths"]["/v1/predict/image"]["post"]["responses"]["200"]["content"]
            answered["application/json"]["examples"] = _ANSWERS  # FastAPI leaves out what is null in them
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _problems_are_problem_json(schema: dict[str, Any]) -> None:
    """FastAPI files a response's model under the route's own media type; ours belongs to application/problem+json."""
    reference = {"$ref": "#/components/schemas/ProblemDocument"}
    for path in schema["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    examples = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
                    if not examples:
                        ours = problems("bad-parameter")[422]
                        examples = ours["content"][MEDIA_TYPE]["examples"]
                        response["description"] = ours["description"]
                    response["content"] = {MEDIA_TYPE: {"schema": reference, "examples": examples}}
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
