"""20,000 mixed requests: the service's memory stays flat, and nothing is answered with a 5xx.

``python benchmarks/serving/soak.py BUNDLE [REQUESTS]``: eight clients send good pictures of several sizes and kinds,
broken ones, other methods, unknown models, uploads that end in the middle and clients that leave; twice a second the
resident memory of all of the service's processes is taken. Writes benchmarks/results/serving-soak.json and the curve
beside it, serving-soak.csv (seconds, requests answered, resident MB), and serving-soak.png where matplotlib is there.
"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import socket
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import closed_loop as load
import record

USERS = 8
WARM = 0.2  # share of the requests after which memory is to be flat
FLAT_MB = 20.0
"""How much more the last fifth of the curve may be than the first fifth after the warm-up."""


def resident_mb(pid: int) -> float:
    """Of a process and its children."""
    total = 0.0
    pids = [pid]
    with suppress(OSError):
        pids += [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for each in pids:
        with suppress(OSError, StopIteration):
            lines = Path(f"/proc/{each}/status").read_text(encoding="utf-8").splitlines()
            total += int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
    return total


class Mixed:
    """Request number n; the same numbers give the same requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        sizes = (64, 224, 300, 500, 900)
        self._good = [load.form_of(load.picture(size, size, form)) for size in sizes for form in ("JPEG", "PNG")]
        whole = load.picture(300, 1)
        self._bad = [
            load.form_of(whole[: len(whole) // 2]),
            load.form_of(b"nothing that anyone reads"),
            load.form_of(b""),
            load.form_of(b"\x89PNG\r\n\x1a\n" + bytes(200)),
            load.form_of(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
            b"no form at all",
        ]

    def __call__(self, connection: http.client.HTTPConnection, number: int) -> tuple[int, bytes]:
        kind = number % 20
        if kind < 12:
            return load.predict(connection, self._good[number % len(self._good)])
        if kind < 16:
            return load.predict(connection, self._bad[number // 20 % len(self._bad)])
        if kind == 16:
            return load.ask(connection, "GET", ("/v1/models", "/readyz", "/docs", "/openapi.json")[number // 20 % 4])
        if kind == 17:
            return load.ask(connection, "GET", "/v1/models/nobody/card")
        return self._leaves(number, in_the_middle=kind == 18)

    def _leaves(self, number: int, *, in_the_middle: bool) -> tuple[int, bytes]:
        """A client that goes before its upload has ended, or before its answer."""
        body = self._good[number % len(self._good)]
        head = f"POST /v1/predict/image HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: multipart/form-data; boundary={load.BOUNDARY}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as client:
            client.sendall(head.encode() + (body[: len(body) // 2] if in_the_middle else body))
        return 499, b""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("requests", type=int, nargs="?", default=20_000)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    curve: list[tuple[float, int, float]] = []
    sets = [f"serve.processes={asked.processes}"]
    with tempfile.TemporaryDirectory() as logs, load.service(asked.bundle, sets, Path(logs)) as (port, pid):
        begin = time.monotonic()
        seen, clients = load.closed_loop(port, USERS, asked.requests, Mixed(port))
        while clients.is_alive():
            curve.append((round(time.monotonic() - begin, 2), seen.total, round(resident_mb(pid), 2)))
            time.sleep(0.5)
        curve.append((round(time.monotonic() - begin, 2), seen.total, round(resident_mb(pid), 2)))
    warm = [memory for _, count, memory in curve if count >= WARM * asked.requests]
    fifth = max(1, len(warm) // 5)
    growth = statistics.median(warm[-fifth:]) - statistics.median(warm[:fifth])
    write(curve)
    command = f"python benchmarks/serving/soak.py BUNDLE {asked.requests} --processes {asked.processes}"
    measures = [
        record.Measure("serve/soak_5xx", seen.lost, seen.lost, seen.lost, "requests", seen.total, "the aim is 0"),
        record.Measure("serve/soak_growth_mb", round(growth, 1), min(warm), max(warm), "MB", len(warm), "flat"),
    ]
    record.write("serving-soak", measures, [json.dumps(dict(seen.statuses))], command)
    return 0 if seen.lost == 0 and growth < FLAT_MB else 1


def write(curve: list[tuple[float, int, float]]) -> None:
    """The curve as a table, and as a picture where it can be drawn."""
    with (record.RESULTS / "serving-soak.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("seconds", "requests", "resident_mb"), *curve])
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    axes.plot([count for _, count, _ in curve], [memory for *_, memory in curve])
    axes.set(xlabel="requests answered", ylabel="resident memory, MB", ylim=(0, None))
    figure.savefig(record.RESULTS / "serving-soak.png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
