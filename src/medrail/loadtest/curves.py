"""Curves as inline SVG, with intervals: no script, no matplotlib where only the service's client is installed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from medrail.cases.check.charts import COLOURS

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 12, 40
_MARKS = ("circle", "square", "triangle")


@dataclass(frozen=True)
class Point:
    """A value at x, perhaps with an interval (None: unknown, and the whisker is left out)."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Named points, joined in their order; ``dots`` False: a line alone."""

    name: str
    points: Sequence[Point]
    dots: bool = True


@dataclass(frozen=True)
class Axis:
    """What an axis says; ``log``: in powers of two or ten, for values above 0."""

    label: str
    log: bool = False


def draw(
    curves: Sequence[Curve],
    x: Axis,
    y: Axis,
    level: tuple[float, str] | None = None,
    marks: Sequence[float] = (),
) -> str:
    """The curves in one frame with a legend; ``level``: a named line across; ``marks``: places on the line of x."""
    points = [point for curve in curves for point in curve.points]
    if not points:
        return ""
    across = _Scale.of([point.x for point in points], x.log, (_LEFT, _WIDTH - _RIGHT), whole=x.log)
    tops = [high for point in points for high in (point.y, point.high) if high is not None]
    bottoms = [low for point in points for low in (point.y, point.low) if low is not None]
    levels = [level[0]] if level else []
    up = _Scale.of([*tops, *bottoms, *levels], y.log, (_HEIGHT - _BOTTOM, _TOP), from_zero=not y.log)
    parts = [*_grid(across, up), *_labels(x.label, y.label)]
    if level:
        at = up.at(level[0])
        parts.append(
            f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#b42318" stroke-dasharray="5 4" fill="none"/>'
            f'<text x="{_LEFT + 4}" y="{at - 4:.1f}">{escape(level[1])}</text>'
        )
    for mark in marks:
        if across.low <= mark <= across.high:
            parts.append(f'<path d="M{across.at(mark):.1f} {_HEIGHT - _BOTTOM}v-9" stroke="#b42318" stroke-width="2"/>')
    for place, curve in enumerate(curves):
        parts += _curve(curve, across, up, COLOURS[place % len(COLOURS)], _MARKS[place % len(_MARKS)])
    said = "; ".join(f"{curve.name}: {_told(curve)}" for curve in curves)
    frame = (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:{_WIDTH}px" role="img" '
        f'aria-label="{escape(f"{y.label} against {x.label}. {said}")}">{"".join(parts)}</svg>'
    )
    return frame + (_legend(curves) if len(curves) > 1 else "")


@dataclass(frozen=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    log: bool
    pixels: tuple[float, float]
    ticks: tuple[float, ...]

    @staticmethod
    def of(
        values: Sequence[float], log: bool, pixels: tuple[float, float], *, from_zero: bool = False, whole: bool = False
    ) -> _Scale:
        low, high = min(values), max(values)
        if log:
            low, high = max(low, 1e-3), max(high, 1e-3)
            base = 2.0 if whole else 10.0
            first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
            last = max(last, first + 1)
            every = max(1, (last - first) // 8)
            ticks = tuple(base**power for power in range(first, last + 1, every))
            return _Scale(base**first, base**last, True, pixels, ticks)
        low = 0.0 if from_zero else low
        step = _step((high - low) or 1.0)
        first, last = math.floor(low / step), math.ceil(high / step + 1e-9)
        last = max(last, first + 1)
        return _Scale(first * step, last * step, False, pixels, tuple(n * step for n in range(first, last + 1)))

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-3))
        begin, end = self.pixels
        return begin + (value - low) / (high - low) * (end - begin)


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten, so that there are about five."""
    rough = span / 5
    power = 10 ** math.floor(math.log10(rough))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= rough))


def _grid(across: _Scale, up: _Scale) -> list[str]:
    line = 'stroke="currentColor" stroke-opacity=".15"'
    drawn = []
    for tick in up.ticks:
        at = up.at(tick)
        drawn.append(
            f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" {line}/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for tick in across.ticks:
        at = across.at(tick)
        drawn.append(
            f'<path d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" {line}/>'
            f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{tick:g}</text>'
        )
    return drawn


def _labels(x: str, y: str) -> list[str]:
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>',
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text>',
    ]


def _curve(curve: Curve, across: _Scale, up: _Scale, colour: str, mark: str) -> list[str]:
    places = [(across.at(point.x), up.at(point.y)) for point in curve.points]
    path = " ".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(places))
    drawn = [f'<path d="{path}" stroke="{colour}" stroke-width="1.6" fill="none"/>']
    for point, (x, y) in zip(curve.points, places, strict=True) if curve.dots else ():
        if point.low is not None and point.high is not None:
            drawn.append(
                f'<path d="M{x:.1f} {up.at(point.low):.1f}V{up.at(point.high):.1f}" stroke="{colour}" '
                'stroke-width="2.4" stroke-opacity=".55"/>'
            )
        interval = "" if point.low is None or point.high is None else f" [{point.low:.4g}, {point.high:.4g}]"
        hint = f"<title>{escape(curve.name)} {point.x:g}: {point.y:.4g}{interval}</title>"
        drawn.append(_mark(mark, x, y, colour, hint))
    return drawn


def _mark(mark: str, x: float, y: float, colour: str, hint: str) -> str:
    if mark == "square":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{colour}">{hint}</rect>'
    if mark == "triangle":
        corners = f"{x:.1f},{y - 5:.1f} {x - 5:.1f},{y + 4:.1f} {x + 5:.1f},{y + 4:.1f}"
        return f'<polygon points="{corners}" fill="{colour}">{hint}</polygon>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">{hint}</circle>'


def _legend(curves: Sequence[Curve]) -> str:
    items = "".join(
        f'<li><svg width="14" height="12" aria-hidden="true">'
        f"{_mark(_MARKS[place % len(_MARKS)], 7, 6, COLOURS[place % len(COLOURS)], '')}</svg> {escape(curve.name)}</li>"
        for place, curve in enumerate(curves)
    )
    return f'<ul class="legend">{items}</ul>'


def _told(curve: Curve) -> str:
    ends = [curve.points[0], curve.points[-1]] if curve.points else []
    return " to ".join(f"{point.y:.4g} at {point.x:g}" for point in ends)
