"""What torchrun starts in test_processes.py: every process trains the same project."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from medrail.cases import build_cases
from medrail.config import parse
from medrail.train import train
from medrail.workspace import Workspace

if __name__ == "__main__":
    config, workspace = parse(json.loads(sys.argv[1])), Workspace(Path(sys.argv[2]))
    train(config, workspace, build_cases(config, workspace), run_name=sys.argv[3])
