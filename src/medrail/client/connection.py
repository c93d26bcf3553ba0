"""The connection: one pool of connections, patience with a busy service, and errors that say what the service said."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from medrail import __version__
from medrail.client.sources import Source, opened
from medrail.errors import ConfigError, ServiceBusy, ServiceError, ServiceUnreachable

CONNECT_S = 10.0
_FIRST_WAIT_S = 0.25
_JITTER = 0.25
_HOPELESS = frozenset({"timed-out"})  # the same request would take too long again
_AGAIN = (429, 503)
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_RANDOM = random.SystemRandom()
Fields = tuple[tuple[str, Source], ...]


class Connection:
    """Sends requests, again where that may help. One object serves all threads.

    Parameters
    ----------
    url:
        The service's address, as `medrail serve` prints it; may have a path.
    api_key:
        Sent as `Authorization: Bearer`; None: no key.
    timeout_s:
        Longest silence of the service while it is waited for.
    retries:
        How often a request is sent again.
    max_wait_s:
        How long one call waits for a busy service in all.
    ca_file:
        Certificates to trust instead of the system's.
    transport:
        For tests and special networks: what httpx sends with.

    Raises
    ------
    ConfigError
        If the address is none, or the certificates cannot be read.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        timeout_s: float,
        retries: int,
        max_wait_s: float,
        ca_file: str | Path | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._retries = retries
        self._max_wait_s = max_wait_s
        headers = {"User-Agent": f"medrail/{__version__}"}
        if api_key is not None:
            if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
                raise ConfigError("the key has characters that no key has", remedy="Copy it again.")
            headers["Authorization"] = f"Bearer {api_key}"
        self._http = httpx.Client(
            base_url=_checked(url),
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            verify=_certificates(ca_file),
            transport=transport,
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        files: Fields = (),
        headers: Mapping[str, str] | None = None,
        *,
        makes_job: bool = False,
    ) -> httpx.Response:
        """The answer, if it is a good one.

        Sent again are requests that a busy service refused (429, 503), and those that never arrived because there was
        no connection. If the connection broke before the answer, too, because predictions change nothing; but not what
        may have made a job (``makes_job``), which would then be done twice.

        Raises
        ------
        ServiceUnreachable
            If there is no answer.
        ServiceBusy
            If the service was busy until the end of our patience.
        ServiceError
            If it refuses.
        """
        waited_s, attempt = 0.0, 0
        while True:
            try:
                response = self._once(method, path, query, files, headers)
                error, retry_after_s = _problem(response, path), _retry_after_s(response)
                if error is None:
                    return response
                if response.status_code not in _AGAIN or error.kind in _HOPELESS:
                    raise error
            except httpx.HTTPError as failed:
                error, retry_after_s = _unreachable(failed, method, path), None
                if not isinstance(failed, _NEVER_SENT if makes_job else (*_NEVER_SENT, *_BROKEN)):
                    raise error from None
            wait_s = max(_FIRST_WAIT_S * 2**attempt, retry_after_s or 0.0)
            wait_s *= 1 + _JITTER * _RANDOM.random()  # never earlier than the service asked for, and not all at once
            if attempt >= self._retries or waited_s + wait_s > self._max_wait_s:
                raise error
            time.sleep(wait_s)
            waited_s, attempt = waited_s + wait_s, attempt + 1

    def drop(self, path: str) -> None:
        """DELETE, once and whatever comes of it: for what nobody waits for any more."""
        with suppress(httpx.HTTPError):
            self._http.delete(path, timeout=CONNECT_S)

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        files: Fields,
        headers: Mapping[str, str] | None,
    ) -> httpx.Response:
        with ExitStack() as stack:
            # Each file is called "file": its own name may be a patient's.
            parts = [(name, ("file", stack.enter_context(opened(source)))) for name, source in files]
            return self._http.request(method, path, params=query, files=parts or None, headers=headers)


def error_of(problem: Any, status: int, where: str) -> ServiceError:
    """The error for a problem document (RFC 9457), or for whatever stands in its place."""
    values = problem if isinstance(problem, Mapping) else {}

    def text(name: str) -> str:
        value = values.get(name)
        return value.strip() if isinstance(value, str) else ""

    kind = ServiceBusy if status in _AGAIN else ServiceError
    found = text("detail") or text("title") or f"the service answered with status {status}"
    return kind(
        found.removesuffix("."),
        where=where,
        remedy=text("remedy"),
        kind=text("type").rpartition(":")[2],
        status=status,
        request_id=text("request_id"),
    )


def _problem(response: httpx.Response, path: str) -> ServiceError | None:
    if response.is_success:
        return None
    try:
        values = response.json()
    except ValueError:
        values = None
    return error_of(values, response.status_code, f"{response.request.method} {path}")


def _unreachable(error: httpx.HTTPError, method: str, path: str) -> ServiceUnreachable:
    slow = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout)
    return ServiceUnreachable(
        "the service did not answer in time" if slow else f"no connection to the service ({type(error).__name__})",
        where=f"{method} {path}",
        remedy="Give the client a longer timeout_s, or use volume(), which waits for a job."
        if slow
        else "Is it running, and is the address right? `medrail serve` prints it.",
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3); None where there is neither."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp())


def _checked(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL("")
    if address.scheme not in ("http", "https") or not address.host:
        raise ConfigError(
            "the address of the service is none", needed="http://HOST:PORT or https://...", remedy="Write it whole."
        )
    return address


def _certificates(ca_file: str | Path | None) -> ssl.SSLContext | bool:
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except (OSError, ssl.SSLError):
        raise ConfigError(
            "the certificates cannot be read", needed="a PEM file", where=str(ca_file), remedy="Check the path."
        ) from None
