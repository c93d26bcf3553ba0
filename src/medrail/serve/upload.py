"""The upload: a multipart form streamed into a private folder, never more than the limit, never all of it in memory.

The form's parts become files named after their *field*; the names that the sender gives its files are not looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from medrail.serve.problems import Refusal
from medrail.serve.settings import MEBIBYTE, Settings

_WRITE_AT_BYTES = MEBIBYTE


@dataclass(frozen=True)
class Received:
    """One uploaded file."""

    path: Path
    sha256: str
    bytes: int


async def receive(
    request: Request, folder: Path, settings: Settings, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, Received]:
    """Stream the form's files into ``folder``.

    Returns
    -------
    Field name -> the file, whose path is ``folder/FIELD``.

    Raises
    ------
    Refusal
        For everything that is wrong with the form, its size or its pace.
    ClientDisconnect
        If the sender went away.
    """
    form = _Form(_boundary(request), folder, (*required, *optional))
    await _received(request, form, settings)
    missing = [name for name in required if name not in form.files]
    if missing:
        raise Refusal("missing-file", f"The form has no field `{missing[0]}`.")
    return {name: part.received() for name, part in form.files.items()}


async def receive_several(request: Request, folder: Path, settings: Settings) -> list[Received | Refusal]:
    """Stream a form whose every part is a field ``file``.

    Returns
    -------
    In the order of the form, each file, whose path is ``folder/NUMBER/file``, or why it counts as none ("empty-file").

    Raises
    ------
    As ``receive``, and Refusal ("too-many-files").
    """
    form = _Form(_boundary(request), folder, ("file",), settings.max_batch_files)
    await _received(request, form, settings)
    if not form.files:
        raise Refusal("missing-file", "The form has no field `file`.")
    return [_or_refusal(part) for part in form.files.values()]


def _or_refusal(part: _Part) -> Received | Refusal:
    try:
        return part.received()
    except Refusal as refusal:
        return refusal


async def _received(request: Request, form: _Form, settings: Settings) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > settings.max_upload_bytes:
        form.close()
        raise _too_large(settings)
    try:
        async with asyncio.timeout(settings.upload_timeout_s):
            await _stream(request, form, settings)
    except TimeoutError:
        raise Refusal("upload-timeout") from None
    finally:
        form.close()


async def _stream(request: Request, form: _Form, settings: Settings) -> None:
    chunks = aiter(request.stream())
    size = 0
    while True:
        async with asyncio.timeout(settings.upload_idle_s):
            chunk = await anext(chunks, None)
        if chunk is None:
            break
        size += len(chunk)
        if size > settings.max_upload_bytes:
            raise _too_large(settings)
        form.feed(chunk)
        if form.waiting_bytes >= _WRITE_AT_BYTES:
            await asyncio.to_thread(form.write)
    form.finish()
    await asyncio.to_thread(form.write)


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise Refusal("not-a-form", "The content type is not multipart/form-data.")
    if not options.get(b"boundary"):
        raise Refusal("bad-form", "The content type names no boundary.")
    return options[b"boundary"]


def _too_large(settings: Settings) -> Refusal:
    return Refusal("too-large", f"At most {settings.max_upload_mb:g} MiB are accepted.")


class _Part:
    """A file of the form while it arrives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def close(self) -> None:
        self._file.close()

    def received(self) -> Received:
        if not self._bytes:
            raise Refusal("empty-file", f"The field `{self.path.name}` holds 0 bytes.")
        return Received(self.path, self._digest.hexdigest(), self._bytes)


class _Form:
    """The parser's callbacks: which part a byte belongs to. Writing is separate, so that it can leave the loop.

    ``several``: how often a field may come; its files are then numbered. 0: once, and the field is its key.
    """

    def __init__(self, boundary: bytes, folder: Path, fields: Sequence[str], several: int = 0) -> None:
        self._several = several
        self.files: dict[str, _Part] = {}
        self.waiting_bytes = 0
        self._folder = folder
        self._fields = fields
        self._waiting: list[tuple[_Part, bytes]] = []
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_part_data": self._part_data,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_text,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_end": self._end,
                },
            )
        except (FormParserError, ValueError):
            raise Refusal("bad-form", "The boundary is not usable.") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Refusal("bad-form", "The body does not follow the multipart format.") from None

    def finish(self) -> None:
        if not self._complete:
            raise Refusal("bad-form", "The body ends before its last boundary.", "Send the whole request again.")

    def write(self) -> None:
        waiting, self._waiting, self.waiting_bytes = self._waiting, [], 0
        for part, data in waiting:
            part.write(data)

    def close(self) -> None:
        for part in self.files.values():
            part.close()

    def _part_begin(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("ascii", "replace")
        if name not in self._fields:
            raise Refusal("unknown-field", f"Known fields: {', '.join(self._fields)}.")
        if self._several:
            self._current = self._numbered(name)
            return
        if name in self.files:
            raise Refusal("bad-form", f"The field `{name}` comes twice.", "Send one image a request.")
        self.files[name] = self._current = _Part(self._folder / name)

    def _numbered(self, name: str) -> _Part:
        if len(self.files) >= self._several:
            raise Refusal("too-many-files", f"At most {self._several} files are accepted.")
        number = f"{len(self.files):04d}"
        (self._folder / number).mkdir()
        self.files[number] = _Part(self._folder / number / name)
        return self.files[number]

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._waiting.append((self._current, data[start:end]))
        self.waiting_bytes += end - start

    def _end(self) -> None:
        self._complete = True
