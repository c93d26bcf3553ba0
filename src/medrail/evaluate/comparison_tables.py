"""A comparison as tables of words: metrics, tests, costs, and what differs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.comparison import Compared, Comparison
from medrail.evaluate.differing import Cost


@dataclass(frozen=True)
class Table:
    """A title, the names of the columns, and rows of as many cells."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


_COSTS = {
    "training, s": "train_seconds",
    "stored numbers": "parameters",
    "network file, MB": "file_mb",
    "prepare, ms a case": "prepare_ms",
    "model, ms a case": "model_ms",
}


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """All of them; those without rows are left out."""
    found = (_metrics(comparison), _tests(comparison), _seeds(comparison), _costs(comparison), _differs(comparison))
    return tuple(table for table in found if table.rows)


def _metrics(comparison: Comparison) -> Table:
    names = [one.name for one in comparison.runs]
    tested = dict.fromkeys((*comparison.metrics, *(one.test.metric for one in comparison.tests)))
    rows = tuple((metric, *(with_interval(one.metrics.get(metric)) for one in comparison.runs)) for metric in tested)
    cases = f"{comparison.n} cases of {comparison.patients} patients"
    return Table(f"Metrics with 95 % intervals, {cases}", ("metric", *names), rows)


def _tests(comparison: Comparison) -> Table:
    rows = tuple(
        (
            one.test.metric,
            one.b,
            one.a,
            between(one.test.difference, one.test.low, one.test.high, signed=True),
            p_text(one.test.p),
            p_text(one.p_corrected),
            effect_text(one),
            one.verdict,
        )
        for one in comparison.tests
    )
    title = f"Differences; p corrected over {comparison.corrected_over} tests (Holm)"
    header = ("metric", "run", "less", "difference [95 %]", "p", "p corrected", "effect", "verdict")
    return Table(title, header, rows)


def _seeds(comparison: Comparison) -> Table:
    rows = tuple(
        (
            metric,
            one.name,
            f"{spread.mean:.4f}",
            f"{spread.sd:.4f}",
            ", ".join(f"{value:.4f}" for value in spread.values),
        )
        for one in comparison.runs
        for metric, spread in one.spreads.items()
    )
    return Table("Spread over the seeds", ("metric", "group", "mean", "SD", "each seed"), rows)


def _costs(comparison: Comparison) -> Table:
    rows = tuple(
        (name, *(_cost(one.cost, key) for one in comparison.runs))
        for name, key in _COSTS.items()
        if any(getattr(one.cost, key) is not None for one in comparison.runs)
    )
    return Table("Cost", ("", *(one.name for one in comparison.runs)), rows)


def _cost(cost: Cost, key: str) -> str:
    value = getattr(cost, key)
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _differs(comparison: Comparison) -> Table:
    names = [one.name for one in comparison.runs]
    rows = tuple(
        (one.what, one.name, *(_short(one.values.get(name, "")) for name in names)) for one in comparison.differs
    )
    return Table("In what they differ", ("what", "name", *names), rows)


def _short(text: str, longest: int = 48) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def with_interval(measured: Measured | None) -> str:
    """``0.9440 [0.9210, 0.9630]``."""
    return "-" if measured is None else between(measured.value, measured.low, measured.high)


def between(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """A number with its bounds; "-" for what is not defined.

    >>> between(0.02, -0.01, 0.05, signed=True)
    '+0.0200 [-0.0100, +0.0500]'
    """
    form = "+.4f" if signed else ".4f"
    number, *bounds = ("-" if not math.isfinite(one) else format(one, form) for one in (value, low, high))
    return f"{number} [{bounds[0]}, {bounds[1]}]"


def p_text(p: float) -> str:
    """p as journals print it.

    >>> p_text(0.00004), p_text(0.0312), p_text(0.4)
    ('< 0.001', '0.031', '0.40')
    """
    if not math.isfinite(p):
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


_EFFECTS = {"cohen_dz": "d_z", "odds_ratio": "odds ratio", "in_seed_sd": "seed SDs"}


def effect_text(one: Compared) -> str:
    """The standardised effect, and the counts behind it."""
    effects = [
        f"{_EFFECTS.get(name, name)} {value:.2f}" for name, value in one.test.effect.items() if not math.isnan(value)
    ]
    counts = [f"{count} {name}" for name, count in one.test.counts.items()]
    return ", ".join([*effects, *counts])
