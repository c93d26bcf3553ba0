"""A request's plain body, streamed into a private file: never more than the limit, not even after it is inflated."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from pathlib import Path

from starlette.requests import Request

from medrail.serve.problems import Refusal
from medrail.serve.settings import MEBIBYTE, Settings
from medrail.serve.upload import Received, check_declared, stream, too_large

# Clients send "deflate" in zlib's envelope (RFC 9110, 8.4.1.2); zlib tells gzip's and its own apart by itself.
_COMPRESSED = ("gzip", "x-gzip", "deflate")
_EITHER = zlib.MAX_WBITS | 32
_MOST_INFLATED = 1032
"""Bytes that one byte of deflate can become (zlib's technical details): what waits counts as what may come of it."""


async def receive_body(request: Request, path: Path, settings: Settings) -> Received:
    """Stream the body into ``path``, inflated where `Content-Encoding` says that it is compressed.

    Raises
    ------
    Refusal
        If it is too large, sent too slowly, or not of the encoding that it declares.
    ClientDisconnect
        If the sender went away.
    """
    check_declared(request, settings)
    body = _Body(path, settings, compressed=_is_compressed(request))
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            await stream(request, body, settings)
    except TimeoutError:
        raise Refusal("upload-timeout") from None
    finally:
        body.close()
    return body.received()


def _is_compressed(request: Request) -> bool:
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return False
    if encoding not in _COMPRESSED:
        raise Refusal("unsupported-encoding")
    return True


class _Body:
    """The file while it arrives. ``feed`` is called on the event loop, ``write`` on a thread."""

    def __init__(self, path: Path, settings: Settings, *, compressed: bool) -> None:
        self.waiting_bytes = 0
        self._path = path
        self._settings = settings
        self._waiting: list[bytes] = []
        self._file = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._inflate = zlib.decompressobj(_EITHER) if compressed else None

    def feed(self, chunk: bytes) -> None:
        self._waiting.append(chunk)
        self.waiting_bytes += len(chunk) * (_MOST_INFLATED if self._inflate else 1)

    def finish(self) -> None:
        """Whether it is whole is known after the last write: see ``received``."""

    def write(self) -> None:
        waiting, self._waiting, self.waiting_bytes = self._waiting, [], 0
        for chunk in waiting:
            if self._inflate:
                self._write_inflated(self._inflate, chunk)
            else:
                self._append(chunk)

    def close(self) -> None:
        self._file.close()

    def received(self) -> Received:
        if self._inflate and not self._inflate.eof:
            raise _corrupt()
        return Received(self._path, self._digest.hexdigest(), self._bytes)

    def _write_inflated(self, inflate: zlib._Decompress, chunk: bytes) -> None:
        pending = chunk
        while pending:
            if inflate.eof:  # a second member, or anything else behind the end
                raise _corrupt()
            try:
                self._append(inflate.decompress(pending, MEBIBYTE))
            except zlib.error:
                raise _corrupt() from None
            pending = inflate.unconsumed_tail or inflate.unused_data

    def _append(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > self._settings.max_upload_bytes:
            raise too_large(self._settings)
        self._file.write(data)
        self._digest.update(data)


def _corrupt() -> Refusal:
    return Refusal("bad-inference-request", "The body is not whole, or not of the encoding in Content-Encoding.")
