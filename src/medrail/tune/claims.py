"""Claims: who works on which trial, so that several processes give a study each trial once, and a dead one's goes on.

A claim ends with its process, however that ends: a file's lock is let go by the operating system, a database's by the
server when the connection is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from medrail.errors import RunError
from medrail.lock import Busy, locked

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy import Connection

_WAIT_S = 120
"""How long others may take to choose a trial or to write a result: both take well under a second."""


class Claims(Protocol):
    """What the processes of one study agree by."""

    def alone(self) -> AbstractContextManager[None]:
        """Nobody else of the study is in here."""

    def claim(self, trial: int) -> ExitStack | None:
        """This process's until the stack is closed; None while a living one has it."""


class FileClaims:
    """By locks on files in the study's folder: for processes of one machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._folder / ".lock", wait_s=_WAIT_S))
            except Busy as busy:
                raise _waited_too_long(f"process {busy.note.get('process', 'unknown')}", str(self._folder)) from None
            yield

    def claim(self, trial: int) -> ExitStack | None:
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._folder / f".trial-{trial:04d}.lock"))
            except Busy:
                return None
            return held.pop_all()


class DatabaseClaims:
    """By PostgreSQL's advisory locks of a session (PostgreSQL manual, 13.3.5), on a connection of their own.

    A file's lock is held as well: one session may take its own lock twice, and the connection may break while the
    process lives on.
    """

    def __init__(self, connection: Connection, study: str, files: FileClaims) -> None:
        self._connection, self._study, self._files = connection, study, files

    @contextmanager
    def alone(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        with self._files.alone():
            try:
                self._ask(f"SET lock_timeout = '{_WAIT_S}s'")
                self._ask("SELECT pg_advisory_lock(:key)", self._key("study"))
            except SQLAlchemyError as error:
                raise _waited_too_long(f"the database ({type(error).__name__})", "the study's database") from None
            try:
                yield
            finally:
                self._let_go("study")

    def claim(self, trial: int) -> ExitStack | None:
        held = self._files.claim(trial)
        if held is None:
            return None
        with held:
            name = f"trial {trial}"
            if not self._ask("SELECT pg_try_advisory_lock(:key)", self._key(name)):
                return None
            held.callback(self._let_go, name)
            return held.pop_all()

    def _key(self, name: str) -> int:
        digest = hashlib.sha256(f"medrail\0{self._study}\0{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def _ask(self, statement: str, key: int | None = None, *, again: bool = True) -> object:
        """The answer; by a new connection where the server has ended this one, and with it what it held."""
        from sqlalchemy import text
        from sqlalchemy.exc import DBAPIError

        try:
            result = self._connection.execute(text(statement), {} if key is None else {"key": key})
            return result.scalar() if result.returns_rows else None
        except DBAPIError as error:
            self._connection.rollback()
            if again and error.connection_invalidated:
                return self._ask(statement, key, again=False)
            raise

    def _let_go(self, name: str) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        with suppress(SQLAlchemyError):  # with the connection the lock is gone, too
            self._ask("SELECT pg_advisory_unlock(:key)", self._key(name))


def _waited_too_long(whom: str, where: str) -> RunError:
    return RunError(
        f"{whom} did not let go of the study for {_WAIT_S} s",
        where=where,
        remedy="Repeat the command; what is finished is kept.",
    )
