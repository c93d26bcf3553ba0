"""write_run: a slimmed network -> a run folder, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medrail.cases import read_table, write_table
from medrail.errors import RunError
from medrail.models.structure import structure_of
from medrail.slim.request import Request
from medrail.train.checkpoint import save
from medrail.train.runs import SLIMMING, config_text
from medrail.train.weights import tensors_sha256
from medrail.workspace import Run, Workspace, write_json, write_text

PLAIN_BEST = "best.safetensors"


@dataclass(frozen=True)
class Made:
    """What was made for a request.

    passport:
        Of the last fine-tuning, or as if there had been one of no epochs.
    slim:
        What the passport says of how it was made: settings, sizes before and after, rounds, and ``said``, one line.
    fine_tuned:
        The last fine-tuning's run, whose figures and curves are kept; None without one.
    """

    network: nn.Module
    passport: Mapping[str, Any]
    slim: Mapping[str, Any]
    fine_tuned: Run | None = None


def copy_record(parent: Run, run: Run, workspace: Workspace) -> None:
    """The parent's table of cases, with paths that are relative to where it lies now."""
    write_table(read_table(parent.case_table), run.case_table, workspace.root)


def write_run(made: Made, request: Request, fingerprint: str, run: Run, workspace: Workspace) -> Run:
    """Fill a folder under another name, then rename it: what stands at ``run`` is always whole.

    The record of the cases is the parent's: the same ones were trained on. config.yaml is the parent's with the
    settings of slimming; how it was fine-tuned is in the passport.

    Raises
    ------
    RunError
        If there is such a folder already.
    """
    filled = Run(run.folder.with_name(f"{SLIMMING}{run.name}"))
    shutil.rmtree(filled.folder, ignore_errors=True)
    weights = made.network.state_dict()
    result = made.passport["result"]
    content = {**request.about, "epoch": result["best_epoch"], "structure": structure_of(made.network)}
    save(filled.checkpoints / PLAIN_BEST, {**content, "weights": weights})
    write_text(filled.config_file, config_text(request.config))
    copy_record(request.parent, filled, workspace)
    shutil.copyfile(request.parent.images, filled.images)
    if made.fine_tuned:
        for path in (made.fine_tuned.metrics, made.fine_tuned.curves):
            if path.is_file():
                shutil.copyfile(path, filled.folder / path.name)
    passport = {
        **made.passport,
        "fingerprint": fingerprint,
        "parent": dict(request.parent_says),
        "slim": dict(made.slim),
        "result": {**result, "weights_sha256": tensors_sha256(weights)},
    }
    write_json(filled.passport, passport)
    try:
        filled.folder.rename(run.folder)
    except OSError as error:
        raise RunError(
            f"cannot be made ({error.strerror})", where=str(run.folder), remedy="Choose another name."
        ) from None
    return run
