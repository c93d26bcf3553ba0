"""Stage benchmark: a run's network in every format, engine and precision of this machine, timed and judged."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medrail.bundle.backend import usable_cpus
from medrail.cases import read_record
from medrail.cases.listing import counted
from medrail.errors import RunError
from medrail.stages.exporting_formats import subject_of
from medrail.stages.preparing import in_store
from medrail.stages.project import MakeProgress, Project, StageResult, timed
from medrail.types import Case
from medrail.workspace import Run, read_json, write_json

BENCHMARK_FILE = "benchmark.json"
HEADER = ("format", "engine", "precision", "MB", "ms", "times as fast", "", "difference", "answers changed")
_CALIBRATING = 40
_IDLE = 0.9
_BUSY = (
    "the machine was busy: this got {:.0%} of one processor's time. What takes longer is interrupted more often, so "
    "factors between fast and slow ways are too large: repeat it on an idle machine"
)
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimddp",
    "bf16",
    "i8mm",
)


def benchmark_run(project: Project, run: Run, make_progress: MakeProgress = lambda _: None) -> StageResult:
    """Time the network on one prepared image, and let each contender answer for validation cases (else test cases).

    Writes RUN/benchmark.json.

    Raises
    ------
    RunError
        If no prepared case is in either split.
    """
    from medrail.export.benchmark import answer_in_turn, cpu_share, rows_of, time_in_turn, torch_threads
    from medrail.export.contenders import enter
    from medrail.export.inputs import network_inputs
    from medrail.export.parity import metric_of
    from medrail.prepare import store_of

    config, settings = project.config, project.config.export
    with timed() as seconds, tempfile.TemporaryDirectory(prefix="medrail-") as scratch:
        subject = subject_of(project, run)
        known = in_store(project, read_record(run).known(project.cases))
        split, judged = _judged(known, settings.benchmark_cases, run)
        store = store_of(config, project.workspace)
        training = [case for case in known if case.split == "train"] or judged
        inputs = network_inputs(subject.spec, store, training, _CALIBRATING)
        one = inputs[0][np.newaxis]
        quantised = bool(read_json(run.folder / "network.json").get("quantised"))
        with torch_threads(config.serve.threads or usable_cpus()):
            entered = enter(subject, run.best, inputs, Path(scratch), quantised=quantised)
            contenders = entered.contenders
            answers = answer_in_turn(contenders, store, judged, make_progress("Answering"))
            calls = [partial(contender.predictor.backend, one) for contender in contenders]
            with cpu_share() as shared:
                times = time_in_turn(calls, settings.benchmark_rounds, make_progress("Timing"))
            share = shared()
    metric = metric_of(subject.spec)
    rows = rows_of(contenders, times, answers, judged, resamples=config.evaluate.resamples, seed=config.train.seed)
    values: dict[str, Any] = {
        "run": str(run.folder),
        "split": split,
        "cases": len(judged),
        "patients": len({case.patient for case in judged}),
        "metric": metric,
        "input": list(one.shape),
        "rounds": settings.benchmark_rounds,
        "threads": config.serve.threads or usable_cpus(),
        "machine": {
            "cpu": _about_cpu("model name") or platform.machine(),
            "cores": usable_cpus(),
            "flags": cpu_flags(),
            "cpu_share": share,
        },
        "base": contenders[0].name,
        "rows": rows,
        "absent": list(entered.absent),
    }
    write_json(run.folder / BENCHMARK_FILE, values)
    return StageResult(
        "benchmark",
        f"{run.name}: {counted(len(rows), 'way')} to run it, {counted(values['threads'], 'thread')}",
        facts=(
            ("input", " x ".join(map(str, values["input"]))),
            ("judged on", f"{counted(len(judged), 'case')} of {counted(values['patients'], 'patient')}, {split} split"),
            ("processor", ", ".join(values["machine"]["flags"]) or "no known instructions for low precision"),
        ),
        notes=_notes(values),
        files=(run.folder / BENCHMARK_FILE,),
        warnings=(_BUSY.format(share),) if share < _IDLE else (),
        seconds=seconds(),
        values=values,
    )


def benchmark_table(values: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Header and rows for a person: numbers with their 95 % intervals."""
    metric = values["metric"]
    rows = [
        (
            row["format"],
            row["engine"],
            row["precision"],
            f"{row['file_mb']:.2f}",
            _with_interval(row["latency_ms"], "{:.3g}"),
            _with_interval(row["times_as_fast"], "{:.2f}"),
            f"{row[metric]:.4f}",
            "" if number == 0 else _with_interval(row["difference"], "{:+.4f}"),
            "" if number == 0 else f"{row['labels_changed']:.2%}",
        )
        for number, row in enumerate(values["rows"])
    ]
    return tuple(name or metric for name in HEADER), rows


def cpu_flags() -> list[str]:
    """Which of the instructions that low precision needs this processor has; [] where the system does not tell."""
    there = f"{_about_cpu('flags')} {_about_cpu('Features')}".split()
    return [flag for flag in _FLAGS if flag in there]


def _about_cpu(name: str) -> str:
    """What Linux says of the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")


def _notes(values: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        "ms: one prepared image through the network alone, without reading, preparing and what comes after it",
        f"times as fast, difference, changed: beside {values['base']}; {values['rounds']} rounds in turn, median with "
        "its 95 % interval; the metric's by a paired bootstrap over patients",
        *(f"not timed: {reason}" for reason in values["absent"]),
    )


def _with_interval(value: Mapping[str, Any], form: str) -> str:
    low, high = value["low"], value["high"]
    interval = "" if low is None or high is None else f" [{form.format(low)}, {form.format(high)}]"
    return form.format(value["value"]) + interval


def _judged(cases: Sequence[Case], most: int, run: Run) -> tuple[str, list[Case]]:
    """Validation cases, since something may be chosen by them; test cases where there are no others."""
    for split in ("val", "test"):
        members = sorted((case for case in cases if case.split == split), key=lambda case: case.id)
        if members:
            return split, _evenly(members, most)
    raise RunError(
        "no prepared case is in the val or the test split",
        needed="one at least, to see whether the answers stay the same",
        where=str(run.folder),
        remedy="Run `medrail prepare` first.",
    )


def _evenly(cases: Sequence[Case], most: int) -> list[Case]:
    count = min(most, len(cases))
    return [cases[index * len(cases) // count] for index in range(count)]
