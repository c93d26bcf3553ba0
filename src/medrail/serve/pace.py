"""The bounds of a request that the application itself should not have to think of: size, pace, time.

Every route is inside, also one that reads its body as a whole and knows nothing of streams.
"""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medrail.serve.problems import Refusal, respond
from medrail.serve.settings import KIBIBYTE, Settings


class Pace:
    """ASGI middleware, directly around the application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body(receive, self._settings)
        answer = _Answer(send, body)
        refusal = self._by_headers(scope)
        if refusal is None:
            try:
                async with asyncio.timeout(self._settings.request_timeout_s) as limit:
                    answer.limit = limit
                    await self.app(scope, body.receive, answer.send)
            except TimeoutError:
                if not limit.expired():
                    raise
                body.breach = body.breach or Refusal("timed-out")
            except Refusal:
                if body.breach is None:
                    raise
            refusal = body.breach
        if refusal is not None and not answer.started:
            scope["state"]["record"]["problem"] = refusal.kind
            await respond(refusal, scope["state"]["request_id"])(scope, receive, send)

    def _by_headers(self, scope: Scope) -> Refusal | None:
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self._settings.max_header_kb * KIBIBYTE:
            return Refusal("large-headers", f"At most {self._settings.max_header_kb:g} KiB are accepted.")
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if declared.isdigit() and (len(declared) > 15 or int(declared) > self._settings.max_upload_bytes):
            return _too_large(self._settings)
        return None


class _Body:
    """The body on its way in: counted, and never waited for longer than the settings say."""

    def __init__(self, receive: Receive, settings: Settings) -> None:
        self.breach: Refusal | None = None
        self._receive = receive
        self._settings = settings
        self._bytes = 0
        self._begin: float | None = None
        self._whole = False

    async def receive(self) -> Message:
        if self.breach is not None:
            raise self.breach
        if self._whole:  # from here on it is only waited for the client to leave
            return await self._receive()
        if self._begin is None:
            self._begin = time.monotonic()
        left_s = self._begin + self._settings.upload_timeout_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, self._settings.upload_idle_s))):
                message = await self._receive()
        except TimeoutError:
            self.breach = Refusal("upload-timeout")
            raise self.breach from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._bytes > self._settings.max_upload_bytes:
                self.breach = _too_large(self._settings)
                raise self.breach
        return message


class _Answer:
    """The answer on its way out; once it has begun the time limit is over, and what does not flow is the connection's.

    What the application makes of a breach (a framework may call it a bad body) is not sent: the breach itself is.
    """

    def __init__(self, send: Send, body: _Body) -> None:
        self.started = False
        self.limit: asyncio.Timeout | None = None
        self._send = send
        self._body = body

    async def send(self, message: Message) -> None:
        if self._body.breach is not None and not self.started:
            return
        if message["type"] == "http.response.start":
            self.started = True
            if self.limit is not None:
                self.limit.reschedule(None)
        await self._send(message)


def _too_large(settings: Settings) -> Refusal:
    return Refusal("too-large", f"At most {settings.max_upload_mb:g} MiB are accepted.")
