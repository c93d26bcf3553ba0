"""The network as one would serve it without exporting it: torch, float32, one image at a time.

``python -m medrail.slim.eager FOLDER TABLE THREADS``: as ``medrail.bundle.stopwatch``, with the run's weights in torch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from medrail.bundle import Predictor, load_network
from medrail.bundle.stopwatch import serve
from medrail.cases import read_table
from medrail.train import load_model, torch_backend
from medrail.workspace import Run


def eager_predictor(run: Run, threads: int = 0) -> Predictor:
    """The run's weights in torch, behind its own preprocessing and calibration; features are not computed, so the
    score of what is unlike the training is left out.
    """
    if threads:
        torch.set_num_threads(threads)
    spec = load_network(run.folder, threads=1, calibrated=False).spec
    return Predictor(spec, torch_backend(load_model(run)), run.name)


def main(arguments: Sequence[str]) -> None:
    folder, table, threads = arguments
    run = Run(Path(folder))
    serve(lambda: eager_predictor(run, int(threads)), read_table(Path(table)), sys.stdin, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
