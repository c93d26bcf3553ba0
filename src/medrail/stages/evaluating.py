"""Stage evaluate: the network, as it will be served, on a split it was not trained on."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases import Leaked, find_leaks_of, leak_sentence, read_record
from medrail.cases.listing import counted
from medrail.cases.record import SEEN_BEFORE
from medrail.errors import RunError
from medrail.stages.preparing import in_store
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.types import Evidence, Image
from medrail.workspace import Run, read_json

if TYPE_CHECKING:
    from medrail.config import Config
    from medrail.evaluate import Evaluation
    from medrail.evaluate.explanation import Explainer


def evaluate_run(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """The trained network, as it will be served, on the raw files of a split it was not trained on.

    The split is the one that the run was trained with, whatever has been added to the data since.

    Raises
    ------
    LeakError
        If the network has seen a patient or an image of that split in training, and leaks are not accepted.
    """
    from medrail.evaluate import Evaluation, evaluate, fit_calibration

    with timed() as seconds:
        network(project, run)
        record, split = read_record(run), project.config.evaluate.split
        leaked = leaked_cases(project, run, make_progress)
        cases, differences = record.known(project.cases), record.differences(project.cases, split)
        _, fitted = fit_calibration(
            run, project.config, project.workspace, cases, make_progress("Calibrating on the validation cases")
        )
        up_to_date = Evaluation.is_current(run, project.config, cases, leaked=leaked)
        if up_to_date:
            evaluation = Evaluation.load(run)
        else:
            evaluation = evaluate(
                run,
                project.config,
                cases,
                make_progress("Evaluating"),
                leaked=leaked,
                explainer=explainer_of(run, project.config),
            )
    values = evaluation.to_json()
    said = (leak_sentence(leaked.counts),) if leaked else ()
    return StageResult(
        "evaluate",
        f"{values['split']} split: {counted(values['n'], 'case')} of {counted(values['patients'], 'patient')}"
        + _left_out(len(values.get("failed", [])), values["n"])
        + (" (not all of the data: see the run's cases.csv)" if differences else "")
        + "".join(f". {sentence}" for sentence in said),
        facts=_facts(values),
        notes=(*maps_told(evaluation), *_notes(values)),
        files=(run.evaluation / "index.html", run.evaluation),
        warnings=(
            *said,
            *values["warnings"],
            *differences,
            *(f"{entry['case']}: {entry['reason']}" for entry in values.get("failed", [])),
        ),
        up_to_date=up_to_date and not fitted,
        seconds=seconds(),
        failed=bool(values.get("failed")),
        values=values,
    )


def leaked_cases(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> Leaked:
    """Those of the split to be judged that the network has seen; images that have not changed are not read again.

    Raises
    ------
    LeakError
        If there are any, and leaks are not accepted.
    """
    record, split = read_record(run), project.config.evaluate.split
    concerned = [case for case in record.known(project.cases) if case.split in (split, *SEEN_BEFORE[split])]
    found = find_leaks_of(project.config, project.workspace, concerned, make_progress("Looking for leaks"))
    leaked = record.leaked(project.cases, split, found)
    if leaked and not project.accept_leak:
        raise leaked.error(str(run.folder), SEEN_BEFORE[split])
    return leaked


def explainer_of(run: Run, config: Config) -> Explainer | None:
    """Explains the answers of a run's classifier that has no exact evidence, by Grad-CAM; None without torch.

    Nothing is loaded before the first image.
    """
    if config.task != "classification" or find_spec("torch") is None:
        return None
    made: list[Explainer] = []

    def explain(image: Image, class_name: str, roi: Image | None) -> Evidence:
        if not made:
            from medrail.bundle import load_network
            from medrail.explain import make_explainer

            serve = config.serve
            made.append(make_explainer(run, load_network(run.folder, threads=serve.threads, engine=serve.engine)))
        return made[0](image, class_name, roi)

    return explain


def maps_told(evaluation: Evaluation) -> tuple[str, ...]:
    """Whether the maps of evidence are to be trusted, in one line, where they were tested."""
    from medrail.evaluate.explaining import trust

    sentence = trust(evaluation.explanation, evaluation.patients)
    return (sentence[0],) if sentence else ()


def _left_out(failed: int, judged: int) -> str:
    return f"; {failed} of {counted(failed + judged, 'case')} left out, because they cannot be used" if failed else ""


def _facts(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """A line a metric, then the chosen thresholds, the sets, the share that is unlike the training, and the parts."""
    rows = [(name, _with_interval(metric)) for name, metric in values["metrics"].items()]
    thresholds = values["calibration"].get("thresholds", {})
    rows += [(f"threshold of {label}", f"{threshold:.4f}") for label, threshold in thresholds.items()]
    rows += [(f"conformal {name}", _with_interval(metric)) for name, metric in values["conformal"].items()]
    rows += [("unlike the training data", _with_interval(metric)) for metric in values["ood"].values()]
    for name, parts in values["strata"].items():
        small = values["too_small"].get(name, {})
        for value, metrics in parts.items():
            first, metric = next(iter(metrics.items()))
            few = f"  too few to read: {small[value]}" if value in small else ""
            rows.append((f"{name}: {value}", f"{first} {_with_interval(metric)}{few}"))
    return tuple(rows)


# How many patients stand behind each number is in evaluation.json; here methods that are alike are one line.
_NUMBERS = re.compile(r",? (the smallest )?over \d+ .*?(?=; |$)")


def _notes(values: Mapping[str, Any]) -> tuple[str, ...]:
    """How it was calibrated, how the intervals were found, and what a narrower one would take."""
    methods: dict[str, list[str]] = {}
    for name, metric in values["metrics"].items():
        methods.setdefault(_NUMBERS.sub("", metric["method"]), []).append(name)
    needed = values["patients_needed"].get("sentence", "")
    return (
        *((needed,) if needed else ()),
        *values["calibration"].get("said", ()),
        *(f"{', '.join(names)}: {method}" for method, names in methods.items()),
    )


def _with_interval(metric: Mapping[str, Any]) -> str:
    def number(value: Any) -> str:
        return "-" if value is None else f"{value:.4f}"

    return f"{number(metric['value'])}  [{number(metric['low'])}, {number(metric['high'])}]  n = {metric['n']}"


def network(project: Project, run: Run) -> Path:
    """The run's network as ONNX, exported once and checked against torch on real cases as the configuration asks."""
    checkpoint = hashlib.sha256(run.best.read_bytes()).hexdigest() if run.best.is_file() else ""
    if not checkpoint:
        raise RunError("no trained weights", where=str(run.best), remedy="`medrail train` makes them.")
    description = run.folder / "network.json"
    if run.network.is_file() and description.is_file():
        known = read_json(description)
        if known.get("quantised"):
            return _quantised(run, known, checkpoint)
        parity, asked = known.get("parity", {}), project.config.export
        agreed = parity.get("max_abs_difference", math.inf) <= asked.parity_tolerance
        enough = parity.get("asked_cases") == asked.parity_cases
        if known.get("checkpoint") == checkpoint and agreed and enough:
            return run.network
    from medrail.export import export_network

    known = in_store(project, read_record(run).known(project.cases))
    return export_network(run, project.config, project.workspace, known)


def _quantised(run: Run, known: Mapping[str, Any], checkpoint: str) -> Path:
    """The network of a quantised run, which is not what its weights are exported to.

    Raises
    ------
    RunError
        If the weights are others than when it was made.
    """
    if known.get("checkpoint") == checkpoint:
        return run.network
    raise RunError(
        "the quantised network was made from other weights than those beside it",
        where=str(run.network),
        remedy="Delete the run and quantise its parent again.",
    )
