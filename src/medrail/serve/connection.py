"""Bounds of a connection that uvicorn does not have, and TLS.

uvicorn closes idle connections after an answer, and bounds the headers with h11. It does not bound how long a request's
head may take (slow loris), how large httptools lets it grow, how long a client may not take its answer (slow read), or
how many connections there are from one address. The class made here does, on top of whichever parser is installed.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import uuid
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.errors import ServeError
from medrail.serve.problems import Refusal, document
from medrail.serve.rate import is_loopback, neighbourhood
from medrail.serve.settings import KIBIBYTE, Settings

if TYPE_CHECKING:
    _Base = Any
else:
    _Base = object

_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.02, 5.0
# A chunk of one byte costs five more; what is beyond this are trailers and extensions without end.
_CHUNK_OVERHEAD = 8


@dataclass(frozen=True)
class Bounds:
    """Of one connection, and of all of them."""

    head_s: float
    stall_s: float
    head_bytes: int
    connections: int
    connections_per_address: int

    @staticmethod
    def of(settings: Settings) -> Bounds:
        """As the service is set."""
        return Bounds(
            settings.header_timeout_s,
            settings.stall_timeout_s,
            int(settings.max_header_kb * KIBIBYTE),
            settings.max_connections,
            settings.max_connections_per_address,
        )


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """What ``uvicorn.Config`` is given for the connections: ``uvicorn.Config(app, **uvicorn_options(settings))``.

    Raises
    ------
    ServeError
        If the certificate and its key cannot be used.
    """
    options: dict[str, Any] = {
        "http": bounded(Bounds.of(settings)),
        "h11_max_incomplete_event_size": int(settings.max_header_kb * KIBIBYTE),
    }
    if settings.tls_cert or settings.tls_key:
        check_tls(settings.tls_cert, settings.tls_key)
        options |= {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
    return options


def check_tls(cert: Path | None, key: Path | None) -> None:
    """Raises ServeError where the files are no certificate with its own key; the service would only fail later."""
    if cert is None or key is None:
        raise ServeError("a certificate without a key, or the reverse", needed="both --tls-cert and --tls-key")
    for path in (cert, key):
        if not path.is_file():
            raise ServeError("there is no such file", where=str(path), needed="PEM")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ServeError(
            f"the certificate and its key cannot be used ({reason})",
            where=f"{cert}, {key}",
            needed="PEM files that belong together, the key without a password",
        ) from None


def bounded(bounds: Bounds) -> type[asyncio.Protocol]:
    """uvicorn's protocol with these bounds: on httptools where it is installed, else on h11."""
    base: Any
    try:
        base = importlib.import_module("uvicorn.protocols.http.httptools_impl").HttpToolsProtocol
        mixins: tuple[Any, ...] = (_CountedHead, _Bounded)
    except ImportError:
        base = importlib.import_module("uvicorn.protocols.http.h11_impl").H11Protocol
        mixins = (_Bounded,)  # h11 bounds the head by itself
    return type("BoundedProtocol", (*mixins, base), {"bounds": bounds, "addresses": Counter()})


class _Bounded(_Base):  # type: ignore[misc]
    """Over a protocol of uvicorn. ``cycle`` is its request in work; a new one stands there when a head is complete."""

    bounds: Bounds
    addresses: Counter[str]

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._head_since: float | None = self.loop.time()
        self._heard = False
        self._stalled_since: float | None = None
        address = self.client[0] if self.client else ""
        self._counted = "" if is_loopback(address) else neighbourhood(address)
        self.addresses[self._counted] += 1
        most = self.bounds.connections_per_address
        if len(self.connections) > self.bounds.connections or (
            self._counted and most and self.addresses[self._counted] > most
        ):
            self._watch = None
            transport.abort()
            return
        self._watch = self.loop.call_later(self._look_s(), self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.addresses[self._counted] -= 1
        if not self.addresses[self._counted]:
            del self.addresses[self._counted]
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        self._heard = True
        if self._head_since is None and (before is None or before.response_complete):
            self._head_since = self.loop.time()
        super().data_received(data)
        if self.cycle is not before:
            self._head_since = None
            self._heard = False

    def pause_writing(self) -> None:
        self._stalled_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's own words for what is no HTTP, as a problem."""
        self._end_with("bad-form", HTTPStatus.BAD_REQUEST)

    def _look_s(self) -> float:
        return min(max(min(self.bounds.head_s, self.bounds.stall_s) / 4, _SHORTEST_LOOK_S), _LONGEST_LOOK_S)

    def _look(self) -> None:
        now = self.loop.time()
        waits_for_reader = self.transport.is_closing() and self.transport.get_write_buffer_size() > 0
        if waits_for_reader and self._stalled_since is None:
            self._stalled_since = now
        if self._stalled_since is not None and now - self._stalled_since > self.bounds.stall_s:
            self.transport.abort()
            return
        if self._head_since is not None and now - self._head_since > self.bounds.head_s:
            self._head_since = None
            if self._heard:
                self._end_with("upload-timeout", HTTPStatus.REQUEST_TIMEOUT)
            else:
                self.transport.close()
        self._watch = self.loop.call_later(self._look_s(), self._look)

    def _end_with(self, kind: str, status: HTTPStatus) -> None:
        """Answer outside of the application, which has not seen a request, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else it would come amidst another answer
            self.transport.write(_raw(kind, status))
        self.transport.close()


class _CountedHead(_Base):  # type: ignore[misc]
    """For httptools, which takes headers, trailers and chunk extensions of any size."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._besides = self._body_bytes = 0
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._besides += len(data)
        super().data_received(data)
        if self._besides > self.bounds.head_bytes + _CHUNK_OVERHEAD * self._body_bytes:
            self._end_with("large-headers", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._besides = self._body_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._besides -= len(body)
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._besides = self._body_bytes = 0
        super().on_message_complete()


def _raw(kind: str, status: HTTPStatus) -> bytes:
    request_id = str(uuid.uuid4())
    body = json.dumps(document(Refusal(kind), request_id)).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nx-content-type-options: nosniff\r\n"
        "cache-control: no-store\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
