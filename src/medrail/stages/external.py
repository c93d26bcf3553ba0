"""Stage evaluate on other data: another hospital's cases, all of them, and how much is lost there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from medrail.cases import Leaked, Record, find_leaks_of, read_record
from medrail.cases.index import index_cases
from medrail.cases.listing import listed
from medrail.config import Config
from medrail.errors import CaseError, ConfigError
from medrail.stages.evaluating import evaluate_run, result_of
from medrail.stages.project import MakeProgress, Project, StageResult, inferred_project, open_project, timed
from medrail.types import Case, SplitName
from medrail.workspace import Run

_SEEN: tuple[SplitName, ...] = ("train", "val")
_ELSEWHERE = "external/"


def evaluate_elsewhere(
    project: Project, run: Run, data: str | Path, make_progress: MakeProgress = lambda _: None
) -> StageResult:
    """The trained network on all labelled cases of another project, or of a folder of images without one.

    The run is evaluated on its own split first, if it is not yet, and the differences are given. The network, its
    preprocessing and its calibration are the run's; where the images lie and what their masks mean is as the other data
    say. Patients count as others than those of the training, whatever they are called; images are compared.

    Raises
    ------
    ConfigError
        If the data have other classes than the network.
    CaseError
        If they cannot be turned into cases; every bad row or file at once.
    LeakError
        If the network has seen some of these images in training, and leaks are not accepted.
    """
    from medrail.evaluate import Evaluation, evaluate

    with timed() as seconds, _opened(data) as other:
        evaluate_run(project, run, make_progress)
        own = Evaluation.load(run)
        config = _config(project, other)
        cases = _cases(other)
        leaked = _leaked(project, run, cases, make_progress)
        judged = replace(run, external=_name(other, data))
        evaluation = evaluate(
            judged, config, cases, make_progress("Evaluating"), split="test", leaked=leaked, against=own
        )
    values = {**evaluation.to_json(), "external": judged.external}
    result = result_of(judged, values)
    return replace(
        result,
        summary=f"{judged.external}: {result.summary.removeprefix('test split: ')}",
        facts=(*_drop(values), *result.facts),
        seconds=seconds(),
    )


def _cases(other: Project) -> tuple[Case, ...]:
    """All of its cases; what splits they have there is nothing to another network."""
    index = index_cases(other.config, other.workspace)
    wrong = [finding for finding in index.findings if finding.severity == "stop"]
    if wrong or not index.cases:
        count = "1 thing is" if len(wrong) == 1 else f"{len(wrong)} things are"
        raise CaseError(f"{count} wrong with the other data:{listed(wrong)}", where=str(other.workspace.root))
    return tuple(replace(case, split="test", fold=None) for case in index.cases)


@contextmanager
def _opened(data: str | Path) -> Iterator[Project]:
    path = Path(data)
    if path.is_file() or (path / "medrail.yaml").is_file():
        yield open_project(path)
    else:
        with inferred_project(path) as project:
            yield project


def _config(project: Project, other: Project) -> Config:
    """The run's configuration with the other data's layout; pictures are decoded as the network's were."""
    if other.config.task != project.config.task:
        raise ConfigError(f"the data are for {other.config.task}", needed=project.config.task, where="--data")
    mine, theirs = project.config.data.classes, other.config.data.classes
    if mine and theirs and mine != theirs and (project.config.task == "segmentation" or set(theirs) - set(mine)):
        raise ConfigError(
            f"the data have the classes {', '.join(theirs)}",
            needed=f"those of the network: {', '.join(mine)}",
            where="--data",
            remedy="Name them alike: in data.classes of that project, or in its table.",
        )
    data = other.config.data.model_copy(update={"jpeg": project.config.data.jpeg})
    return project.config.model_copy(update={"data": data})


def _leaked(project: Project, run: Run, cases: Sequence[Case], make_progress: MakeProgress) -> Leaked:
    """Those of the other cases whose image, or nearly the same one, the network has seen."""
    record = read_record(run)
    seen = [case for case in record.known(project.cases) if case.split in _SEEN]
    strangers = [replace(case, id=_ELSEWHERE + case.id, patient=_ELSEWHERE + case.patient) for case in cases]
    found = find_leaks_of(project.config, project.workspace, [*seen, *strangers], make_progress("Looking for leaks"))
    together = {case.id: case for case in (*seen, *strangers)}
    leaked = Record(run, together, record.images).leaked([*seen, *strangers], "test", found)
    leaked = replace(leaked, reasons={one.removeprefix(_ELSEWHERE): why for one, why in leaked.reasons.items()})
    if leaked and not project.accept_leak:
        raise leaked.error(str(run.folder), _SEEN)
    return leaked


def _name(other: Project, data: str | Path) -> str:
    """A folder's name for the other data."""
    folder = Path(data).resolve() if other.bare else other.workspace.root
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.stem if folder.is_file() else folder.name).strip(".-") or "other"


def _drop(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The first metric's difference, before all else."""
    if not values["drop"]:
        return ()
    name, gap = next(iter(values["drop"].items()))
    interval = "" if gap["low"] is None else f"  [{gap['low']:+.4f}, {gap['high']:+.4f}]"
    value = "-" if gap["value"] is None else f"{gap['value']:+.4f}"
    return ((f"{name} less the run's own", f"{value}{interval}"),)
