"""What a person may choose: what is kept, and which rectangles of the pictures are blanked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrail.errors import ConfigError

# What --keep takes -> the option of PS3.15 Annex E that it is, as code and meaning of CID 7050 (PS3.16).
KEEP: Mapping[str, tuple[str, str]] = {
    "dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "shifted-dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "patient-characteristics": ("113108", "Retain Patient Characteristics Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
    "descriptions": ("113105", "Clean Descriptors Option"),
    "safe-private": ("113111", "Retain Safe Private Option"),
}


@dataclass(frozen=True)
class Rectangle:
    """Pixels to blank: ``x`` columns from the left, ``y`` rows from the top, in pixels of the stored picture."""

    x: int
    y: int
    width: int
    height: int

    @staticmethod
    def of_text(text: str) -> Rectangle:
        """``"0,0,640,40"`` as typed after --blank."""
        try:
            numbers = [int(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        return Rectangle.of_numbers(numbers, text)

    @staticmethod
    def of_numbers(numbers: Sequence[Any], where: str) -> Rectangle:
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
        if len(numbers) != 4 or not whole or min(numbers[:2]) < 0 or min(numbers[2:]) < 1:
            raise ConfigError(
                f"{where!r} is no rectangle", needed="x,y,width,height in pixels", remedy="As in --blank 0,0,640,40"
            )
        return Rectangle(*numbers)


@dataclass(frozen=True)
class BlankRule:
    """Rectangles for the pictures that fit; an empty condition fits all. Texts are compared without case."""

    rectangles: tuple[Rectangle, ...]
    modality: str = ""
    manufacturer: str = ""
    model: str = ""
    columns: int = 0
    rows: int = 0

    def fits(self, modality: str, manufacturer: str, model: str, columns: int, rows: int) -> bool:
        """Whether a picture of this origin and size is meant; manufacturer and model may be given in part."""
        return (
            self.modality.casefold() in ("", modality.casefold())
            and self.manufacturer.casefold() in manufacturer.casefold()
            and self.model.casefold() in model.casefold()
            and self.columns in (0, columns)
            and self.rows in (0, rows)
        )


@dataclass(frozen=True)
class Options:
    """``keep``: names of ``KEEP``. ``rules``: what is blanked where."""

    keep: frozenset[str] = frozenset()
    rules: tuple[BlankRule, ...] = field(default=())

    def keeps(self, name: str) -> bool:
        return name in self.keep


def read_options(keep: Sequence[str] = (), blank: Sequence[str] = (), rules: Path | None = None) -> Options:
    """Options as typed: names after --keep, rectangles after --blank, a YAML file after --rules.

    Raises
    ------
    ConfigError
        For an unknown name, both kinds of dates, a bad rectangle, or a rules file that is none.
    """
    unknown = sorted(set(keep) - set(KEEP))
    if unknown:
        raise ConfigError(f"--keep {unknown[0]}", needed="one of " + ", ".join(KEEP))
    if {"dates", "shifted-dates"} <= set(keep):
        raise ConfigError("--keep dates and --keep shifted-dates", needed="one of them")
    everywhere = tuple(Rectangle.of_text(text) for text in blank)
    given = (BlankRule(everywhere),) if everywhere else ()
    return Options(frozenset(keep), given + (_read_rules(rules) if rules else ()))


def _read_rules(path: Path) -> tuple[BlankRule, ...]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        raise ConfigError(f"cannot be read as YAML ({type(error).__name__})", where=str(path)) from None
    entries = content.get("rules") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ConfigError("holds no rules", needed="a list below `rules:`", where=str(path))
    return tuple(_rule(entry, f"{path}: rule {number}") for number, entry in enumerate(entries, 1))


def _rule(entry: Any, where: str) -> BlankRule:
    known = {"modality", "manufacturer", "model", "size", "blank"}
    if not isinstance(entry, dict) or not set(entry) <= known or not isinstance(entry.get("blank"), list):
        raise ConfigError("is no rule", needed="blank, and any of modality, manufacturer, model, size", where=where)
    size = entry.get("size", [0, 0])
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(extent, int) for extent in size):
        raise ConfigError("size is not [columns, rows]", where=where)
    if not all(isinstance(numbers, list) for numbers in entry["blank"]):
        raise ConfigError("blank is no list of rectangles", needed="[[x, y, width, height]]", where=where)
    rectangles = tuple(Rectangle.of_numbers(numbers, where) for numbers in entry["blank"])
    texts = {name: str(entry.get(name, "")) for name in ("modality", "manufacturer", "model")}
    return BlankRule(rectangles, columns=size[0], rows=size[1], **texts)
