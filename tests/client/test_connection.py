"""Patience with a busy service, and what an error says."""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medrail
from medrail.client import Client
from medrail.client.connection import _retry_after_s
from medrail.errors import ConfigError, MedrailError, ServiceBusy, ServiceError, ServiceUnreachable

MODELS = httpx.Response(200, json={"models": []})


def test_an_error_says_what_the_service_said(stub, problem) -> None:
    client = stub(lambda _: problem("unsuitable-image", 422))
    with pytest.raises(ServiceError) as raised:
        client.predict(b"x")
    error = raised.value
    assert str(error) == ("POST /v1/predict/image: The image is a volume; needed: a picture. Use a single picture.")
    assert (error.kind, error.status) == ("unsuitable-image", 422)
    assert error.request_id.startswith("6f1c2a34")
    assert isinstance(error, MedrailError)
    assert not isinstance(error, ServiceBusy)


@pytest.mark.parametrize("content", [b"<html>Bad gateway</html>", b"[]", b'"x"', b'{"detail": 5}', b"\xff"])
def test_an_error_of_something_else_is_one_all_the_same(stub, content) -> None:
    client = stub(lambda _: httpx.Response(502, content=content))
    with pytest.raises(ServiceError, match="status 502"):
        client.models()


@pytest.mark.parametrize(
    "content", [b"<html></html>", b"[]", b"{}", b'{"task": "poetry"}', b'{"task": "segmentation"}']
)
def test_an_answer_of_something_else_is_named(stub, content) -> None:
    with pytest.raises(ServiceError, match="medrail's service"):
        stub(lambda _: httpx.Response(200, content=content)).predict(b"x")


def test_a_busy_service_is_asked_again_after_what_it_said(stub, problem, waits) -> None:
    answers = [problem("busy", 429, retry_after="3"), problem("not-ready", 503, retry_after="1"), MODELS]
    assert stub(lambda _: answers.pop(0)).models() == ()
    assert 3 <= waits[0] <= 3 * 1.25
    assert 1 <= waits[1] <= 1.25


def test_without_a_word_it_waits_longer_each_time(stub, problem, waits) -> None:
    with pytest.raises(ServiceBusy) as raised:
        stub(lambda _: problem("busy", 429), retries=4).models()
    assert raised.value.status == 429
    assert len(waits) == 4
    assert all(0.25 * 2**n <= wait <= 0.25 * 2**n * 1.25 for n, wait in enumerate(waits))


def test_patience_ends(stub, problem, waits) -> None:
    calls = []

    def busy(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return problem("busy", 429, retry_after="20")

    with pytest.raises(ServiceBusy):
        stub(busy, max_wait_s=60).models()
    assert sum(waits) <= 60
    assert len(calls) == len(waits) + 1
    with pytest.raises(ServiceBusy):
        stub(lambda _: problem("busy", 429, retry_after="3600"), max_wait_s=60).models()
    assert sum(waits) <= 60


def test_waits_are_not_all_the_same(stub, problem, waits) -> None:
    for _ in range(8):
        answers = [problem("busy", 429, retry_after="2"), MODELS]
        stub(lambda _, answers=answers: answers.pop(0)).models()
    assert len(set(waits)) > 1


@pytest.mark.parametrize(("kind", "status"), [("timed-out", 503), ("internal", 500), ("too-large", 413)])
def test_what_would_fail_again_is_not_sent_again(stub, problem, waits, kind, status) -> None:
    with pytest.raises(ServiceError):
        stub(lambda _: problem(kind, status)).models()
    assert waits == []


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.RemoteProtocolError])
def test_a_broken_connection_is_made_again(stub, waits, failure) -> None:
    calls = []

    def sometimes(request: httpx.Request) -> httpx.Response:
        calls.append(request.read())
        if len(calls) < 3:
            raise failure("no")
        return httpx.Response(200, json={"models": []})

    stub(sometimes).models()
    assert len(calls) == 3


def test_the_whole_file_is_sent_again(stub, problem, waits, tmp_path) -> None:
    path = tmp_path / "Doe^Jane.png"
    path.write_bytes(b"content of the file")
    bodies = []

    def busy(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return problem("busy", 429)

    with pytest.raises(ServiceBusy):
        stub(busy, retries=1).predict(path)
    assert len(bodies) == 2
    assert all(b"content of the file" in body and b"Doe" not in body for body in bodies)


def test_what_may_have_made_a_job_is_not_sent_twice(stub, waits) -> None:
    calls = []

    def broken(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.RemoteProtocolError("gone")

    client = stub(broken)
    with pytest.raises(ServiceUnreachable):
        client.volume(b"x")
    with pytest.raises(ServiceUnreachable):
        client.compare("a", "b", b"x")
    assert len(calls) == 2


def test_nobody_there(waits) -> None:
    with Client("http://127.0.0.1:9", retries=1) as client, pytest.raises(ServiceUnreachable, match="medrail serve"):
        client.models()
    assert len(waits) == 1


def test_too_slow(stub, waits) -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    with pytest.raises(ServiceUnreachable, match="timeout_s"):
        stub(slow).models()
    assert waits == []


def test_the_key_goes_with_every_request_and_nowhere_else(stub) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(302, headers={"location": "http://elsewhere.test/"})

    client = stub(answer, api_key="mr_secret")
    with pytest.raises(ServiceError, match="status 302"):
        client.models()
    assert seen == ["Bearer mr_secret"]
    assert "mr_secret" not in repr(client)


@pytest.mark.parametrize("key", ["", " ", "a\nb", "clé"])
def test_a_key_that_is_none(key) -> None:
    with pytest.raises(ConfigError):
        Client("http://service.test", key)


@pytest.mark.parametrize("url", ["", "service", "127.0.0.1:8000", "ftp://service", "http://", "http://[::1"])
def test_an_address_that_is_none(url) -> None:
    with pytest.raises(ConfigError, match="address"):
        Client(url)


def test_certificates_of_ones_own(tmp_path) -> None:
    empty = tmp_path / "ca.pem"
    for content in (None, "no certificate"):
        if content:
            empty.write_text(content)
        with pytest.raises(ConfigError, match="certificates"):
            Client("https://service.test", ca_file=empty)
    known = ssl.get_default_verify_paths().cafile
    if known:
        Client("https://service.test", ca_file=known).close()


def test_a_path_in_the_address_stays(stub) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return MODELS

    stub(answer, url="http://host.test/medrail/").models()
    assert seen == ["/medrail/v1/models"]


@given(st.text(max_size=30) | st.integers().map(str) | st.floats().map(str))
def test_whatever_stands_in_retry_after(text: str) -> None:
    header = re.sub(r"[^\x20-\x7e]", "", text)
    wait_s = _retry_after_s(httpx.Response(429, headers={"retry-after": header}))
    assert wait_s is None or wait_s >= 0
    if header.strip().isdigit() and len(header.strip()) < 10:
        assert wait_s == int(header)


def test_a_date_in_retry_after() -> None:
    for seconds, low, high in ((30, 25, 31), (-30, 0, 0)):
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        assert low <= _retry_after_s(httpx.Response(503, headers={"retry-after": header})) <= high


def test_the_class_is_the_packages_and_costs_nothing_until_it_is_used() -> None:
    assert medrail.Client is Client
    code = (
        "import sys, medrail; before = set(sys.modules); medrail.Client; "
        "assert 'httpx' not in before and 'httpx' in sys.modules; "
        "assert not {'torch', 'onnxruntime', 'fastapi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
