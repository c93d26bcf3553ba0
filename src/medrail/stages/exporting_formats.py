"""Stage export, for other programs: a run's network in other formats, and how quick it is in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medrail.cases import read_record
from medrail.stages.evaluating import network
from medrail.stages.exporting import agreement
from medrail.stages.preparing import in_store
from medrail.stages.project import Project, StageResult, timed
from medrail.workspace import Run

if TYPE_CHECKING:
    from medrail.export.formats import Subject


def export_formats(project: Project, run: Run, words: Sequence[str]) -> StageResult:
    """A run's network in the formats that ``words`` name, each compared with what was evaluated.

    Raises
    ------
    ConfigError
        If there is no such format, or what writes it is not installed; before anything is written.
    ExportError
        If one of them does not answer as the evaluated network; those before it stay.
    """
    from medrail.export.formats import asked_formats
    from medrail.export.other_formats import export_format

    formats = asked_formats(words)
    with timed() as seconds:
        subject = subject_of(project, run)
        cases = in_store(project, read_record(run).known(project.cases))
        made = {to.name: export_format(run, to, subject, project.config, project.workspace, cases) for to in formats}
    return StageResult(
        "export",
        f"{', '.join(made)} of {run.name}",
        facts=tuple((name, agreement(one.facts["parity"])) for name, one in made.items()),
        files=tuple(file for one in made.values() for file in one.files),
        seconds=seconds(),
        values={
            "run": str(run.folder),
            "formats": {
                name: {
                    "folder": str(one.folder),
                    "files": [str(file) for file in one.files],
                    **{key: one.facts[key] for key in ("parity", "opset", "precision")},
                }
                for name, one in made.items()
            },
        },
    )


def subject_of(project: Project, run: Run) -> Subject:
    """The run's network, exported as ONNX first where it was not."""
    from medrail.bundle import load_network
    from medrail.bundle.backend import outputs_of
    from medrail.export.formats import Subject
    from medrail.models import MODELS
    from medrail.models.evidence import WithEvidence
    from medrail.train import load_model

    path, config = network(project, run), project.config
    evaluated = load_network(run.folder, threads=config.serve.threads, engine="onnxruntime")
    shape = (evaluated.spec.channels, *(evaluated.spec.patch or evaluated.spec.grid))
    return Subject(
        path,
        evaluated,
        outputs_of(evaluated.backend),
        lambda: WithEvidence(load_model(run), MODELS[config.model.name].ending, shape).eval(),
        config.serve.threads,
        config.export.openvino_fp16,
    )
