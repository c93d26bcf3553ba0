"""A temporary folder for patients' images, which does not outlive the process that made it, nor the next one."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where a folder in use cannot be deleted
    fcntl = None  # type: ignore[assignment]

_PREFIX, _LOCK = "medrail-zip-", "lock"
# Until then its maker may not have locked it yet.
_SETTLED_S = 60.0


@contextmanager
def private_folder() -> Iterator[Path]:
    """``with private_folder() as folder:`` gives an empty folder for this user only; afterwards it is gone.

    Also when the process is asked to end (SIGTERM). What a killed one has left behind, the next one deletes: its lock
    is free then.
    """
    _sweep(Path(tempfile.gettempdir()))
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as name:
        outer = Path(name).resolve()
        with (outer / _LOCK).open("w") as lock:
            _try_lock(lock)
            folder = outer / "files"
            folder.mkdir()
            yield folder


def _try_lock(lock: IO[str]) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sweep(parent: Path) -> None:
    """Delete this user's folders whose processes have ended; never an error, never another user's."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            state = folder.lstat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < _SETTLED_S or folder.is_symlink():
                continue
            with (folder / _LOCK).open("a") as lock:
                if _try_lock(lock):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM leaves the ``with`` blocks, where nobody else handles it."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        if mine and signal.getsignal(signal.SIGTERM) is _end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
