"""A PACS that can be told to misbehave: DICOMweb on loopback, its answers given by the test."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BOUNDARY = "between-the-images"
JSON = "application/dicom+json"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@dataclass
class Reply:
    """content: pieces, sent one by one; the connection ends after ``cut`` bytes of them, if given."""

    status: int = 200
    kind: str = JSON
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    wait: threading.Event | None = None


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answering = Callable[[Asked], Reply]


@dataclass
class FakePacs:
    root: str
    asked: list[Asked]
    answering: Answering


def listed(*entries: dict[str, Any]) -> Reply:
    """A QIDO-RS answer."""
    return Reply(content=json.dumps(list(entries)).encode())


def series_entry(uid: str, images: int | None, modality: str = "CT") -> dict[str, Any]:
    """One series as QIDO-RS has it."""
    entry: dict[str, Any] = {
        "0020000E": {"vr": "UI", "Value": [uid]},
        "00080060": {"vr": "CS", "Value": [modality]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Secretive^Sally"}]},
    }
    return entry if images is None else entry | {"00201209": {"vr": "IS", "Value": [images]}}


def objects(contents: list[bytes], kind: str = "application/dicom") -> Reply:
    """A WADO-RS answer."""
    parts = [f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode() + one + b"\r\n" for one in contents]
    return Reply(kind=RELATED, content=b"".join(parts) + f"--{BOUNDARY}--\r\n".encode())


@contextmanager
def fake_pacs(answering: Answering, certificate: Path | None = None) -> Iterator[FakePacs]:
    """Running; ``answering`` may be replaced meanwhile. With a PEM file of key and certificate it speaks https."""
    pacs = FakePacs("", [], answering)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, {name.lower(): text for name, text in self.headers.items()}, body)
            pacs.asked.append(asked)
            reply = pacs.answering(asked)
            if reply.wait is not None:
                reply.wait.wait(30)
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.end_headers()  # without a length: the end of the connection is the end of the answer, as Orthanc's
            self.wfile.write(reply.content[: reply.cut])

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is what some tests want."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    pacs.root = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_address[1]}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield pacs
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
