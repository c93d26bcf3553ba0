"""The server's processor and memory while it is under load: by its processes on this machine, or by its /metrics."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medrail.errors import ConfigError, LoadTestError
from medrail.loadtest.target import Target

if TYPE_CHECKING:
    import psutil

_PAUSE_S = 0.25
_METRICS_PAUSE_S = 1.0
_METRICS = "/metrics"
_SAMPLE = re.compile(
    r"^((?:medrail_)?process_(?:cpu_seconds_total|resident(?:_memory)?_bytes))(?:\{[^}]*\})?\s+([-+.\deE]+)",
    re.MULTILINE,
)
_CPU = ("process_cpu_seconds_total", "medrail_process_cpu_seconds_total")
_RESIDENT = ("process_resident_memory_bytes", "medrail_process_resident_memory_bytes", "medrail_process_resident_bytes")


@dataclass(frozen=True)
class Sample:
    """At one moment: processor seconds used since the server began, and resident memory, of all its processes."""

    unix_s: float
    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class Stretch:
    """What the server used within some seconds: cores on average; memory, the most. None: nobody knows."""

    cores: float | None
    rss_mb: float | None


class Watch:
    """Samples of the server, taken on a thread of its own."""

    def __init__(self, target: Target, pid: int | None = None) -> None:
        """
        Raises
        ------
        ConfigError
            If there is no process of this number.
        """
        self.samples: list[Sample] = []
        self.here = _is_here(target.host)
        self._target = target
        self._pids = [pid] if pid else listening(target.port) if self.here else []
        if pid and not _exists(pid):
            raise ConfigError("there is no such process", where=f"--pid {pid}", needed="the server's, on this machine")
        self._by_metrics = not self._pids and self._measured() is not None
        self._stop = threading.Event()

    @property
    def how(self) -> str:
        """Where the numbers come from, in words; "" if there are none."""
        if self._pids:
            return "process " + ", ".join(map(str, self._pids)) + " and its children, by the operating system"
        return "the service's /metrics" if self._by_metrics else ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take samples meanwhile."""
        thread = threading.Thread(target=self._look, daemon=True, name="medrail-watch")
        if self.how:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            if self.how:
                thread.join()

    def between(self, begin_unix: float, end_unix: float) -> Stretch:
        """What was used in this time."""
        inside = [sample for sample in self.samples if begin_unix <= sample.unix_s <= end_unix]
        if not inside:
            return Stretch(None, None)
        first, last = inside[0], inside[-1]
        span_s, used_s = last.unix_s - first.unix_s, last.cpu_s - first.cpu_s
        # A process that ended took its seconds with it: no number is better than a negative one.
        cores = used_s / span_s if span_s > 0 and used_s >= 0 else None
        return Stretch(cores, max(sample.rss_mb for sample in inside))

    def _look(self) -> None:
        while not self._stop.is_set():
            sample = self._used() if self._pids else self._measured()
            if sample is not None:
                self.samples.append(sample)
            self._stop.wait(_PAUSE_S if self._pids else _METRICS_PAUSE_S)

    def _used(self) -> Sample | None:
        import psutil

        cpu_s = rss = 0.0
        found = False
        for process in _families(self._pids):
            with suppress(psutil.Error):
                times, memory = process.cpu_times(), process.memory_info()
                cpu_s += times.user + times.system
                rss += memory.rss
                found = True
        return Sample(time.time(), cpu_s, rss / 2**20) if found else None

    def _measured(self) -> Sample | None:
        try:
            answered = self._target.ask(_METRICS, timeout_s=5.0)
        except LoadTestError:
            return None
        if answered.status != 200:
            return None
        values: dict[str, float] = {}
        for name, value in _SAMPLE.findall(answered.body.decode("utf-8", "replace")):
            with suppress(ValueError):
                values[name] = values.get(name, 0.0) + float(value)
        cpu_s, rss = (next((values[name] for name in names if name in values), None) for names in (_CPU, _RESIDENT))
        return None if cpu_s is None or rss is None else Sample(time.time(), cpu_s, rss / 2**20)


def listening(port: int) -> list[int]:
    """The processes of this machine that listen on the port, as far as the system tells this user."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:  # macOS tells only root
        return []
    found = {one.pid for one in connections if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid}
    return sorted(found)


def _families(pids: list[int]) -> list[psutil.Process]:
    """These processes and all that they started, each once."""
    import psutil

    found = {}
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                found[one.pid] = one
    return list(found.values())


def _exists(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


def _is_here(host: str) -> bool:
    """Whether the name leads to this machine."""
    try:
        addresses = {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return any(ipaddress.ip_address(address).is_loopback for address in addresses) or bool(addresses & _own())


def _own() -> set[str]:
    import psutil

    return {address.address.partition("%")[0] for card in psutil.net_if_addrs().values() for address in card}
