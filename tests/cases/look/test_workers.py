"""Work in processes: a killed process costs its own job and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medrail.cases.look.workers import each_in_processes
from medrail.machine import free_memory_bytes, peak_memory_bytes, processors

KILL = "__import__('os').kill(__import__('os').getpid(), 9)"


def run(jobs, workers=2):
    results = []
    each_in_processes(eval, iter(jobs), workers, results.append, lambda job: f"killed by {jobs.index(job)}")
    return sorted(map(str, results))


def test_every_job_is_done_once():
    assert run([f"{n} * {n}" for n in range(7)]) == sorted(str(n * n) for n in range(7))


def test_no_jobs():
    assert run([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_killed_process_loses_no_other_job(place):
    jobs = [f"'job {n}'" for n in range(7)]
    jobs[place] = KILL
    expected = [f"job {n}" for n in range(7) if n != place]
    assert run(jobs) == sorted([*expected, f"killed by {place}"])


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_so(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from medrail.cases.look.workers import each_in_processes\n"
        "each_in_processes(abs, iter([-1, -2, -3]), 2, print, lambda job: 'killed')\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "worker processes cannot start" in done.stderr
    assert 'if __name__ == "__main__"' in done.stderr
    assert done.stdout == ""


def test_what_the_machine_says():
    assert processors() >= 1
    assert free_memory_bytes() is None or free_memory_bytes() > 1_000_000
    assert peak_memory_bytes() is None or peak_memory_bytes() > 1_000_000
