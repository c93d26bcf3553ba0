"""Which weights of a study stay: those of the best trial, or of the front; figures and settings of all stay."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from medrail.tune.tuned import TrialRecord
from medrail.workspace import Run


def drop_weights(folder: Path, trials: Sequence[TrialRecord], kept: Sequence[TrialRecord]) -> None:
    """Remove the checkpoints of finished trials, but for the best weights of those that are ``kept``.

    Trials that are being trained, here or by another process, are left alone.
    """
    names = {trial.name for trial in kept}
    for trial in trials:
        run = Run(folder / trial.name)
        if trial.state == "running" or not run.checkpoints.is_dir():
            continue
        if trial.name in names:
            run.last.unlink(missing_ok=True)
        else:
            shutil.rmtree(run.checkpoints, ignore_errors=True)
