"""A file read by its number: what thousands of short looks cost least."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class Readable(Protocol):
    """A file that is open without a buffer."""

    def seek(self, offset: int, /) -> int: ...

    def read(self, count: int, /) -> bytes: ...


class Source:
    """An open file and its size in bytes; ``OSError`` where it cannot be opened."""

    __slots__ = ("_number", "size")

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, _FLAGS)
        self.size = os.fstat(self._number).st_size

    def seek(self, offset: int, /) -> int:
        return os.lseek(self._number, offset, os.SEEK_SET)

    def read(self, count: int, /) -> bytes:
        return os.read(self._number, count)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._number)
