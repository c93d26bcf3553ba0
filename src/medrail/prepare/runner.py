"""prepare: a case table through the pipeline into the store, in parallel, and never stopped by one bad case."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from medrail.cases import FileHashes
from medrail.config import Config
from medrail.errors import MedrailError
from medrail.machine import collecting_seldom
from medrail.prepare.failures import Failure, read_failures, write_failures
from medrail.prepare.keeper import Keeper
from medrail.prepare.losses import full_disk, naming_a_full_disk
from medrail.prepare.making import Reading
from medrail.prepare.pipeline import Pipeline
from medrail.prepare.report import PrepareReport
from medrail.prepare.store import Store
from medrail.prepare.work import Work
from medrail.types import Case, Progress
from medrail.workspace import Workspace


def store_of(config: Config, workspace: Workspace) -> Store:
    """Where this configuration's prepared cases lie."""
    return Store(workspace, Pipeline.from_dict(config.prepare.steps), plain=config.prepare.store == "npy")


def prepare(
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    progress: Progress | None = None,
    *,
    complete: bool = False,
) -> PrepareReport:
    """Prepare every case into ``workspace.prepared``; cases whose files did not change are skipped.

    A case that fails is recorded in ``failures.csv`` with its reason, and the others go on. A worker that is killed, or
    runs out of memory, has its case tried again alone; one that hangs longer than ``prepare.timeout_s`` is given up.
    Whatever kills this process, cases that were finished are kept, and the next call goes on. Little work is done in
    this process; for more, processes are spawned, so a script must call this below ``if __name__ == "__main__":``.

    Parameters
    ----------
    complete:
        ``cases`` is the whole table: what the store has of others, which were taken out of the data, is deleted.

    Raises
    ------
    ConfigError
        If the steps have mistakes.
    RunError
        If another process is writing the same store.
    PrepareError
        If no worker process can start, the scheduler cannot be reached, or the disk is full; what is done is kept.
    """
    store = store_of(config, workspace)
    with naming_a_full_disk(store, len(cases)):
        if not config.prepare.keep_after:
            return _prepare(config, workspace, cases, progress, {}, complete=complete)
        first = _prepare(_first_steps(config), workspace, cases, progress, {}, complete=complete)
        # What failed in the first steps fails in them again.
        return first.then(_prepare(config, workspace, cases, progress, dict(first.failed), complete=complete))


def outdated(config: Config, workspace: Workspace, cases: Sequence[Case]) -> tuple[str, ...]:
    """The ids of the cases that ``prepare`` would make now, so that nothing is trained on arrays of other files.

    A case that ``prepare`` tried and could not make is not among them, as long as its files are the same.
    """
    store, reading = store_of(config, workspace), Reading.of(config)
    failures = read_failures(store.failures_file)
    with FileHashes.of(workspace) as hashes:
        return tuple(
            case.id
            for case in _outdated(cases, reading, store, hashes)
            if case.id not in failures or not _still_fails(case, failures[case.id], reading, hashes)
        )


def _first_steps(config: Config) -> Config:
    """``keep_after``: the first steps are a pipeline of their own, from whose store the whole one goes on."""
    kinds = [str(step["kind"]) for step in config.prepare.steps]
    count = kinds.index(config.prepare.keep_after) + 1
    first = {"steps": config.prepare.steps[:count], "keep_after": "", "store": "compact"}
    return config.model_copy(update={"prepare": config.prepare.model_copy(update=first)})


def _prepare(
    config: Config,
    workspace: Workspace,
    cases: Sequence[Case],
    progress: Progress | None,
    known_failures: Mapping[str, str],
    *,
    complete: bool,
) -> PrepareReport:
    started = time.perf_counter()
    store, reading = store_of(config, workspace), Reading.of(config)
    with FileHashes.of(workspace) as hashes:
        todo = _outdated(cases, reading, store, hashes)
        if progress and len(todo) < len(cases):
            progress(len(cases) - len(todo), len(cases), "up to date")
        own, before = {case.id for case in cases}, read_failures(store.failures_file)
        stale = before.keys() & own or (complete and store.entries.keys() - own)
        if not todo and store.failures_file.is_file() and not stale:
            return PrepareReport.nothing_done(len(cases), time.perf_counter() - started, store.folder)
        with Keeper(store, len(todo)) as keeper:
            if complete:
                keeper.remove_others(own)
            work = Work(config, reading, hashes, keeper, len(cases), len(todo), progress)
            work.failures = {
                case.id: Failure(case.id, known_failures[case.id]) for case in todo if case.id in known_failures
            }
            work.lost_before = any(case.id in before and before[case.id].lost for case in todo)
            try:
                work.do([case for case in todo if case.id not in known_failures])
            finally:
                # Workers end in any order; a report does not.
                work.failures = {case.id: work.failures[case.id] for case in todo if case.id in work.failures}
                others = [] if complete else [before[case] for case in before if case not in own]
                write_failures(store.failures_file, [*others, *work.failures.values()])
        if work.full:
            raise full_disk(store, done=len(cases) - len(todo) + work.succeeded, cases=len(cases))
    return work.report(len(cases), time.perf_counter() - started)


def _outdated(cases: Iterable[Case], reading: Reading, store: Store, hashes: FileHashes) -> list[Case]:
    with collecting_seldom():
        made_from = store.sources()
        return [case for case in cases if not _is_current(case, made_from.get(case.id), reading, hashes)]


def _is_current(case: Case, stored: str | None, reading: Reading, hashes: FileHashes) -> bool:
    """Whether what is stored was made from the case's files as they are now."""
    return stored is not None and _made_from(case, reading, hashes) == stored


def _still_fails(case: Case, failure: Failure, reading: Reading, hashes: FileHashes) -> bool:
    """Whether its files are those that it failed with."""
    return (_made_from(case, reading, hashes) or "") == failure.made_from


def _made_from(case: Case, reading: Reading, hashes: FileHashes) -> str | None:
    """None where files cannot be read: the same error comes again when the case's turn comes, and is recorded there."""
    try:
        return reading.made_from(case, hashes)
    except MedrailError:
        return None
