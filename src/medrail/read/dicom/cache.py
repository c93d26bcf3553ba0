"""Headers remembered between calls, so that a folder is indexed once.

They lie in one database in the user's own cache folder, which nobody else may read, and never in a project: nothing of
a header travels with a project that is copied or shared. Losing the database costs time only.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from medrail.read.dicom.headers import Outcome
from medrail.read.dicom.rows import outcome_from, row_of

_FILE_NAME = "headers.db"
_BATCH = 500  # files that are looked up, and rows that are written, together
_MOST_BYTES = 1 << 30
_BUSY_TIMEOUT_S = 2.0
# A file changed again within the clock's step keeps its time stamp; what is this new is read every time.
_SETTLED_S = 2.0
_COLUMNS = "file, size, mtime_ns, ctime_ns, code, shared, own"
_TABLE = (
    "CREATE TABLE IF NOT EXISTS headers (number INTEGER PRIMARY KEY, file BLOB UNIQUE,"
    " size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, code BLOB, shared TEXT, own TEXT)"
)

State = tuple[int, int, int]


class HeaderCache:
    """Outcomes of ``look`` by path, size and times of the file. Use as a context manager; rows are written in batches.

    Where there is no database, or it is broken, locked or read-only, it remembers nothing and every file is read.
    """

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._new: list[tuple[bytes, int, int, int, bytes, str, str]] = []

    @staticmethod
    def of_user() -> HeaderCache:
        """The one in ``cache_folder``."""
        folder = cache_folder()
        return HeaderCache(None if folder is None else folder / _FILE_NAME)

    def __enter__(self) -> HeaderCache:
        if self._database is not None:
            # A broken database is deleted the first time.
            self._connection = _connected(self._database) or _connected(self._database)
        return self

    def __exit__(self, *reason: object) -> None:
        self._write()
        self._close()

    def outcomes(self, paths: Sequence[Path], look: Callable[[Path], Outcome]) -> Iterator[Outcome]:
        """What was seen in each file when it was last read, or what ``look`` sees now."""
        waiting = iter(paths)
        while batch := list(islice(waiting, _BATCH)):
            if self._connection is None:
                yield from map(look, batch)
                continue
            names = [os.fsencode(path.absolute()) for path in batch]
            rows = self._rows(names)
            for name, path in zip(names, batch, strict=True):
                state = _state(path)
                known = outcome_from(rows[name][3:], path) if name in rows and rows[name][:3] == state else None
                if known is None:
                    known = look(path)
                    self._remember(name, state, known)
                yield known

    def _rows(self, names: Sequence[bytes]) -> dict[bytes, tuple[int, int, int, str, str]]:
        """Size, times, and the two texts, of the files that are known."""
        if self._connection is None:
            return {}
        marks = ", ".join("?" * len(names))
        query = f"SELECT {_COLUMNS} FROM headers WHERE file IN ({marks})"  # noqa: S608  (question marks only)
        try:
            found = self._connection.execute(query, names).fetchall()
        except sqlite3.Error:
            self._close()
            return {}
        return {name: (*state, shared, own) for name, *state, code, shared, own in found if code == code_digest()}

    def _remember(self, name: bytes, state: State | None, outcome: Outcome) -> None:
        if state is None or time.time() - max(state[1:]) / 1e9 <= _SETTLED_S:
            return
        row = row_of(outcome)
        if row is not None:
            self._new.append((name, *state, code_digest(), *row))
        if len(self._new) >= _BATCH:
            self._write()

    def _write(self) -> None:
        rows, self._new = self._new, []
        if self._connection is None or not rows:
            return
        try:
            with self._connection:
                query = f"INSERT OR REPLACE INTO headers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
                self._connection.executemany(query, rows)
                _forget_oldest(self._connection)
        except sqlite3.Error:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def cache_folder() -> Path | None:
    """Where this user's cache lies: the folder ``MEDRAIL_CACHE``, none where that is empty, else as the system has it.

    ``%LOCALAPPDATA%\\medrail`` on Windows, ``~/Library/Caches/medrail`` on macOS, else ``$XDG_CACHE_HOME/medrail`` or
    ``~/.cache/medrail`` (XDG Base Directory Specification).
    """
    given = os.environ.get("MEDRAIL_CACHE")
    if given is not None:
        return Path(given).expanduser() if given.strip() else None
    try:
        if sys.platform == "win32":
            local = os.environ.get("LOCALAPPDATA")
            return (Path(local) if local else Path.home() / "AppData" / "Local") / "medrail"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "medrail"
        folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (folder if folder.is_absolute() else Path.home() / ".cache") / "medrail"
    except RuntimeError:  # no home
        return None


def _connected(database: Path) -> sqlite3.Connection | None:
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _for_this_user_only(database)
        connection = sqlite3.connect(database, timeout=_BUSY_TIMEOUT_S)
    except (sqlite3.Error, OSError, RuntimeError):
        return None
    try:
        with connection:
            connection.execute("PRAGMA synchronous = OFF")  # what a crash of the system breaks is made anew
            connection.execute(_TABLE)
            connection.execute(f"SELECT number, {_COLUMNS} FROM headers LIMIT 1").fetchone()  # noqa: S608
        return connection
    except sqlite3.OperationalError as error:
        connection.close()
        if "no such column" in str(error):
            _delete(database)
    except sqlite3.DatabaseError:
        connection.close()
        _delete(database)
    return None


def _for_this_user_only(database: Path) -> None:
    """Make the file with mode 0600; ``OSError`` for one of another user, who could have written anything there."""
    try:
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if sys.platform != "win32":
            if database.lstat().st_uid != os.getuid():
                raise PermissionError(str(database)) from None
            database.chmod(0o600)


def _delete(database: Path) -> None:
    try:
        database.unlink(missing_ok=True)
    except OSError:
        return


def _forget_oldest(connection: sqlite3.Connection) -> None:
    """Drop the older half of the rows where all take too much; a row that is written again is the newest."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    if (pages - free) * size > _MOST_BYTES:
        connection.execute("DELETE FROM headers WHERE number <= (SELECT (min(number) + max(number)) / 2 FROM headers)")


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.cache
def code_digest() -> bytes:
    """Changes with every change of the code that reads headers, so that no old reading outlives it."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), folder.parent / "sniff.py", folder.parent / "limits.py"):
        digest.update(path.read_bytes())
    return digest.digest()[:16]
