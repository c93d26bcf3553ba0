"""Writes the pages below docs/reference/ that are made from the code: `make docs`.

``PAGES`` maps each file to what makes its text. With ``--check`` nothing is written, and the exit code is 1
when a page is stale; the tests do the same.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medrail.arguments import build_parser
from medrail.config import Config
from medrail.evaluate.glossary import (
    CLASSIFICATION,
    EXPLANATION,
    FURTHER,
    GRADES,
    SEGMENTATION,
    SEVERAL_LABELS,
    Meaning,
)
from medrail.prepare import STEPS

DOCS = Path(__file__).resolve().parent
_MADE = "<!-- Made by docs/make_reference.py from the code; change that, then `make docs`. -->"
_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "nothing"}
# What a step's own validator accepts where the plain type says less; keyed by the validator's name.
_SHAPES = {
    "_size": "[H, W] or [D, H, W]",
    "_plane_size": "[H, W]",
    "_spacing": "mm: one number, or [D, H, W]",
    "_per_channel": "a number, or one a channel",
    "_foreground": "true, a number, otsu or false",
    "_threshold": "a number or otsu",
    "_fill": "a number or min",
    "_axes": "one letter each of R/L, A/P, S/I",
}


def configuration() -> str:
    """docs/reference/configuration.md."""
    parts = [
        _MADE,
        "# medrail.yaml",
        "One file describes a project: YAML 1.2, one section a stage. Unknown keys are mistakes, and all mistakes are "
        "reported at once. A key without a default must be given. On the command line `--set a.b=value` overrides any "
        "key, as `--set train.lr=0.001` or `--set prepare.steps.0.size=[64,64]`. Paths are relative to the file.",
        "`medrail init DIR --data PATH` writes a commented file for your data "
        "(see [bring your own data](../how-to/bring-your-own-data.md)).",
        "## The whole file",
        *_section(Config, ""),
    ]
    for name, field in Config.model_fields.items():
        if _is_model(field.annotation):
            parts += [f"## {name}", *_section(field.annotation, f"{name}.")]
    parts += ["## Steps of prepare", _steps_introduction()]
    for kind, step in STEPS.items():
        parts += [f"### {kind}", _markdown(inspect.getdoc(step) or ""), *_parameters(step)]
    return "\n\n".join(parts) + "\n"


def command_line() -> str:
    """docs/reference/cli.md. Not argparse's own help text, which differs between versions of Python."""
    parser = build_parser()
    verbs = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = [
        _MADE,
        "# Command line",
        "Results go to stdout, progress and errors to stderr. Exit code 0: done; 1: the work failed; 2: wrong usage or "
        "configuration; 130: interrupted.",
    ]
    for name, verb in verbs.choices.items():
        parts += _of_verb(f"## medrail {name}", verb)
        for action in verb._actions:
            if isinstance(action, argparse._SubParsersAction):
                for inner, subverb in action.choices.items():
                    parts += _of_verb(f"### medrail {name} {inner}", subverb)
    return "\n\n".join(parts) + "\n"


def _of_verb(title: str, verb: argparse.ArgumentParser) -> list[str]:
    return [title, verb.description or "", *_arguments(verb), *_examples(verb.epilog or "")]


def metrics() -> str:
    """docs/reference/metrics.md."""
    parts = [
        _MADE,
        "# Metrics",
        "What `medrail evaluate` finds, as it stands in `evaluation.json`, on the run's page `evaluation/index.html` "
        "and in the bundle's card. `NAME/CLASS` is the metric of one class; without a class it is of all of them.",
        "Every number has a 95 % interval. Patients are resampled, never pictures: all cases of a patient come "
        "together. `n` is the number of cases that the value is taken over; of a sensitivity, specificity or "
        "predictive value, the cases that it is a share of. Where all resamples give the same value, there is no "
        "bootstrap interval. BCa: Efron, J Am Stat Assoc 82, 1987; Wilson: J Am Stat Assoc 22, 1927. "
        "Parts of the cases (`strata`) are measured in the same way. Why these intervals, and how often they hold the "
        "truth: [which interval for which number](../explanation/statistics.md).",
    ]
    for title, meanings, text in _METRICS:
        parts += [f"## {title}", text, *(_meaning(name, meaning) for name, meaning in meanings.items())]
    return "\n\n".join(parts) + "\n"


_METRICS = (
    (
        "Classification",
        CLASSIFICATION,
        "The answer is the one that is served: with two classes the second one where its probability reaches the "
        "threshold chosen on the validation cases (`evaluate.operating_point`), with more the most probable one. "
        "Probabilities are calibrated. `operating_points` has sensitivity, specificity, ppv and npv of each class "
        "against the rest at its own threshold.",
    ),
    (
        "Several labels an image",
        SEVERAL_LABELS,
        "With `data.multi_label` also `auc`, `auprc`, `sensitivity`, `specificity` and `f1` of each label (`auc/LABEL` "
        "by DeLong), at the threshold chosen on the validation cases or 0.5; without a label they are the mean of the "
        "labels of which they are defined.",
    ),
    ("Grades", GRADES, "With `data.ordered`, besides those of classification."),
    ("Segmentation", SEGMENTATION, "The mean over the cases of each case's value, each patient counting the same."),
    ("Sets and strangers", FURTHER, "Under `conformal` and `ood` in `evaluation.json`."),
    (
        "Maps of evidence",
        EXPLANATION,
        "Under `explanation` in `evaluation.json`, on `evaluate.explained_cases` cases: "
        "[is a map to be trusted?](../explanation/evidence.md)",
    ),
)


def _meaning(name: str, meaning: Meaning) -> str:
    rows = [
        f"### {name}",
        f"{meaning.title[0]}. {meaning.says[0]}",
        f"* definition: {meaning.definition}",
        *([f"* source: {meaning.source}"] if meaning.source else []),
        f"* interval: {meaning.interval}",
        *([f"* nothing to count: {meaning.empty}"] if meaning.empty else []),
        f"* better: {'higher' if meaning.better == 'high' else 'lower'}",
    ]
    return "\n".join([rows[0], "", rows[1], "", *rows[2:]])


def _arguments(verb: argparse.ArgumentParser) -> Iterator[str]:
    rows = []
    for action in verb._actions:
        if not isinstance(action, argparse._HelpAction):
            values = action.metavar or ("|".join(action.choices) if action.choices else action.dest.upper())
            names = ", ".join(action.option_strings)
            shown = f"{names} {values}" if names and action.nargs != 0 else names or str(values)
            rows.append((f"`{shown}`" + (" (required)" if action.required else ""), action.help or ""))
    yield _table(("argument", "what it is"), rows)


def _examples(epilog: str) -> Iterator[str]:
    """Prose as it is; indented commands as console blocks."""
    for paragraph in epilog.strip("\n").split("\n\n"):
        indented = all(line.startswith("  ") for line in paragraph.splitlines())
        lines = "\n".join(line.strip() for line in paragraph.splitlines())
        yield f"```console\n{lines}\n```" if indented else lines


PAGES: Mapping[str, Callable[[], str]] = {
    "reference/cli.md": command_line,
    "reference/configuration.md": configuration,
    "reference/metrics.md": metrics,
}
"""Path below docs/ -> what makes its text."""


def stale() -> list[str]:
    """The pages whose file is missing or differs from what the code says."""
    return [name for name, make in PAGES.items() if _read(DOCS / name) != make()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is stale")
    if parser.parse_args().check:
        for name in stale():
            print(f"stale: docs/{name}; run `make docs`", file=sys.stderr)
        return int(bool(stale()))
    for name, make in PAGES.items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(make(), encoding="utf-8", newline="\n")
        print(f"wrote docs/{name}")
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _section(model: type[BaseModel], at: str) -> Iterator[str]:
    """The model's own words, then a table of its keys; models inside it follow with their dotted names."""
    if at:
        yield _markdown(inspect.getdoc(model) or "")
    rows = [_row(f"{at}{name}", field) for name, field in model.model_fields.items() if not _is_model(field.annotation)]
    yield _table(("key", "type", "default", "what it is"), rows)
    if at:
        for name, field in model.model_fields.items():
            if _is_model(field.annotation):
                yield f"### {at}{name}"
                yield from _section(field.annotation, f"{at}{name}.")


def _parameters(step: type[BaseModel]) -> Iterator[str]:
    rows = [_row(name, field)[:3] for name, field in step.model_fields.items() if name != "kind"]
    if rows:
        yield _table(("parameter", "type", "default"), rows)


def _steps_introduction() -> str:
    kinds = ", ".join(f"[{kind}](#{kind})" for kind in STEPS)
    return (
        "`prepare.steps` is a list of `{kind: ..., parameters}`, applied in this order to every image, in training and "
        f"in the service alike; a mask goes through the steps that move voxels. The kinds: {kinds}."
    )


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    return f"`{name}`", type_text(field), _default(field), field.description or ""


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "**required**"
    if value == ():
        return "`[]`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if value == "":
        return "empty"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def type_text(field: FieldInfo) -> str:
    """A field's type in words, with its limits: "number above 0", "text: a, b or c"."""
    for rule in field.metadata:
        function = getattr(rule, "func", None)
        if function is not None and function.__name__ in _SHAPES:
            return _SHAPES[function.__name__]
    return _words(field.annotation) + "".join(_limits(field.metadata))


def _words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        values = [f"`{value}`" for value in inner]
        return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part) for part in inner)
    if origin is Annotated:
        return _words(inner[0])
    if origin is tuple:
        return f"list of {_words(inner[0])}"
    if origin is dict:
        return "keys and values"
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _limits(metadata: list[Any]) -> Iterator[str]:
    signs = {"gt": "above", "ge": "from", "lt": "below", "le": "to"}
    for rule in metadata:
        for name, word in signs.items():
            if isinstance(rule, annotated_types.GroupedMetadata):
                continue
            value = getattr(rule, name, None)
            if value is not None:
                yield f" {word} {value:g}"
        if getattr(rule, "pattern", None):
            yield " of letters, digits, dot, underscore, hyphen"


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _table(header: tuple[str, ...], rows: list[Any]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _markdown(docstring: str) -> str:
    """A docstring's double backticks as Markdown's single ones."""
    return re.sub(r"``([^`]+)``", r"`\1`", docstring).strip()


if __name__ == "__main__":
    sys.exit(main())
