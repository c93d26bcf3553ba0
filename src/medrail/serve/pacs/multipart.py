"""multipart/related of DICOM objects, both ways: files from a counter out of a stream; a body from objects."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from medrail.serve.problems import Refusal
from medrail.serve.settings import MEBIBYTE

DICOM = b"application/dicom"


@dataclass(frozen=True)
class Bounds:
    """The most that may arrive."""

    bytes: int
    files: int


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/related answer.

    Raises
    ------
    Refusal
        "pacs-answer".
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind.lower() != b"multipart/related" or not boundary:
        raise Refusal("pacs-answer", "The PACS sent something else than multipart/related.")
    return boundary


class Parts:
    """Takes the stream in pieces; each part becomes ``folder/NNNNNN.dcm``, whatever the sender calls it.

    ``with Parts(...) as parts:`` ``parts.feed(chunk)`` ... ``parts.finish()``; ``parts.files`` are whole then.
    """

    def __init__(self, boundary: bytes, folder: Path, bounds: Bounds) -> None:
        self.files: list[Path] = []
        self._folder, self._bounds = folder, bounds
        self._bytes = 0
        self._file: BinaryIO | None = None
        self._header_name = self._header_value = self._kind = b""
        self._complete = False
        callbacks = {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self.close,
            "on_header_field": self._header_field,
            "on_header_value": self._header_text,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except (FormParserError, ValueError):
            raise Refusal("pacs-answer", "The PACS's boundary between the images is not usable.") from None

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def feed(self, chunk: bytes) -> None:
        """Raises Refusal: "pacs-too-large", or "pacs-answer" where it is no multipart or holds no DICOM."""
        self._bytes += len(chunk)
        if self._bytes > self._bounds.bytes:
            raise Refusal("pacs-too-large", f"It has more than {self._bounds.bytes / MEBIBYTE:g} MiB.")
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise Refusal("pacs-answer", "The PACS's answer does not follow the multipart format.") from None
        except OSError:
            found = "The series cannot be written into the service's folder for temporary files: it may be full."
            raise Refusal("pacs-too-large", found, "Whoever runs the service makes room there.") from None

    def finish(self) -> None:
        """Raises Refusal "pacs-incomplete" where the stream ended before its last boundary."""
        if not self._complete:
            raise Refusal("pacs-incomplete", "The PACS's answer ended in the middle.")

    def close(self) -> None:
        """Of the part at hand; also called at each part's end."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _part_begin(self) -> None:
        self._kind = b""
        self._header_name = self._header_value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_text(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        if self._header_name.lower() == b"content-type":
            self._kind = parse_options_header(self._header_value)[0].lower()
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        if self._kind not in (DICOM, b""):
            raise Refusal("pacs-answer", "The PACS sent something else than DICOM objects.")
        if len(self.files) == self._bounds.files:
            raise Refusal("pacs-too-large", f"It has more than {self._bounds.files:,} files.")
        path = self._folder / f"{len(self.files) + 1:06}.dcm"
        self._file = path.open("xb")
        self.files.append(path)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])

    def _end(self) -> None:
        self._complete = True


def body_of(objects: Sequence[bytes]) -> tuple[str, bytes]:
    """Content type and body that carry DICOM objects (PS3.18, 8.6.1.2)."""
    boundary = secrets.token_hex(16)
    while any(boundary.encode() in content for content in objects):
        boundary = secrets.token_hex(16)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + content + b"\r\n" for content in objects) + f"--{boundary}--\r\n".encode()
    return f'multipart/related; type="application/dicom"; boundary={boundary}', body
