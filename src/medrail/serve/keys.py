"""API keys: made once, shown once, kept as hashes in a file that only its owner may read.

A key is ``medrail_ID_SECRET``: the id names it in lists and logs, the secret is 256 random bits of the system. What is
kept is SHA-256 of the secret. A slow hash (scrypt, argon2) makes guessing of *chosen* passwords dear; nobody guesses
256 random bits, at any speed, and a hash of 50 ms a request would be a lever to stop the service with.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from medrail.errors import ConfigError, ServeError
from medrail.lock import Busy, locked

Scope = Literal["predict", "pacs", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_FORMAT = 1
_PREFIX = "medrail"
_KEY = re.compile(r"medrail_([0-9a-f]{8})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_NO_DIGEST = "0" * 64
_WAIT_S = 10.0


@dataclass(frozen=True)
class Key:
    """What is kept of a key; ``revoked`` is the time at which it ended, or ""."""

    id: str
    name: str
    scope: Scope
    sha256: str
    created: str
    revoked: str = ""


def default_file() -> Path:
    """MEDRAIL_KEYS, or keys.json in this user's configuration."""
    named = os.environ.get("MEDRAIL_KEYS")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "medrail" / "keys.json"


def read_keys(path: Path) -> tuple[Key, ...]:
    """All keys of a file, those that were revoked too; none where there is no file.

    Raises
    ------
    ServeError
        If it is no such file, may not be read, or others may write to it.
    """
    try:
        state = path.stat()
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ServeError(f"the keys cannot be read ({reason})", where=str(path)) from None
    if sys.platform != "win32" and state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ServeError(
            "others may write to the file of keys", where=str(path), remedy=f"Take that away: chmod 600 {path}"
        )
    return _parsed(text, path)


def _parsed(text: str, path: Path) -> tuple[Key, ...]:
    try:
        document = json.loads(text)
        keys = tuple(Key(**entry) for entry in document["keys"]) if document["format"] == _FORMAT else None
    except (ValueError, TypeError, KeyError, RecursionError):
        keys = None
    if keys is None or not all(_is_whole(key) for key in keys):
        raise ServeError(
            "is no file of keys", needed="what `medrail key add` writes", where=str(path), remedy="Make the keys anew."
        )
    return keys


def _is_whole(key: Key) -> bool:
    values: list[Any] = list(asdict(key).values())
    return all(isinstance(value, str) for value in values) and key.scope in SCOPES and len(key.sha256) == 64


def add_key(path: Path, name: str, scope: Scope) -> tuple[Key, str]:
    """Make a key and keep its hash.

    Returns
    -------
    What is kept, and the key itself, which nobody can say a second time.

    Raises
    ------
    ConfigError
        If the name is none, or another valid key has it.
    ServeError
        If the file cannot be read or written.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a key", needed="up to 64 letters, digits, spaces and . _ @ -", where="key add"
        )
    secret = secrets.token_urlsafe(32)
    with _writing(path) as keys:
        if any(key.name == name and not key.revoked for key in keys.all):
            raise ConfigError(
                f"there is a key {name!r}", where=str(path), remedy="Revoke it first, or choose another name."
            )
        taken = {key.id for key in keys.all}
        number = next(each for _ in range(100) if (each := secrets.token_hex(4)) not in taken)
        made = Key(number, name, scope, _digest(secret), datetime.now(UTC).isoformat(timespec="seconds"))
        keys.write((*keys.all, made))
    return made, f"{_PREFIX}_{number}_{secret}"


def revoke_key(path: Path, wanted: str) -> Key:
    """End the key of that id, or of that name; a running service knows at its next request.

    Raises
    ------
    ConfigError
        If there is none that is valid.
    ServeError
        As ``add_key``.
    """
    with _writing(path) as keys:
        found = [key for key in keys.all if not key.revoked and wanted in (key.id, key.name)]
        if not found:
            valid = ", ".join(f"{key.id} ({key.name})" for key in keys.all if not key.revoked)
            needed = f"one of {valid}" if valid else "a key that is valid; there is none in this file"
            raise ConfigError(f"there is no valid key {wanted!r}", where=str(path), needed=needed)
        ended = replace(found[0], revoked=datetime.now(UTC).isoformat(timespec="seconds"))
        keys.write([ended if key.id == ended.id else key for key in keys.all])
    return ended


class _writing:  # noqa: N801 - reads as a statement
    """``with _writing(path) as keys:`` holds the file's lock; ``keys.write`` replaces it in one step, mode 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = locked(path.with_name(f".{path.name}.lock"), wait_s=_WAIT_S)

    def __enter__(self) -> _writing:
        try:
            self._lock.__enter__()
        except (OSError, Busy) as error:
            raise self._failed(error) from None
        self.all = ()
        try:
            self.all = read_keys(self.path)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)

    def write(self, keys: Sequence[Key]) -> None:
        text = json.dumps({"format": _FORMAT, "keys": [asdict(key) for key in keys]}, indent=1) + "\n"
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> ServeError:
        reason = error.strerror if isinstance(error, OSError) else "another command is changing them"
        return ServeError(f"the keys cannot be written ({reason})", where=str(self.path))

    all: tuple[Key, ...]


class Keyring:
    """The valid keys of a file, as they are now: a key that was added or revoked counts from the next request on.

    A file that is gone or broken while the service runs has no valid keys; nobody gets in by breaking it.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = ()
        self._valid: dict[str, Key] = {}
        self._ever = False
        self.valid()

    def any_ever(self) -> bool:
        """Whether a key has been valid since the service began; a file that goes away leaves nobody without a guard."""
        return bool(self.valid()) or self._ever

    def valid(self) -> dict[str, Key]:
        """Id -> key."""
        if self.path is None:
            return {}
        try:
            state = self.path.stat()
            seen: tuple[int, ...] | None = (state.st_mtime_ns, state.st_size, state.st_ino)
        except OSError:
            seen = None
        with self._lock:
            if seen != self._seen:
                self._valid = _valid_in(self.path) if seen else {}
                self._seen = seen
                self._ever = self._ever or bool(self._valid)
            return self._valid

    def find(self, sent: str) -> Key | None:
        """The valid key that was sent, or None. Takes as long for a wrong secret as for a right one."""
        parts = _KEY.fullmatch(sent)
        number, secret = (parts[1], parts[2]) if parts else ("", "")
        key = self.valid().get(number)
        same = hmac.compare_digest(_digest(secret), key.sha256 if key else _NO_DIGEST)
        return key if key and same else None


def _valid_in(path: Path) -> dict[str, Key]:
    try:
        return {key.id: key for key in read_keys(path) if not key.revoked}
    except ServeError:
        return {}


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
