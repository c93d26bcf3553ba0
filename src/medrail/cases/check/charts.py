"""Small drawings as inline SVG: bars and histograms that need no script and print well."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from medrail.cases.check.words import WORDS, Both, in_both

_WIDTH = 560
_LABEL, _COUNT = 190, 60
_ROW = 26
# The widest that letters of the page's 12 px font are in the systems' fonts, but for a few.
_LETTER_PX, _WIDE_PX = 7.5, 12.5
_BINS = 24
_HIST_WIDTH, _HEIGHT = 340, 74
# Okabe and Ito's palette, which people with any common colour vision tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c8c00", "#7a5195")


def bars(rows: Mapping[str, Mapping[str, int]], title: str) -> str:
    """Row -> part -> number, as one stacked bar a row with its sum; what has a single part has no legend."""
    totals = {name: sum(parts.values()) for name, parts in rows.items()}
    longest = max(totals.values(), default=0) or 1
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    colour = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(names)}
    scale = (_WIDTH - _LABEL - _COUNT) / longest
    drawn = []
    for place, (name, parts) in enumerate(rows.items()):
        y, x = place * _ROW, float(_LABEL)
        drawn.append(f'<text x="{_LABEL - 8}" y="{y + 17}" text-anchor="end">{escape(_cut(name))}</text>')
        for part, number in parts.items():
            width = number * scale
            hint = f"{name}, {part}: {number}" if part else f"{name}: {number}"
            drawn.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="18" fill="{colour[part]}">'
                f"<title>{escape(hint)}</title></rect>"
            )
            x += width
        drawn.append(f'<text x="{x + 6:.1f}" y="{y + 17}">{totals[name]:,}</text>')
    described = "; ".join(f"{name}: {total}" for name, total in totals.items())
    svg = _svg(drawn, max(_ROW, len(rows) * _ROW), f"{title}. {described}")
    return svg + (_legend(colour) if len(names) > 1 else "")


def _legend(colour: Mapping[str, str]) -> str:
    items = "".join(
        f'<li><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" fill="{code}"/></svg> '
        f"{escape(name)}</li>"
        for name, code in colour.items()
    )
    return f'<ul class="legend">{items}</ul>'


def histogram(values: Sequence[float], title: Both, unit: str = "") -> str:
    """How often which value occurs; the smallest, the middle and the largest are written below."""
    numbers = np.array(values, dtype=np.float64)
    low, middle, high = float(numbers.min()), float(np.median(numbers)), float(numbers.max())
    if math.isclose(low, high):
        return f'<p class="all">{in_both(title)}: {_number(low)}{escape(unit)}</p>'
    counts, _ = np.histogram(numbers, _BINS, (low, high))
    step, tall = _HIST_WIDTH / _BINS, max(int(counts.max()), 1)
    drawn = [
        f'<rect x="{place * step + 1:.1f}" y="{_HEIGHT - _bar(count, tall):.1f}" width="{step - 2:.1f}" '
        f'height="{_bar(count, tall):.1f}" fill="{COLOURS[0]}"><title>{count}</title></rect>'
        for place, count in enumerate(counts)
        if count
    ]
    at = (middle - low) / (high - low) * _HIST_WIDTH
    drawn.append(f'<path d="M{at:.1f} 0V{_HEIGHT}" stroke="{COLOURS[1]}" stroke-width="2"/>')
    for x, anchor, value in ((0, "start", low), (_HIST_WIDTH, "end", high)):
        drawn.append(f'<text x="{x}" y="{_HEIGHT + 16}" text-anchor="{anchor}">{_number(value)}{escape(unit)}</text>')
    label = f"{title[0]}: {_number(low)} to {_number(high)}{unit}, median {_number(middle)}{unit}"
    said = f"{in_both(title)} · {in_both(WORDS['median'])} {_number(middle)}{escape(unit)}"
    caption = f"<figcaption>{said}</figcaption>"
    return f"<figure>{caption}{_svg(drawn, _HEIGHT + 20, label, _HIST_WIDTH)}</figure>"


def _bar(count: int, tall: int) -> float:
    """Height of a bar; a single case among thousands is still seen."""
    return max(2.0, count / tall * (_HEIGHT - 4)) if count else 0.0


def _svg(parts: Sequence[str], height: int, label: str, width: int = _WIDTH) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _cut(text: str) -> str:
    """As much of a text as stands beside its bar, by the widest letters; an East Asian one counts as two."""
    width = 0.0
    for place, letter in enumerate(text):
        width += _WIDE_PX if unicodedata.east_asian_width(letter) in "WF" or letter in "MWmw@" else _LETTER_PX
        if width > _LABEL - 8 - _LETTER_PX and place < len(text) - 1:
            return text[:place] + "…"
    return text


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
