"""The process that sends: started, told each step, ended."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrail.errors import LoadTestError
from medrail.loadtest.material import Request
from medrail.loadtest.measure import FloatArray
from medrail.loadtest.target import Target

_SENDER = Path(__file__).with_name("sender.py")
_GRACE_S = 5.0


@dataclass(frozen=True)
class Step:
    """One step: so many users in a closed loop, or, with ``rate``, so many arrivals a second in an open one.

    A closed loop goes on after its seconds until ``least`` requests are done, but not beyond ``most_seconds``.
    """

    users: int
    rate: float | None = None
    think_s: float = 0.0
    seconds: float = 10.0
    least: int = 0
    most_seconds: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Sent:
    """Every request of a step, in the order of its planned time; times in seconds from the step's begin.

    seconds:
        How long requests were planned.
    late_ms:
        How much later than planned it was sent: large where the sender itself was too slow.
    """

    step: Step
    begin_unix: float
    seconds: float
    lasted_s: float
    cpu_s: float
    planned_s: FloatArray
    latency_ms: FloatArray
    late_ms: FloatArray
    status: tuple[int, ...]
    error: tuple[str, ...]
    kind: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.status)


class Sender:
    """The running process."""

    def __init__(self, process: subprocess.Popen[str], kinds: Sequence[str]) -> None:
        self._process = process
        self._kinds = kinds

    def run(self, step: Step) -> Sent:
        """Do one step; returns when its last request is answered.

        Raises
        ------
        LoadTestError
            If the process has ended.
        """
        self.tell(asdict(step))
        answer = self.hear()
        order = np.argsort(np.asarray(answer["planned_s"], dtype=np.float64), kind="stable")
        numbers = {
            name: np.asarray(answer[name], dtype=np.float64)[order] for name in ("planned_s", "latency_ms", "late_ms")
        }
        return Sent(
            step,
            answer["begin_unix"],
            answer["seconds"],
            answer["lasted_s"],
            answer["cpu_s"],
            **numbers,
            status=tuple(int(answer["status"][place]) for place in order),
            error=tuple(str(answer["error"][place]) for place in order),
            kind=tuple(self._kinds[answer["request"][place]] for place in order),
        )

    def tell(self, line: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for mypy: it is a pipe
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        return dict(json.loads(line))

    def _ended(self) -> LoadTestError:
        code = self._process.wait()
        return LoadTestError(
            f"the process that sends has ended (exit code {code})", remedy="Set MEDRAIL_DEBUG=1 to see why."
        )


@contextmanager
def sending(
    target: Target,
    requests: Mapping[str, Sequence[Request]],
    mixture: Mapping[str, float],
    timeout_s: float,
    *,
    debug: bool = False,
) -> Iterator[Sender]:
    """Start the process with these requests; ``mixture`` says how often each kind comes."""
    with tempfile.TemporaryDirectory(prefix="medrail-loadtest-") as folder:
        told = list(_told(requests, mixture, Path(folder)))
        # -P: the folder of the script holds modules whose names are other packages' too.
        process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-P", "-W", "ignore", str(_SENDER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        sender = Sender(process, [one["kind"] for one in told])
        try:
            job = {"host": target.url, "headers": target.headers, "timeout_s": timeout_s, "requests": told}
            sender.tell({**job, "verify": target.verify, "ca_file": target.ca_file})
            sender.hear()
            yield sender
        finally:
            _end(process)


def _told(
    requests: Mapping[str, Sequence[Request]], mixture: Mapping[str, float], folder: Path
) -> Iterator[dict[str, Any]]:
    for kind, same in requests.items():
        for number, request in enumerate(same):
            body = folder / f"{kind}-{number}"
            if request.body is not None:
                body.write_bytes(request.body)
            yield {
                "kind": kind,
                "method": request.method,
                "path": request.path,
                "headers": request.headers,
                "body": str(body) if request.body is not None else "",
                "expected": request.expected,
                "weight": mixture[kind] / len(same),
            }


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                continue
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
