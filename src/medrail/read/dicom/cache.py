"""Headers remembered between calls, so that a folder is indexed once.

Every row is sealed with a random key that lies in the user's own cache folder, not in the workspace: a workspace that
is copied or shared tells neither paths nor UIDs nor anything else of a header. The headers that come back are equal to
those that went in, so a series keeps its name. Losing the key or the file costs time only.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import sqlite3
import time
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from medrail import errors
from medrail.errors import MedrailError
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Foreign, Outcome, Refused
from medrail.types import Defect
from medrail.workspace import Workspace

_KEY_BYTES = 32
_SEAL_BYTES = 16
_WRITE_EVERY = 500
_BUSY_TIMEOUT_S = 2.0
# A file changed again within the clock's step keeps its time stamp; what is this new is read every time.
_SETTLED_S = 2.0
_TABLE = (
    "CREATE TABLE IF NOT EXISTS headers"
    " (file BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, code BLOB, value BLOB) WITHOUT ROWID"
)
_SELECT = "SELECT value FROM headers WHERE file = ? AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND code = ?"


class HeaderCache:
    """Outcomes of ``look`` by path, size and times of the file. Use as a context manager; rows are written in batches.

    Where there is no key, or the database is broken or locked, it remembers nothing and every file is read.
    """

    def __init__(self, database: Path, key: bytes | None = None) -> None:
        self._database = database
        self._key = own_key(database.parent) if key is None else key
        self._connection: sqlite3.Connection | None = None
        self._new: list[tuple[bytes, int, int, int, bytes, bytes]] = []

    @staticmethod
    def of(workspace: Workspace) -> HeaderCache:
        """The workspace's own; one that remembers nothing where there is no project yet, as in a folder of data."""
        return HeaderCache(workspace.header_cache, None if workspace.config_file.is_file() else b"")

    def __enter__(self) -> HeaderCache:
        if self._key:
            self._connection = self._connected() or self._connected()  # a broken file is deleted the first time
        return self

    def __exit__(self, *reason: object) -> None:
        self._write()
        self._close()

    def remembered(self, path: Path, look: Callable[[Path], Outcome]) -> Outcome:
        """What was seen in this file when it was last read, or what ``look`` sees now."""
        if not self._key or self._connection is None:
            return look(path)
        try:
            status = path.stat()
        except OSError:
            return look(path)
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        name = _digest(self._key, b"path " + os.fsencode(path.absolute()))
        known = self._known(name, state, path)
        if known is not None:
            return known
        outcome = look(path)
        if time.time() - max(state[1:]) / 1e9 > _SETTLED_S:
            self._remember(name, state, outcome)
        return outcome

    def _known(self, name: bytes, state: tuple[int, int, int], path: Path) -> Outcome | None:
        if self._connection is None or not self._key:
            return None
        try:
            row = self._connection.execute(_SELECT, (name, *state, code_digest())).fetchone()
        except sqlite3.Error:
            self._close()
            return None
        if row is None:
            return None
        content = unsealed(self._key, row[0])
        return None if content is None else outcome_from(content, path)

    def _remember(self, name: bytes, state: tuple[int, int, int], outcome: Outcome) -> None:
        content = outcome_to(outcome)
        if content is None or not self._key:
            return
        self._new.append((name, *state, code_digest(), sealed(self._key, content)))
        if len(self._new) >= _WRITE_EVERY:
            self._write()

    def _write(self) -> None:
        rows, self._new = self._new, []
        if self._connection is None or not rows:
            return
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error:
            self._close()

    def _connected(self) -> sqlite3.Connection | None:
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._database, timeout=_BUSY_TIMEOUT_S)
        except (sqlite3.Error, OSError):
            return None
        try:
            with connection:
                connection.execute(_TABLE)
                connection.execute("SELECT file, size, mtime_ns, ctime_ns, code, value FROM headers LIMIT 1").fetchone()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if "no such column" in str(error):
                self._database.unlink(missing_ok=True)
        except sqlite3.DatabaseError:
            connection.close()
            self._database.unlink(missing_ok=True)
        return None

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def own_key(workspace: Path) -> bytes | None:
    """The user's key, made on first use: 32 random bytes, for this user's eyes only; None where there can be none.

    It lies in ``$XDG_CACHE_HOME/medrail``, else ``~/.cache/medrail`` (XDG Base Directory Specification), and is not
    used when that is inside the workspace.
    """
    try:
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "medrail"
        if folder.resolve().is_relative_to(workspace.resolve()):
            return None
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "headers.key"
        if not path.exists():
            _new_key(path)
        key = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _new_key(path: Path) -> None:
    """Whole or not at all, and never over another process's."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink(missing_ok=True)


def sealed(key: bytes, content: bytes) -> bytes:
    """Content that only the key's owner can read, and that no one else can change unseen.

    A synthetic nonce (a keyed digest of the content, as in RFC 5297) in front, then the content under the key stream
    that SHAKE-256 makes of key and nonce.
    """
    nonce = _digest(key, content)
    return nonce + _under_stream(key, nonce, content)


def unsealed(key: bytes, content: bytes) -> bytes | None:
    """What was sealed; None for another key, or for what was changed since."""
    nonce = content[:_SEAL_BYTES]
    plain = _under_stream(key, nonce, content[_SEAL_BYTES:])
    return plain if secrets.compare_digest(_digest(key, plain), nonce) else None


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES, key=key, person=b"medrail headers").digest()


def _under_stream(key: bytes, nonce: bytes, content: bytes) -> bytes:
    stream = hashlib.shake_256(b"medrail headers" + key + nonce).digest(len(content))
    mixed = int.from_bytes(content, "little") ^ int.from_bytes(stream, "little")
    return mixed.to_bytes(len(content), "little")


@functools.cache
def code_digest() -> bytes:
    """Changes with every change of the code that reads headers, so that no old reading outlives it."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in (*sorted(folder.glob("*.py")), folder.parent / "sniff.py", folder.parent / "limits.py"):
        digest.update(path.read_bytes())
    return digest.digest()[:_SEAL_BYTES]


def outcome_to(outcome: Outcome) -> bytes | None:
    """JSON without the path; None for what is not worth keeping, as a file that could not be opened."""
    if isinstance(outcome, Header):
        value = ["header", _plain(outcome)]
    elif isinstance(outcome, Refused):
        value = ["refused", _plain(outcome.defect), _error_to(outcome.error)]
    else:
        value = ["foreign", outcome.kind, _error_to(outcome.error)]
    try:
        return json.dumps(value, separators=(",", ":")).encode("ascii")
    except (TypeError, ValueError):
        return None


def outcome_from(content: bytes, path: Path) -> Outcome | None:
    """The way back; None for what cannot be read."""
    try:
        kind, *rest = json.loads(content)
        if kind == "header":
            return _header_from([str(path), *rest[0]])
        error = _error_from(rest[1], path)
        if kind == "refused" and error is not None:
            return Refused(path, Defect(*rest[0]), error)
        return Foreign(path, rest[0], error) if kind == "foreign" else None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None


def _plain(value: Any) -> Any:
    """A frozen dataclass as the list of its values, in the order of its fields, without a leading path."""
    if is_dataclass(value):
        parts = [_plain(getattr(value, one.name)) for one in fields(value)]
        return parts[1:] if isinstance(value, Header) else parts
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _header_from(values: list[Any]) -> Header:
    header = _maker(Header)(values)
    if not isinstance(header, Header):
        raise TypeError("no header")
    return header


@functools.cache
def _maker(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of a type out of its JSON."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        makers = [_maker(hints[one.name]) for one in fields(kind)]
        return lambda values: kind(*(make(value) for make, value in zip(makers, values, strict=True)))  # type: ignore[operator]
    if get_origin(kind) is tuple:
        inner = _maker(get_args(kind)[0])
        return tuple if inner is _as_it_is else lambda values: tuple(map(inner, values))
    if get_origin(kind) in (Union, types.UnionType):
        inner = _maker(next(one for one in get_args(kind) if one is not type(None)))
        return inner if inner is _as_it_is else lambda value: None if value is None else inner(value)
    return Path if kind is Path else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _error_to(error: MedrailError | None) -> list[str] | None:
    return None if error is None else [type(error).__name__, error.found, error.needed, error.remedy]


def _error_from(value: list[str] | None, path: Path) -> MedrailError | None:
    if value is None:
        return None
    kind = getattr(errors, value[0])
    error = kind(value[1], needed=value[2], where=str(path), remedy=value[3])
    if not isinstance(error, MedrailError):
        raise TypeError("no error of medrail")
    return error
