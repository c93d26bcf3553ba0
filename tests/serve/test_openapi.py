"""The OpenAPI document: complete, its examples true, and nothing happens that it does not say."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from medrail.serve import schemas
from medrail.serve.problems import PROBLEMS

OF_FORMS = {"200", "400", "403", "404", "406", "408", "413", "415", "422", "429", "500", "503"}
ROUTES = {
    ("post", "/v1/predict/image"): OF_FORMS,
    ("post", "/v1/predict/volume"): OF_FORMS | {"202"},
    ("post", "/v1/predict/batch"): OF_FORMS,
    ("post", "/v1/compare"): OF_FORMS | {"202"},
    ("post", "/v1/models/{name}/versions/{version}/predict"): OF_FORMS | {"202"},
    ("get", "/v1/models"): {"200", "500", "503"},
    ("get", "/v1/models/{name}"): {"200", "404", "500", "503"},
    ("get", "/v1/models/{name}/card"): {"200", "404", "500", "503"},
    ("get", "/v1/models/{name}/versions/{version}"): {"200", "404", "500", "503"},
    ("get", "/v1/models/{name}/versions/{version}/card"): {"200", "404", "500", "503"},
    ("get", "/v1/jobs/{job_id}"): {"200", "404", "500", "503"},
    ("delete", "/v1/jobs/{job_id}"): {"200", "204", "404", "500", "503"},
    ("get", "/v1/jobs/{job_id}/result"): {
        *("200", "400", "404", "406", "409", "410", "413", "415", "422", "500", "503"),
    },
    ("get", "/healthz"): {"200"},
    ("get", "/readyz"): {"200", "500", "503"},
}


OF_LAYERS = {"401", "403", "429", "431", "503", "507"}
"""What the layers around the routes may add: keys, rates, headers, a full disk."""
OF_V2 = {"bad-inference-request", "unsupported-encoding"}
OF_NO_ROUTE = {"method-not-allowed", "wrong-host"}


@pytest.fixture(scope="module")
def served(start_once, classifier, other_classifier, picture_segmenter, volume_segmenter) -> Any:
    return start_once(classifier, other_classifier, picture_segmenter, volume_segmenter)


@pytest.fixture(scope="module")
def schema(served) -> dict[str, Any]:
    found: dict[str, Any] = served.client.get("/openapi.json").json()
    return found


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Those of the service's own; /v2 is written as its protocol wants it (test_v2.py)."""
    for path, methods in schema["paths"].items():
        if path.startswith("/v2"):
            continue
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_says_what_may_happen(schema) -> None:
    found = {(method, path): set(said["responses"]) for method, path, said in operations(schema)}
    assert ROUTES.keys() <= found.keys()
    for route, statuses in ROUTES.items():
        assert statuses <= found[route], route
        assert found[route] - OF_LAYERS == statuses - OF_LAYERS, route
    named = set(re.findall(r"#/components/schemas/(\w+)", str(schema)))
    assert named == set(schema["components"]["schemas"])
    assert all(said["summary"] and said["description"] and said["tags"] for _, _, said in operations(schema))


def test_whoever_is_told_to_come_back_may_be_told_when(schema) -> None:
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            for status in {"429", "503", "507"} & operation["responses"].keys():
                assert "Retry-After" in operation["responses"][status]["headers"], (path, status)


def test_every_problem_has_its_example_at_a_route(schema) -> None:
    seen = set()
    for _, _, operation in operations(schema):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            assert list(response["content"]) == ["application/problem+json"]
            examples = response["content"]["application/problem+json"]["examples"]
            assert examples
            for name, example in examples.items():
                schemas.ProblemDocument.model_validate(example["value"])
                assert example["value"]["status"] == int(status) == PROBLEMS[name].status
                seen.add(name)
            if {"busy", "too-many-jobs", "job-not-done"} & set(examples):
                assert "Retry-After" in response["headers"]
    without_a_pacs = {kind for kind in PROBLEMS if not kind.startswith("pacs-")}
    assert seen == without_a_pacs - OF_NO_ROUTE - OF_V2


def test_the_examples_of_answers_are_answers(schema) -> None:
    checked = 0
    for _, _, operation in operations(schema):
        for response in operation["responses"].values():
            content = response.get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                reference = str(content["schema"])
                names = re.findall(r"schemas/(\w+)", reference)
                made = [TypeAdapter(getattr(schemas, name)) for name in names]
                valid = [adapter.validate_python(example["value"]) for adapter in made if _takes(adapter, example)]
                assert valid, example["summary"]
                assert valid[0].model_dump(mode="json").keys() == example["value"].keys()
                checked += 1
    assert checked > 15


def _takes(adapter: TypeAdapter[Any], example: dict[str, Any]) -> bool:
    try:
        adapter.validate_python(example["value"])
    except ValueError:
        return False
    return True


def test_forms_are_described(schema) -> None:
    for path, fields in (
        ("/v1/predict/image", {"file", "roi"}),
        ("/v1/predict/volume", {"file", "roi"}),
        ("/v1/compare", {"file", "roi"}),
        ("/v1/predict/batch", {"file"}),
    ):
        form = schema["paths"][path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert (form["required"], set(form["properties"])) == (["file"], fields)
    answered = schema["paths"]["/v1/predict/image"]["post"]["responses"]["200"]["content"]
    files = {"application/x-nifti", "application/gzip", "image/png", "application/dicom"}
    assert set(answered) == {"application/json", *files}
    assert set(answered["application/json"]["examples"]) == {"classification", "findings", "segmentation"}


@pytest.fixture(scope="module")
def fuzz() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "serving" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("serving_fuzz", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["serving_fuzz"] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module.fuzz


@pytest.mark.slow
def test_what_schemathesis_thinks_of_is_answered_as_documented(served, fuzz) -> None:
    """A few generated requests a route; ``benchmarks/serving/fuzz.py`` makes thousands."""
    report = fuzz(str(served.client.base_url), examples=3, seed=7)
    assert report.requests > 40
    assert not report.failures, report.failures
    assert {status // 100 for status in report.statuses} <= {2, 4}
    assert {200, 404} <= set(report.statuses)
    assert not served.left_over()
