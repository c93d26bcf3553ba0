"""What the OpenAPI document says beyond the schemas: the form, the answers, and every problem with an example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from medrail import __version__
from medrail.serve.access import describe_keys
from medrail.serve.examples import A_BATCH, A_CANCELLED_JOB, A_JOB, ANSWERS, BY_SUMMARY, COMPARISONS, REQUEST_ID
from medrail.serve.problems import MEDIA_TYPE, PROBLEMS, Refusal, document
from medrail.serve.schemas import (
    DISCLAIMER,
    BatchAnswer,
    ClassificationAnswer,
    CompareAnswer,
    JobAnswer,
    ProblemDocument,
    SegmentationAnswer,
)

_DESCRIPTION = f"""A medical image in, a model's answer out: a class with probabilities, or a mask on the image's grid.

**{DISCLAIMER}**

Errors are `application/problem+json` with a `remedy` and the `request_id` under which the service's log knows them."""

Responses = dict[int | str, dict[str, Any]]

_BINARY = {"type": "string", "format": "binary"}
_IMAGE = {
    **_BINARY,
    "description": "PNG, JPEG, TIFF, BMP, DICOM, NIfTI (.nii, .nii.gz), NRRD or MetaImage (.mha), or a zip of one DICOM"
    " series; /v1/predict/volume takes no plain pictures",
}
_ROI = {**_BINARY, "description": "for models that crop to a region of interest: its mask, on the image's grid"}


def _form(**fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "additionalProperties": False, "properties": fields}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


FORM_BODY = _form(file=_IMAGE, roi=_ROI)
SEVERAL_BODY = _form(file={"type": "array", "items": _IMAGE, "minItems": 1})


RETRY = {"Retry-After": {"description": "seconds after which to try again", "schema": {"type": "integer"}}}
TO_TRY_AGAIN = (409, 429, 503, 507)


def problems(*kinds: str) -> Responses:
    """The OpenAPI responses of these kinds of problem, by status, each with an example."""
    responses: Responses = {}
    for name in kinds:
        kind = PROBLEMS[name]
        response = responses.setdefault(
            kind.status,
            {"model": ProblemDocument, "description": kind.title, "content": {MEDIA_TYPE: {"examples": {}}}},
        )
        response["content"][MEDIA_TYPE]["examples"][name] = {
            "summary": kind.title,
            "value": document(Refusal(name), REQUEST_ID),
        }
        if kind.status in TO_TRY_AGAIN:
            response["headers"] = RETRY
    return responses


_OF_FORMS = (
    *("bad-form", "missing-file", "unknown-field", "unknown-model", "not-acceptable", "upload-timeout"),
    *("too-large", "not-a-form", "bad-parameter", "busy"),
)
_OF_FILES = (
    *("too-late", "no-space"),
    *("empty-file", "too-many-voxels", "archive-too-large", "unsupported-format", "corrupt-file", "unsafe-archive"),
    *("unreadable-file", "unfitting-geometry", "unsuitable-image", "preparation-failed", "model-failed"),
)
EVERYWHERE = ("internal", "not-ready")
"""Kinds of problem that every route but /healthz may answer with."""
OF_POSTS = ("cross-site",)
"""And every route that takes a form."""

_TIMED = {"Server-Timing": {"description": "where the time went", "schema": {"type": "string"}}}
_FILES: dict[str, Any] = {
    name: {"schema": _BINARY} for name in ("application/x-nifti", "application/gzip", "image/png", "application/dicom")
}
_ANSWERED: Responses = {
    200: {
        "model": ClassificationAnswer | SegmentationAnswer,
        "description": "The model's answer",
        "content": {"application/json": {"examples": ANSWERS}, **_FILES},
        "headers": _TIMED,
    }
}
PREDICTION_RESPONSES = _ANSWERED | problems(*_OF_FORMS, *_OF_FILES)
COMPARE_RESPONSES: Responses = {
    200: {
        "model": CompareAnswer,
        "description": "Both answers and the difference",
        "content": {"application/json": {"examples": COMPARISONS}},
        "headers": _TIMED,
    },
    **problems(*_OF_FORMS, *_OF_FILES, "not-comparable"),
}
BATCH_RESPONSES: Responses = {
    200: {
        "model": BatchAnswer,
        "description": "An item for each file: its answer or its problem",
        "content": {"application/json": {"examples": A_BATCH}},
    },
    **problems(*_OF_FORMS, "too-many-files"),
}
OR_A_JOB: Responses = {
    202: {
        "model": JobAnswer,
        "description": "The work goes on as a job",
        "content": {"application/json": {"examples": A_JOB}},
        "headers": {
            "Location": {"description": "of the job", "schema": {"type": "string"}},
            **RETRY,
            "Preference-Applied": {"description": "`respond-async`", "schema": {"type": "string"}},
        },
    },
    **problems("busy", "too-many-jobs"),
}
JOB_RESPONSES: Responses = {
    200: {"content": {"application/json": {"examples": A_JOB}}},
    **problems("unknown-job"),
}
CANCEL_RESPONSES: Responses = {
    200: {
        "model": JobAnswer,
        "description": "It is cancelled",
        "content": {"application/json": {"examples": A_CANCELLED_JOB}},
    },
    204: {"description": "It had ended, and is gone"},
    **problems("unknown-job"),
}
RESULT_RESPONSES = _ANSWERED | problems("unknown-job", "job-not-done", "job-cancelled", "not-acceptable", *_OF_FILES)
RESULT_RESPONSES[200] = _ANSWERED[200] | {
    "model": ClassificationAnswer | SegmentationAnswer | CompareAnswer,
    "headers": {},
}
CARD_RESPONSES: Responses = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}},
    **problems("unknown-model"),
}


def _problem_responses(*kinds: str) -> dict[str, Any]:
    """As ``problems``, in the words of the finished document."""
    reference = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        str(status): {
            "description": response["description"],
            "content": {MEDIA_TYPE: {"schema": reference, **response["content"][MEDIA_TYPE]}},
            **({"headers": response["headers"]} if "headers" in response else {}),
        }
        for status, response in problems(*kinds).items()
    }


OF_KEYS = ("unauthorised", "forbidden", "cross-site", "too-many-requests", "large-headers", "timed-out")


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
                    {"name": "jobs", "description": "What goes on after the answer 202"},
                    {"name": "models", "description": "What is served"},
                    {"name": "health", "description": "For orchestrators"},
                ],
            )
            if app.state.pacs is not None:
                _add_pacs_answer(schema)
            _add_common(schema)
            _problems_are_problem_json(schema)
            _restore_nulls(schema)
            describe_keys(schema, _problem_responses(*OF_KEYS))
            app.openapi_schema = schema
        return app.openapi_schema

    return openapi


def _add_pacs_answer(schema: dict[str, Any]) -> None:
    """The result of a job of /v1/pacs; a service without a PACS has none, and does not load what describes it."""
    from medrail.serve.pacs.schemas import PacsAnswer

    made = PacsAnswer.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    known = schema["components"]["schemas"]
    for name, definition in made.pop("$defs", {}).items():
        known.setdefault(name, definition)
    known["PacsAnswer"] = made
    content = schema["paths"]["/v1/jobs/{job_id}/result"]["get"]["responses"]["200"]["content"]["application/json"]
    content["schema"]["anyOf"].append({"$ref": "#/components/schemas/PacsAnswer"})


def _add_common(schema: dict[str, Any]) -> None:
    """What may happen everywhere needs to be said at no route."""
    for address, path in schema["paths"].items():
        if address == "/healthz":
            continue
        for method, operation in path.items():
            kinds = (*EVERYWHERE, *(OF_POSTS if method == "post" else ()))
            for status, response in problems(*kinds).items():
                there = operation["responses"].setdefault(str(status), {"description": response["description"]})
                content = there.setdefault("content", {}).setdefault(MEDIA_TYPE, {})
                content.setdefault("examples", {}).update(response["content"][MEDIA_TYPE]["examples"])
                if "headers" in response:
                    there["headers"] = there.get("headers", {}) | response["headers"]


def _restore_nulls(schema: dict[str, Any]) -> None:
    """FastAPI leaves out of examples what is null in them."""
    for path in schema["paths"].values():
        for operation in path.values():
            for response in operation["responses"].values():
                examples = response.get("content", {}).get("application/json", {}).get("examples", {})
                for example in examples.values():
                    example["value"] = BY_SUMMARY.get(example["summary"], example["value"])


def _problems_are_problem_json(schema: dict[str, Any]) -> None:
    """FastAPI files a response's model under the route's own media type; ours belongs to application/problem+json."""
    reference = {"$ref": "#/components/schemas/ProblemDocument"}
    for path in schema["paths"].values():
        for operation in path.values():
            if not operation["responses"].get("422", {}).get("content", {}).get(MEDIA_TYPE):
                operation["responses"].pop("422", None)  # FastAPI adds it where a parameter is a plain text
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    examples = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
                    response["content"] = {MEDIA_TYPE: {"schema": reference, "examples": examples}}
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
