"""A file of lines that several processes may write at a time, that is rotated by size, and that never stops anyone.

A line is one ``write`` to a file opened with O_APPEND, so lines of different processes never mix. Nobody waits: who
finds the file too large renames it if nobody else is at it, and writes on in the old one if somebody is. A file that
was renamed or removed behind a process's back (another process, logrotate) is noticed before the next line.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: one process may rotate; several need a folder each
    fcntl = None  # type: ignore[assignment]

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_MODE = 0o640


class LineFile:
    """``write`` appends a line and never raises; ``lost`` counts the lines that could not be written.

    Parameters
    ----------
    path:
        The newest file; older ones are ``NAME.1``, ``NAME.2`` and so on.
    max_bytes:
        Size from which on a new file is begun.
    files:
        How many are kept, the newest among them.
    gap:
        Number of lines lost in a row -> the line that says so in the file, once it can be written again.

    Raises
    ------
    OSError
        If the file cannot be opened at the beginning.
    """

    def __init__(self, path: Path, max_bytes: int, files: int, gap: Callable[[int], str]) -> None:
        self.path = path
        self.lost = 0
        self._max_bytes, self._files, self._gap = max_bytes, files, gap
        self._lock = threading.Lock()
        self._torn = False
        self._failing = 0
        self._fd = -1
        self._open()

    def write(self, line: str) -> bool:
        """Append one line (without its newline); False if it was lost."""
        with self._lock:
            try:
                if self._failing:
                    self._append(self._gap(self._failing))
                    self._failing = 0
                self._append(line)
            except (OSError, ValueError):
                self.lost += 1
                self._failing += 1
                return False
        return True

    def close(self) -> None:
        with self._lock:
            self._close()

    def _append(self, line: str) -> None:
        data = line.encode("utf-8", "replace") + b"\n"
        size = self._size()
        if size and size + len(data) > self._max_bytes:
            with suppress(OSError):  # better a file that is too large than a line that is lost
                self._rotate()
        if self._torn:
            data = b"\n" + data
        written = os.write(self._fd, data)
        self._torn = written < len(data)  # a disk that is nearly full takes a part; what follows begins a new line
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _size(self) -> int:
        """Of the file that lies at the path, which is opened if it is not the one that is open."""
        try:
            there, mine = self.path.stat(), os.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return there.st_size
        except OSError:
            pass
        self._open()
        return os.fstat(self._fd).st_size

    def _open(self) -> None:
        fd = os.open(self.path, _FLAGS, _MODE)
        self._close()
        self._fd = fd

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _rotate(self) -> None:
        with self._turn() as mine:
            if not mine or self._size() < self._max_bytes // 2:  # another process is at it, or has just done it
                return
            free = next((n for n in range(1, self._files) if not self._numbered(n).exists()), self._files - 1)
            for number in range(free, 0, -1):
                self._numbered(number - 1).replace(self._numbered(number))
            if self._files == 1:
                self.path.unlink()
            self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether this process alone may rename now."""
        if fcntl is None:
            yield True
            return
        lock = os.open(self.path.with_name(f".{self.path.name}.lock"), _FLAGS, _MODE)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
        finally:
            os.close(lock)
