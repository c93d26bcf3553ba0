"""A short run of benchmarks/fuzz: mutated files neither crash, hang nor fill the memory, and fail with our errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "bench.py"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_mutated_files_break_no_promise(seed):
    command = [sys.executable, str(BENCH), "--inputs", "600", "--seed", str(seed), "--no-record"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout
    assert "'read'" in done.stdout
    assert "'CorruptFile'" in done.stdout


def test_the_bench_sees_what_breaks_a_promise(tmp_path):
    """The watcher itself: a reader that raises, one that dies and one that sleeps are all reported."""
    program = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("bench", {str(BENCH)!r})
bench = sys.modules["bench"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
bench.seeds = lambda: [("a.png", b"x" * 50)]
bench.LIMIT_S = 0.3
def bad(folder, name, content):
    bad.count += 1
    if bad.count == 2:
        return "foreign: ValueError"
    if bad.count == 4:
        os._exit(9)
    if bad.count == 3:
        time.sleep(0.5)
    return "read"
bad.count = 0
bench.outcome = bad
if "--work" in sys.argv:
    bench.work(*map(int, sys.argv[2:6]))
else:
    bench.__file__ = __file__
    bench.WORKERS = 1
    report = bench.run(5, 0, show=False)
    print("\\n".join(report.broken))
"""
    script = tmp_path / "watched.py"
    script.write_text(program, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert "input 1 (a.png): foreign: ValueError" in done.stdout, done.stderr
    assert "input 2 (a.png): took 0.5 s" in done.stdout
    assert "input 3 (a.png): crash, exit code 9" in done.stdout
    assert "outside of any input" not in done.stdout
