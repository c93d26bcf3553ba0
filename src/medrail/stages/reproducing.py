"""Stage reproduce: does a run come out again, and if not, what is different?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medrail.cases import read_record
from medrail.cases.listing import counted
from medrail.errors import DataError, RunError
from medrail.prepare import prepare
from medrail.stages.project import FIXED_BY_TRAINING, MakeProgress, Project, StageResult, open_project, open_run, timed
from medrail.types import Case
from medrail.workspace import Run, read_json

if TYPE_CHECKING:
    from medrail.config import Config
    from medrail.train.differences import Difference
    from medrail.train.reproduce import Comparison

TOLERANCE = 0.02
"""Largest difference of a validation metric, and of the answers, that another machine may make."""
_STOPPING = ("seed", "configuration", "data", "weights")
"""What differs in one of these is another experiment: it is not rerun."""


@dataclass(frozen=True)
class Found:
    """What was rebuilt, and what is different now; ``cases``: the run's own, as they are now, with its splits."""

    project: Project
    run: Run
    passport: Mapping[str, Any]
    config: Config
    cases: tuple[Case, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()

    @property
    def stops(self) -> bool:
        return any(one.what in _STOPPING for one in self.differences)


def reproduce_run(
    path: str | Path,
    *,
    tolerance: float = TOLERANCE,
    keep: bool = False,
    report: Callable[[StageResult], None] = lambda _: None,
    make_progress: MakeProgress = lambda _: None,
) -> StageResult:
    """Train a run once more from what its passport names, and compare.

    What is different now goes to ``report`` first. Then, if seed, configuration and data are the recorded ones, the
    training is repeated with the recorded threads, precision and, where this machine has it, device. PASS: identical
    weights and numbers of every epoch, bit for bit; or, where the environment is another one (or the device is not
    exact), validation metrics and answers within ``tolerance``. The result is ``failed`` otherwise.

    Raises
    ------
    ConfigError
        If this is one of several processes.
    RunError
        If there is no finished run with its record.
    """
    from medrail.train.processes import refuse_several
    from medrail.train.reproduce import compare, kept, scratch, train_again

    refuse_several("reproduce")
    with timed() as seconds:
        found = _rebuild(path, make_progress)
        report(_beforehand(found, seconds()))
        if found.stops:
            return _result(found, None, tolerance, seconds=seconds())
        config, workspace = found.config, found.project.workspace
        with scratch(found.run, keep=keep) as name:
            again = train_again(config, workspace, found.cases, name, make_progress("Training again"))
            comparison = compare(found.run, again, config, workspace, found.cases)
        files = (kept(found.run),) if keep else ()
    return _result(found, comparison, tolerance, files=files, seconds=seconds())


def _rebuild(path: str | Path, make_progress: MakeProgress) -> Found:
    """The run, what it is made of as that is now, and every difference; prepares what the store lacks."""
    from medrail.train import differences, passport
    from medrail.train.reproduce import as_recorded

    project, run = open_run(path, accept_leak=True)
    recorded = read_json(run.passport)
    if not recorded.get("finished"):
        raise RunError("the training is not finished", where=str(run.folder), remedy="`medrail train` goes on with it.")
    if parent := recorded.get("parent"):
        raise RunError(
            f"it was not trained from the beginning, but made from the run {parent.get('run', '?')} by `medrail slim`",
            where=str(run.folder),
            remedy="Reproduce that run; then slim it again with the settings that this passport has under slim.",
        )
    record, workspace = read_record(run), project.workspace
    config, machine = as_recorded(project.config, recorded)
    now = passport.circumstances(workspace, machine)
    found = [*differences.of_seed(recorded, config), *differences.of_circumstances(recorded, now)]
    found += differences.of_weights(recorded, run)
    cases: tuple[Case, ...] = ()
    notes = list(_changed_since(project))
    try:
        everything = project.cases
    except DataError as error:
        found.append(differences.Difference("data", "the data", "readable", str(error)))
    else:
        drawn = project.config.split.by != "given"
        found += differences.of_data(record, everything, workspace, drawn=drawn)
        found += differences.of_start(recorded, config, workspace)
        cases = record.known(everything)
        if added := len(everything) - len(cases):
            notes.append(f"{counted(added, 'case')} added since the training, and left out")
    if cases and not any(one.what in _STOPPING for one in found):
        cases, further = _prepared(project, recorded, cases, make_progress)
        known = any(one.what in ("code", "environment") for one in found)
        found += () if known else further
    return Found(project, run, recorded, config, cases, tuple(found), tuple(notes))


def _prepared(
    project: Project, recorded: Mapping[str, Any], cases: Sequence[Case], make_progress: MakeProgress
) -> tuple[tuple[Case, ...], list[Difference]]:
    """The cases of which there are prepared arrays, made now where the store lacks them, and what differs in these."""
    from medrail.prepare import store_of
    from medrail.train import differences, passport
    from medrail.train.material import gather, start_weights

    config, workspace = project.config, project.workspace
    prepare(config, workspace, cases, make_progress("Preparing"))
    store = store_of(config, workspace)
    ready = set(store.ids())
    usable = tuple(case for case in cases if case.id in ready)
    weights = start_weights(config.model.weights, workspace)
    found = differences.of_prepared(recorded, passport.made_from(store, usable, weights))
    if not found:
        material = gather(config, workspace, usable)
        made_of = passport.fingerprint(config, store, material.classes, material.cases, material.weights)
        if made_of != recorded.get("fingerprint"):
            found.append(
                differences.Difference("configuration", "config.yaml", recorded.get("fingerprint", ""), made_of)
            )
    return usable, found


def _changed_since(project: Project) -> tuple[str, ...]:
    """Whether medrail.yaml is another one now; the run's own is what is rerun."""
    if not project.workspace.config_file.is_file():
        return ()
    try:
        now = open_project(project.workspace.root).config
    except DataError:
        return ()
    changed = [name for name in FIXED_BY_TRAINING if now.fingerprint(name) != project.config.fingerprint(name)]
    if not changed:
        return ()
    return (f"medrail.yaml has changed since ({', '.join(changed)}); the run's own config.yaml is what is rerun",)


def _beforehand(found: Found, seconds: float) -> StageResult:
    from medrail.train.differences import KINDS, told

    same = [kind for kind in KINDS if not any(one.what == kind for one in found.differences)]
    machine = found.passport.get("machine", {})
    return StageResult(
        "rebuild",
        f"run {found.run.name}: {counted(len(found.cases), 'case')}, seed {found.passport.get('seed')}, "
        f"{machine.get('device', '?')}, {counted(int(machine.get('threads', 0)), 'thread')}",
        facts=(("as recorded", ", ".join(same)),),
        notes=found.notes,
        warnings=tuple(told(found.differences)),
        seconds=seconds,
    )


def _result(
    found: Found,
    comparison: Comparison | None,
    tolerance: float,
    *,
    files: tuple[Path, ...] = (),
    seconds: float,
) -> StageResult:
    from medrail.train.differences import KINDS

    passed, reason = _verdict(found, comparison, tolerance)
    same: list[str] = [kind for kind in KINDS if not any(one.what == kind for one in found.differences)]
    if comparison is not None:
        same = [kind for kind in same if kind != "weights"]
        same += ["weights"] * (comparison.weights[0] == comparison.weights[1])
        same += ["metrics"] * (comparison.first_different_epoch is None)
    verdict = "PASS" if passed else "FAIL"
    return StageResult(
        "reproduce",
        f"{verdict}: {reason}",
        facts=_facts(comparison) if comparison else (),
        files=files,
        seconds=seconds,
        failed=not passed,
        values={
            "verdict": verdict,
            "reason": reason,
            "same": same,
            "differs": [one.to_json() for one in found.differences],
            "notes": list(found.notes),
            "tolerance": tolerance,
            "run": str(found.run.folder),
            **_compared(comparison),
            "kept": str(files[0]) if files else None,
        },
    )


def _compared(comparison: Comparison | None) -> dict[str, Any]:
    if comparison is None:
        return {"rerun": False, "weights": None, "metrics": {}, "answers": None, "first_different_epoch": None}

    def pair(values: tuple[Any, Any]) -> dict[str, Any]:
        return {"recorded": values[0], "found": values[1]}

    of_answers = {"measure": comparison.answers_of, "difference": comparison.answers, "cases": comparison.cases}
    return {
        "rerun": True,
        "weights": pair(comparison.weights),
        "metrics": {name: pair(values) for name, values in comparison.metrics.items()},
        "answers": of_answers if comparison.cases else None,
        "first_different_epoch": comparison.first_different_epoch,
    }


def _verdict(found: Found, comparison: Comparison | None, tolerance: float) -> tuple[bool, str]:
    """Whether it passed, and why."""
    from medrail.train.differences import told

    different = "; ".join(told(found.differences))
    if comparison is None:
        return False, f"{different}. Not trained again: it would be another experiment"
    if comparison.identical:
        return True, "identical weights and numbers of every epoch, bit for bit" + (
            f", although there is another {different}" if different else ""
        )
    code = any(one.what == "code" for one in found.differences)
    exact = found.passport.get("machine", {}).get("device") == "cpu"
    if not code and (found.differences or not exact):
        why = different or "the device does not compute bit for bit"
        if comparison.within(tolerance):
            return True, f"metrics and answers within {tolerance:g}, not identical; {why}"
        return False, f"metrics or answers differ by more than {tolerance:g}; {why}"
    if different:
        return False, f"other weights or numbers; {different}"
    epoch = comparison.first_different_epoch
    first = "no epoch's numbers differ" if epoch is None else f"the first epoch that differs is {epoch}"
    return False, f"not deterministic: everything is as recorded, yet the weights or numbers are others; {first}"


def _facts(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    rows = [("weights", "identical" if comparison.weights[0] == comparison.weights[1] else "others")]
    epoch = comparison.first_different_epoch
    rows.append(("every epoch's numbers", "identical" if epoch is None else f"other ones from epoch {epoch} on"))
    rows += [(name, f"{first:.6g} -> {second:.6g}") for name, (first, second) in comparison.metrics.items()]
    if comparison.cases:
        of = counted(comparison.cases, "prepared case")
        rows.append((comparison.answers_of, f"{comparison.answers:.4g} over {of}"))
    return tuple(rows)
