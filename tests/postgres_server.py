"""A PostgreSQL server of the test's own, as a user who may run one (root may not)."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

USER, PASSWORD = "anna", "ge@heim/50%{x}"


@dataclass(frozen=True)
class Server:
    port: int

    def url(self, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/postgres"


def programs() -> Path | None:
    """The folder with initdb and pg_ctl."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def _who() -> dict[str, Any] | None:
    """Whom to run it as, for ``subprocess``; None where there is nobody."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    return None


@contextmanager
def server() -> Iterator[Server | None]:
    """A running one, or None where there is no PostgreSQL; gone at the end."""
    bin_folder, who = programs(), _who()
    if bin_folder is None or who is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a test's own folder is closed to other users
    try:
        (folder / "password").write_text(PASSWORD)
        for path in (folder, folder / "password"):
            if who:
                os.chown(path, who["user"], who["group"])
        data, port = folder / "data", _free_port()

        def call(*words: str) -> None:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120, check=False, **who)
            assert done.returncode == 0, done.stdout + done.stderr

        call(
            *(str(bin_folder / "initdb"), "-D", str(data), "-U", USER, "-A", "scram-sha-256"),
            *("--pwfile", str(folder / "password"), "-N"),
        )
        options = f"-c fsync=off -c listen_addresses=127.0.0.1 -p {port} -k {folder}"
        control = (str(bin_folder / "pg_ctl"), "-D", str(data), "-w")
        # Its log goes to a file: a pipe that the server holds open would never end.
        call(*control, "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Server(port)
        finally:
            call(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
