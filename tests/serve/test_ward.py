"""What deploy/ tells a ward's engineer to install: real nginx and systemd judge it, and skip where they are not."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from medrail.arguments import build_parser
from medrail.config import ServeConfig, serve_settings

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT, PROXY = DEPLOY / "medrail.service", DEPLOY / "nginx.conf"


def test_the_units_command_is_one_that_the_parser_takes() -> None:
    text = UNIT.read_text().replace("\\\n", " ").replace("%d", "/run/credentials/medrail.service")
    (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    program, *words = shlex.split(command)
    arguments = build_parser().parse_args(words)
    assert program == "/opt/medrail/bin/medrail"
    assert arguments.verb == "serve"
    assert serve_settings(ServeConfig(), arguments.set).pacs.credentials_file.endswith("/medrail.service/pacs")


def test_systemd_takes_the_unit_and_finds_it_tight(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    text = UNIT.read_text().replace("/opt/medrail/bin/medrail", sys.executable)
    unit = tmp_path / "medrail.service"
    unit.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "medrail" in line]
    assert (done.returncode, said) == (0, [])
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout[-300:]  # an exposure of at most 2.0 of 10


def test_the_proxy_passes_on_and_keeps_nothing(
    start: Any, picture_segmenter: Path, encode: Any, tmp_path: Path
) -> None:
    service = start(picture_segmenter, max_upload_mb=3)
    rng = np.random.default_rng(0)
    picture = encode(rng.integers(0, 256, (1000, 800), dtype=np.uint8))
    with proxy(tmp_path, str(service.client.base_url)) as url:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "medrail.crt"))
        with httpx.Client(base_url=url, verify=trusted, timeout=60, trust_env=False) as client:
            answer = client.post("/v1/predict/image", files={"file": ("Sally.png", picture)})
            assert answer.status_code == 200
            assert answer.json()["mask"]["data"] == service.predict(picture).json()["mask"]["data"]
            assert answer.headers["strict-transport-security"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            large = client.post("/v1/predict/image", files={"file": ("x", picture * 5)})
            assert (large.status_code, large.json()["type"]) == (413, "urn:medrail:problem:too-large")
            assert client.get("/v1/pacs/studies/1.2.840.4711/series", params={"patient": "Sally"}).status_code == 404
            assert client.get("/v1/Sally^Doe").status_code == 404
            assert client.get("/metrics").text != service.client.get("/metrics").text
            assert _starts_at_the_service_while_it_is_sent(client, service, picture)
        assert b" 413 " in _declared(url, trusted, 600 << 20)
    logged = "".join(path.read_text() for path in tmp_path.glob("medrail*.log"))
    assert logged.count("\n") >= 6
    assert "/v1/predict/image 200" in logged
    assert "/v1/pacs/studies/... 404" in logged
    assert answer.headers["x-request-id"] in logged
    for secret in ("Sally", "4711", "1.2.840"):
        assert secret not in logged


def _starts_at_the_service_while_it_is_sent(client: httpx.Client, service: Any, picture: bytes) -> bool:
    """Whether the upload's first half has arrived before its second is sent: then it was not kept on the way."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    arrived = []

    def body() -> Iterator[bytes]:
        yield head + picture[: len(picture) // 2]
        last = time.monotonic() + 20
        while not arrived and time.monotonic() < last:
            arrived.extend(service.uploads.glob("*/*/file"))
            time.sleep(0.02)
        yield picture[len(picture) // 2 :] + b"\r\n--b--\r\n"

    length = len(head) + len(picture) + len(b"\r\n--b--\r\n")
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(length)}
    assert client.post("/v1/predict/image", content=body(), headers=headers).status_code == 200
    return bool(arrived)


def _declared(url: str, trusted: ssl.SSLContext, length: int) -> bytes:
    """The answer to a request that only says how long it will be."""
    port = httpx.URL(url).port
    head = f"POST /v1/predict/image HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        trusted.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(head.encode())
        return connection.recv(4096)


@contextmanager
def proxy(folder: Path, service: str) -> Iterator[str]:
    """The real nginx with the file of deploy/, on a free port, in front of a service; yields its URL."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None or shutil.which("openssl") is None:
        pytest.skip("no nginx here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    where = ["-keyout", folder / "medrail.key", "-out", folder / "medrail.crt"]
    subprocess.run([*certificate, *files, *where], check=True, capture_output=True)
    text = PROXY.read_text()
    for said, meant in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8000", f"server {httpx.URL(service).netloc.decode()}"),
        ("medrail.example.org", "localhost"),
        ("/etc/nginx/", f"{folder}/"),
        ("/var/log/nginx/", f"{folder}/"),
    ):
        assert said in text
        text = text.replace(said, meant)
    spool = "".join(f"{kind}_temp_path {folder}/spool-{kind};\n" for kind in ("client_body", "proxy", "fastcgi"))
    spool += "".join(f"{kind}_temp_path {folder}/spool-{kind};\n" for kind in ("uwsgi", "scgi"))
    head = f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log stderr crit;\nevents {{}}\n"
    (folder / "nginx.conf").write_text(f"{head}http {{\n{spool}{text}\n}}\n")
    with subprocess.Popen([program, "-p", folder, "-c", folder / "nginx.conf"], stderr=subprocess.PIPE) as running:
        try:
            _wait(port, running)
            yield f"https://localhost:{port}"
        finally:
            running.terminate()
            running.wait(30)


def _wait(port: int, running: subprocess.Popen[bytes]) -> None:
    last = time.monotonic() + 30
    while time.monotonic() < last:
        if running.poll() is not None:
            raise AssertionError(running.stderr.read().decode() if running.stderr else "nginx ended")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("nginx did not listen")
