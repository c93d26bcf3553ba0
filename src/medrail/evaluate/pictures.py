"""Pictures of an evaluation's numbers: evaluation/pictures/NAME.png."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medrail.charts import Panel, Row, draw_intervals, draw_panels
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.evaluation import Evaluation, Points
from medrail.evaluate.glossary import title_of

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
        "roc": _roc(_named(curves.get("roc"), "auc", evaluation)),
        "precision_recall": _precision_recall(_named(curves.get("precision_recall"), "auprc", evaluation)),
        "reliability": _reliability(curves.get("reliability"), curves.get("reliability_n")),
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


def _named(curves: Mapping[str, Points] | None, area: str, evaluation: Evaluation) -> Mapping[str, Points] | None:
    """The curves of classes, called by the area below each with its interval and n, as far as that was measured."""
    if not curves:
        return curves
    title = title_of(area)[0].partition(" (")[0]
    one = len(curves) == 1 and not evaluation.multi_label
    names = {}
    for label in curves:
        found = evaluation.metrics.get(f"{area}/{label}") or (evaluation.metrics.get(area) if one else None)
        of_class = evaluation.metrics.get(f"sensitivity/{label}")
        parts = [f"{title} {_told(found)}" if found else "", f"{of_class.n} cases of it" if of_class else ""]
        names[label] = ", ".join([f"{_short(label)}:", *filter(None, parts)]).replace(":,", ":")
    return {names[label]: points for label, points in curves.items()}


def _told(one: Measured) -> str:
    bounds = f" [{one.low:.3f}, {one.high:.3f}]" if math.isfinite(one.low) else ""
    return f"{one.value:.3f}{bounds}, n = {one.n}"


def _roc(curves: Mapping[str, Points] | None) -> Panel | None:
    return Panel("ROC", "1 - specificity", "sensitivity", curves, diagonal=True, legend=True) if curves else None


def _precision_recall(curves: Mapping[str, Points] | None) -> Panel | None:
    if not curves:
        return None
    return Panel("Precision-recall", "sensitivity (recall)", "precision (PPV)", curves, legend=True)


def _reliability(curves: Mapping[str, Points] | None, counts: Mapping[str, Points] | None) -> Panel | None:
    if not curves:
        return None
    notes = {name: [f"n={n:.0f}" for _, n in points] for name, points in (counts or {}).items()}
    drawing = Panel("Reliability", "confidence", "share that is right", curves, diagonal=True, dots=True)
    return replace(drawing, notes=notes)


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
