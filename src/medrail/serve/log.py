"""The service's two logs, one JSON object a line: ``audit.jsonl``, who asked what, and ``service.jsonl``, how it went.

Only fixed keys with values of the service's own making get in: no file name, no header, no query, no message of an
unexpected exception, because any of them may hold a patient's name. An input is known by its SHA-256.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medrail.errors import ServeError
from medrail.serve.linefile import LineFile
from medrail.serve.settings import MEBIBYTE, Settings

LOG_FILE, AUDIT_FILE = "service.jsonl", "audit.jsonl"
_SHORT = (
    *("request_id", "method", "route", "status", "job_status"),
    *("total_ms", "model", "version", "job_id", "problem"),
)
"""What service.jsonl repeats of an audit line."""


class ServiceLog:
    """Writes events; ``event("start", ...)`` is a line of service.jsonl, ``request(line)`` one of audit.jsonl.

    Parameters
    ----------
    settings:
        Without ``log_dir`` everything goes to standard error.
    on_failure:
        Called with the file's name for each line that could not be written: a full disk or a vanished folder costs the
        line, not the request. The first of a row is also said on standard error.

    Raises
    ------
    ServeError
        If the files cannot be opened.
    """

    def __init__(self, settings: Settings, on_failure: Callable[[str], None] | None = None) -> None:
        self._level = logging.getLevelNamesMapping()[settings.log_level.upper()]
        self._to_stderr = settings.log_to_stderr
        self._on_failure = on_failure
        self._failing: set[str] = set()
        self._stderr_lock = threading.Lock()
        self._service = self._audit = None
        if settings.log_dir is not None:
            self._service = _opened(settings.log_dir / LOG_FILE, settings.log_file_mb, settings.log_files)
            self._audit = _opened(settings.log_dir / AUDIT_FILE, settings.audit_file_mb, settings.audit_files)

    def event(self, name: str, *, level: int = logging.INFO, **values: Any) -> None:
        """Write one line to service.jsonl: time (UTC), level, event name, values."""
        if level < self._level:
            return
        line = _json({"time": now(), "level": logging.getLevelName(level).lower(), "event": name, **values})
        if self._service:
            self._write(self._service, line)
        if self._to_stderr:
            self._say(line)

    def request(self, line: Mapping[str, Any]) -> None:
        """Write a request's line to audit.jsonl, and in short to service.jsonl; without files, whole to stderr."""
        status = int(line["status"])
        self._audited(line, logging.ERROR if status >= 500 else logging.WARNING if status >= 400 else logging.INFO)

    def job(self, line: Mapping[str, Any]) -> None:
        """The same for the end of long work (``audit.job_line``)."""
        self._audited(line, logging.WARNING if line["job_status"] == "failed" else logging.INFO)

    def _audited(self, line: Mapping[str, Any], level: int) -> None:
        if self._audit:
            self._write(self._audit, _json(line))
        told = {key: line[key] for key in _SHORT if key in line} if self._audit else dict(line)
        told.pop("time", None)
        self.event(str(told.pop("event", line.get("event"))), level=level, **told)

    def unexpected(self, error: BaseException, request_id: str) -> None:
        """Write where an unexpected exception came from: its type and stack, never its message."""
        frames = traceback.extract_tb(error.__traceback__)
        stack = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        self.event("error", level=logging.ERROR, request_id=request_id, error=type(error).__qualname__, stack=stack)

    def close(self) -> None:
        """Close the files."""
        for file in (self._service, self._audit):
            if file:
                file.close()
        self._service = self._audit = None

    def _write(self, file: LineFile, line: str) -> None:
        name = file.path.name
        if file.write(line):
            self._failing.discard(name)
            return
        if self._on_failure:
            self._on_failure(name)
        if name not in self._failing:
            self._failing.add(name)
            self._say(_json({"time": now(), "level": "error", "event": "log-not-written", "file": name}))

    def _say(self, line: str) -> None:
        """Nobody may be there to read it any more; then there is no one to tell either."""
        with self._stderr_lock, suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def now() -> str:
    """The time as the logs write it: UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False, default=str)


def _gap(lost: int) -> str:
    """Says within the log itself that lines are missing here."""
    return _json({"time": now(), "level": "error", "event": "gap", "lost": lost})


def _opened(path: Path, size_mb: float, files: int) -> LineFile:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return LineFile(path, int(size_mb * MEBIBYTE), files, _gap)
    except OSError as error:
        raise ServeError(
            f"the log cannot be written ({error.strerror})",
            where=str(path),
            remedy="Choose a folder that the service may write to.",
        ) from None
