"""Subgroups: the same metrics for parts of the evaluated cases, so that one number does not hide another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from medrail.cases import Leaked
from medrail.cases.listing import counted
from medrail.evaluate.scored import Scored

T = TypeVar("T")

MOST_PARTS = 50  # a column with a value for each case divides nothing
MANY_LOOKED_AT = 10
FIXED = ("leaked", "defects", "centre")


def parts(items: Sequence[T], named: Mapping[str, Callable[[T], str]]) -> dict[str, dict[str, list[T]]]:
    """Name -> value -> the items that have it, the values sorted.

    A name by which all items are alike, or nearly every item is a part by itself, is left out; so is the value "" of
    items of which nothing is known.

    >>> parts(["a1", "b1", "b2"], {"letter": lambda item: item[0], "all": lambda item: "x"})
    {'letter': {'a': ['a1'], 'b': ['b1', 'b2']}}
    """
    found: dict[str, dict[str, list[T]]] = {}
    for name, value_of in named.items():
        by_value: dict[str, list[T]] = {}
        for item in items:
            by_value.setdefault(value_of(item), []).append(item)
        if 1 < len(by_value) <= MOST_PARTS:
            known = {value: by_value[value] for value in sorted(by_value) if value}
            found |= {name: known} if known else {}
    return found


def subgroups(scored: Sequence[Scored], leaked: Leaked) -> dict[str, dict[str, list[Scored]]]:
    """The parts by accepted leaks, defects, centre, and each group that the cases have (sex, age, scanner, ...)."""
    named: dict[str, Callable[[Scored], str]] = {
        "leaked": lambda one: "yes" if one.case.id in leaked.reasons else "no",
        "defects": lambda one: "with" if one.defects else "without",
        "centre": lambda one: one.case.centre,
    }
    others = dict.fromkeys(name for one in scored for name, _ in one.case.groups)
    named |= {name: _value_of(name) for name in others if name not in named}
    return parts(scored, named)


def _value_of(name: str) -> Callable[[Scored], str]:
    return lambda one: dict(one.case.groups).get(name, "")


def too_small(part: Sequence[Scored], least_patients: int, classes: Sequence[str]) -> str:
    """Why the metrics of a part cannot be read, or "".

    Too few patients; or of two classes, one that no case has (of several, all but one): then there is nothing to tell
    apart.
    """
    patients = len({one.case.patient for one in part})
    if patients < least_patients:
        return f"{counted(patients, 'patient')}, fewer than {least_patients}"
    true = {one.truth for one in part if one.truth >= 0}
    if true and len(true) < 2:
        return f"only cases of {classes[next(iter(true))]}"
    return ""


def many_looked_at(strata: Mapping[str, Mapping[str, object]], small: Mapping[str, Mapping[str, str]]) -> str:
    """The warning where so many subgroups are looked at that some will differ by chance; else ""."""
    readable = sum(value not in small.get(name, {}) for name, values in strata.items() for value in values)
    if readable < MANY_LOOKED_AT:
        return ""
    return (
        f"{readable} subgroups were looked at: of so many, about {max(1, round(readable / 20))} will have the whole's "
        "value outside of its 95 % interval by chance alone. What is found here is a question for new data, no result"
    )
