"""The check as one HTML page: verdict, numbers, every finding with its pictures, and what the cases look like.

The page holds everything itself (pictures as WebP in it, drawings as SVG) and asks no network for anything; without
scripts only the filter is missing. All text that comes from the data is escaped, and a content security policy forbids
whatever would slip through.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path, PurePath

from medrail import __version__
from medrail.cases.check.charts import bars, histogram
from medrail.cases.check.report import CheckReport, Examined, alike
from medrail.cases.check.words import WORDS, called, in_both, measured
from medrail.cases.labels import named_target
from medrail.cases.listing import Finding
from medrail.types import SPLITS, Case

# Pictures are added until the page is so large; what stands around them is far smaller, and bounded too.
_PICTURE_BYTES = 4_000_000
# Findings of one kind: so many with pictures, so many more as lines; pictures in a finding; in the sheet.
_SHOWN, _LISTED, _IN_FINDING = 24, 200, 8
_PER_GROUP, _IN_SHEET = 16, 320
_LONGEST_TEXT = 1200

_SCRIPT = """
document.documentElement.classList.add("scripted");
if (/^zh/i.test(navigator.language)) document.getElementById("chinese").checked = true;
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  for (const one of document.querySelectorAll("[data-name]"))
    one.classList.toggle("out", !one.dataset.name.toLowerCase().includes(wanted));
});
"""


def page(report: CheckReport, name: str) -> str:
    """A check's result -> the text of one HTML file of at most about 5 MB.

    Parameters
    ----------
    report:
        With what was examined; pictures that no longer fit are left out, and the page says so.
    name:
        What was checked, as the title says it.
    """
    pictures = _Pictures(report.examined)
    body = "".join(
        (
            _verdict(report),
            _findings(report, pictures),
            _counts(report),
            _numbers(report, pictures),
            _sheet(report, pictures),
        )
    )
    full = f'<p class="note">{_both("full")}</p>' if pictures.full else ""
    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    style = files("medrail.cases.check").joinpath("page.css").read_text(encoding="utf-8")
    made = _both("made", version=__version__, date=time.strftime("%Y-%m-%d %H:%M"))
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>medrail check: {safe(name)}</title>
<style>{style}</style>
</head>
<body>
<input type="checkbox" id="chinese" aria-label="中文">
<header><h1>{_both("title")}</h1><span class="name">{safe(name)}</span>
<label class="language" for="chinese">{_both("language")}</label></header>
<main>
<p class="note">{_both("disclaimer")}</p>
{body}
</main>
<footer class="note">{full}<p>{_both("private")}</p><p>{made}</p></footer>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def safe(text: object) -> str:
    """Text from the data for HTML: markup escaped, control and direction characters and lone surrogates visible."""
    shown = "".join(
        letter if letter.isprintable() or letter == " " else f"\\u{ord(letter):04x}"
        for letter in str(text)[:_LONGEST_TEXT]
    )
    return escape(shown, quote=True)


def _both(word: str, **values: object) -> str:
    english, chinese = (text.format(**values) for text in WORDS[word])
    return in_both((english, chinese))


class _Pictures:
    """Gives the pictures of cases as HTML, as long as there is room."""

    def __init__(self, examined: Examined) -> None:
        self.examined = examined
        self.left = _PICTURE_BYTES
        self.full = False
        self.root = _common_folder(examined.cases)

    def named(self, text: str) -> str:
        """Text in which files are called by their path below the folder of all of them; safe in HTML."""
        return safe(text.replace(f"{self.root}{os.sep}", "") if self.root else text)

    def of(self, case: Case) -> str:
        """One picture with the name of its file, its split and its label."""
        split = f'<span class="tag {case.split}">{case.split}</span> ' if case.split else ""
        label = (
            "" if case.target is None or self.examined.facts[case.id].classes else f" {safe(named_target(case.target))}"
        )
        if PurePath(case.target or "").is_absolute():
            label = ""
        name = case.item or PurePath(case.paths[0]).name
        caption = f"<figcaption>{split}{label}<br>{safe(name)}</figcaption>"
        return f'<figure class="thumb"><div class="frame">{self._image(case)}</div>{caption}</figure>'

    def _image(self, case: Case) -> str:
        content = self.examined.facts[case.id].thumbnail
        if not content:
            return _both("no_picture")
        data = base64.b64encode(content).decode("ascii")
        self.left -= len(data)
        if self.left < 0:
            self.full = True
            return "…"
        return f'<img alt="{safe(case.id)}" width="112" height="112" src="data:image/webp;base64,{data}">'


def _common_folder(cases: Sequence[Case]) -> str:
    """The deepest folder that all images lie in; "" where there is none or it is the root."""
    try:
        folder = Path(os.path.commonpath([Path(case.paths[0]).parent for case in cases])) if cases else Path()
    except ValueError:  # on several drives
        return ""
    return "" if folder == folder.parent else str(folder)


def _verdict(report: CheckReport) -> str:
    counts = {
        "cases": report.cases,
        "usable": sum(map(report.examined.usable, report.examined.cases)),
        "patients": report.patients,
        "stops": sum(finding.severity == "stop" for finding in report.findings),
        "warnings": sum(finding.severity == "warn" for finding in report.findings),
    }
    tiles = "".join(f"<div><dt>{_both(word)}</dt><dd>{count:,}</dd></div>" for word, count in counts.items())
    verdict = report.verdict
    return (
        f'<section class="card verdict {verdict}"><p><span class="badge">{_both(verdict)}</span> '
        f'{_both(f"{verdict}_means")}</p><dl class="tiles">{tiles}</dl></section>'
    )


def _findings(report: CheckReport, pictures: _Pictures) -> str:
    groups = alike(report.findings)
    inside = "".join(_group(group, pictures) for group in groups) or f"<p>{_both('nothing')}</p>"
    note = f'<p class="note">{_both("english")}</p>' if groups else ""
    if pictures.root:
        note += f'<p class="note">{_both("below")} <span class="where">{safe(pictures.root)}</span></p>'
    find = (
        f'<p class="filter"><label for="filter">{_both("filter")}</label> '
        '<input id="filter" type="search" autocomplete="off"></p>'
    )
    return f'<section class="card"><h2>{_both("findings")}</h2>{note}{find}{inside}</section>'


def _group(group: Sequence[Finding], pictures: _Pictures) -> str:
    first = group[0]
    shown = "".join(_finding(finding, pictures) for finding in group[:_SHOWN])
    listed = group[_SHOWN : _SHOWN + _LISTED]
    lines = "".join(
        f'<li data-name="{safe(finding.where)}"><span class="where">{pictures.named(finding.where)}</span>: '
        f"{pictures.named(finding.what)}</li>"
        for finding in listed
    )
    rest = len(group) - _SHOWN - len(listed)
    more = f'<p class="note">{_both("more", n=f"{rest:,}")}</p>' if rest > 0 else ""
    opened = " open" if first.severity == "stop" or len(group) <= 3 else ""
    return (
        f'<details class="{first.severity}"{opened}><summary><span class="badge">{_both(first.severity)}</span>'
        f'{in_both(called(first.defect))}: {len(group):,}<span class="key">{safe(first.defect)}</span></summary>'
        f"{shown}{f'<ul class=rest>{lines}</ul>' if lines else ''}{more}</details>"
    )


def _finding(finding: Finding, pictures: _Pictures) -> str:
    cases = _cases_of(finding, pictures.examined)
    shown = "".join(pictures.of(case) for case in cases[:_IN_FINDING])
    row = f'<div class="pictures">{shown}</div>' if shown else ""
    remedy = f'<p class="note">{_both("remedy")}: {pictures.named(finding.remedy)}</p>' if finding.remedy else ""
    names = " ".join([finding.where, *(case.paths[0] for case in cases)])
    return (
        f'<div class="finding" data-name="{safe(names)}">{row}<div class="says"><p class="where">'
        f"{pictures.named(finding.where)}</p><p>{pictures.named(finding.what)}</p>{remedy}</div></div>"
    )


def _cases_of(finding: Finding, examined: Examined) -> list[Case]:
    """The cases that a finding is about: where it is, and those it names besides."""
    places = (finding.where, *finding.others)
    return list({case.id: case for place in places if (case := examined.by_place.get(place))}.values())


def _counts(report: CheckReport) -> str:
    header, *rows = report.table or ((),)
    titles = [_both(word) for word in header[:4]] + [safe(name) for name in header[4:]]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    lines = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>" for row in rows)
    by_split = {row[0]: dict(zip(header[4:], map(int, row[4:]), strict=True)) for row in rows}
    if not header[4:]:
        by_split = {row[0]: {"": int(row[1])} for row in rows}
    parts = [f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>']
    parts.append(f"<h3>{_both('per_split')}</h3>{bars(by_split, WORDS['per_split'][0])}")
    if report.labels:
        told = report.labels
        said = _both("labels_of_cases", none=f"{told.none:,}", cases=f"{told.cases:,}", several=f"{told.several:,}")
        parts.append(f"<p>{said}</p>")
    for word, counts in (
        ("together", {" + ".join(pair): count for pair, count in report.labels.pairs.items()} if report.labels else {}),
        ("scanners", report.summary.scanners),
        ("centres", report.summary.centres),
        ("modalities", report.summary.modalities),
        ("of_patients", _images_of_patients(report)),
    ):
        if counts:
            shown = {name: {"": count} for name, count in list(counts.items())[:20]}
            parts.append(f"<h3>{_both(word)}</h3>{bars(shown, WORDS[word][0])}")
    return f'<section class="card"><h2>{_both("counts")}</h2>{"".join(parts)}</section>'


def _images_of_patients(report: CheckReport) -> Mapping[str, int]:
    """Number of images -> number of patients with so many; nothing where each has one."""
    per_patient: dict[str, int] = {}
    for case in report.examined.cases:
        per_patient[case.patient] = per_patient.get(case.patient, 0) + 1
    if max(per_patient.values(), default=1) == 1:
        return {}
    counts = sorted(per_patient.values())
    most = {n: counts.count(n) for n in sorted(set(counts))}
    shown = {str(n): count for n, count in most.items() if n < 10}
    many = sum(count for n, count in most.items() if n >= 10)
    return {**shown, "10+": many} if many else shown


def _numbers(report: CheckReport, pictures: _Pictures) -> str:
    known = [one for one in report.examined.facts.values() if one.shape]
    if not known:
        return ""
    charts = [
        histogram([one.shape[place] for one in known], measured(axis))
        for place, axis in ((3, "width"), (2, "height"), (1, "depth"))
    ]
    placed = [one for one in known if one.spacing_mm]
    if placed:
        charts += [
            histogram([one.spacing_mm[place] for one in placed], measured(axis), " mm")
            for place, axis in ((2, "width_mm"), (1, "height_mm"), (0, "depth_mm"))
        ]
    for unit in sorted({one.unit for one in known}):
        of_unit = [one for one in known if one.unit == unit]
        charts.append(histogram([one.low for one in of_unit], measured(f"{unit}, low end")))
        charts.append(histogram([one.high for one in of_unit], measured(f"{unit}, high end")))
    return (
        f'<section class="card"><h2>{_both("shape")}</h2><div class="pair">{"".join(charts)}</div>'
        f"{_outliers(report, pictures)}</section>"
    )


def _outliers(report: CheckReport, pictures: _Pictures) -> str:
    named = [(what, where, value) for what, spread in report.summary.spreads() for where, value in spread.outliers[:10]]
    if not named:
        return ""
    lines = "".join(
        f'<li><span class="where">{pictures.named(where)}</span>: {in_both(measured(what))} {value:.5g}</li>'
        for what, where, value in named
    )
    return f'<h3>{_both("outliers")}</h3><ul class="rest">{lines}</ul>'


def _sheet(report: CheckReport, pictures: _Pictures) -> str:
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in report.examined.cases:
        label = "" if PurePath(case.target or "").is_absolute() or case.target is None else named_target(case.target)
        groups.setdefault((case.split or "none", label), []).append(case)
    order = {name: place for place, name in enumerate((*SPLITS, "none"))}
    each = max(2, min(_PER_GROUP, _IN_SHEET // max(1, len(groups))))
    parts = []
    for (split, label), cases in sorted(groups.items(), key=lambda item: (order[item[0][0]], item[0][1]))[:_IN_SHEET]:
        chosen = list(_evenly(cases, each))
        shown = "".join(f'<div data-name="{safe(case.paths[0])}">{pictures.of(case)}</div>' for case in chosen)
        few = ""
        if len(chosen) < len(cases):
            few = f' <span class="note">{_both("sheet_of", shown=len(chosen), all=f"{len(cases):,}")}</span>'
        parts.append(f'<h3>{safe(split)} {safe(label)}{few}</h3><div class="sheet">{shown}</div>')
    return f'<section class="card"><h2>{_both("sheet")}</h2>{"".join(parts)}</section>' if parts else ""


def _evenly(cases: Sequence[Case], count: int) -> Iterable[Case]:
    if len(cases) <= count:
        return cases
    return (cases[place * len(cases) // count] for place in range(count))
