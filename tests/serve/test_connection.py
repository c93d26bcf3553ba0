"""What connections may cost: slow heads, slow bodies, slow readers, large heads, many at a time; and TLS.

The bounds are a fraction of a second here; what is tested is that they end a connection and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from medrail.errors import ServeError
from medrail.serve import Settings
from medrail.serve.connection import Bounds, bounded, check_tls, uvicorn_options
from medrail.serve.pace import Pace

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATIENCE_S = 20  # of the tests; every bound is far below
QUICK = {"header_timeout_s": 0.3, "stall_timeout_s": 0.4, "max_header_kb": 8, "upload_idle_s": 0.3}


@pytest.fixture(scope="module", params=["httptools", "h11"])
def quick(request, serving, classifier, tmp_path_factory) -> Iterator[Any]:
    """A service that loses its patience quickly, on either parser."""
    if request.param == "httptools":
        pytest.importorskip("httptools")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            if request.param == "h11":
                patch.setitem(sys.modules, "uvicorn.protocols.http.httptools_impl", None)
            service = stack.enter_context(serving(tmp_path_factory.mktemp("quick"), classifier, **QUICK))
        yield service


@contextmanager
def connected(service: Any) -> Iterator[socket.socket]:
    url = service.client.base_url
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_S) as connection:
        yield connection


def all_of(connection: socket.socket) -> bytes:
    """Everything until the service closes; a reset counts as closed."""
    received = bytearray()
    try:
        while chunk := connection.recv(65_536):
            received += chunk
    except ConnectionResetError:
        pass
    return bytes(received)


def still_serves(service: Any) -> bool:
    return service.client.get("/readyz").status_code == 200


def test_a_head_that_drips(quick) -> None:
    with connected(quick) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        answer = b""
        for number in range(1000):
            time.sleep(0.05)
            try:
                connection.sendall(b"X-%d: y\r\n" % number)
                connection.settimeout(0.001)
                answer = connection.recv(4096)
                break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the service still listens")
        assert b"408" in answer or answer == b""
    assert still_serves(quick)


def test_a_head_that_stops(quick) -> None:
    with connected(quick) as connection:
        connection.sendall(b"POST /v1/predict/image HTTP/1.1\r\nHost:")
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in answer
    assert b"urn:medrail:problem:upload-timeout" in answer


def test_who_connects_and_says_nothing(quick) -> None:
    with connected(quick) as connection:
        assert all_of(connection) == b""


def test_a_second_request_that_stops(quick) -> None:
    with connected(quick) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        connection.sendall(b"GET /healthz HTTP")
        answer = all_of(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 1
    assert answer.count(b"HTTP/1.1 408 ") == 1


def test_requests_in_a_row_are_not_disturbed(quick) -> None:
    with connected(quick) as connection:
        for _ in range(4):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.15)  # together longer than one head may take
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"
        )
        answer = all_of(connection)
    assert answer.count(b"HTTP/1.1 200 ") == 3


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"POST /v1/predict/image HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: y\r\n" * 40_000,
    ],
)
def test_a_head_without_end(quick, head) -> None:
    with connected(quick) as connection:
        with suppress(OSError):
            connection.sendall(head)
        answer = all_of(connection)
    assert answer == b"" or re.match(rb"HTTP/1.1 4\d\d ", answer)
    assert still_serves(quick)


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\0" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_http(quick, text) -> None:
    with connected(quick) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        answer = all_of(connection)
    statuses = re.findall(rb"HTTP/1.1 (\d\d\d) ", answer)
    assert all(status[:1] in b"24" for status in statuses), answer
    assert b"Traceback" not in answer
    assert still_serves(quick)


def test_a_body_that_stops(quick) -> None:
    with connected(quick) as connection:
        connection.sendall(b"POST /v1/predict/image HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: ")
        connection.sendall(b"multipart/form-data; boundary=b\r\nConnection: close\r\n\r\n--b\r\n")
        assert all_of(connection).startswith(b"HTTP/1.1 408 ")
    assert not quick.left_over()


def test_a_client_that_does_not_take_its_answer(quick) -> None:
    """It asks for more than any buffer holds, and reads nothing; the service lets go of it."""
    with connected(quick) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        try:
            for _ in range(2000):
                connection.sendall(request)
        except OSError:
            return  # reset while we were still asking
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0.1)
            try:
                connection.sendall(request)
            except OSError:
                return
    pytest.fail("the service still waits for its reader")


def test_connections_of_all_senders_are_bounded(serving, classifier, tmp_path) -> None:
    with serving(tmp_path, classifier, max_connections=3) as service:
        kept = []
        try:
            for _ in range(3):
                url = service.client.base_url
                kept.append(socket.create_connection((url.host, url.port), timeout=PATIENCE_S))
                kept[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert kept[-1].recv(4096).startswith(b"HTTP/1.1 200")
            with connected(service) as one_more:
                assert all_of(one_more) == b""
        finally:
            for connection in kept:
                connection.close()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                if still_serves(service):
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    pytest.fail("places of connections that were closed are not free again")


def test_connections_of_one_sender_are_bounded() -> None:
    """By address; this machine's own are not counted, for a proxy may sit here."""
    kind: Any = bounded(Bounds(1, 1, 1000, 1000, 2))
    assert kind.bounds.connections_per_address == 2
    made = [_Connection(kind, address) for address in ("203.0.113.9", "203.0.113.9", "203.0.113.9", "203.0.113.10")]
    assert [each.aborted for each in made] == [False, False, True, False]
    local = [_Connection(kind, "127.0.0.1") for _ in range(5)]
    assert not any(each.aborted for each in local)
    for each in (*made, *local):
        each.close()
    assert not kind.addresses


class _Connection:
    """A protocol with a transport of no network."""

    def __init__(self, kind: Any, address: str) -> None:
        import uvicorn
        from uvicorn.server import ServerState

        self.aborted = False
        self.loop = asyncio.new_event_loop()
        config = uvicorn.Config(lambda: None, log_config=None, lifespan="off")
        config.load()
        self.protocol = kind(config=config, server_state=ServerState(), app_state={}, _loop=self.loop)
        self.address = address
        self.protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.address, 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.protocol.connection_lost(ConnectionResetError())
        self.loop.close()


# ---------------------------------------------------------------- the whole request


def through_pace(app: Any, settings: Settings, *chunks: bytes, **scope: Any) -> tuple[int, bytes]:
    """Status and body of what comes through ``Pace``; after the chunks the sender goes silent."""
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    state = {"record": {}, "request_id": "x"}
    asyncio.run(Pace(app, settings)({"type": "http", "headers": [], "state": state, **scope}, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def answer_200(send: Any, body: bytes = b"ok") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_any_route_that_reads_its_body_is_bounded() -> None:
    async def greedy(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive())["more_body"]:
                pass
        except Exception:  # noqa: BLE001 - as a framework that calls everything a bad body
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"bad body"})
            return
        await answer_200(send)

    small = Settings(max_upload_mb=0.001, upload_idle_s=0.05)
    status, body = through_pace(greedy, small, b"x" * 2000)
    assert (status, b"too-large" in body) == (413, True)
    status, body = through_pace(greedy, small, b"x")
    assert (status, b"upload-timeout" in body) == (408, True)
    slow = Settings(upload_timeout_s=0.05)
    assert through_pace(greedy, slow, b"x", b"y")[0] == 408


def test_declared_sizes_and_heads_are_looked_at_first() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    settings = Settings(max_upload_mb=1, max_header_kb=1)
    for size in (b"1048577", b"9" * 400):
        assert through_pace(never, settings, headers=[(b"content-length", size)])[0] == 413
    assert through_pace(never, settings, headers=[(b"x", b"y" * 2000)])[0] == 431
    assert through_pace(never, settings, query_string=b"y" * 2000)[0] == 431


def test_an_answer_that_does_not_come() -> None:
    async def asleep(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    status, body = through_pace(asleep, Settings(request_timeout_s=0.05))
    assert (status, b"timed-out" in body) == (503, True)


def test_an_answer_that_has_begun_is_not_cut_off() -> None:
    async def long(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"all of it"})

    assert through_pace(long, Settings(request_timeout_s=0.05)) == (200, b"all of it")


def test_waiting_for_the_client_to_leave_is_not_waiting_for_its_body() -> None:
    async def watchful(scope: Any, receive: Any, send: Any) -> None:
        assert not (await receive())["more_body"]
        leaving = asyncio.ensure_future(receive())
        await asyncio.sleep(0.1)
        assert not leaving.done()
        leaving.cancel()
        await answer_200(send)

    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": b"x", "more_body": False}]

    async def receive() -> Any:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    settings = Settings(upload_idle_s=0.02, upload_timeout_s=0.02)
    scope = {"type": "http", "headers": [], "state": {"record": {}, "request_id": "x"}}
    asyncio.run(Pace(watchful, settings)(scope, receive, send))
    assert sent[0]["status"] == 200


def test_faults_of_the_application_are_not_hidden() -> None:
    async def faulty(scope: Any, receive: Any, send: Any) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        through_pace(faulty, Settings())


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One of this machine's own address, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, *more, "-keyout", key, "-out", cert], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl")
    return cert, key


def test_https(serving, classifier, certificate, blob_png, tmp_path) -> None:
    cert, key = certificate
    with serving(tmp_path, classifier, tls_cert=cert, tls_key=key, **QUICK) as service:
        port = service.client.base_url.port
        trusting = ssl.create_default_context(cafile=cert)
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trusting, trust_env=False) as client:
            answer = client.post("/v1/predict/image", files={"file": ("x", blob_png)})
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"].startswith("max-age=")
        with (
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw,
            trusting.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
        ):
            assert connection.version() in ("TLSv1.2", "TLSv1.3")
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw, pytest.raises(ssl.SSLError):
            old.wrap_socket(raw)
        with pytest.raises(httpx.TransportError):
            service.client.get("/healthz")  # plain HTTP on the same port
        assert healthy(port) == 0


def test_the_images_health_check(start, classifier) -> None:
    """``deploy/health.py`` speaks HTTP, too; of HTTPS see above."""
    port = start(classifier).client.base_url.port
    assert healthy(port) == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert healthy(silent.getsockname()[1]) == 1


def healthy(port: int) -> int:
    """The exit code of the check in deploy/Dockerfile, of a service at another port."""
    recipe = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", recipe, re.MULTILINE)
    program, file, place = json.loads(command)
    assert (program, place) == ("python", "127.0.0.1:8000")
    assert f"COPY deploy/health.py {file}\n" in recipe
    done = subprocess.run([sys.executable, DEPLOY / "health.py", f"127.0.0.1:{port}"], capture_output=True, check=False)
    assert done.stderr == b""
    return done.returncode


def test_files_that_are_no_certificate(certificate, tmp_path) -> None:
    cert, key = certificate
    check_tls(cert, key)
    assert uvicorn_options(Settings(tls_cert=cert, tls_key=key))["ssl_certfile"] == cert
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for wrong in ((cert, None), (None, key), (cert, tmp_path / "none"), (text, key), (cert, text), (key, cert)):
        with pytest.raises(ServeError):
            check_tls(*wrong)
