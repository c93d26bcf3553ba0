"""kill -9 in the middle of an epoch, in a process of its own: the run goes on as if nothing had happened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medrail.train import train
from medrail.train.checkpoint import load

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from medrail.cases import build_cases
from medrail.config import parse
from medrail.train import train
from medrail.workspace import Workspace

config, workspace, batch = parse(json.loads(sys.argv[1])), Workspace(Path(sys.argv[2])), int(sys.argv[3])

def killed(done, total, note=""):
    if done == batch:
        os.kill(os.getpid(), signal.SIGKILL)

train(config, workspace, build_cases(config, workspace), run_name="killed", progress=killed)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_ends_bit_for_bit_as_an_undisturbed_one(project: Any) -> None:
    arguments = [json.dumps(project.config.to_dict()), str(project.workspace.root), "7"]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, timeout=300, check=False)
    assert done.returncode == -9, done.stderr.decode()
    killed = project.workspace.run("killed")
    assert load(killed.last)["epoch"] >= 1, "the kill was to come after a whole epoch"
    undisturbed = train(project.config, project.workspace, project.cases, run_name="undisturbed")
    resumed = train(project.config, project.workspace, project.cases, run_name="killed")
    for path, key in ((Path("last.pt"), "network"), (Path("last.pt"), "average"), (Path("best.pt"), "weights")):
        first, second = load(undisturbed.checkpoints / path)[key], load(resumed.checkpoints / path)[key]
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[name]) for name, value in first.items())
    moments = [load(run.last)["optimizer"]["state"] for run in (undisturbed, resumed)]
    assert all(torch.equal(moments[0][n]["exp_avg_sq"], moments[1][n]["exp_avg_sq"]) for n in moments[0])
    assert not [path for path in resumed.checkpoints.iterdir() if path.name.startswith(".")]
