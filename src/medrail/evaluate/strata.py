"""Strata: the same metrics for parts of the evaluated cases, so that one number does not hide another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_PARTS = 50  # a column with a value for each case divides nothing


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
