"""A service that says what a test wants, and time that passes at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from medrail.client import Client

Handler = Callable[[httpx.Request], httpx.Response]
Stub = Callable[..., Client]


@pytest.fixture
def stub() -> Iterator[Stub]:
    """(handler, options) -> a Client whose requests the handler answers."""
    made: list[Client] = []

    def make(handler: Handler, **options: Any) -> Client:
        address = options.pop("url", "http://service.test")
        made.append(Client(address, transport=httpx.MockTransport(handler), **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, in seconds; nobody sleeps."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def problem() -> Callable[..., httpx.Response]:
    """(kind, status, headers) -> the service's refusal."""

    def make(kind: str, status: int, **headers: str) -> httpx.Response:
        body = {
            "type": f"urn:medrail:problem:{kind}",
            "title": "A title",
            "status": status,
            "detail": "The image is a volume; needed: a picture.",
            "remedy": "Use a single picture.",
            "request_id": "6f1c2a34-9d0e-4c57-8b7a-2f4e1d3c5b6a",
        }
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.Response(
            status, content=json.dumps(body), headers={"content-type": "application/problem+json", **given}
        )

    return make
