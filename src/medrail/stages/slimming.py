"""Stage slim: a Run -> a smaller, faster one that is no worse on the same patients, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medrail.cases import Leaked, leak_sentence, read_record
from medrail.errors import RunError
from medrail.lock import Busy, locked
from medrail.stages.evaluating import evaluate_run, leaked_cases, network
from medrail.stages.preparing import in_store
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.types import SplitName
from medrail.workspace import Run, read_json

if TYPE_CHECKING:
    from medrail.evaluate.noninferiority import NonInferiority
    from medrail.slim.outcome import Confirmed, Outcome


def slim_run(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Make candidates, judge them on the validation cases and by the clock, and ask the test cases of the best one.

    The slimmed run RUN-slim is there afterwards only if both agree; else nothing has changed but what lies in RUN/slim.

    Raises
    ------
    LeakError
        If the network has seen a patient or an image of either split in training, and leaks are not accepted.
    RunError
        If its training is not finished, there are no validation cases, or something else is called as the slimmed run
        would be.
    """
    from medrail.evaluate import fit_calibration
    from medrail.slim.judge import judge
    from medrail.slim.making import Making
    from medrail.slim.page import header, table, write_outcome
    from medrail.slim.promote import check_free

    with timed() as seconds, _alone(run):
        _check_finished(run)
        check_free(run, project.workspace)
        network(project, run)
        leaked = {split: leaked_cases(_on(project, split), run, make_progress) for split in _judged_on(project, run)}
        known = read_record(run).known(project.cases)
        told = make_progress("Calibrating on the validation cases")
        fit_calibration(run, project.config, project.workspace, known, told)
        prepared = in_store(project, known)
        making = Making(run, project.config, project.workspace, known, prepared, make_progress)
        outcome = judge(making)
        if outcome.chosen and "test" in leaked:
            outcome = _confirmed(project, run, outcome, make_progress)
        elif outcome.chosen:
            outcome = replace(outcome, notes=(*outcome.notes, "there are no test cases to confirm the choice with"))
        files = write_outcome(outcome, run.slim)
    return StageResult(
        "slim",
        outcome.sentence,
        notes=_notes(outcome),
        files=(*files, *((project.workspace.run(outcome.result).folder,) if outcome.accepted else ())),
        warnings=(*_leaks_told(leaked), *outcome.notes),
        seconds=seconds(),
        failed=not outcome.accepted,
        values={**outcome.to_json(), "header": list(header()), "table": [list(row) for row in table(outcome)]},
    )


def unslimmed(project: Project, run: Run, *, named: bool) -> Run:
    """The run that is to be slimmed: of a project whose newest run was made by slimming, the one it was made of.

    Parameters
    ----------
    named:
        Whether the run itself was given, and not its project.

    Raises
    ------
    RunError
        If a slimmed run was given.
    """
    passport = read_json(run.passport)
    whose = (passport.get("slim") or {}).get("judged", {}).get("of")
    if whose is None:
        return run
    if named:
        raise RunError(
            "this is a slimmed run",
            where=str(run.folder),
            needed="the run that it was made of: a loss within the margin twice may be twice the margin",
            remedy=f"Slim {whose} with other settings.",
        )
    return project.workspace.run(whose)


def _check_finished(run: Run) -> None:
    if not read_json(run.passport).get("finished"):
        raise RunError(
            "its training is not finished",
            where=str(run.folder),
            remedy="Wait for it, or let `medrail train` go on with it: the network would be another one by then.",
        )


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Hold the run's slim folder against other processes.

    Under another name than the lock of the candidates' runs in it, which are trained meanwhile.
    """
    run.slim.mkdir(exist_ok=True)
    try:
        with locked(run.slim / ".judging.lock"):
            yield
    except Busy as busy:
        raise RunError(
            f"another process (number {busy.note.get('process', 'unknown')}) is slimming it",
            where=str(run.folder),
            remedy="Wait until it has ended and repeat: what is finished is not done again.",
        ) from None


def _on(project: Project, split: SplitName) -> Project:
    evaluate = project.config.evaluate.model_copy(update={"split": split})
    return replace(project, config=project.config.model_copy(update={"evaluate": evaluate}))


def _judged_on(project: Project, run: Run) -> list[SplitName]:
    splits = {case.split for case in read_record(run).known(project.cases)}
    judged: list[SplitName] = ["val", "test"]
    return [split for split in judged if split in splits]


def _confirmed(project: Project, run: Run, outcome: Outcome, make_progress: MakeProgress) -> Outcome:
    """Ask the test cases, once a candidate, and make the slimmed run if they agree."""
    from medrail.evaluate.noninferiority import NonInferiority
    from medrail.slim.outcome import Confirmed
    from medrail.slim.promote import looks, promote, put_forward, remember_look, slimmed_name

    row = outcome.row(outcome.chosen)
    candidate = Run(run.folder / row.run)
    fingerprint = f"{read_json(candidate.passport)['fingerprint']} {outcome.metric} {outcome.margin:g}"
    earlier, there = looks(run), project.workspace.run(slimmed_name(run))
    if fingerprint in earlier and (not earlier[fingerprint]["passed"] or _is(there, candidate)):
        judged = NonInferiority.from_json(earlier[fingerprint])
    else:
        forward = put_forward(run, candidate, project.workspace)
        judged = _on_test(_on(project, "test"), run, forward, outcome, make_progress)
        remember_look(run, fingerprint, judged.to_json())
        if judged.passed:
            promote(run, forward, project.workspace, _says(outcome, judged))
    confirmed = Confirmed(judged, len(looks(run)))
    return replace(outcome, confirmed=confirmed, result=there.name if judged.passed else "")


def _is(there: Run, candidate: Run) -> bool:
    """Whether the slimmed run that is there was made of this candidate."""
    if not there.passport.is_file():
        return False
    return bool(read_json(there.passport).get("fingerprint") == read_json(candidate.passport)["fingerprint"])


def _on_test(project: Project, run: Run, forward: Run, outcome: Outcome, make_progress: MakeProgress) -> NonInferiority:
    from medrail.evaluate.entrants import read_member
    from medrail.evaluate.noninferiority import non_inferiority
    from medrail.evaluate.same_cases import match_cases

    for one in (run, forward):
        evaluate_run(project, one, make_progress)
    answers = {name: read_member(one).answers for name, one in (("base", run), ("slim", forward))}
    both = match_cases(answers, common=False, where=str(run.folder)).answers
    return non_inferiority(
        both["base"], both["slim"], outcome.metric, outcome.margin, seed=project.config.evaluate.seed
    )


def _says(outcome: Outcome, judged: NonInferiority) -> dict[str, Any]:
    """For the passport of the slimmed run."""
    row = outcome.row(outcome.chosen)
    return {
        "candidate": row.name,
        "validation": row.judged.to_json() if row.judged else {},
        "test": judged.to_json(),
        "faster": row.timed.faster.to_json() if row.timed and row.timed.faster else {},
        "machine": dict(outcome.machine),
    }


def _notes(outcome: Outcome) -> tuple[str, ...]:
    confirmed: Confirmed | None = outcome.confirmed
    notes = []
    if confirmed:
        judged = confirmed.judged
        notes.append(
            f"on {judged.patients} test patients; failures that hit fewer than {judged.unseen:.1%} of such patients "
            "may not have been among them"
        )
        if confirmed.looks > 1:
            notes.append(
                f"these test cases have been asked {confirmed.looks} times in slimming this run: each further look "
                "makes a lucky answer more likely"
            )
    if any(row.unbeaten for row in outcome.rows):
        notes.append("*: nothing else is as good in time, rate, file, memory and value, and better in one of them")
    return tuple(notes)


def _leaks_told(leaked: dict[SplitName, Leaked]) -> tuple[str, ...]:
    return tuple(leak_sentence(one.counts) for one in leaked.values() if one)
