"""What a case was made from: a fingerprint over the content of its files, remembered between calls."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Mapping
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Protocol

from medrail.errors import CaseError
from medrail.machine import collecting_seldom
from medrail.read import files_of
from medrail.read.dicom.walk import walk
from medrail.read.digests import Content, State, content_of_file, state_of
from medrail.types import READ_AS_STORED, Case, ReadOptions
from medrail.workspace import Workspace

# A file changed again within the clock's step keeps its time stamp; what is this new is hashed every time.
_SETTLED_S = 2.0
_WRITE_EVERY = 2000


class Unknown(Exception):
    """A digest that would have to be found out by reading."""


class Hashes(Protocol):
    """Who knows the contents of files."""

    def content(self, state: State) -> Content:
        """Of the file that was seen in this state (``medrail.read.digests``)."""
        ...

    def folder_digest(self, folder: Path) -> str:
        """Over the sorted digests of a folder's files."""
        ...


class FoundOnTheWay:
    """What was found out while a case was read; what is missing is read now, once a process.

    ``found`` grows by that.
    """

    def __init__(self, found: dict[State, Content]) -> None:
        self.found = found

    def content(self, state: State) -> Content:
        if state not in self.found:
            self.found[state] = _content_of(state)
        return self.found[state]

    def folder_digest(self, folder: Path) -> str:
        return _folder_digest(folder, self)


class FileHashes:
    """Digests of files by path, size and times, kept in the workspace so that a second run reads nothing again.

    Also keeps small facts under a key made of such hashes (``fact``, ``keep``). Losing the file costs time only, so one
    that is broken or locked is worked without. Use as a context manager.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._hashes: dict[State, Content] = {}
        self._facts: dict[str, str] = {}
        self._new: list[tuple[State, Content]] = []
        self._new_facts: list[tuple[str, str]] = []
        self._kept: sqlite3.Connection | None = None
        self._folders: dict[str, str] = {}

    @staticmethod
    def of(workspace: Workspace) -> FileHashes:
        """The workspace's own."""
        return FileHashes(workspace.file_hashes)

    def __enter__(self) -> FileHashes:
        self._load()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._save()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def folder_digest(self, folder: Path) -> str:
        """The digest over the sorted digests of a folder's files, found out once as long as this is open."""
        text = str(folder)
        if text not in self._folders:
            self._folders[text] = _folder_digest(folder, self)
        return self._folders[text]

    def files(self, state: State) -> tuple[State, ...]:
        """``medrail.read.files_of``; a file that is known to stand alone is not opened. ``OSError`` if one is gone."""
        known = self._hashes.get(state)
        others = () if known is not None and known.alone else files_of(Path(state[0]))[1:]
        return (state, *map(_state, others))

    def content(self, state: State) -> Content:
        known = self._hashes.get(state)
        if known is None:
            known = _file_content(state)
            self.learn({state: known})
        return known

    def known(self) -> KnownHashes:
        """The same without reading any file."""
        return KnownHashes(self)

    def recall(self, state: State) -> Content | None:
        """What is known without reading the file."""
        return self._hashes.get(state)

    def learn(self, found: Mapping[State, Content]) -> None:
        """Contents that were found out elsewhere, as while reading."""
        for state, content in found.items():
            if state not in self._hashes:
                self._hashes[state] = content
                if _settled(state):
                    self._new.append((state, content))
        self._save_now_and_then()

    def fact(self, key: str) -> str | None:
        """What was kept under a key, or None."""
        if key in self._facts or self._kept is None:
            return self._facts.get(key)
        try:  # asked one by one: with pictures in them they are too many for the memory
            row = self._kept.execute("SELECT text FROM facts WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error:
            return None
        return str(row[0]) if row else None

    def keep(self, key: str, text: str) -> None:
        """Remember a fact under a key that changes whenever what it is about changes."""
        self._facts[key] = text
        self._new_facts.append((key, text))
        self._save_now_and_then()

    def _save_now_and_then(self) -> None:
        if len(self._new) + len(self._new_facts) >= _WRITE_EVERY:
            self._save()

    def _load(self) -> None:
        if not self._database.is_file():
            return
        try:
            with closing(sqlite3.connect(self._database, timeout=5)) as connection, collecting_seldom():
                rows = connection.execute("SELECT path, size, mtime_ns, ctime_ns, digest, alone FROM contents")
                self._hashes = {row[:4]: Content(row[4], bool(row[5])) for row in rows}
            self._kept = sqlite3.connect(self._database, timeout=5, check_same_thread=False)
        except sqlite3.OperationalError:
            return
        except sqlite3.DatabaseError:
            self._database.unlink(missing_ok=True)

    def _save(self) -> None:
        new, facts = self._new, self._new_facts
        self._new, self._new_facts, self._facts = [], [], {}
        if not new and not facts:
            return
        try:
            self._database.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._database, timeout=5)) as connection, connection:
                connection.execute(_FILES_TABLE)
                connection.execute(_FACTS_TABLE)
                connection.execute("DROP TABLE IF EXISTS digests")  # of an older version
                rows = [(*state, *content) for state, content in new]
                connection.executemany("INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?, ?)", rows)
                connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts)
        except (sqlite3.Error, OSError):
            return


class KnownHashes:
    """Contents that need no reading; ``Unknown`` is raised for all others."""

    def __init__(self, hashes: FileHashes) -> None:
        self._hashes = hashes
        self._folders: dict[str, str] = {}

    def content(self, state: State) -> Content:
        known = self._hashes.recall(state)
        if known is None:
            raise Unknown
        return known

    def folder_digest(self, folder: Path) -> str:
        text = str(folder)
        if text not in self._folders:
            self._folders[text] = _folder_digest(folder, self)
        return self._folders[text]


_FILES_TABLE = (
    "CREATE TABLE IF NOT EXISTS contents"
    " (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT, alone INTEGER)"
    " WITHOUT ROWID"
)
_FACTS_TABLE = "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID"


def source_fingerprint(case: Case, hashes: Hashes | None = None, options: ReadOptions = READ_AS_STORED) -> str:
    """SHA-256 (hex) over the content of a case's image, mask and region of interest, its item and its class.

    An image is all files it is made of (``medrail.read.files_of``): of a header with a data file, the data too.
    File names and folders do not count (a moved data folder is the same data), nor does the case's split or patient.
    With ``hashes`` (``FileHashes.of(workspace)``) files that have not changed are not read again.
    ``options`` other than the defaults count, since they change what is read.

    Raises
    ------
    CaseError
        If a file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    mask = case.target if case.target and _is_path(case.target) else None
    for path in case.paths:
        digest.update(f"image\0{_content(path, hashes)}\0".encode())
    for role, other in (("mask", mask), ("roi", case.roi)):
        digest.update(f"{role}\0{_content(other, hashes) if other else ''}\0".encode())
    label = "" if mask else (case.target or "")
    digest.update(f"{case.item}\0{label}\0{case.target is None}".encode())
    if options != READ_AS_STORED:
        digest.update(repr(options).encode())
    return digest.hexdigest()


def image_fingerprint(case: Case, hashes: FileHashes | None = None) -> str:
    """SHA-256 (hex) over the content of a case's image and its item alone: what it is known by under another name.

    Raises
    ------
    CaseError
        If a file is missing or cannot be read.
    """
    content = "".join(f"{_content(path, hashes)}\0" for path in case.paths)
    return hashlib.sha256(f"{content}{case.item}".encode()).hexdigest()


def drawn_fingerprint(case: Case, hashes: FileHashes | None = None) -> str:
    """SHA-256 (hex) over the content of what was drawn for a case, its mask and its region of interest; "" if nothing.

    Raises
    ------
    CaseError
        If a file is missing or cannot be read.
    """
    mask = case.target if case.target and _is_path(case.target) else None
    if not mask and not case.roi:
        return ""
    content = "".join(f"{_content(path, hashes) if path else ''}\0" for path in (mask, case.roi))
    return hashlib.sha256(content.encode()).hexdigest()


# Class names are few, and a case is one of many.
@lru_cache(maxsize=1 << 10)
def _is_path(target: str) -> bool:
    return Path(target).is_absolute()


def _content(text: str, hashes: Hashes | None) -> str:
    """The digest of a file, with its data file if it has one; of a folder, over the sorted digests of its files."""
    try:
        status = os.stat(text)  # noqa: PTH116  pathlib takes three times as long, and there are many
        if stat.S_ISDIR(status.st_mode):
            folder = Path(text)
            return hashes.folder_digest(folder) if hashes is not None else _folder_digest(folder, None)
        content = _known_or_read(state_of(text, status), hashes)
        others = () if content.alone else files_of(Path(text))[1:]
        if not others:
            return content.digest
        digests = [content.digest, *(_known_or_read(_state(file), hashes).digest for file in others)]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CaseError(
            f"cannot be read ({reason})",
            where=error.filename or text,
            remedy="Correct the path, or copy the file again.",
        ) from None


def _folder_digest(folder: Path, hashes: Hashes | None) -> str:
    digests = sorted(_of_member(file, hashes) for file in walk(str(folder)))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def _of_member(path: str, hashes: Hashes | None) -> str:
    """The digest of one file of a folder; whether one that cannot be read spoils the image, the reader decides."""
    try:
        return _known_or_read(_state(path), hashes).digest
    except OSError as error:
        return f"cannot be read: {error.errno}"


def _known_or_read(state: State, hashes: Hashes | None) -> Content:
    return _content_of(state) if hashes is None else hashes.content(state)


def _content_of(state: State) -> Content:
    return _remembered_content(state) if _settled(state) else _file_content(state)


def _state(path: str | Path) -> State:
    return state_of(path, os.stat(path))  # noqa: PTH116  as above


def _settled(state: State) -> bool:
    return time.time() - max(state[2], state[3]) / 1e9 > _SETTLED_S


def _file_content(state: State) -> Content:
    return content_of_file(state[0])


# Within one process: the members of an npz are thousands of cases of one file.
_remembered_content = lru_cache(maxsize=1 << 16)(_file_content)
