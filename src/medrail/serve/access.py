"""Who may ask for what, and how often: keys and their scopes, hosts, rates. Everything is closed unless it stands here.

In: a request. Out: ``request.state.caller``, or a problem (400, 401, 403, 429). Without keys, callers are addresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from medrail.errors import ServeError
from medrail.serve.keys import Key, Keyring, read_keys
from medrail.serve.keys import Scope as KeyScope
from medrail.serve.problems import Refusal, respond
from medrail.serve.rate import Buckets, Places, is_loopback, neighbourhood
from medrail.serve.settings import Settings

# Pages and their files, the description, and the health that orchestrators ask for without a key. Not the metrics.
PUBLIC_PATHS = frozenset(
    {
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/favicon.ico",
        "/healthz",
        "/readyz",
        "/v2/health/live",
        "/v2/health/ready",
    }
)
PUBLIC_PREFIX = "/static/"
ADMIN_PREFIX = "/v1/admin"
_SCOPES: Mapping[KeyScope, frozenset[str]] = {
    "predict": frozenset({"predict"}),
    "pacs": frozenset({"predict", "pacs"}),  # lists, pulls and stores what belongs to patients
    "admin": frozenset({"predict", "pacs", "admin"}),
}
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@dataclass(frozen=True)
class Caller:
    """Who asks.

    key_id:
        Of the key that was sent; "" without one.
    bucket:
        What rates and places are counted by: the key, or the address.
    """

    key_id: str
    scopes: frozenset[str]
    bucket: str
    limited: bool = True


def needs(scope: KeyScope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency of routes: ``Depends(needs("admin"))`` gives the Caller, or answers 401 or 403."""

    async def caller_with_scope(request: Request) -> Caller:
        return _checked(caller_of(request), scope)

    return caller_with_scope


def caller_of(request: Request) -> Caller:
    """Who asks; set by ``Access`` for every address that is not public."""
    caller: Caller | None = getattr(request.state, "caller", None)
    if caller is None:
        raise Refusal("unauthorised")
    return caller


def counted_by(request: Request) -> str:
    """What the caller's jobs are counted by: its key, or its address; "" where they are not bounded."""
    caller = caller_of(request)
    return caller.bucket if caller.limited else ""


def check_start(settings: Settings) -> None:
    """Raises ServeError where the service would be open to others, and nobody said that it should be; or its keys are
    unreadable."""
    keys = read_keys(settings.key_file) if settings.key_file else ()
    if not keys_required(settings) or any(not key.revoked for key in keys):
        return
    raise ServeError(
        "other machines could ask it, and there is no key yet",
        needed="a key",
        where=settings.host or "",
        remedy="Make one with `medrail key add NAME`, or start it with --open if whoever reaches it may use it.",
    )


def keys_required(settings: Settings) -> bool:
    """``open`` as it is set; else where the host is not this machine's own. In-process there is no host."""
    if settings.open is not None:
        return not settings.open
    return not _is_local(settings)


def _is_local(settings: Settings) -> bool:
    return settings.host is None or is_loopback(settings.host)


class Access:
    """ASGI middleware, inside of ``Envelope`` (which gives the record) and outside of the application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings
        self._keyring = Keyring(settings.key_file)
        self._required = keys_required(settings)
        self._local = _is_local(settings)
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)
        self._buckets = Buckets(settings.rate_per_s, settings.rate_burst)
        self._places = Places(settings.max_requests_per_key, "too-many-requests")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        release = _nothing
        try:
            headers = Headers(scope=scope)
            self._check_host(headers)
            if not is_public(scope["path"]):
                caller = self._caller(scope, headers)
                scope["state"]["caller"] = caller
                if caller.limited:
                    release = self._places.take(caller.bucket)
                if _is_admin(scope["path"]):
                    _checked(caller, "admin")
        except Refusal as refusal:
            release()
            scope["state"]["record"]["problem"] = refusal.kind
            await respond(refusal, scope["state"]["request_id"])(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            release()

    def _check_host(self, headers: Headers) -> None:
        """A page elsewhere may give its own name this machine's address (DNS rebinding); the Host header tells."""
        name = _host_name(headers.get("host", ""))
        if self._hosts:
            if name not in self._hosts and not is_loopback(name):
                raise Refusal("wrong-host")
        elif self._settings.host is not None and self._local and not self._required and not is_loopback(name):
            raise Refusal("wrong-host")

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        address = scope["client"][0] if scope.get("client") else ""
        sender = f"address {neighbourhood(address)}"
        sent = _sent_key(headers)
        if sent is not None:
            key = self._keyring.find(sent)
            if key is None:
                self._buckets.take(sender)  # wrong keys cost their sender, not the key's owner
                raise Refusal("unauthorised", "The key is not valid.")
            caller = Caller(key.id, _SCOPES[key.scope], f"key {key.id}")
            scope["state"]["record"]["key_id"] = key.id
        else:
            caller = self._without_key(sender, address, headers)
        if caller.limited:
            self._buckets.take(caller.bucket)
        return caller

    def _without_key(self, sender: str, address: str, headers: Headers) -> Caller:
        """Whoever sits at this machine may do all, until there are keys; what comes through a proxy sits elsewhere."""
        through_proxy = any(name in headers for name in _FORWARDED)
        at_this_machine = self._local and not through_proxy and (not address or is_loopback(address))
        asked_for = self._required or (
            self._settings.open is None and through_proxy and self._settings.host is not None
        )
        if asked_for:
            self._buckets.take(sender)
            raise Refusal("unauthorised")
        scopes = _SCOPES["admin"] if at_this_machine and not self._keyring.any_ever() else _SCOPES["predict"]
        return Caller("", scopes, sender, limited=not at_this_machine)


def is_public(path: str) -> bool:
    """Whether an address needs no key."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIX)


def _is_admin(path: str) -> bool:
    return path == ADMIN_PREFIX or path.startswith(f"{ADMIN_PREFIX}/")


def _checked(caller: Caller, scope: KeyScope) -> Caller:
    if scope not in caller.scopes:
        raise Refusal("forbidden" if caller.key_id else "unauthorised")
    return caller


def _sent_key(headers: Headers) -> str | None:
    """What stands in X-API-Key or behind Bearer; None where neither is sent, "" where another scheme is."""
    if "x-api-key" in headers:
        return headers["x-api-key"].strip()
    if "authorization" not in headers:
        return None
    scheme, _, value = headers["authorization"].partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _host_name(host: str) -> str:
    """Without the port and the brackets of IPv6."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _nothing() -> None:
    return


KEY_SCHEMES: dict[str, Any] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "a key of `medrail key add`"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same key"},
}


def describe_keys(schema: dict[str, Any], responses: Mapping[str, Any]) -> None:
    """Into an OpenAPI document: how keys are sent, and what their lack answers, at every address that needs one."""
    schema.setdefault("components", {})["securitySchemes"] = KEY_SCHEMES
    for path, methods in schema["paths"].items():
        if is_public(path):
            continue
        for operation in methods.values():
            operation["security"] = [{}, {"bearer": []}, {"apiKey": []}]
            for status, response in responses.items():
                there = operation["responses"].setdefault(status, {"description": response["description"]})
                if "headers" in response:
                    there["headers"] = there.get("headers", {}) | response["headers"]
                content = there.setdefault("content", {})
                for media_type, said in response["content"].items():
                    examples = {**content.get(media_type, {}).get("examples", {}), **said["examples"]}
                    content[media_type] = {**said, "examples": examples}


__all__ = ["Access", "Caller", "Key", "caller_of", "check_start", "counted_by", "describe_keys", "is_public", "needs"]
