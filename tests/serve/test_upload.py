"""The form: its limits, its fields, its pace, and what happens when the sender goes away."""

from __future__ import annotations

import asyncio
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest

from medrail.serve import Settings
from medrail.serve.problems import Refusal
from medrail.serve.upload import receive


def kind_of(response: Any) -> str:
    return response.json()["type"].rpartition(":")[2]


def test_upload_above_the_limit(start, classifier, blob_png) -> None:
    service = start(classifier, max_upload_mb=0.01)
    response = service.predict(b"\0" * 200_000)
    assert (response.status_code, kind_of(response)) == (413, "too-large")
    assert "0.01 MiB" in response.json()["detail"]
    assert not service.left_over()
    assert service.predict(blob_png).status_code == 200


def test_limit_holds_without_a_declared_length(start, classifier) -> None:
    service = start(classifier, max_upload_mb=0.5)

    def body() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        for _ in range(40):
            yield b"\0" * 65_536
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = service.client.post("/v1/predict/image", content=body(), headers=headers)
    assert (response.status_code, kind_of(response)) == (413, "too-large")
    assert not service.left_over()


@pytest.mark.parametrize(
    ("content_type", "body", "status", "kind"),
    [
        ("application/json", b"{}", 415, "not-a-form"),
        ("image/png", b"\x89PNG\r\n\x1a\n", 415, "not-a-form"),
        ("", b"abc", 415, "not-a-form"),
        ("application/x-www-form-urlencoded", b"file=x", 415, "not-a-form"),
        ("multipart/form-data", b"", 400, "bad-form"),
        ("multipart/form-data; boundary=b", b"", 400, "bad-form"),
        ("multipart/form-data; boundary=b", b"not multipart at all", 400, "bad-form"),
        ("multipart/form-data; boundary=" + "b" * 400, b"", 400, "bad-form"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 400, "missing-file"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf of it',
            400,
            "bad-form",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n--b--\r\n",
            400,
            "unknown-field",
        ),
    ],
)
def test_wrong_forms(start, classifier, content_type, body, status, kind) -> None:
    service = start(classifier)
    headers = {"Content-Type": content_type} if content_type else {}
    response = service.client.post("/v1/predict/image", content=body, headers=headers)
    assert (response.status_code, kind_of(response)) == (status, kind)
    assert not service.left_over()


def test_wrong_fields(start, classifier, blob_png) -> None:
    service = start(classifier)
    post = service.client.post
    assert kind_of(post("/v1/predict/image", files={"picture": ("x", blob_png)})) == "unknown-field"
    assert kind_of(post("/v1/predict/image", files={"../../etc/x": ("x", blob_png)})) == "unknown-field"
    assert kind_of(post("/v1/predict/image", files={"roi": ("x", blob_png)})) == "missing-file"
    assert kind_of(post("/v1/predict/image", files=[("file", ("x", blob_png))] * 2)) == "bad-form"
    assert not service.left_over()


def test_names_and_types_given_by_the_sender_do_not_matter(start, classifier, blob_png) -> None:
    service = start(classifier)
    answers = []
    for name, content_type in (
        ("a.png", "image/png"),
        ("scan.dcm", "application/dicom"),
        ("../../x.html", "text/html"),
    ):
        response = service.client.post("/v1/predict/image", files={"file": (name, blob_png, content_type)})
        answers.append(response.json()["probabilities"])
    plain = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + blob_png + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answers.append(service.client.post("/v1/predict/image", content=plain, headers=headers).json()["probabilities"])
    assert all(answer == answers[0] for answer in answers)


def test_too_many_voxels(start, classifier, blob_png) -> None:
    response = start(classifier, max_megavoxels=0.004).predict(blob_png)
    assert (response.status_code, kind_of(response)) == (413, "too-many-voxels")


def _connection(service: Any, declared_bytes: int) -> socket.socket:
    connection = socket.create_connection((service.client.base_url.host, service.client.base_url.port))
    connection.sendall(
        b"POST /v1/predict/image HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc' % declared_bytes
    )
    return connection


def test_sender_that_stalls_is_let_go(start, classifier) -> None:
    service = start(classifier, upload_idle_s=0.2)
    with _connection(service, 1000) as connection:
        connection.settimeout(10)
        assert b"408" in connection.recv(200)
    assert not service.left_over()


def test_sender_that_goes_away_leaves_nothing(start, classifier, blob_png) -> None:
    service = start(classifier)
    _connection(service, 1000).close()
    deadline = time.monotonic() + 5
    while '"status": 499' not in service.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert '"status": 499' in service.log.read_text()
    assert not service.left_over()
    assert service.predict(blob_png).status_code == 200


def test_slow_upload_as_a_whole(tmp_path) -> None:
    async def drip() -> Any:
        yield b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        while True:
            await asyncio.sleep(0.01)
            yield b"x"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    request: Any = SimpleNamespace(headers=headers, stream=drip)
    settings = Settings(upload_timeout_s=0.2)
    with pytest.raises(Refusal) as refused:
        asyncio.run(receive(request, tmp_path, settings, required=["file"]))
    assert refused.value.kind == "upload-timeout"


def test_any_cut_into_chunks_gives_the_same_file(tmp_path) -> None:
    content = bytes(range(256)) * 3 + b"\r\n--b" + b"\r\n--\r\n"
    body = (
        b'--bound\r\nContent-Disposition: form-data; name="file"; filename="n"\r\n\r\n' + content + b"\r\n--bound--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=bound"}
    for size in (1, 2, 3, 7, 64, 5000):

        async def chunks(size: int = size) -> Any:
            for first in range(0, len(body), size):
                yield body[first : first + size]

        folder = tmp_path / str(size)
        folder.mkdir()
        request: Any = SimpleNamespace(headers=headers, stream=chunks)
        files = asyncio.run(receive(request, folder, Settings(), required=["file"]))
        assert files["file"].path.read_bytes() == content
        assert files["file"].bytes == len(content)
