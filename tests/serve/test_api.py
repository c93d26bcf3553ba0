"""Models, health, documentation, headers, and the form of every error."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medrail import errors
from medrail.serve.forms import negotiate
from medrail.serve.problems import ERRORS, PROBLEMS, Refusal, document, refusal_of


def test_models_and_card(start, classifier, volume_segmenter) -> None:
    client = start(classifier, volume_segmenter, max_upload_mb=7).client
    listed = client.get("/v1/models").json()
    assert [model["name"] for model in listed["models"]] == ["chest", "brain"]
    assert [model["default"] for model in listed["models"]] == [True, False]
    assert listed["models"][1]["classes"] == ["background", "brain", "ventricle"]
    assert listed["models"][1]["metrics"]["dice"]["low"] == 0.941
    assert listed["max_upload_bytes"] == 7 * 1024 * 1024
    assert {"dicom", "nifti", "png", "jpeg"} <= set(listed["formats"])
    card = client.get("/v1/models/brain/card")
    assert card.headers["content-type"].startswith("text/markdown")
    assert card.text.startswith("# brain 1")
    assert "测试用" in card.text
    assert client.get("/v1/models/nobody/card").status_code == 404


def test_versions_of_a_model(start, volume_segmenter, other_volume_segmenter, classifier) -> None:
    client = start(volume_segmenter, other_volume_segmenter, classifier).client
    listed = client.get("/v1/models").json()["models"]
    found = client.get("/v1/models/brain").json()
    assert found["name"] == "brain"
    assert found["versions"] == [card for card in listed if card["name"] == "brain"]
    assert sorted(card["version"] for card in found["versions"]) == ["1", "2"]
    for card in found["versions"]:
        assert client.get(f"/v1/models/brain/versions/{card['version']}").json() == card
        text = client.get(f"/v1/models/brain/versions/{card['version']}/card")
        assert text.headers["content-type"].startswith("text/markdown")
        assert text.text.startswith(f"# brain {card['version']}")
    for path in ("nobody", "brain/versions/9", "nobody/versions/1", "brain/versions/9/card"):
        unknown = client.get(f"/v1/models/{path}")
        assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:medrail:problem:unknown-model")


def test_health(start, classifier) -> None:
    client = start(classifier).client
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/v1/predict/image", 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/predict/image?preview=perhaps", 422),
        ("POST", "/v1/compare", 422),
        ("GET", "/v1/jobs/none", 404),
        ("DELETE", "/v1/jobs/none", 404),
        ("POST", "/v1/jobs/none/result", 405),
    ],
)
def test_every_error_is_a_problem(start, classifier, method, path, status) -> None:
    response = start(classifier).client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == {"type", "title", "status", "detail", "remedy", "request_id"}
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert ("allow" in response.headers) == (status == 405)


def test_image_of_another_kind(start, picture_classifier, head_nifti) -> None:
    response = start(picture_classifier).predict(head_nifti.read_bytes())
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:medrail:problem:unsuitable-image"
    assert "volume" in problem["detail"]
    assert "picture" in problem["detail"]
    assert "/" not in problem["detail"].replace(" / ", "")
    assert "single picture " in problem["remedy"]


def test_a_picture_for_a_network_of_volumes_is_told_which_file_to_send(start, volume_segmenter, blob_png) -> None:
    """One file is all that a request holds, so "all files of a series" would help nobody."""
    response = start(volume_segmenter).predict(blob_png)
    assert response.status_code == 422
    assert "one file that holds it (NIfTI" in response.json()["remedy"]


def test_unexpected_error_shows_nothing(start, classifier, blob_png, monkeypatch) -> None:
    service = start(classifier)

    def broken(*_: object) -> None:
        raise ValueError("secret of Jane Doe in /home/someone")

    monkeypatch.setattr(service.app.state.service.registry.default.predictor, "pipeline", broken)
    response = service.predict(blob_png)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "ValueError" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]
    log = service.log.read_text()
    assert response.json()["request_id"] in log
    assert "ValueError" in log
    assert "broken" in log
    assert "secret" not in log
    assert not service.left_over()


def test_security_headers(start, classifier) -> None:
    client = start(classifier).client
    for path in ("/", "/v1/models", "/docs", "/nothing", "/static/page.js"):
        headers = client.get(path, headers={"Origin": "https://elsewhere.example"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "access-control-allow-origin" not in headers
    assert "unsafe-inline" not in client.get("/").headers["content-security-policy"]


def test_other_web_sites_are_refused(start, classifier, blob_png) -> None:
    service = start(classifier)
    assert service.predict(blob_png, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert service.predict(blob_png, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_request_id_is_kept_only_if_it_is_one(start, classifier) -> None:
    client = start(classifier).client
    mine = "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert client.get("/healthz", headers={"X-Request-ID": mine}).headers["x-request-id"] == mine
    other = client.get("/healthz", headers={"X-Request-ID": "Jane Doe"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", other)


@pytest.mark.parametrize("page", ["/", "/docs", "/redoc"])
def test_pages_need_nothing_from_elsewhere(start, classifier, page: str) -> None:
    client = start(classifier).client
    text = client.get(page).text
    assert not re.search(r"(src|href)=\"(https?:)?//", text)
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert "style=" not in text
    assert not re.search(r"\son\w+=", text)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', text):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert len(answer.content) > 100


def test_the_page_says_everything_in_both_languages(start, classifier) -> None:
    client = start(classifier).client
    words = client.get("/static/words.js").text
    english, chinese = (words.partition(f"  {language}: {{\n")[2].partition("\n  },")[0] for language in ("en", "zh"))
    names = [re.findall(r"^    (\w+):", part, re.MULTILINE) for part in (english, chinese)]
    assert names[0] == names[1]
    assert len(names[0]) > 40
    used = set(re.findall(r'data-word="(\w+)"', client.get("/").text))
    used |= set(re.findall(r'\bword\((?:is\w+ \? )?"(\w+)"', client.get("/static/page.js").text))
    assert used <= set(names[0])
    translated = set(re.findall(r'^  "([\w-]+)": \[', words, re.MULTILINE))
    of_the_page = {kind for kind in PROBLEMS if not kind.startswith("pacs-")}
    assert translated == of_the_page - {
        "not-found",
        "method-not-allowed",
        "bad-inference-request",
        "unsupported-encoding",
    }


def _all_errors(kind: type = errors.MedrailError) -> list[type]:
    return [kind, *(deeper for below in kind.__subclasses__() for deeper in _all_errors(below))]


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_medrail_error_has_its_problem(kind: type[errors.MedrailError]) -> None:
    refusal = refusal_of(kind("found it", needed="that", where="/srv/x", remedy="Do this."))
    body = document(refusal, "id")
    assert body["status"] in (415, 422, 500)
    assert "/srv/x" not in str(body)
    expects_detail = issubclass(kind, errors.DataError | errors.PrepareError | errors.InputError)
    assert (body["detail"] == "Found it; needed: that.") == expects_detail


@pytest.mark.parametrize(
    ("found", "name", "detail"),
    [
        ("looks like a PDF document", "file", "The file looks like a PDF document."),
        ("is empty", "roi", "The file of the region of interest is empty."),
        ("truncated: holds 3 bytes", "file", "The file: truncated: holds 3 bytes."),
        ("the header is broken", "other", "The header is broken."),
    ],
)
def test_details_are_sentences(found: str, name: str, detail: str) -> None:
    error = errors.CorruptFile(found, where=f"/tmp/somewhere/{name}")
    assert document(refusal_of(error), "id")["detail"] == detail


def test_tables_agree() -> None:
    assert set(ERRORS.values()) <= set(PROBLEMS)
    assert all(kind.title and 400 <= kind.status < 600 for kind in PROBLEMS.values())


def test_paths_of_uploads_never_leave(tmp_path: Path) -> None:
    error = errors.CorruptFile(f"{tmp_path}/file is broken", remedy=f"Look at {tmp_path}/roi")
    body = document(refusal_of(error, tmp_path), "id")
    assert str(tmp_path) not in str(body)
    assert "the upload" in body["remedy"]


@pytest.mark.parametrize(
    ("accept", "task", "answer"),
    [
        ("", "segmentation", "application/json"),
        ("*/*", "segmentation", "application/json"),
        ("text/html, */*;q=0.8", "classification", "application/json"),
        ("application/x-nifti", "segmentation", "application/x-nifti"),
        ("application/json;q=0.5, image/png", "segmentation", "image/png"),
        ("image/*", "segmentation", "image/png"),
        ("application/*", "segmentation", "application/json"),
        ("image/png;q=broken", "segmentation", "image/png"),
        ("image/png, application/json;q=0.1", "classification", "application/json"),
        ("application/dicom", "classification", "application/dicom"),
        ("application/dicom, */*;q=0.1", "segmentation", "application/dicom"),
    ],
)
def test_negotiation(accept: str, task: str, answer: str) -> None:
    assert negotiate(accept, task) == answer


@pytest.mark.parametrize(("accept", "task"), [("image/png", "classification"), ("text/html", "segmentation")])
def test_negotiation_refuses(accept: str, task: str) -> None:
    with pytest.raises(Refusal):
        negotiate(accept, task)
