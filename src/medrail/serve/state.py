"""serving.json: what was said of the versions (pins, canaries, shadows), so that a restart and the other processes of
the service know it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from medrail.serve.versions import Traffic
from medrail.workspace import write_json

STATE_FILE = "serving.json"
_FORMAT = 1


class State:
    """The file, read anew when it has changed; without a path only this process knows.

    A file that cannot be read or written changes nothing: what is known goes on. ``tell`` hears of it. Any thread may
    call: the service's watch reads while requests of its administrator write.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.tell: Callable[[str], None] = lambda problem: None
        self._known: dict[str, Traffic] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._lock = threading.RLock()
        self.reloads = 0  # how often a reload was asked for, of any process

    def read(self) -> Mapping[str, Traffic]:
        """Name of the model -> how its requests are divided."""
        with self._lock:
            self._read()
            return self._known

    def _read(self) -> None:
        stamp = self._stamp_now()
        if self.path is not None and stamp is not None and stamp != self._stamp:
            self._stamp = stamp
            try:
                values = json.loads(self.path.read_text(encoding="utf-8"))
                if values["format"] != _FORMAT:
                    raise ValueError("another format")
                self._known = {str(name): Traffic.from_dict(each) for name, each in values["models"].items()}
                self.reloads = int(values.get("reloads", 0))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                self.tell("serving.json cannot be read; what was known before goes on")

    def change(self, name: str, change: Callable[[Traffic], Traffic]) -> Traffic:
        """Apply ``change`` to what the file says of a model now, and write it down."""
        with self._alone():
            known = dict(self.read())
            before = known.get(name, Traffic())
            after = change(before)
            if after != before:
                self._known = {**known, name: after}
                self._write()
            return after

    def ask_to_reload(self) -> None:
        """Let every process look at its models anew."""
        with self._alone():
            self.read()
            self.reloads += 1
            self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        models = {name: traffic.to_dict() for name, traffic in sorted(self._known.items())}
        try:
            if not self.path.parent.is_dir():  # a models folder that is gone is not made anew
                raise NotADirectoryError
            write_json(self.path, {"format": _FORMAT, "reloads": self.reloads, "models": models})
            self._stamp = self._stamp_now()
        except OSError:
            self.tell("serving.json cannot be written; a restart will not know")

    def _stamp_now(self) -> tuple[int, int, int] | None:
        if self.path is None:
            return None
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread at a time, and where the system has locks, one process."""
        with self._lock, self._alone_of_all_processes():
            yield

    @contextmanager
    def _alone_of_all_processes(self) -> Iterator[None]:
        if self.path is None:
            yield
            return
        try:
            import fcntl

            lock = self.path.with_name(f".{STATE_FILE}.lock").open("w")
        except (ImportError, OSError):
            yield
            return
        with lock:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def writable(folder: Path | None) -> bool:
    """Whether a state file can be kept there."""
    if folder is None:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{STATE_FILE}.lock"
        probe.touch()
    except OSError:
        return False
    return True
