"""medrail: one call of ``prepare`` into a workspace that is new, with the start of its processes and all it records."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medrail.config import parse
from medrail.prepare import prepare
from medrail.types import Case
from medrail.workspace import Workspace


@contextmanager
def whole(options: Mapping[str, Any]) -> Iterator[Any]:
    """All cases in one call; each of them ``times`` times, by links, as if there were more."""

    def work(paths: Sequence[Path], out: Path) -> None:
        cases = [_case(path) for path in paths]
        for number in range(1, options.get("times", 1)):
            (out / f"again{number}").mkdir()
            for path in paths:
                link = out / f"again{number}" / f"{path.name}_{number}"
                link.symlink_to(path)
                cases.append(_case(link))
        _prepare(options, out, cases)

    yield work


@contextmanager
def tiles(options: Mapping[str, Any]) -> Iterator[Any]:
    """Every tile of a slide is a case; of the warm-up a few."""

    def work(paths: Sequence[Path], out: Path) -> None:
        px, columns, rows = (options[name] for name in ("tile_px", "columns", "rows"))
        rows = min(rows, 4) if out.name == "warm_up" else rows
        cases = [
            Case(f"r{row}c{column}", "p", (str(path),), "a", item=f"x={px * column},y={px * row},px={px},um=0.5")
            for path in paths
            for row in range(rows)
            for column in range(columns)
        ]
        _prepare(options, out, cases)

    yield work


def _case(path: Path) -> Case:
    name = path.name.partition(".")[0]
    return Case(name, name, (str(path),), "a")


def _prepare(options: Mapping[str, Any], out: Path, cases: Sequence[Case]) -> None:
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "csv", "path": "raw", **options.get("data", {})},
            "model": {"name": "resnet18", "dims": options.get("dims", 3)},
            "prepare": {"steps": options["steps"], "workers": options["workers"]},
        }
    )
    report = prepare(config, Workspace(out), cases)
    if report.failed or report.succeeded != len(cases):
        raise SystemExit(f"{len(report.failed)} of {len(cases)} cases failed: {report.failed[:1]}")
    if out.name == "warm_up":
        return
    by_step = {name: round(seconds, 3) for name, seconds in report.seconds_by_step.items()}
    print(f"    {report.seconds:.2f} s; seconds by step, all workers together: {by_step}", file=sys.stderr)
