"""The list of prepared cases: one line of JSON a case, written by one process, readable by a person and after any kill.

A line that names a case replaces the lines before it; ``{"case": "p1", "gone": true}`` takes it out. Lines are only
ever added at the end, so a kill can do no more than leave half a line there, which counts for nothing.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from medrail.errors import RunError
from medrail.machine import collecting_seldom
from medrail.workspace import write_text

Entry = dict[str, Any]
_FORMAT = 1
# Lines that were replaced are left out when they are more than this share.
_MOST_REPLACED = 0.2


def read_manifest(path: Path) -> Mapping[str, Entry]:
    """Case -> its entry; nothing where there is no file. Read again when the file has changed."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return {}
    return _read(str(path), status.st_size, status.st_mtime_ns, status.st_ino)[0]


@functools.lru_cache(maxsize=4)
def _read(path: str, size: int, mtime_ns: int, inode: int) -> tuple[Mapping[str, Entry], int, int]:
    """Entries by case, the number of lines, and the bytes that whole lines take."""
    content = Path(path).read_bytes()
    entries: dict[str, Entry] = {}
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    for entry in _parsed(lines):
        case = entry.get("case")
        if not isinstance(case, str):
            continue
        entries.pop(case, None)  # so that the order is that of the last lines
        if not entry.get("gone"):
            entries[case] = entry
    return entries, len(lines), whole


def _parsed(lines: Sequence[bytes]) -> Iterator[Entry]:
    """What the lines say, in turn; where all of them are whole they are parsed at once, in half the time."""
    with collecting_seldom():
        try:
            found = json.loads(b"[" + b",".join(lines) + b"]")
        except ValueError:
            found = []
        if len(found) != len(lines):
            found = [_read_alone(line) for line in lines]
        return map(_entry, found)


def _read_alone(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _entry(entry: Any) -> Entry:
    return entry if isinstance(entry, dict) and entry.get("format", _FORMAT) == _FORMAT else {}


class ManifestWriter:
    """Adds lines; for one process at a time. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def __enter__(self) -> ManifestWriter:
        """Half a line at the end, and lines that were replaced where they are many, are taken away."""
        entries: Mapping[str, Entry] = {}
        lines, whole = 0, 0
        if self.path.is_file():
            status = self.path.stat()
            entries, lines, whole = _read(str(self.path), status.st_size, status.st_mtime_ns, status.st_ino)
        if lines > len(entries) / (1 - _MOST_REPLACED):
            _write_anew(self.path, entries)
            whole = self.path.stat().st_size
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, whole, os.SEEK_SET)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, entry: Entry) -> None:
        """A case as it is now.

        Raises
        ------
        OSError
            If the disk is full; then nothing was added.
        RunError
            If somebody else has written into the file.
        """
        self._write(_line(entry))

    def remove(self, case: str) -> None:
        """A case that is there no more."""
        self._write(_line({"case": case, "gone": True}))

    def _write(self, line: str) -> None:
        # Names of files may hold what is no text; so they come back as they were.
        content, begin = line.encode("utf-8", "surrogatepass"), os.lseek(self._file, 0, os.SEEK_CUR)
        if os.fstat(self._file).st_size != begin:
            raise RunError(
                "another process has written into it",
                where=str(self.path),
                remedy="Let one `medrail prepare` at a time work on a store; this file system has no locks.",
            )
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError:
            os.ftruncate(self._file, begin)
            os.lseek(self._file, begin, os.SEEK_SET)
            raise


def _write_anew(path: Path, entries: Mapping[str, Entry]) -> None:
    text = "".join(map(_line, entries.values()))
    write_text(path, text, errors="surrogatepass")


def _line(entry: Entry) -> str:
    return json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
