"""Pacs: one DICOMweb server, asked for lists, for one series, and to keep new objects. Blocking; safe in threads.

Nothing but the configured root is called: redirects are not followed, nor addresses within answers, and neither proxies
nor passwords are taken from the environment's usual places. Every answer is bounded in size and time.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import httpx

from medrail import __version__
from medrail.config import PacsConfig
from medrail.serve.pacs.address import Address
from medrail.serve.pacs.multipart import Bounds, Parts, body_of, boundary_of
from medrail.serve.pacs.stored import Stored, stored_of
from medrail.serve.problems import Refusal
from medrail.serve.settings import MEBIBYTE

Entry = Mapping[str, Any]
Query = Mapping[str, str | Sequence[str]]
Got = TypeVar("Got")

_JSON = "application/dicom+json"
# As they are stored, since every codec is read; where a server knows no "*", as it likes.
_OBJECTS = (
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"',
)
_JSON_BYTES = 32 * MEBIBYTE
_FIRST_PAUSE_S = 0.5
_PASSING = frozenset({"pacs-unreachable", "pacs-incomplete"})
_PASSING_STATUS = frozenset({429, 502, 503, 504})
_STORED_OR_NOT = frozenset({200, 202, 409})  # PS3.18, table 10.5.3-1: 202 of some, 409 of none


class Pacs:
    """``Pacs(config)``; ``close()`` at the end.

    Raises
    ------
    ConfigError
        If the address, the credentials or the certificates are not usable. Whether somebody answers is not asked.
    Refusal
        By every call: one of the kinds "pacs-...".
    """

    def __init__(self, config: PacsConfig) -> None:
        address = Address.of(config)
        for name in ("httpx", "httpcore"):  # at "info" they tell the whole address, with its UIDs
            logging.getLogger(name).setLevel(logging.WARNING)
        headers = {"User-Agent": f"medrail/{__version__}", "Accept-Encoding": "identity"}
        if address.authorization:
            headers["Authorization"] = address.authorization
        self.config = config
        self._root = address.root
        self._closed = threading.Event()
        self._client = httpx.Client(
            headers=headers,
            verify=address.tls,
            timeout=config.timeout_s,
            trust_env=False,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=None),
        )

    def close(self) -> None:
        """End the connections; who waits between two tries gives up."""
        self._closed.set()
        self._client.close()

    def studies(self, query: Query) -> list[Entry]:
        """Studies by QIDO-RS, as the PACS gives them."""
        try:
            return self._listed("/studies", query)
        except Refusal as refusal:
            if refusal.kind != "pacs-not-found":
                raise
            raise Refusal(
                "pacs-answer", "It has no DICOMweb there.", "Whoever runs it looks at serve.pacs.url."
            ) from None

    def series(self, study_uid: str, query: Query) -> list[Entry]:
        """The series of one study."""
        return self._listed(f"/studies/{study_uid}/series", query)

    def first_instance(self, study_uid: str, series_uid: str, include: str) -> Entry:
        """One instance of a series, with the attribute ``include``; {} where there is none."""
        query = {"limit": "1", "includefield": include}
        return next(iter(self._listed(f"/studies/{study_uid}/series/{series_uid}/instances", query)), {})

    def pull(
        self,
        study_uid: str,
        series_uid: str,
        folder: Path,
        arrived: Callable[[int], None] = lambda count: None,
        expected: int | None = None,
    ) -> list[Path]:
        """Stream a series into an empty folder (WADO-RS); ``arrived`` is told how many files have begun.

        ``arrived`` may raise, which ends the transfer. If fewer than ``expected`` come, that is an error: half a volume
        would be answered as if it were whole.
        """
        until = time.monotonic() + self.config.pull_s
        bounds = Bounds(int(self.config.max_series_mb * MEBIBYTE), self.config.max_series_files)
        path = f"/studies/{study_uid}/series/{series_uid}"

        def once(accept: str = _OBJECTS[0]) -> list[Path]:
            for file in folder.iterdir():
                file.unlink()
            with self._asked("GET", path, {"Accept": accept}, good=frozenset({HTTPStatus.NOT_ACCEPTABLE})) as answer:
                if answer.status_code == HTTPStatus.NOT_ACCEPTABLE:
                    if accept == _OBJECTS[1]:
                        raise Refusal("pacs-answer", "It does not send series as DICOM objects.")
                    return once(_OBJECTS[1])
                if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
                    raise Refusal("pacs-incomplete", "The PACS said that it sent a part of the series only.")
                with Parts(boundary_of(answer.headers.get("content-type", "")), folder, bounds) as parts:
                    for chunk in _chunks(answer, until):
                        parts.feed(chunk)
                        arrived(len(parts.files))
                    parts.finish()
            if len(parts.files) < (expected or 1):
                raise Refusal("pacs-incomplete", f"{len(parts.files)} of {expected or 1} files arrived.")
            return parts.files

        return self._tried(once, until)

    def store(self, study_uid: str, objects: Mapping[str, bytes]) -> list[Stored]:
        """Send new objects of a study (STOW-RS); by SOP Instance UID, as which they are sent. What became of each.

        Sent twice (a retry), an object is the same one.
        """
        content_type, body = body_of(list(objects.values()))
        until = time.monotonic() + self.config.list_s

        def once() -> list[Stored]:
            headers = {"Content-Type": content_type, "Accept": _JSON}
            with self._asked("POST", f"/studies/{study_uid}", headers, content=body, good=_STORED_OR_NOT) as answer:
                return stored_of(list(objects), answer.status_code, _json(answer, until))

        return self._tried(once, until)

    def _listed(self, path: str, query: Query) -> list[Entry]:
        until = time.monotonic() + self.config.list_s

        def once() -> list[Entry]:
            with self._asked("GET", path, headers={"Accept": _JSON}, params=query) as answer:
                found = [] if answer.status_code == HTTPStatus.NO_CONTENT else _json(answer, until)
                if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
                    raise Refusal("pacs-answer", "The PACS sent something else than a DICOM JSON list.")
                return found

        return self._tried(once, until)

    def _tried(self, once: Callable[[], Got], until: float) -> Got:
        """Ask again after what may pass by itself, as long as there is time."""
        for number in range(self.config.retries + 1):
            pause_s = _FIRST_PAUSE_S * 2**number
            try:
                return once()
            except Refusal as refusal:
                last = number == self.config.retries or time.monotonic() + pause_s > until
                if refusal.kind not in _PASSING or last or self._closed.wait(pause_s):
                    raise
        raise AssertionError  # the last try returns or raises

    @contextmanager
    def _asked(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        params: Query | None = None,
        content: bytes | None = None,
        good: frozenset[int] = frozenset(),
    ) -> Iterator[httpx.Response]:
        try:
            url = f"{self._root}{path}"
            with self._client.stream(method, url, params=params, content=content, headers=headers) as answer:
                if answer.status_code not in good:
                    _check(answer)
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise Refusal("pacs-answer", "The PACS sent a compressed answer, which was not asked for.")
                yield answer
        except httpx.TimeoutException:
            raise Refusal("pacs-slow", f"There was no answer for {self.config.timeout_s:g} s.") from None
        except httpx.ConnectError as error:
            raise _not_connected(error) from None
        except httpx.RequestError:
            raise Refusal("pacs-unreachable", "The connection to the PACS broke.") from None


def _check(answer: httpx.Response) -> None:
    """Of the PACS's own words nothing is passed on: they may quote what was asked for."""
    status = answer.status_code
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise Refusal("pacs-denied", f"It answered with the status {status}.")
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        raise Refusal("pacs-not-found")
    if status in _PASSING_STATUS:
        raise Refusal("pacs-unreachable", f"It answered with the status {status}.")
    if not 200 <= status < 300:
        raise Refusal("pacs-answer", f"It answered with the status {status}.")


def _not_connected(error: httpx.ConnectError) -> Refusal:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Refusal(
            "pacs-unreachable",
            "Its certificate is from no authority that this service knows, or for another name.",
            "Whoever runs the service sets serve.pacs.ca_file to the hospital's authority.",
        )
    return Refusal("pacs-unreachable", "No connection could be made.")


def _chunks(answer: httpx.Response, until: float) -> Iterator[bytes]:
    """The body as it comes, until the time is over: a server that sends a byte now and then would go on for ever."""
    for chunk in answer.iter_raw():  # as it comes: with a size, httpx would wait until so much is there
        if time.monotonic() > until:
            raise Refusal("pacs-slow", "The answer took too long to arrive.")
        yield chunk


def _json(answer: httpx.Response, until: float) -> Any:
    body = bytearray()
    for chunk in _chunks(answer, until):
        body += chunk
        if len(body) > _JSON_BYTES:
            raise Refusal("pacs-answer", f"It is larger than {_JSON_BYTES // MEBIBYTE} MiB.", "Ask for less.")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError):
        raise Refusal("pacs-answer", "The PACS sent something else than DICOM JSON.") from None
