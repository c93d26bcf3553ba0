"""How long `medrail serve` takes from the command to the first answered /readyz, and what it holds in memory then."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

ROUNDS = 7
LIMIT_S = 60


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def one(project: str) -> tuple[float, float]:
    """Seconds until ready, and resident memory in MB."""
    port = free_port()
    begin = time.perf_counter()
    server = subprocess.Popen(
        [record.medrail_command(), "serve", project, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - begin < LIMIT_S:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                    if answer.status == 200:
                        return time.perf_counter() - begin, resident_mb(server.pid)
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.01)
        raise RuntimeError(f"the service was not ready within {LIMIT_S} s")
    finally:
        server.terminate()
        server.wait(timeout=20)


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as project:
        demo = [record.medrail_command(), "demo", "--task", "classify", "--no-serve", "--workspace", project]
        subprocess.run(demo, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        one(project)  # warm files and byte code
        rounds = [one(project) for _ in range(ROUNDS)]
    ready, memory = (list(column) for column in zip(*rounds, strict=True))
    record.write(
        "serving",
        [
            record.Measure.of("serve/ready_s", ready, "s", "the aim is under 3 s"),
            record.Measure.of("serve/rss_mb", memory, "MB", "the classification demo's bundle, just ready"),
        ],
    )


if __name__ == "__main__":
    main()
