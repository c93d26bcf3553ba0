"""What the steps' parameters look like: strict, frozen, pure JSON; a mistake becomes a Problem with a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict

from medrail.config import did_you_mean
from medrail.errors import Problem

Number = Annotated[float, Strict()]
Positive = Annotated[float, Strict(), Field(gt=0)]
NonNegative = Annotated[float, Strict(), Field(ge=0)]
Count = Annotated[int, Strict(), Field(ge=0)]
Switch = Annotated[bool, Strict()]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _size(value: Any) -> tuple[int, ...]:
    right = isinstance(value, Sequence) and not isinstance(value, str) and len(value) in (2, 3)
    if not right or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in value):
        raise ValueError(f"found {value!r}, needed two whole numbers above 0 [H, W] or three [D, H, W]")
    return tuple(value)


def _plane_size(value: Any) -> tuple[int, ...]:
    size = _size(value)
    if len(size) != 2:
        raise ValueError(f"found {value!r}, needed two whole numbers above 0 [H, W]")
    return size


def _spacing(value: Any) -> tuple[float, ...]:
    values = [value] * 3 if _is_number(value) else value
    right = isinstance(values, Sequence) and len(values) == 3 and all(_is_number(v) and v > 0 for v in values)
    if not right:
        raise ValueError(f"found {value!r}, needed millimetres above 0: one number, or three [D, H, W]")
    return tuple(float(v) for v in values)


def _per_channel(value: Any) -> tuple[float, ...]:
    values = [value] if _is_number(value) else value
    right = isinstance(values, Sequence) and not isinstance(values, str) and all(_is_number(v) for v in values)
    if not right:
        raise ValueError(f"found {value!r}, needed a number, or a list with one a channel")
    return tuple(float(v) for v in values)


def _foreground(value: Any) -> float | str | None:
    if value is None or value is False:
        return None
    if value is True:
        return 0.0
    if value == "otsu" or _is_number(value):
        return value if value == "otsu" else float(value)
    raise ValueError(f"found {value!r}, needed true (above 0), a number (above it), otsu, or false")


def _threshold(value: Any) -> float | str:
    if value == "otsu" or _is_number(value):
        return value if value == "otsu" else float(value)
    raise ValueError(f"found {value!r}, needed a number or otsu")


def _fill(value: Any) -> float | str:
    if value == "min" or _is_number(value):
        return value if value == "min" else float(value)
    raise ValueError(f"found {value!r}, needed a number or min (the image's smallest value)")


Size = Annotated[tuple[int, ...], BeforeValidator(_size)]
PlaneSize = Annotated[tuple[int, ...], BeforeValidator(_plane_size)]
Spacing = Annotated[tuple[float, ...], BeforeValidator(_spacing)]
PerChannel = Annotated[tuple[float, ...], BeforeValidator(_per_channel)]
Foreground = Annotated[float | str | None, BeforeValidator(_foreground)]
Threshold = Annotated[float | str, BeforeValidator(_threshold)]
Fill = Annotated[float | str, BeforeValidator(_fill)]
Plane = Literal["axial", "coronal", "sagittal"]


class Parameters(BaseModel):
    """The frozen fields of one step; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def to_dict(self) -> dict[str, Any]:
        """Every field, defaults too, as JSON values; ``kind`` first."""
        return self.model_dump(mode="json")


def problems_of(error: pydantic.ValidationError, names: Sequence[str], at: str) -> list[Problem]:
    """A step's validation error as Problems; ``names`` are its parameters and ``at`` the key it stands at."""
    found = []
    for detail in error.errors(include_url=False):
        location = [str(part) for part in detail["loc"]]
        key = ".".join([at, *location])
        kind, message = detail["type"], str(detail["msg"])
        if kind == "extra_forbidden":
            found.append(Problem(key, "unknown parameter", did_you_mean(location[-1], names)))
        elif kind == "missing":
            found.append(Problem(key, "missing", "Add it"))
        elif kind == "value_error":
            found.append(Problem(key, message.removeprefix("Value error, ")))
        else:
            given = detail["input"]
            near = did_you_mean(given, _choices(message), or_else=False) if isinstance(given, str) else ""
            found.append(Problem(key, f"{message[0].lower()}{message[1:]} (found {given!r})", near))
    return found


def _choices(message: str) -> list[str]:
    return [part for part in message.split("'")[1::2] if part]
