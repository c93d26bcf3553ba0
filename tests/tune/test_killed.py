"""kill -9 in the middle of a trial: the study ends as an undisturbed one."""

from __future__ import annotations

import shutil
import signal
import sys
import time

import pytest

from medrail.workspace import read_json
from tuning_project import make_project, only_study, rows_of, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
SETS = ("train.epochs=12", "train.patience=0")


def test_a_killed_study_ends_as_an_undisturbed_one(tmp_path):
    root = make_project(tmp_path / "a")
    shutil.copytree(root, tmp_path / "b")
    undisturbed = start(tmp_path / "b", *SETS)
    out, error = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, out + error

    killed = start(root, *SETS)
    last = time.monotonic() + 200
    while time.monotonic() < last:  # until the second trial has trained some epochs
        lines = [path.read_text().count("\n") for path in root.glob("tune/*/trial-0001/metrics.jsonl")]
        if lines and lines[0] >= 2:
            break
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert killed.returncode == -9

    again = start(root, *SETS)
    out, error = again.communicate(timeout=300)
    assert again.returncode == 0, out + error

    first, second = rows_of(only_study(tmp_path / "b")), rows_of(only_study(root))
    for row in (*first, *second):
        row.pop("seconds")
    assert first == second
    assert len(first) == 3
    assert read_json(only_study(root) / "trial-0001" / "passport.json")["resumed"] == 1
