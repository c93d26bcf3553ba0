"""The envelope around every request: its id, the security headers, the last catch, and its line in the log."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medrail.serve.access import Access
from medrail.serve.audit import audit_line
from medrail.serve.log import ServiceLog
from medrail.serve.metrics import telemetry_of
from medrail.serve.pace import Pace
from medrail.serve.problems import Refusal, respond
from medrail.serve.settings import Settings

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
# Swagger UI and ReDoc style their elements inline and ReDoc searches in a worker; scripts stay our own files.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; frame-ancestors 'none'"
)
DOCS_PATHS = frozenset({"/docs", "/redoc"})
_FEATURES = (
    "accelerometer",
    "autoplay",
    "camera",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "geolocation",
    "gyroscope",
    "hid",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "publickey-credentials-get",
    "screen-wake-lock",
    "serial",
    "usb",
    "xr-spatial-tracking",
)
# What OWASP's Secure Headers Project recommends, as far as it applies to a service without cookies and frames.
HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Permissions-Policy": ", ".join(f"{feature}=()" for feature in _FEATURES),
    "X-Permitted-Cross-Domain-Policies": "none",
    "X-DNS-Prefetch-Control": "off",
}
# A year, as browsers ask of those that mean it; not for the domains below, which may be other people's.
_HSTS = "max-age=31536000"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
CLIENT_GONE = 499  # nginx's code for a client that closed the connection before the answer
_UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")


class Envelope:
    """ASGI middleware, outermost of the application.

    ``scope["state"]`` gets ``request_id``, and ``record``: a dict whose entries become part of the request's log line.
    An id that the sender gives as X-Request-ID is kept if it is a UUID; anything else could carry a name into the log.
    """

    def __init__(self, app: ASGIApp, log: ServiceLog, origins: Collection[str] = ()) -> None:
        self.app = app
        self.log = log
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()
        headers = Headers(scope=scope)
        request_id = _request_id(headers)
        record: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, record=record)
        status = 0
        telemetry = telemetry_of(scope)
        call = None if scope["path"] in _QUIET_ROUTES else telemetry.began()

        async def sealed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _seal(MutableHeaders(scope=message), scope, request_id)
            await send(message)

        try:
            if self._is_cross_site(scope["method"], headers):
                record["problem"] = "cross-site"
                await respond(Refusal("cross-site"), request_id)(scope, receive, sealed)
            else:
                await self.app(scope, receive, sealed)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 - the last catch: nothing may reach the client or the log as text
            self.log.unexpected(error, request_id)
            if not status:
                await respond(Refusal("internal"), request_id)(scope, receive, sealed)
        finally:
            memory = telemetry.ended(call) if call else {}
            self._write(scope, status, request_id, time.perf_counter() - begin, record, memory)

    def _is_cross_site(self, method: str, headers: Headers) -> bool:
        """Whether the page of another site lets its visitor's browser change something here (CSRF)."""
        if method in _SAFE_METHODS or headers.get("origin", "") in self._origins:
            return False
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site in ("cross-site", "same-site")
        origin = headers.get("origin")  # browsers before 2023 send no Sec-Fetch-Site; programs send neither
        return origin is not None and origin.partition("://")[2] != headers.get("host", "")

    def _write(
        self,
        scope: Scope,
        status: int,
        request_id: str,
        seconds: float,
        record: Mapping[str, Any],
        memory: Mapping[str, float],
    ) -> None:
        """Count the request, and write its line unless it is one that a machine asks every few seconds."""
        route = _route(scope)
        telemetry_of(scope).observe_request(route, status, record, seconds)
        if route not in _QUIET_ROUTES or status >= 400:
            self.log.request(audit_line(scope, route, status, request_id, seconds * 1e3, record, memory))


def protect(app: FastAPI, settings: Settings, log: ServiceLog) -> None:
    """Put the layers around the application; the last one that is added is the outermost."""
    app.add_middleware(Pace, settings=settings)
    app.add_middleware(Access, settings=settings)
    if settings.cors_origins:  # before keys are asked for: a browser's question beforehand carries none
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "X-Request-ID", "Prefer"],
            expose_headers=["X-Request-ID", "Server-Timing", "Retry-After", "Location", "Preference-Applied"],
        )
    app.add_middleware(Envelope, log=log, origins=settings.cors_origins)


def _seal(headers: MutableHeaders, scope: Scope, request_id: str) -> None:
    path = scope["path"]
    headers["X-Request-ID"] = request_id
    headers["Content-Security-Policy"] = _DOCS_POLICY if path in DOCS_PATHS else _PAGE_POLICY
    headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"
    for name, value in HEADERS.items():
        headers[name] = value
    if scope.get("scheme") == "https":
        headers["Strict-Transport-Security"] = _HSTS


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _UUID.fullmatch(given) else str(uuid.uuid4())


def _route(scope: Scope) -> str:
    """The route's pattern, never the path itself, in which a sender could write anything."""
    pattern = getattr(scope.get("route"), "path", None)
    if isinstance(pattern, str):
        return pattern
    return "/static" if scope["path"].startswith("/static/") else "(none)"
