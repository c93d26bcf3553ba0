"""The evaluation as one HTML page: numbers with what they mean, curves, parts, the worst cases, methods.

The page holds everything itself (pictures in it as data) and asks no network for anything; without scripts it only does
not choose its language. All text that comes from the data is escaped, and a content security policy forbids whatever
would slip through.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrail.cases import leak_sentence
from medrail.cases.check.page import safe
from medrail.cases.check.words import in_both
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.document import document
from medrail.evaluate.evaluation import Evaluation
from medrail.evaluate.explaining import trust
from medrail.evaluate.glossary import meaning_of, title_of
from medrail.evaluate.words import WORDS

PAGE_FILE = "index.html"
_MOST_LISTED = 50


@dataclass(frozen=True)
class Shown:
    """What the page shows besides the evaluation's numbers.

    name:
        Of the run.
    classes:
        Of the network.
    pictures:
        Name -> file (``draw_pictures``).
    worst:
        (case, what is said of it, its picture), the worst first.
    has_evidence, multi_label:
        Whether the pictures of the cases show exact evidence, and of what: of a label by itself, or of a class against
        the others.
    approximate:
        The cases whose pictures show an approximate map.
    """

    name: str
    classes: Sequence[str]
    pictures: Mapping[str, Path] = field(default_factory=dict)
    worst: Sequence[tuple[str, str, Path]] = ()
    has_evidence: bool = False
    multi_label: bool = False
    approximate: frozenset[str] = frozenset()


def page(evaluation: Evaluation, shown: Shown) -> str:
    """The text of index.html."""
    sections = (
        _summary(evaluation),
        _warnings(evaluation),
        _needed(evaluation),
        _metrics(evaluation, shown.classes),
        _operating(evaluation),
        _confusion(evaluation, shown.classes),
        _drawn("roc_pr", shown, "roc", "precision_recall"),
        _calibration(evaluation, shown),
        _drawn("per_case", shown, *(name for name in shown.pictures if name.startswith("per_case"))),
        _conformal(evaluation),
        _ood(evaluation, shown),
        _subgroups(evaluation, shown),
        _worst(shown, evaluation),
        _explanation(evaluation),
        _failed(evaluation),
        _methods(evaluation),
    )
    return document("evaluate", shown.name, "".join(sections), _both, f"<p>{_both('private')}</p>")


def _both(word: str, **values: object) -> str:
    return in_both(_in_words(word, **values))


def _in_words(word: str, **values: object) -> tuple[str, str]:
    english, chinese = (text.format(**values) for text in WORDS[word])
    return english, chinese


def _card(title: str, inside: str, kind: str = "") -> str:
    return f'<section class="card{kind and " " + kind}"><h2>{_both(title)}</h2>{inside}</section>' if inside else ""


def _note(word: str, **values: object) -> str:
    return f'<p class="note">{_both(word, **values)}</p>'


def _summary(evaluation: Evaluation) -> str:
    counts = {"cases": evaluation.n, "patients": evaluation.patients}
    if evaluation.failed:
        counts["left_out"] = len(evaluation.failed)
    tiles = "".join(f"<div><dt>{_both(word)}</dt><dd>{count:,}</dd></div>" for word, count in counts.items())
    first, measured = next(iter(evaluation.metrics.items()))
    told = f"{_number(measured.value)} <small>{_interval(measured)}, n = {measured.n:,}</small>"
    tiles += f"<div><dt>{in_both(title_of(first))}</dt><dd>{told}</dd></div>"
    split = f"<div><dt>{_both('split')}</dt><dd>{safe(evaluation.split)}</dd></div>"
    return f'<section class="card"><dl class="tiles">{split}{tiles}</dl>{_note("served")}</section>'


def _warnings(evaluation: Evaluation) -> str:
    leaks = evaluation.accepted_leaks
    leaked = f"<p><strong>{safe(leak_sentence(leaks))}</strong></p><p>{_both('leaks')}</p>" if leaks else ""
    said = "".join(f"<li>{safe(text)}</li>" for text in evaluation.warnings)
    inside = leaked + (f'<ul class="said">{said}</ul>' if said else "")
    return _card("warnings", inside, "leak" if leaks else "look")


def _needed(evaluation: Evaluation) -> str:
    sentence = evaluation.patients_needed.get("sentence")
    return _card("needed", f"<p>{safe(sentence)}</p>{_note('interval_means')}") if sentence else ""


def _metrics(evaluation: Evaluation, classes: Sequence[str]) -> str:
    """With two classes the classes' sensitivities are sensitivity and specificity: they are said once."""
    metrics, two = evaluation.metrics, {"sensitivity", "specificity"} <= evaluation.metrics.keys() and len(classes) == 2
    if two:
        metrics = {name: one for name, one in metrics.items() if not name.startswith("sensitivity/")}
    note = f'<p class="note">{safe_both(_in_words("two_classes", name=classes[1]))}</p>' if two else ""
    return _card("metrics", note + _table(metrics) + _note("english"))


def _table(metrics: Mapping[str, Measured]) -> str:
    """A row a metric; what it says stands once for all classes."""
    head = "".join(
        f'<th scope="col" class="{kind}">{_both(word)}</th>'
        for word, kind in (("metric", "name"), ("value", ""), ("interval", ""), ("n", ""), ("means", "says"))
    )
    rows, explained = [], set()
    for name, measured in metrics.items():
        base, meaning = name.partition("/")[0], meaning_of(name)
        says = in_both(meaning.says) if meaning and base not in explained else ""
        explained.add(base)
        title = safe_both(title_of(name))
        rows.append(
            f'<tr><td class="name" title="{safe(name)}">{title}</td><td>{_number(measured.value)}</td>'
            f'<td>{_interval(measured)}</td><td class="n">{measured.n:,}</td><td class="says">{says}</td></tr>'
        )
    return _scrolling(f'<table class="metrics"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>')


def _scrolling(table: str) -> str:
    """A box of its own, in which a table wider than the page is moved; by keys, too."""
    return f'<div class="scroll" tabindex="0">{table}</div>'


def safe_both(texts: tuple[str, str]) -> str:
    """As ``in_both``, for texts that hold a class's name: control characters are made visible, too."""
    english, chinese = map(safe, texts)
    return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh-CN">{chinese}</span>'


def _operating(evaluation: Evaluation) -> str:
    if not evaluation.operating_points:
        return ""
    thresholds = evaluation.calibration.get("thresholds") or {}
    rule = evaluation.calibration.get("threshold_rule", "")
    names = list(next(iter(evaluation.operating_points.values())))
    head = "".join(f'<th scope="col">{text}</th>' for text in (_both("class"), _both("threshold")))
    head += "".join(f'<th scope="col">{in_both(title_of(name))}</th>' for name in names)
    rows = []
    for label, metrics in evaluation.operating_points.items():
        cells = "".join(
            f'<td><span class="label">{in_both(title_of(rate))}</span>{_number(one.value)}<br>{_interval(one)}<br>'
            f'<span class="n">n = {one.n:,}</span></td>'
            for rate, one in metrics.items()
        )
        threshold = _number(float(thresholds.get(label, math.nan)))
        rows.append(
            f'<tr><td class="name">{safe(label)}</td><td><span class="label">{_both("threshold")}</span>'
            f"{threshold}</td>{cells}</tr>"
        )
    note = _note("operating_means", rule=rule) if thresholds else _note("no_threshold")
    table = f'<table class="operating"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return _card("operating", note + _scrolling(table))


def _confusion(evaluation: Evaluation, classes: Sequence[str]) -> str:
    if not evaluation.confusion:
        return ""
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in classes)
    rows = []
    for place, (name, counts) in enumerate(zip(classes, evaluation.confusion, strict=True)):
        total = sum(counts) or 1
        cells = "".join(
            f'<td{" class=right" if place == column else ""} style="background:'
            f'{_shade(count / total, right=place == column)}">{count}</td>'
            for column, count in enumerate(counts)
        )
        rows.append(f'<tr><th scope="row">{safe(name)}</th>{cells}</tr>')
    table = (
        f'<table class="confusion"><thead><tr><th>{_both("true_class")}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
    return _card("confusion", _note("confusion_means") + _scrolling(table))


def _shade(share: float, *, right: bool) -> str:
    red, green, blue = (15, 118, 110) if right else (180, 35, 24)
    return f"rgba({red},{green},{blue},{0.55 * share:.2f})"


def _drawn(title: str, shown: Shown, *names: str) -> str:
    pictures = _pictures(shown, *names)
    return _card(title, _note(f"{title}_means") + pictures) if pictures else ""


def _pictures(shown: Shown, *names: str) -> str:
    """Those of the named pictures that were drawn, side by side where there is room."""
    figures = []
    for name in names:
        if name in shown.pictures:
            data = base64.b64encode(shown.pictures[name].read_bytes()).decode("ascii")
            source = f"data:image/png;base64,{data}"
            figures.append(f'<figure><img class="chart" alt="{safe(name)}" src="{source}"></figure>')
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _calibration(evaluation: Evaluation, shown: Shown) -> str:
    said = "".join(f"<li>{safe(text)}</li>" for text in evaluation.calibration.get("said", ()))
    fitted = f'<h3>{_both("fitted")}</h3><ul class="said">{said}</ul>' if said else ""
    pictures = _pictures(shown, "reliability", "abstention")
    return _card("calibration", _note("calibration_means") + pictures + fitted) if pictures else ""


def _conformal(evaluation: Evaluation) -> str:
    if not evaluation.conformal:
        return ""
    alpha = float(evaluation.calibration.get("conformal", {}).get("alpha", math.nan))
    note = _note("conformal_means", share=f"{1 - alpha:.0%}")
    return _card("conformal", note + _table(evaluation.conformal))


def _ood(evaluation: Evaluation, shown: Shown) -> str:
    if not evaluation.ood:
        return ""
    share = 1 - float(evaluation.calibration.get("ood", {}).get("quantile", math.nan))
    note = _note("ood_means", share=f"{share:.0%}")
    return _card("ood", note + _table(evaluation.ood) + _pictures(shown, "ood"))


def _subgroups(evaluation: Evaluation, shown: Shown) -> str:
    if not evaluation.strata:
        return ""
    metric = next(iter(evaluation.metrics))
    title = in_both(title_of(metric))
    head = f'<th scope="col" class="name">{_both("part")}</th><th scope="col">{title}</th>'
    head += "".join(f'<th scope="col">{_both(word)}</th>' for word in ("interval", "n")) + "<th></th>"
    rows = []
    for name, values in evaluation.strata.items():
        for value, metrics in values.items():
            found, reason = metrics[metric], evaluation.too_small.get(name, {}).get(value, "")
            few = f"{_both('too_few')}: {safe(reason)}" if reason else ""
            rows.append(
                f'<tr{" class=muted" if reason else ""}><td class="name">{safe(name)}: {safe(value)}</td>'
                f'<td>{_number(found.value)}</td><td>{_interval(found)}</td><td>{found.n:,}</td><td class="text">{few}'
                "</td></tr>"
            )
    table = _scrolling(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    return _card("subgroups", _note("subgroups_means") + _pictures(shown, "subgroups") + table)


def _worst(shown: Shown, evaluation: Evaluation) -> str:
    figures = []
    for case, said, path in shown.worst:
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        figures.append(
            f'<figure><img class="case" alt="{safe(case)}" src="data:image/png;base64,{data}"><figcaption>'
            f'<span class="where">{safe(case)}</span><br>{safe(said)}{_approximate(case, shown)}</figcaption></figure>'
        )
    ranked = "labels" if evaluation.multi_label else "class" if evaluation.confusion else "dice"
    notes = _note("worst_means") + _note(f"ranked_by_{ranked}")
    if shown.has_evidence:
        notes += _note("worst_labels" if shown.multi_label else "worst_evidence")
    if shown.approximate:
        notes += _note("worst_approximate")
    return _card("worst", f'{notes}<div class="gallery">{"".join(figures)}</div>') if figures else ""


def _approximate(case: str, shown: Shown) -> str:
    return f"<br>{_both('approximate')}" if case in shown.approximate else ""


def _explanation(evaluation: Evaluation) -> str:
    sentence = trust(evaluation.explanation, evaluation.patients)
    if sentence is None:
        return ""
    return _card("explanation", f"<p>{safe_both(sentence)}</p>{_table(evaluation.explanation)}")


def _failed(evaluation: Evaluation) -> str:
    rows = "".join(
        f'<li><span class="where">{safe(one["case"])}</span>: {safe(one["reason"])}</li>'
        for one in evaluation.failed[:_MOST_LISTED]
    )
    more = len(evaluation.failed) - _MOST_LISTED
    rest = f"<li>+ {more}</li>" if more > 0 else ""
    return _card("failed", f'<ul class="said">{rows}{rest}</ul>') if rows else ""


def _methods(evaluation: Evaluation) -> str:
    by_method: dict[str, list[str]] = {}
    for name, measured in evaluation.metrics.items():
        by_method.setdefault(measured.method, []).append(name)
    rows = "".join(f"<li><b>{safe(', '.join(names))}</b>: {safe(method)}</li>" for method, names in by_method.items())
    worth = _note("worth_means") if any(" are worth " in method for method in by_method) else ""
    return _card("methods", f'<ul class="said">{rows}</ul>{worth}{_note("interval_means")}')


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) and abs(value) < 100 else f"{value:.4g}" if value == value else "–"


def _interval(measured: Measured) -> str:
    return f"[{_number(measured.low)}, {_number(measured.high)}]" if math.isfinite(measured.low) else "–"
