"""Stage compare: several evaluated runs, and published numbers, held against each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.cases.listing import counted
from medrail.errors import ConfigError
from medrail.stages.project import MakeProgress, StageResult, timed

if TYPE_CHECKING:
    from medrail.evaluate.comparison import Comparison
    from medrail.evaluate.comparison_tables import Table
    from medrail.evaluate.entrants import Entrant

_LONGEST_NAME = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True)
class Wanted:
    """What is to be compared, as it is typed.

    runs:
        Folders of runs, groups of seeds, or projects; the first is the reference unless ``reference`` is another.
    published:
        As ``auc=0.944,n=624``.
    out:
        Folder to write; None: comparisons/NAME of the reference's project.
    """

    runs: tuple[str, ...]
    reference: str | None = None
    metrics: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    common: bool = False
    seed: int = 0
    out: Path | None = None


def compare_runs(wanted: Wanted, make_progress: MakeProgress = lambda _: None) -> tuple[StageResult, tuple[Table, ...]]:
    """Compare evaluated runs on the same cases; nothing is computed anew but the tests.

    Raises
    ------
    ConfigError
        If there is nothing to compare with, or a word of it is not known.
    RunError
        If a run is not evaluated, or the runs were judged on different cases.
    """
    from medrail.evaluate.compare import Asked, compare
    from medrail.evaluate.comparison_page import write_comparison
    from medrail.evaluate.comparison_tables import tables
    from medrail.evaluate.entrants import read_entrants
    from medrail.evaluate.paired import Drawing
    from medrail.evaluate.published import parse_published

    published = tuple(parse_published(text) for text in wanted.published)
    if len(wanted.runs) < 2 and not published:
        raise ConfigError(
            "one run alone", needed="two runs or more, or --published", remedy="`medrail compare --help` has examples."
        )
    with timed() as seconds:
        entrants = read_entrants(_reference_first(wanted))
        asked = Asked(wanted.metrics, wanted.common, published, Drawing(seed=wanted.seed))
        comparison = compare(entrants, asked, make_progress("Comparing"))
        folder = wanted.out or entrants[0].members[0].run.workspace.comparisons / _name(entrants, wanted.published)
        missing: tuple[str, ...] = ()
        try:
            files = write_comparison(comparison, folder)
        except ModuleNotFoundError:
            missing = ("no pictures: matplotlib is not installed (it comes with the extra train)",)
            files = write_comparison(comparison, folder, pictures=False)
    return _result(comparison, files, missing, seconds()), tables(comparison)


def _result(comparison: Comparison, files: tuple[Path, ...], missing: tuple[str, ...], seconds: float) -> StageResult:
    methods: dict[str, dict[str, None]] = {}
    for one in comparison.tests:
        methods.setdefault(one.test.method, {})[one.test.metric] = None
    shown = sum(one.verdict in ("better", "worse") for one in comparison.tests)
    return StageResult(
        "compare",
        f"{counted(len(comparison.runs), 'run')} on {counted(comparison.n, 'case')} of "
        f"{counted(comparison.patients, 'patient')}; reference {comparison.reference}; a difference is shown in "
        f"{shown} of {counted(len(comparison.tests), 'test')}",
        notes=(
            *((comparison.caution,) if comparison.caution else ()),
            *(f"{', '.join(metrics)}: {method}" for method, metrics in methods.items()),
        ),
        files=files,
        warnings=(*comparison.warnings, *missing),
        seconds=seconds,
        values=comparison.to_json(),
    )


def _reference_first(wanted: Wanted) -> tuple[str, ...]:
    if wanted.reference is None:
        return wanted.runs
    same = [run for run in wanted.runs if _names(wanted.reference, run)]
    if len(same) != 1:
        raise ConfigError(
            f"{wanted.reference!r} is {'none' if not same else 'more than one'} of the runs",
            where="--reference",
            needed=f"one of {', '.join(wanted.runs)}",
        )
    return (same[0], *(run for run in wanted.runs if run != same[0]))


def _names(reference: str, run: str) -> bool:
    """Whether the reference is this run, by its path as typed or by the folder's name."""
    return Path(reference).resolve() == Path(run).resolve() or reference == Path(run).resolve().name


def _name(entrants: Sequence[Entrant], published: Sequence[str]) -> str:
    """Of the folder. Other published numbers make another one, so that a former comparison stays as it is."""
    names = [one.name.replace("/", "-") for one in entrants]
    numbers = "-".join(_UNSAFE.sub("-", text).strip("-") for text in published)
    parts = [*names, *([f"published-{numbers}"] if published else [])]
    whole = "-vs-".join(parts)
    if len(whole) <= _LONGEST_NAME:
        return whole
    if published:
        numbers = hashlib.sha256("\n".join(published).encode()).hexdigest()[:8]
        parts[-1] = f"published-{numbers}"
    whole = "-vs-".join(parts)
    if len(whole) <= _LONGEST_NAME:
        return whole
    return f"{names[0]}-and-{len(names) - 1}-others" + (f"-vs-published-{numbers}" if published else "")
