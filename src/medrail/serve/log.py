"""The service's log: one JSON object a line, in a rotating file and on standard error.

Only fixed keys with values of the service's own making get in: no file name, no header, no query, no message of an
unexpected exception, because any of them may hold a patient's name. An input is known by its SHA-256.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from typing import Any, TextIO

from medrail.errors import ServeError
from medrail.serve.settings import MEBIBYTE, Settings

LOG_FILE = "service.jsonl"


class ServiceLog:
    """Writes events; ``event("request", status=200, ...)`` is one line."""

    def __init__(self, settings: Settings) -> None:
        self._logger = logging.Logger("medrail.serve", logging.INFO)  # its own, so that two apps do not share handlers
        for handler in _handlers(settings):
            handler.setFormatter(logging.Formatter("%(message)s"))
            self._logger.addHandler(handler)

    def event(self, name: str, *, level: int = logging.INFO, **values: Any) -> None:
        """Write one line: time (UTC), level, event name, values."""
        line = {"time": _now(), "level": logging.getLevelName(level).lower(), "event": name, **values}
        self._logger.log(level, json.dumps(line, ensure_ascii=False, default=str))

    def unexpected(self, error: BaseException, request_id: str) -> None:
        """Write where an unexpected exception came from: its type and stack, never its message."""
        frames = traceback.extract_tb(error.__traceback__)
        stack = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
        self.event("error", level=logging.ERROR, request_id=request_id, error=type(error).__qualname__, stack=stack)

    def close(self) -> None:
        """Close the file."""
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            handler.close()


class _RotatingFile(RotatingFileHandler):
    """A full disk or a vanished folder costs the log line, not the request."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        with suppress(OSError, ValueError):
            sys.stderr.write('{"event": "log-not-written"}\n')


class _StandardError(logging.StreamHandler[TextIO]):
    """Nobody may be there to read it any more; then there is no one to tell either."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        return


def _handlers(settings: Settings) -> Iterator[logging.Handler]:
    yield logging.NullHandler()  # without any handler, logging would print warnings to standard error by itself
    if settings.log_to_stderr:
        yield _StandardError(sys.stderr)
    if settings.log_dir is not None:
        path = settings.log_dir / LOG_FILE
        try:
            settings.log_dir.mkdir(parents=True, exist_ok=True)
            yield _RotatingFile(
                path,
                maxBytes=int(settings.log_file_mb * MEBIBYTE),
                backupCount=settings.log_files - 1,
                encoding="utf-8",
            )
        except OSError as error:
            raise ServeError(
                f"the log cannot be written ({error.strerror})",
                where=str(path),
                remedy="Choose a folder that the service may write to.",
            ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
