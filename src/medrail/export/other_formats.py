"""export_format: a run's network in one of FORMATS, compared with what was evaluated, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle.backend import Engine
from medrail.bundle.probability import as_probabilities
from medrail.config import Config
from medrail.errors import ExportError
from medrail.export.facts import FACTS_FILE, facts, output_shapes
from medrail.export.formats import Format, Subject
from medrail.export.network import check_parity
from medrail.export.parity import Parity, chosen_cases, largest_difference, measure_parity
from medrail.export.triton import check_versions, version_number, write_beside
from medrail.prepare import store_of
from medrail.types import Case
from medrail.workspace import Run, Workspace, read_json, write_folder, write_json

_SEVERAL = 3


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, its files, and what facts.json says."""

    folder: Path
    files: tuple[Path, ...]
    facts: dict[str, Any]


def export_format(
    run: Run, to: Format, subject: Subject, config: Config, workspace: Workspace, cases: Sequence[Case]
) -> Exported:
    """Write ``exports/NAME/VERSION/FORMAT/``, for Triton ``triton/NAME/NUMBER/``.

    Parameters
    ----------
    cases:
        Prepared ones; ``config.export.parity_cases`` of them are compared, of the test split first.

    Raises
    ------
    ExportError
        If the network cannot be expressed so, any probability differs by more than
        ``config.export.parity_tolerance``, or its answer for an image depends on what is in the batch with it. Nothing
        is left in that case, an older export neither. Or if other versions in Triton's repository do not fit to it.
    """
    folder = _folder(to, config, workspace)
    told: list[dict[str, Any]] = []

    def fill(filled: Path) -> None:
        to.write(subject, filled)
        engine = to.open(subject, filled)
        try:
            parity = _compared(run, to, subject, engine, config, workspace, cases)
        except ExportError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        values = {
            "name": config.name,
            "version": config.export.version,
            "run": run.name,
            **facts(subject, to, filled, output_shapes(engine, subject)),
            "opset": read_json(run.folder / "network.json").get("parity", {}).get("opset"),
            "parity": {**parity.to_dict(), "against": _AGAINST},
        }
        if to.name == "triton":
            check_versions(folder.parent, values)
        write_json(filled / FACTS_FILE, values)
        told.append(values)

    write_folder(folder, fill)
    beside = write_beside(folder.parent, told[0]) if to.name == "triton" else ()
    return Exported(folder, (*(folder / name for name in (*to.files, FACTS_FILE)), *beside), told[0])


_AGAINST = "the network as it was evaluated"


def _compared(
    run: Run, to: Format, subject: Subject, engine: Engine, config: Config, workspace: Workspace, cases: Sequence[Case]
) -> Parity:
    """Raise ``ExportError`` if what was written does not answer as what was evaluated."""
    compared = chosen_cases(cases, config.export.parity_cases)
    parity = measure_parity(
        subject.evaluated,
        subject.evaluated.behind(lambda _: engine),
        store_of(config, workspace),
        compared,
    )
    check_parity(parity, config.export.parity_tolerance, run, f"{to.name} and {_AGAINST}")
    _check_batches(engine, subject, config.export.parity_tolerance, run, to)
    return parity


def _folder(to: Format, config: Config, workspace: Workspace) -> Path:
    if to.name == "triton":
        model = workspace.triton / config.name
        return model / str(version_number(model, config.export.version))
    return workspace.exports / config.name / config.export.version / to.name


def _check_batches(backend: Engine, subject: Subject, tolerance: float, run: Run, to: Format) -> None:
    """Three images of noise answered together and one by one: a trace may have taken its batch for a constant."""
    noise = np.random.default_rng(0).normal(size=(_SEVERAL, *subject.input_shape)).astype(np.float32)
    together = np.moveaxis(backend(noise), 0, 1)
    singly = np.moveaxis(np.concatenate([backend(noise[[index]]) for index in range(_SEVERAL)]), 0, 1)
    multi_label = subject.spec.multi_label
    gap = (
        largest_difference(
            as_probabilities(together, multi_label=multi_label), as_probabilities(singly, multi_label=multi_label)
        )
        if together.shape == singly.shape
        else float("inf")
    )
    if gap > tolerance:
        raise ExportError(
            f"{to.name}: an image's probabilities differ by {gap:.3g} with what else is in the batch",
            needed=f"at most {tolerance:g} (export.parity_tolerance)",
            where=str(run.folder),
        )
