"""What a study leaves to read: trials.csv, best.yaml, study.json, and pictures."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from medrail.charts import Row, draw_intervals, draw_points
from medrail.tune.space import as_sets
from medrail.tune.tuned import TrialRecord, Tuned
from medrail.workspace import write_json, write_text

_RANKED = 10


def write_results(tuned: Tuned) -> list[Path]:
    """trials.csv and study.json, and once a trial is complete best.yaml."""
    write_text(tuned.folder / "trials.csv", _table(tuned))
    write_json(tuned.folder / "study.json", to_json(tuned))
    files = [tuned.folder / "trials.csv"]
    if tuned.best:
        write_text(tuned.folder / "best.yaml", _best_yaml(tuned, tuned.best))
        files.insert(0, tuned.folder / "best.yaml")
    return files


def draw(tuned: Tuned) -> list[Path]:
    """history.png, and where there is something to show importance.png and front.png."""
    files = [_draw_history(tuned)] if tuned.complete else []
    if tuned.importance:
        rows = [Row(one.key, one.value, one.low, one.high, note=f"{one.value:.0%}") for one in tuned.importance]
        title = f"What decides {tuned.goal.metric} (n = {len(tuned.complete)} trials)"
        files.append(draw_intervals(tuned.folder / "importance.png", rows, title=title, x="share, 95 % of resamples"))
    if tuned.goal.two and tuned.front:
        files.append(_draw_front(tuned))
    return files


def to_json(tuned: Tuned) -> dict[str, Any]:
    """The keys of ``medrail tune --json``, which are an interface."""
    best = tuned.best
    return {
        "study": tuned.study,
        "folder": str(tuned.folder),
        "storage": tuned.storage,
        "metric": tuned.goal.metric,
        "direction": tuned.goal.directions[0],
        "second": tuned.goal.second,
        "asked": tuned.asked,
        "trials": len(tuned.trials),
        **{state: len(tuned.of(state)) for state in ("complete", "pruned", "failed", "running")},
        "best": _trial_json(best) if best else None,
        "front": [_trial_json(trial) for trial in tuned.front],
        "ranked": [_trial_json(trial) for trial in tuned.complete[:_RANKED]],
        "sets": list(as_sets(best.settings)) if best else [],
        "importance": {one.key: {"value": one.value, "low": one.low, "high": one.high} for one in tuned.importance},
        "notes": list(tuned.notes),
    }


def _trial_json(trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "value": _number(trial.value),
        "second": _number(trial.cost),
        "settings": dict(trial.settings),
        "epochs": trial.epochs,
        "seconds": trial.seconds,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _table(tuned: Tuned) -> str:
    keys = sorted({key for trial in tuned.trials for key in trial.settings})
    front = {trial.number for trial in tuned.front}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    second = [tuned.goal.second, "on_front"] if tuned.goal.two else []
    table.writerow(["trial", "state", tuned.goal.metric, *second, "epochs", "seconds", *keys, "reason"])
    for trial in tuned.trials:
        costs = [_cell(trial.cost), "yes" if trial.number in front else "no"] if tuned.goal.two else []
        settings = [trial.settings.get(key, "") for key in keys]
        facts = [trial.number, trial.state, _cell(trial.value), *costs, trial.epochs, f"{trial.seconds:.1f}"]
        table.writerow([*facts, *settings, trial.reason])
    return text.getvalue()


def _cell(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""


def _best_yaml(tuned: Tuned, best: TrialRecord) -> str:
    values: dict[str, Any] = {}
    for key, value in best.settings.items():
        *path, last = key.split(".")
        node = values
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(values, text)
    return f"""\
# Study {tuned.study}, trial {best.number} of {len(tuned.trials)}: {tuned.goal.metric} {best.value:.4f} on validation.
# Copy these keys into medrail.yaml, train, and judge the run on the test split. Not a medical device.
{text.getvalue()}"""


def _draw_history(tuned: Tuned) -> Path:
    by_state: Mapping[str, list[TrialRecord]] = {
        "complete": tuned.of("complete"),
        "ended early": [trial for trial in tuned.of("pruned") if math.isfinite(trial.value)],
    }
    groups = {
        name: [(float(trial.number), trial.value, "") for trial in trials]
        for name, trials in by_state.items()
        if trials
    }
    best = max if tuned.goal.larger_is_better else min
    so_far: list[tuple[float, float]] = []
    for trial in tuned.trials:
        value = [trial.value] if trial.state == "complete" else []
        if so_far:
            so_far.append((trial.number - 1e-6, so_far[-1][1]))  # a step, not a slope
        if so_far or value:
            so_far.append((float(trial.number), best([*value, *(height for _, height in so_far[-1:])])))
    title = f"{tuned.goal.metric} of each trial, and the best so far"
    return draw_points(tuned.folder / "history.png", groups, title=title, x="trial", y=tuned.goal.metric, front=so_far)


def _draw_front(tuned: Tuned) -> Path:
    on_front = {trial.number for trial in tuned.front}
    others = [(trial.cost, trial.value, "") for trial in tuned.of("complete") if trial.number not in on_front]
    unbeaten = [(trial.cost, trial.value, str(trial.number)) for trial in tuned.front]
    groups = {"not beaten in both": unbeaten} | ({"other trials": others} if others else {})
    return draw_points(
        tuned.folder / "front.png",
        groups,
        title=f"{tuned.goal.metric} against {tuned.goal.second}",
        x=tuned.goal.second,
        y=tuned.goal.metric,
        front=[(cost, value) for cost, value, _ in unbeaten],
        log_x=True,
    )
