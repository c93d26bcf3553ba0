"""Pictures of an evaluation's numbers: evaluation/pictures/NAME.png."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from medrail.charts import Panel, Row, draw_intervals, draw_panels
from medrail.evaluate.evaluation import Evaluation, Points

PICTURES = "pictures"


def draw_pictures(folder: Path, evaluation: Evaluation) -> dict[str, Path]:
    """Draw what the evaluation has numbers for.

    Returns
    -------
    Name -> file: roc, precision_recall, reliability, abstention, per_case_METRIC, ood, subgroups; only those that were
    drawn.
    """
    curves = evaluation.curves
    panels = {
        "roc": _roc(curves.get("roc")),
        "precision_recall": _precision_recall(curves.get("precision_recall")),
        "reliability": _reliability(curves.get("reliability")),
        "abstention": _abstention(curves.get("abstention")),
        **{f"per_case_{name}": _per_case(name, points) for name, points in curves.get("per_case", {}).items()},
        "ood": _ood(curves.get("ood"), evaluation.calibration),
    }
    drawn = {name: draw_panels(folder / f"{name}.png", [panel]) for name, panel in panels.items() if panel}
    rows = forest(evaluation)
    if rows:
        metric = next(iter(evaluation.metrics))
        drawn["subgroups"] = draw_intervals(
            folder / "subgroups.png",
            rows,
            title=f"{metric}, with 95 % intervals",
            x=metric,
            reference=evaluation.metrics[metric].value,
        )
    return drawn


def forest(evaluation: Evaluation) -> list[Row]:
    """The first metric of the whole and of each part; [] where there are no parts."""
    if not evaluation.strata:
        return []
    metric = next(iter(evaluation.metrics))
    whole = evaluation.metrics[metric]
    rows = [Row("all", whole.value, whole.low, whole.high, note=f"n = {whole.n}")]
    for name, values in evaluation.strata.items():
        small = evaluation.too_small.get(name, {})
        for value, metrics in values.items():
            found = metrics[metric]
            note = f"n = {found.n}" + (", too few to read" if value in small else "")
            rows.append(
                Row(f"{name}: {_short(value)}", found.value, found.low, found.high, muted=value in small, note=note)
            )
    return rows


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _roc(curves: Mapping[str, Points] | None) -> Panel | None:
    return Panel("ROC", "1 - specificity", "sensitivity", curves, diagonal=True) if curves else None


def _precision_recall(curves: Mapping[str, Points] | None) -> Panel | None:
    return Panel("Precision-recall", "sensitivity (recall)", "precision (PPV)", curves) if curves else None


def _reliability(curves: Mapping[str, Points] | None) -> Panel | None:
    if not curves:
        return None
    return Panel("Reliability", "confidence", "share that is right", curves, diagonal=True, dots=True)


def _abstention(curves: Mapping[str, Points] | None) -> Panel | None:
    return Panel("Surest cases first", "share of the cases that is answered", "accuracy", curves) if curves else None


def _per_case(name: str, points: Points) -> Panel | None:
    return Panel(f"{name} of every case", name, "share of the cases", {name: points}) if points else None


def _ood(curves: Mapping[str, Points] | None, calibration: Mapping[str, object]) -> Panel | None:
    if not curves:
        return None
    fitted = calibration.get("ood")
    threshold = float(fitted.get("threshold", math.nan)) if isinstance(fitted, Mapping) else math.nan
    marked = ((threshold, "threshold"),) if math.isfinite(threshold) else ()
    return Panel("Unlike the training data", "distance of the features", "share of the cases", curves, marked=marked)
