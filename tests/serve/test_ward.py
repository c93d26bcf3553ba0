"""What deploy/ tells a ward's engineer to install: real nginx and systemd judge it, and skip where they are not."""

from __future__ import annotations

import itertools
import os
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from medrail.arguments import build_parser
from medrail.config import ServeConfig, serve_settings
from medrail.serve.keys import add_key

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT, PROXY = DEPLOY / "medrail.service", DEPLOY / "nginx.conf"
NAME = "medrail.example.org"
"""Of the hospital's service, as nginx and the service know it; nothing here resolves it."""


def command(credentials: str) -> list[str]:
    """The unit's command, its credentials in that folder."""
    text = UNIT.read_text().replace("\\\n", " ").replace("%d", credentials)
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    return shlex.split(line)


def test_the_units_command_is_one_that_the_parser_takes() -> None:
    program, *words = command("/run/credentials/medrail.service")
    arguments = build_parser().parse_args(words)
    settings = serve_settings(ServeConfig(), arguments.set)
    assert program == "/opt/medrail/bin/medrail"
    assert arguments.verb == "serve"
    assert settings.pacs.credentials_file.endswith("/medrail.service/pacs")
    assert f"server_name {settings.allowed_hosts[0]};" in PROXY.read_text()
    given = re.findall(r"^LoadCredential=(\w+):", UNIT.read_text(), re.MULTILINE)
    assert {Path(arguments.key_file).name, Path(settings.pacs.credentials_file).name} == set(given)


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


@dataclass(frozen=True)
class Ward:
    """The unit's service, without its PACS: a client on this machine, and where uploads lie."""

    here: httpx.Client
    keys: dict[str, dict[str, str]]
    uploads: Path


@pytest.fixture(scope="module")
def ward(picture_segmenter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    """``medrail serve`` with the words of the unit, for which only folders and the port are exchanged."""
    folder = tmp_path_factory.mktemp("ward")
    for name in ("uploads", "state"):
        (folder / name).mkdir()
    keys = {scope: {"X-API-Key": add_key(folder / "keys", scope, scope)[1]} for scope in ("predict", "admin")}
    words = [
        word
        for before, word in itertools.pairwise(command(str(folder)))
        if "pacs" not in before + word and not (word == "--set" and "pacs" in before)
    ]
    text = shlex.join(words)
    for said, meant in (
        ("/srv/medrail/models", picture_segmenter.parents[1]),
        ("--port 8000", "--port 0"),
        ("/var/log/medrail", folder / "log"),
        ("/var/lib/medrail", folder / "state"),
    ):
        assert said in text
        text = text.replace(said, str(meant))
    more = ["--max-upload-mb", "3", "--set", f"serve.temp_dir={folder / 'uploads'}"]
    program = "import sys; from medrail.cli import main; sys.exit(main())"
    started = [sys.executable, "-c", program, *shlex.split(text), *more]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen(started, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as running,
    ):
        try:
            assert running.stdout is not None
            found = next((each for line in running.stdout if (each := re.search(r"http://[0-9.:]+", line))), None)
            assert found, (folder / "stderr").read_text()
            with httpx.Client(base_url=found[0], timeout=60, trust_env=False) as client:
                yield Ward(client, keys, folder / "uploads")
        finally:
            running.terminate()
            running.communicate(timeout=60)


@contextmanager
def outside(url: str, folder: Path, headers: dict[str, str]) -> Iterator[httpx.Client]:
    """A client on the ward: it knows the service by its name alone."""

    def named(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = NAME

    trusted = ssl.create_default_context(cafile=str(folder / "medrail.crt"))
    options: dict[str, Any] = {"timeout": 60, "trust_env": False, "event_hooks": {"request": [named]}}
    with httpx.Client(base_url=url, verify=trusted, headers={"Host": NAME, **headers}, **options) as client:
        yield client


def test_the_proxy_passes_on_and_keeps_nothing(ward: Ward, encode: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = encode(rng.integers(0, 256, (1000, 800), dtype=np.uint8))
    image = {"file": ("Sally.png", picture)}
    with proxy(tmp_path, str(ward.here.base_url)) as url:
        with outside(url, tmp_path, ward.keys["predict"]) as client:
            answer = client.post("/v1/predict/image", files=image)
            assert answer.status_code == 200, answer.text
            same = ward.here.post("/v1/predict/image", files=image, headers=ward.keys["predict"])
            assert answer.json()["mask"]["data"] == same.json()["mask"]["data"]
            assert answer.headers["strict-transport-security"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            large = client.post("/v1/predict/image", files={"file": ("x", picture * 5)})
            assert (large.status_code, large.json()["type"]) == (413, "urn:medrail:problem:too-large")
            for place in ("/v1/pacs/studies/1.2.840.4711/series?patient=Sally", "/v1/Sally^Doe", "/v1/sallydoe"):
                assert client.get(place).status_code == 404
            assert _starts_at_the_service_while_it_is_sent(client, ward.uploads, picture)
        assert b" 413 " in _declared(url, tmp_path, 600 << 20)
    logged = "".join(path.read_text() for path in tmp_path.glob("medrail*.log"))
    assert logged.count("\n") >= 6
    assert "/v1/predict/image 200" in logged
    assert "/v1/pacs/studies/... 404" in logged
    assert logged.count(" (other) 404") == 2
    assert answer.headers["x-request-id"] in logged
    for secret in ("ally", "4711", "1.2.840"):
        assert secret not in logged


def test_who_gets_in_through_the_proxy_and_past_it(ward: Ward, tmp_path: Path) -> None:
    with proxy(tmp_path, str(ward.here.base_url)) as url:
        with outside(url, tmp_path, {}) as client:
            for place in ("/", "/docs", "/readyz", "/static/page.js"):
                assert client.get(place).status_code == 200, place
            for place in ("/v1/models", "/v2/models/nuclei", "/v1/nothing"):
                assert client.get(place).status_code == 401, place
        for scope, headers in ward.keys.items():
            with outside(url, tmp_path, headers) as client:
                assert client.get("/v1/models").status_code == 200, scope
                for place in ("/metrics", "/v1/admin/models"):
                    hidden = client.get(place)
                    assert (hidden.status_code, hidden.headers["server"]) == (404, "nginx"), (scope, place)
    codes = {who: ward.here.get("/v1/admin/models", headers=key).status_code for who, key in ward.keys.items()}
    assert codes == {"predict": 403, "admin": 200}
    assert ward.here.get("/v1/models").status_code == 401, "at this machine, too"
    assert ward.here.get("/metrics", headers=ward.keys["predict"]).status_code == 200
    assert ward.here.get("/readyz").status_code == 200
    other = ward.here.get("/v1/models", headers={"Host": "evil.example", **ward.keys["predict"]})
    assert (other.status_code, other.json()["type"]) == (400, "urn:medrail:problem:wrong-host")


def test_what_nginx_logs_of_an_address_is_never_taken_from_it() -> None:
    (table,) = re.findall(r"^map \$uri \$medrail_place \{\n(.*?)^\}", PROXY.read_text(), re.MULTILINE | re.DOTALL)
    rows = [line.split() for line in table.splitlines()]
    assert all(len(row) == 2 and re.fullmatch(r"/[a-z0-9/]*(\.json;|\.\.\.;|;)|\(other\);", row[1]) for row in rows)
    for name, place in rows[:-1]:
        assert name == place[:-1] or name == f"~^{place[:-4]}."


def _starts_at_the_service_while_it_is_sent(client: httpx.Client, uploads: Path, picture: bytes) -> bool:
    """Whether the upload's first half has arrived before its second is sent: then it was not kept on the way."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    arrived = []

    def body() -> Iterator[bytes]:
        yield head + picture[: len(picture) // 2]
        last = time.monotonic() + 20
        while not arrived and time.monotonic() < last:
            arrived.extend(uploads.glob("*/*/file"))
            time.sleep(0.02)
        yield picture[len(picture) // 2 :] + b"\r\n--b--\r\n"

    length = len(head) + len(picture) + len(b"\r\n--b--\r\n")
    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(length)}
    assert client.post("/v1/predict/image", content=body(), headers=headers).status_code == 200
    return bool(arrived)


def _declared(url: str, folder: Path, length: int) -> bytes:
    """The answer to a request that only says how long it will be."""
    port = httpx.URL(url).port
    trusted = ssl.create_default_context(cafile=str(folder / "medrail.crt"))
    head = f"POST /v1/predict/image HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: {length}\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        trusted.wrap_socket(plain, server_hostname=NAME) as connection,
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
    files = ["-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    where = ["-keyout", folder / "medrail.key", "-out", folder / "medrail.crt"]
    subprocess.run([*certificate, *files, *where], check=True, capture_output=True)
    text = PROXY.read_text()
    for said, meant in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("server 127.0.0.1:8000", f"server {httpx.URL(service).netloc.decode()}"),
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
            yield f"https://127.0.0.1:{port}"
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
