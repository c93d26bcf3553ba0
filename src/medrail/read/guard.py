"""What stands between medrail and the libraries that parse files: their exceptions and warnings stop here.

A parser given a broken file may raise anything, and its messages may quote values of the header (names, birth dates).
So only the *kind* of its exception is passed on, never its text; its warnings and log lines are dropped likewise.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from medrail.errors import CorruptFile, MedrailError, ReadError

# Loggers of parsers that print to stderr, or hand values of the header to the root logger.
_LOGGERS = tuple(logging.getLogger(name) for name in ("pydicom", "nibabel.global", "PIL", "tifffile"))


class _Quiet:
    """Drops warnings and the parsers' log lines while at least one thread reads.

    ``warnings.catch_warnings`` alone is not safe with threads: the last to leave would restore another's filters.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._catcher = warnings.catch_warnings()
        self._disabled: list[bool] = []

    def enter(self) -> None:
        with self._lock:
            self._readers += 1
            if self._readers > 1:
                return
            self._catcher = warnings.catch_warnings()
            self._catcher.__enter__()
            warnings.simplefilter("ignore")
            self._disabled = [logger.disabled for logger in _LOGGERS]
            for logger in _LOGGERS:
                logger.disabled = True

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            if self._readers:
                return
            for logger, disabled in zip(_LOGGERS, self._disabled, strict=True):
                logger.disabled = disabled
            self._catcher.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """``with quiet():`` drops warnings and log lines of parsers, which may quote a header; errors pass."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


class Guard:
    """``with Guard(path, "DICOM"):`` lets nothing out but a ``MedrailError`` that names the file.

    Raises
    ------
    ReadError
        When the file is missing, may not be opened, or does not fit into memory.
    CorruptFile
        For every other exception of a parser.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.kind = kind

    def __enter__(self) -> Guard:
        _QUIET.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _QUIET.leave()
        if isinstance(error, MedrailError):
            error.where = error.where or str(self.path)
        elif error is not None and not isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit)):
            # Not only Exception: decoders in Rust panic with a BaseException of their own.
            raise self._named(error) from None

    def _named(self, error: BaseException) -> ReadError:
        where = str(self.path)
        if isinstance(error, FileNotFoundError):
            return ReadError("there is no such file", where=where, remedy="Check the path.")
        if isinstance(error, PermissionError):
            return ReadError("may not be opened by this user", where=where, remedy="Change its permissions.")
        if isinstance(error, MemoryError):
            return ReadError("does not fit into memory", where=where, remedy="Crop it, or use a larger machine.")
        return CorruptFile(
            f"cannot be read as {self.kind} ({type(error).__name__})",
            needed=f"a whole, valid {self.kind} file",
            where=where,
            remedy="Copy or export it again; if a viewer opens it, please report it.",
        )
