"""Where a study is kept: SQLite in its folder, or PostgreSQL by URL. The password is shown to nobody but the server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.config import storage_problem
from medrail.errors import ConfigError, RunError
from medrail.tune.claims import Claims, DatabaseClaims, FileClaims

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import URL

VARIABLE = "MEDRAIL_TUNE_STORAGE"
DATABASE = "study.db"
_BUSY_S = 60
_CONNECT = {"connect_timeout": 15, "application_name": "medrail", "keepalives_idle": 60}


@dataclass(frozen=True)
class Place:
    """An open storage, what the processes agree by, and where it is, in words without a password."""

    storage: RDBStorage
    claims: Claims
    shown: str


@contextmanager
def open_storage(url: str, study: str, folder: Path) -> Iterator[Place]:
    """Open, or make, the database of a study.

    Parameters
    ----------
    url:
        ``tune.storage``; MEDRAIL_TUNE_STORAGE of the environment overrides it.
    folder:
        Of the study, for SQLite and for locks.

    Raises
    ------
    ConfigError
        If the URL is none, or the driver is missing.
    RunError
        If the database cannot be reached or used. No message shows the URL's password.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    url = os.environ.get(VARIABLE) or url
    if problem := storage_problem(url, may_hold_password=True):
        raise ConfigError(problem, where=VARIABLE if os.environ.get(VARIABLE) else "tune.storage")
    address = _address(url) if url else None
    shown = _shown(address) if address else str(folder / DATABASE)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _postgres(address, study, folder) if address else _sqlite(folder) as (storage, claims):
            try:
                yield Place(storage, claims, shown)
            finally:
                storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _unusable(error, shown, address) from None


@contextmanager
def _sqlite(folder: Path) -> Iterator[tuple[RDBStorage, Claims]]:
    claims = FileClaims(folder)
    with claims.alone():  # two processes that make the same tables disturb each other
        storage = _tables(f"sqlite:///{(folder / DATABASE).as_posix()}", {"connect_args": {"timeout": _BUSY_S}})
    yield storage, claims


@contextmanager
def _postgres(address: URL, study: str, folder: Path) -> Iterator[tuple[RDBStorage, Claims]]:
    from sqlalchemy import create_engine

    try:
        engine = create_engine(address, connect_args=_CONNECT, isolation_level="AUTOCOMMIT")
    except ImportError:
        raise ConfigError(
            "the package psycopg is not installed",
            needed="it, for a study on PostgreSQL",
            remedy="Install it with: pip install 'medrail[postgres]'",
        ) from None
    try:
        with engine.connect() as connection:
            claims = DatabaseClaims(connection, study, FileClaims(folder))
            with claims.alone():
                url = address.render_as_string(hide_password=False)
                storage = _tables(url, {"connect_args": _CONNECT, "pool_pre_ping": True})
            yield storage, claims
    finally:
        engine.dispose()


def _tables(url: str, settings: dict[str, Any]) -> RDBStorage:
    from optuna.storages import RDBStorage

    return RDBStorage(url.replace("{", "{{").replace("}", "}}"), engine_kwargs=settings)  # which formats what it gets


def _address(url: str) -> URL:
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except Exception:  # noqa: BLE001 - whatever a parser says of a URL may show its password
        raise ConfigError(
            "not a URL that can be read",
            where=VARIABLE if os.environ.get(VARIABLE) else "tune.storage",
            needed="postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @, / and % in the password as %40, %2F, %25",
        ) from None


def _shown(address: URL) -> str:
    """Server and database alone: what stands after them may be a secret, too."""
    port = f":{address.port}" if address.port else ""
    return f"postgresql://{address.host or ''}{port}/{address.database or ''}"


def _unusable(error: Exception, shown: str, address: URL | None) -> RunError:
    """An error with the first line of what the driver says, unless the password stands in it."""
    cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or ""
    said = (str(cause).strip().splitlines() or [""])[0][:200]
    if address is not None and address.password and str(address.password) in said:
        said = ""
    return RunError(
        f"the study's database cannot be used ({type(error).__name__}{f': {said}' if said else ''})",
        where=shown,
        remedy="See that the server runs and takes this user; then repeat the command: what is finished is kept.",
    )
