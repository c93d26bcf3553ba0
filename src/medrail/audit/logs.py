"""Files of an audit log -> its records, one by one; what cannot be read is counted and passed over."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import IO, Any

from medrail.errors import ConfigError, DataError

AUDIT_NAME = "audit.jsonl"
_LONGEST_LINE = 2**20
_DAY_LENGTH = len("2026-11-27")


@dataclass(frozen=True)
class Span:
    """From ``since`` on and before ``until`` (both with a time zone); None: no border."""

    since: datetime | None = None
    until: datetime | None = None

    @staticmethod
    def of(since: str = "", until: str = "") -> Span:
        """Of texts: a date is its whole day, a time without a zone is UTC.

        Raises
        ------
        ConfigError
            If one is neither, or nothing can lie between them.
        """
        span = Span(_moment("--since", since, last=False), _moment("--until", until, last=True))
        if span.since and span.until and span.since >= span.until:
            raise ConfigError(f"--since {since} --until {until}", needed="a time after the other")
        return span

    def __contains__(self, moment: datetime) -> bool:
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


@dataclass
class Found:
    """What lay in the files besides the records: grows while ``records`` is read."""

    files: int = 0
    lines: int = 0
    broken: int = 0
    lost: int = 0


def find_logs(paths: Sequence[str | Path]) -> list[Path]:
    """The audit logs that the paths mean: a file itself; of a folder, or of the ``logs`` in it, all that is rotated.

    Raises
    ------
    ConfigError
        If a path is not there.
    DataError
        If a folder has no audit log.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError("there is no such file or folder", where=str(path))
        if path.is_file():
            found.append(path)
            continue
        within = sorted(path.glob(f"{AUDIT_NAME}*")) or sorted((path / "logs").glob(f"{AUDIT_NAME}*"))
        if not within:
            raise DataError(
                f"no {AUDIT_NAME}",
                where=str(path),
                remedy="It is written where `medrail serve --log-dir DIR` says; or name the files themselves.",
            )
        found += within
    return list(dict.fromkeys(found))


def records(files: Sequence[Path], span: Span, found: Found) -> Iterator[tuple[datetime, dict[str, Any]]]:
    """Time and content of every line about a request or a job within the span; ``found`` counts the rest."""
    for path in files:
        found.files += 1
        with closing(_opened(path)) as file:
            for line in _lines(file, found):
                found.lines += 1
                record = _record(line)
                if record is None:
                    found.broken += 1
                elif record[0] in span and record[1].get("event") == "gap":
                    lost = record[1].get("lost")
                    found.lost += lost if type(lost) is int else 0
                elif record[0] in span and record[1].get("event") in ("request", "job"):
                    yield record


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """Compressed or not, by the content."""
    file = path.open("rb")
    if file.read(2) == b"\x1f\x8b":
        file.close()
        return gzip.open(path, "rb")
    file.seek(0)
    return file


def _lines(file: IO[bytes] | gzip.GzipFile, found: Found) -> Iterator[bytes]:
    """Lines of bounded length; the rest of a file that is damaged counts as one broken line."""
    try:
        while line := file.readline(_LONGEST_LINE):
            yield line
    except (OSError, EOFError, zlib.error):
        found.lines += 1
        found.broken += 1


def _record(line: bytes) -> tuple[datetime, dict[str, Any]] | None:
    try:
        record = json.loads(line)
        moment = datetime.fromisoformat(record["time"])
        if record["event"] == "request" and not (type(record["status"]) is int and isinstance(record["route"], str)):
            return None
        if record["event"] == "job" and not isinstance(record["job_status"], str):
            return None
        return moment.replace(tzinfo=moment.tzinfo or UTC), record
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _moment(option: str, text: str, *, last: bool) -> datetime | None:
    if not text:
        return None
    try:
        if len(text) == _DAY_LENGTH:
            return datetime.combine(date.fromisoformat(text) + timedelta(days=int(last)), time(), UTC)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} {text}", needed="a date or time as 2026-11-27 or 2026-11-27T14:30 (UTC unless it says a zone)"
        ) from None
