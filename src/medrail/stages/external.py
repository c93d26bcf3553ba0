"""Stage evaluate, on other data: the run's network on patients of another hospital, and the drop."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases import FileHashes, Leak, Leaked, image_fingerprint, leak_sentence, read_record
from medrail.cases.listing import counted
from medrail.cases.look.examine import place_of
from medrail.cases.record import SEEN_BEFORE, write_digests
from medrail.errors import ConfigError, DataError, LeakError, RunError
from medrail.stages.evaluating import evaluate_run, explainer_of, maps_told, network
from medrail.stages.project import MakeProgress, Project, StageResult, inferred_project, open_project, timed
from medrail.types import SPLITS, Case
from medrail.workspace import Run, read_json, write_json

if TYPE_CHECKING:
    from medrail.config import Config
    from medrail.evaluate import Evaluation
    from medrail.evaluate.bootstrap import Measured
    from medrail.evaluate.external import Drop

DROP_FILE = "external.json"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Others:
    """Other data as the run's network is judged on them: the configuration to read them with, and all cases as test."""

    name: str
    source: str
    config: Config
    cases: tuple[Case, ...]
    notes: tuple[str, ...]


def evaluate_external(
    project: Project, run: Run, data: str | Path, make_progress: MakeProgress = lambda _: None
) -> StageResult:
    """Judge a run's exported network on all labelled cases of other data, and how much it loses there.

    Written to run/external/NAME/: the files of an evaluation, and external.json with each metric on the run's own test,
    on these data, and the difference with its interval.

    Parameters
    ----------
    project, run:
        As ``open_run`` gives them; the run's own test split is evaluated first where it is not yet.
    data:
        A project's folder, a medrail.yaml, or images without configuration, whose layout is then inferred.

    Raises
    ------
    ConfigError
        If the data are for another task, or have classes that the network does not know.
    LeakError
        If an image of them was in the run's training, and leaks are not accepted.
    """
    from medrail.evaluate import Evaluation

    with timed() as seconds:
        if project.config.evaluate.split != "test":
            raise ConfigError(
                "evaluate.split is not test", needed="test: the drop is from the run's own test split", where="--data"
            )
        with _opened(Path(data)) as other:
            network(project, run)
            others = _others(project, run, other)
            leaked, own = _copies(run, others, accept=project.accept_leak)
            inside = evaluate_run(project, run, make_progress)
            folder = _folder(run, others)
            up_to_date, evaluation = _evaluated(run, others, folder, leaked, make_progress)
            write_digests(run, others.cases, folder / run.images.name)
        found = _drops(run, folder, Evaluation.load(run), evaluation, others.config)
        values = {
            "run": str(run.folder),
            "name": folder.name,
            "data": others.source,
            "internal": inside.values,
            "external": evaluation.to_json(),
            "drops": {name: drop.to_json() for name, drop in found.items()},
            "notes": [*own, *others.notes, *_doubts(found, leaked, inside, evaluation)],
        }
        write_json(folder / DROP_FILE, values)
    return _told(folder, evaluation, found, values, (up_to_date, seconds()))


@contextmanager
def _opened(path: Path) -> Iterator[Project]:
    """The other project; data without configuration are inferred, and nothing is written among them."""
    if path.suffix in (".yaml", ".yml") or (path / "medrail.yaml").is_file():
        yield replace(open_project(path, accept_leak=True), stored=False)
        return
    if not path.exists():
        raise ConfigError("there is no such file or folder", where=f"--data {path}")
    with inferred_project(path) as project:
        yield replace(project, accept_leak=True)


def _others(project: Project, run: Run, other: Project) -> Others:
    """All cases with a label, in the words of the run's network."""
    from medrail.evaluate.external import fitting_config, in_words_of

    classes = tuple(read_json(run.folder / "network.json")["spec"]["classes"])
    config, notes = fitting_config(project.config, other.config, classes, named=other.bare is None)
    labelled = [case for case in other.cases if case.target is not None]
    if not labelled:
        raise DataError("no case has a label or a mask", needed="labels to judge by", where="data of --data")
    if left := len(other.cases) - len(labelled):
        notes = (*notes, f"{counted(left, 'case')} without label left out")
    if project.config.task == "classification":
        labelled, said = in_words_of(labelled, classes, project.config.data, other.config.data)
        notes = (*notes, *said)
    source = other.bare.root if other.bare else other.workspace.root
    cases = tuple(replace(case, split="test", fold=None) for case in labelled)
    return Others(_name(source), str(source.resolve()), config, cases, notes)


def _name(source: Path) -> str:
    return _UNSAFE.sub("-", source.resolve().stem).strip("-.") or "data"


def _folder(run: Run, others: Others) -> Path:
    """run/external/NAME; data of the same name from another place get a number behind it."""
    for number in range(1, 1000):
        folder = run.folder / "external" / (others.name if number == 1 else f"{others.name}-{number}")
        if not (folder / DROP_FILE).is_file() or read_json(folder / DROP_FILE).get("data") == others.source:
            return folder
    raise RunError("a thousand external evaluations of this name", where=str(run.folder / "external"))


def _copies(run: Run, others: Others, *, accept: bool) -> tuple[Leaked, tuple[str, ...]]:
    """Images that are to the byte those of the run's training, and what else must be known; near copies are not
    looked for.

    Raises
    ------
    LeakError
        If there are any, and leaks are not accepted.
    """
    record = read_record(run)
    own = {record.images[one]: case for one, case in record.cases.items() if one in record.images}
    leaks, reasons, known = [], {}, Counter[str]()
    with FileHashes.of(run.workspace) as hashes:
        for case in others.cases:
            seen = own.get(_digest(case, hashes))
            if seen is None:
                continue
            known[seen.split or "none"] += 1
            if seen.split in SEEN_BEFORE["test"]:
                sides = tuple(one for one in SPLITS if one in ("test", seen.split))
                leaks.append(Leak("exact", (place_of(case), place_of(seen)), sides))
                reasons[case.id] = {"exact": f"its image is that of {seen.id}"}
    leaked = Leaked(len(others.cases), tuple(leaks), reasons)
    if leaked and not accept:
        raise _own_data(run, others, known) if known.total() == len(others.cases) else _shared(run, others, leaked)
    if known["test"] == len(others.cases):
        return leaked, ("every image is one of the run's own test split: this is no external test",)
    return leaked, ()


def _own_data(run: Run, others: Others, known: Counter[str]) -> LeakError:
    """Every image of --data is one of the run's own."""
    splits = ", ".join(f"{known[name]} {name}" for name in SPLITS if known[name])
    return LeakError(
        f"these are the data that {run.name} was made from: all {counted(len(others.cases), 'image')} are its own "
        f"({splits})",
        needed="other data, of patients that it never saw",
        where=f"--data {others.source}",
        remedy=f"On its own test cases it is judged without --data: `medrail evaluate {shlex.quote(str(run.folder))}`.",
    )


def _shared(run: Run, others: Others, leaked: Leaked) -> LeakError:
    """Some images of --data are the run's own: those are to be left out, and nothing is wrong with its training."""
    error = leaked.error(f"--data {others.source}", SEEN_BEFORE["test"])
    error.remedy = (
        f"Leave these images out of --data: they are of the training of {run.name}. With --accept-leak they are judged "
        "all the same, and every result says so."
    )
    return error


def _digest(case: Case, hashes: FileHashes) -> str:
    try:
        return image_fingerprint(case, hashes)
    except DataError:
        return ""


def _evaluated(
    run: Run, others: Others, folder: Path, leaked: Leaked, make_progress: MakeProgress
) -> tuple[bool, Evaluation]:
    """The evaluation in ``folder``, made where what lies there is not of these cases, this network and these settings.

    It is made in a run's folder of its own, with the network of this one, which is then gone.
    """
    from medrail.evaluate import evaluate
    from medrail.evaluate.evaluation import evaluation_fingerprint

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".evaluate.") as name:
        own = Run(Path(name) / "runs" / run.name)
        own.folder.mkdir(parents=True)
        for path in run.folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                _link(path, own.folder / path.name)
        known = _known(folder)
        if known and known.fingerprint == evaluation_fingerprint(own, others.config, others.cases, "test", leaked):
            return True, known
        # The folder of its own has no checkpoint to explain by; the network is the same.
        explainer = explainer_of(run, others.config)
        evaluation = evaluate(own, others.config, others.cases, make_progress("Evaluating"), "test", leaked, explainer)
        shutil.rmtree(folder, ignore_errors=True)
        own.evaluation.rename(folder)
    return False, evaluation


def _known(folder: Path) -> Evaluation | None:
    from medrail.evaluate import Evaluation

    try:
        return Evaluation.from_json(read_json(folder / "evaluation.json"))
    except (RunError, KeyError, TypeError, ValueError):
        return None


def _link(source: Path, target: Path) -> None:
    """A second name of the same file, which costs nothing; a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _drops(run: Run, folder: Path, inside: Evaluation, outside: Evaluation, config: Config) -> Mapping[str, Drop]:
    from medrail.evaluate.answers import read_answers
    from medrail.evaluate.evaluation import CASE_FILE
    from medrail.evaluate.external import drops

    internal = read_answers(run.evaluation / CASE_FILE, tuple(inside.metrics), multi_label=inside.multi_label)
    external = read_answers(folder / CASE_FILE, tuple(outside.metrics), multi_label=outside.multi_label)
    settings, measured = config.evaluate, (inside.metrics, outside.metrics)
    return drops(internal, external, measured, resamples=settings.resamples, seed=settings.seed)


def _doubts(found: Mapping[str, Drop], leaked: Leaked, inside: StageResult, outside: Evaluation) -> list[str]:
    """What must be known before a difference is read."""
    from medrail.evaluate.external import threshold_carries

    said = [leak_sentence(leaked.counts)] if leaked else []
    if not outside.multi_label and (
        sentence := threshold_carries(outside.metrics, outside.calibration.get("thresholds") or {})
    ):
        said.append(sentence)
    said += [f"the run's own test: {sentence}" for sentence in inside.warnings]
    pixels = [name for name in found if name.partition("/")[0].endswith("_px")]
    if pixels:
        said.append(
            f"{pixels[0]} and the like are in pixels: comparable only where a pixel is of the same size in both"
        )
    return said


def _told(
    folder: Path,
    evaluation: Evaluation,
    found: Mapping[str, Drop],
    values: Mapping[str, Any],
    done: tuple[bool, float],
) -> StageResult:
    rows = [("metric", f"{'internal':<10}{'external, 95 %':<27}{'n':<7}difference, 95 %")]
    methods: dict[str, list[str]] = {}
    for name, drop in found.items():
        one, outside = drop.difference, evaluation.metrics[name]
        methods.setdefault(one.method, []).append(name)
        bounds = f"{_number(one.value, '+')}  [{_number(one.low, '+')}, {_number(one.high, '+')}]"
        there = f"{_number(outside.value)}  [{_number(outside.low)}, {_number(outside.high)}]"
        rows.append((name, f"{_number(drop.internal):<10}{there:<27}{outside.n:<7}{bounds}"))
    rows += [("unlike the training data", _with_interval(one)) for one in evaluation.ood.values()]
    failed = evaluation.failed
    return StageResult(
        "external",
        f"{folder.name}: {counted(evaluation.n, 'case')} of {counted(evaluation.patients, 'patient')}"
        + (f"; {counted(len(failed), 'case')} left out, because they cannot be used" if failed else ""),
        facts=tuple(rows),
        notes=(*maps_told(evaluation), *(f"{', '.join(names)}: {method}" for method, names in methods.items())),
        files=(folder,),
        warnings=(*values["notes"], *evaluation.warnings, *(f"{entry['case']}: {entry['reason']}" for entry in failed)),
        up_to_date=done[0],
        seconds=done[1],
        failed=bool(failed),
        values=values,
    )


def _with_interval(one: Measured) -> str:
    return f"{_number(one.value)}  [{_number(one.low)}, {_number(one.high)}]  n = {one.n}"


def _number(value: float, sign: str = "") -> str:
    return f"{value:{sign}.4f}" if math.isfinite(value) else "-"
