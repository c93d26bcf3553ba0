"""What was seen in a file as two texts of JSON, without its path: what slices of a series share, and its own part."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from medrail import errors
from medrail.errors import MedrailError
from medrail.read.dicom.header import Header, common_part
from medrail.read.dicom.headers import Foreign, Outcome, Refused
from medrail.read.dicom.plane import Plane
from medrail.types import Defect

Row = tuple[str, str]
_MOST_CHARACTERS = 1 << 20
_CODER = json.JSONEncoder(separators=(",", ":"))
_DECODE = json.JSONDecoder().decode


def row_of(outcome: Outcome) -> Row | None:
    """The shared part ("" where nothing is shared) and the file's own; None for what is too large to be kept."""
    try:
        row = _parts(outcome) or ("", _whole(outcome))
    except (TypeError, ValueError):
        return None
    return row if sum(map(len, row)) <= _MOST_CHARACTERS else None


def outcome_from(row: Row, path: Path) -> Outcome | None:
    """The way back; None for what cannot be read."""
    shared, own = row
    try:
        if shared:
            return _slice_from(shared, own, path)
        kind, *rest = _DECODE(own)
        if kind == "header":
            return _header_from([str(path), *rest[0]])
        error = _error_from(rest[1], path)
        if kind == "refused" and error is not None:
            return Refused(path, Defect(*rest[0]), error, *rest[2])
        return Foreign(path, rest[0], error) if kind == "foreign" else None
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, RecursionError):
        return None


def _parts(outcome: Outcome) -> Row | None:
    common = common_part(outcome) if isinstance(outcome, Header) else None
    if common is None or not isinstance(outcome, Header):
        return None
    return _shared((*_of_plane(common[0]), *common[1:])), _own(outcome)


def _whole(outcome: Outcome) -> str:
    if isinstance(outcome, Header):
        return _CODER.encode(["header", _plain(outcome)])
    if isinstance(outcome, Refused):
        series = outcome.series_uid, outcome.modality
        return _CODER.encode(["refused", _plain(outcome.defect), _error_to(outcome.error), series])
    return _CODER.encode(["foreign", outcome.kind, _error_to(outcome.error)])


_OF_PLANE = tuple(one.name for one in fields(Plane))[1:-1]  # between position and times, which are a slice's own
_of_plane = attrgetter(*_OF_PLANE)


@functools.lru_cache(maxsize=256)
def _shared(values: tuple[Any, ...]) -> str:
    return _CODER.encode(values)


def _own(header: Header) -> str:
    plane = header.planes[0]
    values = (
        *(plane.position_lps_mm, plane.times, header.instance_number, header.instance_uid),
        *(header.pixel_defect, header.pixel_offset),
    )
    return _CODER.encode(values)


def _slice_from(shared: str, own: str, path: Path) -> Header:
    (orientation, spacing_mm, slope, intercept, part, marks, hints), values = _shared_from(shared)
    position, times, number, uid, defect, offset = _DECODE(own)
    position = None if position is None else tuple(position)
    plane = Plane(position, orientation, spacing_mm, slope, intercept, part, marks, hints, tuple(times))
    return Header(path, (plane,), number, uid, defect, offset, *values)


@functools.lru_cache(maxsize=256)
def _shared_from(text: str) -> tuple[list[Any], list[Any]]:
    """The plane's values between position and times; the header's values after those of ``_own``."""
    values = _DECODE(text)
    count, own = len(_OF_PLANE), len(fields(Header)) + len(_OF_PLANE) - len(values)
    of_plane, of_header = _hints(Plane), _hints(Header)
    makers = [_maker(of_plane[name]) for name in _OF_PLANE]
    makers += [_maker(of_header[one.name]) for one in fields(Header)[own:]]
    made = [make(value) for make, value in zip(makers, values, strict=True)]
    return made[:count], made[count:]


def _plain(value: Any) -> Any:
    """A frozen dataclass as the list of its values, in the order of its fields, without a leading path."""
    if is_dataclass(value):
        parts = [_plain(getattr(value, one.name)) for one in fields(value)]
        return parts[1:] if isinstance(value, Header) else parts
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _header_from(values: list[Any]) -> Header:
    header = _maker(Header)(values)
    if not isinstance(header, Header):
        raise TypeError("no header")
    return header


_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


@functools.cache
def _maker(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of a type out of its JSON."""
    if is_dataclass(kind):
        hints = _hints(kind)
        makers = [_maker(hints[one.name]) for one in fields(kind)]
        return lambda values: kind(*(make(value) for make, value in zip(makers, values, strict=True)))  # type: ignore[operator]
    if get_origin(kind) is tuple:
        inner = _maker(get_args(kind)[0])
        return tuple if inner is _as_it_is else lambda values: tuple(map(inner, values))
    if get_origin(kind) in (Union, types.UnionType):
        inner = _maker(next(one for one in get_args(kind) if one is not type(None)))
        return inner if inner is _as_it_is else lambda value: None if value is None else inner(value)
    return Path if kind is Path else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _error_to(error: MedrailError | None) -> list[str] | None:
    return None if error is None else [type(error).__name__, error.found, error.needed, error.remedy]


def _error_from(value: list[str] | None, path: Path) -> MedrailError | None:
    if value is None:
        return None
    kind = getattr(errors, value[0])
    error = kind(value[1], needed=value[2], where=str(path), remedy=value[3])
    if not isinstance(error, MedrailError):
        raise TypeError("no error of medrail")
    return error
