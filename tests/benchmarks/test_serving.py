"""The serving benchmark: its client counts what it is answered, its ratios are of one round, its table says both."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "benchmarks" / "serving"


@pytest.fixture
def bench(monkeypatch):
    import importlib

    monkeypatch.syspath_prepend(str(SERVING))
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    names = ("bench", "material", "peers", "record", "servers", "table")
    for name in names:
        sys.modules.pop(name, None)
    yield importlib.import_module("bench")
    for name in names:
        sys.modules.pop(name, None)


class Answers(BaseHTTPRequestHandler):
    """200 with a length, 200 in chunks that closes, 500: in turn."""

    protocol_version = "HTTP/1.1"
    turn = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert b'name="file"' in body
        assert body.endswith(b"--\r\n")
        Answers.turn += 1
        self.send_response(500 if Answers.turn % 3 == 0 else 200)
        if Answers.turn % 3 == 1:
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")
            self.close_connection = True
            return
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        return


def test_the_client_counts_right_answers_and_errors_over_any_kind_of_connection(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"image")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    command = [sys.executable, SERVING / "client.py", str(server.server_port), "/predict", tmp_path, "2", "0.3"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert told["ms"]
    assert set(told["errors"]) == {"500"}
    assert told["rps"] == pytest.approx(len(told["ms"]) / 0.3, rel=0.5)


def rounds(**rps):
    """Two rounds of each contender at 1 and 8 clients; the second is half as quick for everybody."""
    found = {}
    for who, speed in rps.items():
        for clients in (1, 8):
            found[f"serve/{who}/c{clients}/rps"] = [speed, speed / 2]
            found[f"serve/{who}/c{clients}/errors"] = [0, 0]
            for percentile in ("p50_ms", "p95_ms", "p99_ms"):
                found[f"serve/{who}/c{clients}/{percentile}"] = [1e3 * clients / speed, 2e3 * clients / speed]
        found |= {f"serve/{who}/{name}": [1.0, 2.0] for name in ("ready_s", "rss_mb", "rss_loaded_mb")}
    return found | {"serve/ceiling/fp32/rps": [50.0, 25.0], "serve/ceiling/slim/rps": [200.0, 100.0]}


EVERYBODY = {"usual_app": 10, "threadpool": 15, "litserve": 20, "bentoml": 12, "ray_serve": 18, "fp32": 45, "slim": 150}


def test_ratios_are_of_one_round_and_the_table_says_what_was_reached(bench):
    found = bench.Found(rounds(**EVERYBODY), {}, {})
    measures = {one.name: one for one in bench.measures(found, (1, 8))}
    assert set(bench.AIMS) <= set(measures)
    for name, value in {
        "fp32/vs_ceiling": 0.9,
        "fp32/vs_best_peer": 45 / 20,
        "slim/vs_litserve": 7.5,
        "slim/vs_usual_app": 15,
        "slim/p95_vs_usual_app": 15,
    }.items():
        one = measures[f"serve/{name}"]
        assert (one.value, one.low, one.high) == pytest.approx((value, value, value)), name
    import table

    result = {
        "measures": [one.__dict__ for one in measures.values()],
        "notes": ["a note"],
        "machine": {"cpu": "a CPU", "cores": 2, "flags": []},
        "date": "2026-11-27",
        "commit": "0",
    }
    text = table.table(result)
    assert text.count("| yes |") == len(bench.AIMS) - 1
    assert text.count("| **no** |") == 1  # 0.9 of the ceiling
    assert "| LitServe, batches of 8, ONNX Runtime | 15 / 15 |" in text


def test_whoever_is_absent_spoils_nobody_elses_ratio(bench):
    everybody = rounds(**EVERYBODY)
    everybody = {name: values[:1] if "ray_serve" in name else values for name, values in everybody.items()}
    found = bench.Found(everybody, {"ray_serve": "it ended"}, {})
    names = {one.name for one in bench.measures(found, (1, 8))}
    assert set(bench.AIMS) <= names
    assert not any("ray_serve" in name for name in names)
    without = {name: values for name, values in everybody.items() if "litserve" not in name}
    names = {one.name for one in bench.measures(bench.Found(without, {"litserve": "none", "ray_serve": ""}), (1, 8))}
    assert "serve/slim/vs_litserve" not in names
    assert "serve/slim/vs_usual_app" in names


def test_every_contender_has_an_environment_and_a_row(bench):
    import peers
    import table

    assert [one.name for one in bench.CONTENDERS] == list(table.WHO)
    assert {one.environment for one in bench.CONTENDERS if one.environment} == set(peers.wanted())
    if table.PAGE.is_file() and table.BEGIN in (text := table.PAGE.read_text(encoding="utf-8")):
        assert text == table.with_table(text, json.loads(table.RESULTS.read_text(encoding="utf-8")))
