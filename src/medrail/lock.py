"""A lock on a small file, which the operating system lets go when its process ends, however it ends.

So a lock of a dead process is none, no matter which process has its number now. The file's text tells a second process
who holds the lock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

_RETRY_S = 0.02
_FAR_BYTE = 1 << 30  # Windows locks bytes, and a locked one cannot be read: one far behind the text


class Busy(Exception):
    """Another process (or another call in this one) holds the lock; ``note`` is what it wrote."""

    def __init__(self, note: dict[str, Any]) -> None:
        super().__init__(note)
        self.note = note


@contextmanager
def locked(path: Path, note: dict[str, Any] | None = None, *, wait_s: float = 0) -> Iterator[None]:
    """Hold a lock; its file is removed at the end.

    Parameters
    ----------
    note:
        Written into the file, with the process's number as ``process``.
    wait_s:
        How long to wait for another holder.

    Raises
    ------
    Busy
        If another one holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    last_try = time.monotonic() + wait_s
    while (file := _take(path)) is None:
        if time.monotonic() >= last_try:
            raise Busy(read_note(path))
        time.sleep(_RETRY_S)
    try:
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), **(note or {})}).encode())
        file.flush()
        yield
    finally:
        if sys.platform == "win32":  # an open file cannot be removed there, and one that another has opened stays
            file.close()
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
        else:  # removed before it is let go, so that who waits for it sees that it is gone
            path.unlink(missing_ok=True)
            file.close()


def read_note(path: Path) -> dict[str, Any]:
    """What the holder wrote, or the last one if it died; {} where there is nothing."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _take(path: Path) -> BinaryIO | None:
    while True:
        try:
            file = path.open("a+b")
        except PermissionError:
            if sys.platform == "win32":  # just being removed
                return None
            raise
        try:
            if not _lock(file.fileno()):
                file.close()
                return None
            if sys.platform == "win32" or _is_at(file, path):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last holder removed it after we had opened it


def _is_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks: better to work unguarded than not at all
        return True
