"""Below /v2 errors have the Open Inference Protocol's form: {"error": "a sentence"}, whoever refused the request."""

from __future__ import annotations

import json
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medrail.serve.problems import MEDIA_TYPE

PREFIX = "/v2"


class ProtocolErrors:
    """ASGI middleware, outermost: a problem document on its way out becomes the protocol's error, its status kept."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self.app(scope, receive, send)
            return
        held: Message | None = None
        body = bytearray()

        async def translated(message: Message) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and _is_problem(message):
                held = message
            elif held is None:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    content = json.dumps({"error": sentence(json.loads(body))}, ensure_ascii=False).encode()
                    headers = MutableHeaders(scope=held)
                    headers["content-type"] = "application/json"
                    headers["content-length"] = str(len(content))
                    await send(held)
                    await send({"type": "http.response.body", "body": content})

        await self.app(scope, receive, translated)


def sentence(problem: dict[str, Any]) -> str:
    """What was found, what was needed, and what to do.

    >>> sentence({"title": "No", "detail": "The file is empty.", "remedy": "Send it again."})
    'The file is empty. Send it again.'
    """
    return " ".join(part for part in (problem["detail"], problem["remedy"]) if part)


def _is_problem(message: Message) -> bool:
    return MutableHeaders(scope=message).get("content-type", "").startswith(MEDIA_TYPE)
