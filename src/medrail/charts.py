"""Pictures of numbers: lines, intervals, points. Drawn by matplotlib, written as PNG or SVG by the file's name.

The same numbers give the same bytes. Colours are Okabe and Ito's, which people with any common colour vision tell
apart; kinds are told by marks and dashes, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00")
_DASHES = ("-", "--", "-.", ":")
_LEGEND_LINE_INCHES = 0.17
_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLE: Any = {
    "svg.hashsalt": "medrail",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.dpi": 120,
    "text.parse_math": False,
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Row:
    """A number with its interval; ``muted``: too little stands behind it to be read."""

    label: str
    value: float
    low: float = math.nan
    high: float = math.nan
    muted: bool = False
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One drawing: curves by name.

    bands:
        Name of a curve -> (x, low, high) around it.
    diagonal:
        Whether the line y = x is drawn, for curves that should lie on it (reliability) or above it (ROC).
    marked:
        (x, label) of upright lines, as of the chosen epoch or threshold.
    notes:
        Name of a curve -> what is written beside each of its points.
    legend:
        Whether the curves' names stand below the drawing, also where there is only one; else inside, of several.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Points]
    bands: Mapping[str, Sequence[tuple[float, float, float]]] | None = None
    diagonal: bool = False
    marked: Sequence[tuple[float, str]] = ()
    dots: bool = False
    notes: Mapping[str, Sequence[str]] | None = None
    legend: bool = False


def draw_panels(path: Path, panels: Sequence[Panel], columns: int = 2) -> Path:
    """Panels side by side, ``columns`` a row."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    below = max(_LEGEND_LINE_INCHES * len(panel.curves) if panel.legend else 0 for panel in panels)
    with _figure(path, (4.4 * columns, (3.2 + below) * rows)) as figure:
        for place, panel in enumerate(panels, 1):
            _panel(figure.add_subplot(rows, columns, place), panel)
    return path


def draw_intervals(path: Path, rows: Sequence[Row], *, title: str, x: str, reference: float | None = None) -> Path:
    """One line a row: a mark at the value, a bar over the interval, the note at the right; muted rows are grey."""
    with _figure(path, (7.2, 0.9 + 0.32 * max(1, len(rows)))) as figure:
        axes = figure.add_subplot()
        if reference is not None:
            axes.axvline(reference, color="#888888", linewidth=1, linestyle="--")
        for place, row in enumerate(rows):
            colour = "#aaaaaa" if row.muted else COLOURS[0]
            if math.isfinite(row.low) and math.isfinite(row.high):
                axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            if math.isfinite(row.value):
                axes.plot([row.value], [place], marker="o", color=colour, markersize=5, linestyle="")
            axes.annotate(
                row.note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour
            )
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.grid(visible=False, axis="y")
    return path


def draw_points(
    path: Path,
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    title: str,
    x: str,
    y: str,
    front: Points = (),
    log_x: bool = False,
) -> Path:
    """Points (x, y, label) by group, and the line that joins the best ones (``front``)."""
    with _figure(path, (6.4, 4.2)) as figure:
        axes = figure.add_subplot()
        for place, (name, points) in enumerate(groups.items()):
            axes.plot(
                [point[0] for point in points],
                [point[1] for point in points],
                linestyle="",
                marker=_MARKS[place % len(_MARKS)],
                color=COLOURS[place % len(COLOURS)],
                label=name,
                alpha=0.8,
            )
            for at, height, label in points:
                if label:
                    axes.annotate(label, (at, height), textcoords="offset points", xytext=(5, 4), fontsize=7)
        if front:
            ordered = sorted(front)
            axes.plot([at for at, _ in ordered], [height for _, height in ordered], color="#888888", linewidth=1)
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # the usual one writes mathematics, which is not parsed here
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if len(groups) > 1:
            axes.legend(frameon=False, fontsize=8)
    return path


@dataclass(frozen=True)
class Mark:
    """A point with the interval of its height; ``ring``: it is the one that matters."""

    x: float
    y: float
    low: float
    high: float
    label: str = ""
    ring: bool = False


def draw_marks(
    path: Path,
    groups: Mapping[str, Sequence[Mark]],
    *,
    title: str,
    x: str,
    y: str,
    levels: Sequence[tuple[float, str]] = (),
    front: Points = (),
) -> Path:
    """Points with upright intervals by group, x on a logarithmic scale; ``levels`` are named lines across."""
    with _figure(path, (8.4, 4.6)) as figure:
        axes = figure.add_subplot()
        for height, label in levels:
            axes.axhline(height, color="#555555", linewidth=1, linestyle="--")
            axes.annotate(label, (1.005, height), xycoords=("axes fraction", "data"), fontsize=7, va="center")
        for place, (name, marks) in enumerate(groups.items()):
            colour = COLOURS[place % len(COLOURS)]
            for mark in marks:
                if math.isfinite(mark.low) and math.isfinite(mark.high):
                    axes.plot([mark.x, mark.x], [mark.low, mark.high], color=colour, linewidth=1.4, alpha=0.7)
                if mark.ring:
                    axes.plot([mark.x], [mark.y], marker="o", markersize=14, markerfacecolor="none", color="#000000")
            axes.plot(
                [mark.x for mark in marks],
                [mark.y for mark in marks],
                linestyle="",
                marker=_MARKS[place % len(_MARKS)],
                color=colour,
                label=name,
            )
        if len(front) > 1:
            ordered = sorted(front)
            axes.plot([at for at, _ in ordered], [height for _, height in ordered], color="#888888", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.set_title(title)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if len(groups) > 1:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        _label_apart(axes, [mark for marks in groups.values() for mark in marks])
    return path


_LABEL_POINTS = (18.0, 8.0)
"""Size of a label of three characters."""
_PLACES = tuple((right, up) for up in (4, -11, 13, -20, 22, -29, 31) for right in (6, -22))


def _label_apart(axes: Any, marks: Sequence[Mark]) -> None:
    """Write each label beside its point where no other label or point is; where there is no such place, not at all."""
    scale = axes.figure.dpi / 72
    points = [axes.transData.transform((mark.x, mark.y)) / scale for mark in marks]
    taken = [(at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4) for at in points]
    for mark, at in zip(marks, points, strict=True):
        boxes = ((at[0] + right, at[1] + up, *_LABEL_POINTS) for right, up in _PLACES if mark.label)
        for place, (left, bottom, width, height) in zip(_PLACES, boxes, strict=False):
            box = (left, bottom, left + width, bottom + height)
            if not any(_overlap(box, other) for other in taken):
                axes.annotate(mark.label, (mark.x, mark.y), textcoords="offset points", xytext=place, fontsize=7)
                taken.append(box)
                break


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _panel(axes: Any, panel: Panel) -> None:
    if panel.diagonal:
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle=":")
    for place, (name, points) in enumerate(panel.curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(
            [at for at, _ in points],
            [height for _, height in points],
            color=colour,
            linestyle=_DASHES[place % len(_DASHES)],
            marker=_MARKS[place % len(_MARKS)] if panel.dots else "",
            markersize=4,
            linewidth=1.4,
            label=name,
        )
        if panel.bands and name in panel.bands:
            places, low, high = zip(*panel.bands[name], strict=True)
            axes.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        for (at, height), note in zip(points, (panel.notes or {}).get(name, ()), strict=False):
            axes.annotate(note, (at, height), textcoords="offset points", xytext=(5, -9), fontsize=7)
    for at, label in panel.marked:
        axes.axvline(at, color="#555555", linewidth=1, linestyle="--")
        axes.annotate(label, (at, 1.0), xycoords=("data", "axes fraction"), fontsize=7, ha="left", va="top")
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x)
    axes.set_ylabel(panel.y)
    if panel.legend:
        axes.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(0.0, -0.18))
    elif len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize=8)


@contextmanager
def _figure(path: Path, size_inches: tuple[float, float]) -> Iterator[Any]:
    """A figure of its own (nothing of pyplot's process-wide state), saved whole or not at all."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size_inches, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        kind = path.suffix.lstrip(".")
        told_nothing: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        try:
            figure.savefig(temporary, format=kind, metadata=told_nothing)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
