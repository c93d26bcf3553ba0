"""Single elements of a DICOM data set, as numbers or text; an element that cannot be read is named, its value never."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

from medrail.errors import CorruptFile

Numbers = tuple[float, ...]


def first_item(dataset: Any, keyword: str) -> Any:
    """The first item of a sequence, None when there is none."""
    sequence = dataset.get(keyword) if dataset is not None else None
    return sequence[0] if sequence else None


def read_values(dataset: Any, keyword: str) -> Sequence[Any]:
    """An element's values; () when it is missing or empty."""
    if dataset is None:
        return ()
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        if isinstance(value, tuple):
            return value
        return list(value) if hasattr(value, "append") else [value]
    except Exception as error:  # noqa: BLE001  (a broken element raises anything when it is first touched)
        raise _unreadable(keyword, error) from None


def read_numbers(dataset: Any, keyword: str, count: int) -> Numbers | None:
    """``count`` finite numbers; None when the element is missing or empty."""
    values = read_values(dataset, keyword)
    if not values or any(value is None or value == "" for value in values):
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise _unreadable(keyword, error) from None
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise CorruptFile(f"{keyword} has {len(numbers)} values", needed=f"{count} finite numbers")
    return numbers


def read_whole(dataset: Any, keyword: str, default: int | None = None) -> int:
    """One whole number; ``default`` when it is missing, and without a default an error."""
    numbers = read_numbers(dataset, keyword, 1)
    if numbers is None:
        if default is None:
            raise CorruptFile(f"the element {keyword} is missing or empty", remedy="Export it again.")
        return default
    return int(numbers[0])


def read_text(dataset: Any, keyword: str) -> str:
    """The values joined as DICOM does, "" when there are none."""
    return "\\".join(str(value).strip() for value in read_values(dataset, keyword))


def _unreadable(keyword: str, error: Exception) -> CorruptFile:
    return CorruptFile(f"the element {keyword} cannot be read ({type(error).__name__})", remedy="Export it again.")
