"""Dates as people and programs write them: found in text, to be compared with those of a header.

In bytes of any kind only the forms that numbers take by chance least: eight digits with the year first, and a year of
four digits between ``- / . :``. In text also two-digit years, days first or months first, and names of months.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence, Set

# Beginnings of the months' names in English, German, French, Spanish, Italian, Dutch and Portuguese, without accents.
_MONTHS = {
    "jan": 1, "jaen": 1, "ene": 1, "gen": 1,
    "feb": 2, "fev": 2,
    "mar": 3, "maer": 3, "maa": 3, "mrt": 3, "mrz": 3,
    "apr": 4, "avr": 4, "abr": 4,
    "may": 5, "mai": 5, "mei": 5, "mag": 5,
    "jun": 6, "juin": 6, "giu": 6,
    "jul": 7, "juil": 7, "lug": 7,
    "aug": 8, "aou": 8, "ago": 8,
    "sep": 9, "set": 9,
    "oct": 10, "okt": 10, "ott": 10, "out": 10,
    "nov": 11,
    "dec": 12, "dez": 12, "dic": 12,
}  # fmt: skip
_NAMES = "|".join(sorted(_MONTHS, key=len, reverse=True))
_GAP = r"[\s.,/_'-]{0,3}"
_DAY, _MONTH, _YEAR = r"(?<!\d)(\d{1,2})", rf"(?<![^\W\d_])({_NAMES})[^\W\d_]{{0,7}}", r"(\d{4}|\d{2})(?!\d)"
_DAY_FIRST = re.compile(rf"{_DAY}(?:st|nd|rd|th|er)?(?:\s+(?:of|de))?{_GAP}{_MONTH}(?:\s+de)?{_GAP}{_YEAR}")
_MONTH_FIRST = re.compile(rf"{_MONTH}{_GAP}(\d{{1,2}})(?:st|nd|rd|th)?[\s.,/_'-]{{1,3}}{_YEAR}")
_NAME_AFTER_YEAR = re.compile(rf"(?<!\d)(\d{{4}}){_GAP}{_MONTH}{_GAP}(\d{{1,2}})(?!\d)")
_RUN = re.compile(r"(?<!\d)(?<!\d\.)(?:\d{8}|\d{6})(?!\d)(?!\.\d)")
_PARTED = re.compile(r"(?<!\d)(?=(\d{1,4})\s?[-/.:,_ ]\s?(\d{1,2})\s?[-/.:,_ ]\s?(\d{1,4})(?!\d))")

_DIGITS = re.compile(rb"(?<![\d.])\d{8,14}(?![\d.]\d|\d)")
_YEAR_FIRST = re.compile(rb"(?<!\d)(\d{4})[-/.:](\d{1,2})[-/.:](\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(rb"(?<!\d)(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?!\d)")


def dates_of(text: str) -> Iterator[str]:
    """The dates in DA or DT values, as YYYYMMDD."""
    for part in text.split("\\"):
        if re.match(r"\d{8}", part.strip()):
            yield part.strip()[:8]


def dates_in_bytes(content: bytes) -> Iterator[str]:
    """Dates, as YYYYMMDD, among bytes that may be anything."""
    for found in _DIGITS.finditer(content):
        if len(found.group()) in (8, 10, 12, 14):
            yield found.group()[:8].decode("ascii")
    for year, month, day in _YEAR_FIRST.findall(content):
        yield f"{int(year):04d}{int(month):02d}{int(day):02d}"
    for first, second, year in _YEAR_LAST.findall(content):
        yield f"{int(year):04d}{int(second):02d}{int(first):02d}"
        yield f"{int(year):04d}{int(first):02d}{int(second):02d}"


def dates_in_text(text: str) -> Iterator[str]:
    """All that text may mean as a date: YYYYMMDD, or YYMMDD where the century is not written."""
    text = _lower(text)
    for found in _RUN.finditer(text):
        yield from _in_any_order(found.group())
    for found in _PARTED.finditer(text):
        yield from _parted(found.groups())
    for day, month, year in _DAY_FIRST.findall(text):
        yield f"{year}{_MONTHS[month]:02d}{int(day):02d}"
    for month, day, year in _MONTH_FIRST.findall(text):
        yield f"{year}{_MONTHS[month]:02d}{int(day):02d}"
    for year, month, day in _NAME_AFTER_YEAR.findall(text):
        yield f"{year}{_MONTHS[month]:02d}{int(day):02d}"


def without_dates(text: str, known: Set[str]) -> str:
    """A description without what is a date by its look, and what may mean one of ``known`` (as ``dates_in_text``)."""
    for pattern in (_DAY_FIRST, _MONTH_FIRST, _NAME_AFTER_YEAR):
        text = _cut(text, [found.span() for found in pattern.finditer(_lower(text))])
    parted = [found for found in _PARTED.finditer(text) if not known.isdisjoint(_parted(found.groups()))]
    text = _cut(text, [(found.start(1), found.end(3)) for found in parted])
    return re.sub(r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{2,4}", "", text)


def _lower(text: str) -> str:
    """In lower case and without accents, letter for letter, so that places stay the same."""
    plain = (unicodedata.normalize("NFD", letter)[0].lower() for letter in text)
    return "".join(letter if len(letter) == 1 else "?" for letter in plain)


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    return text


def _in_any_order(digits: str) -> Iterator[str]:
    """YYYYMMDD, DDMMYYYY, MMDDYYYY, or the same with a year of two digits."""
    first, second, year = digits[:2], digits[2:4], digits[4:]
    yield from (digits, year + second + first, year + first + second)


def _parted(parts: tuple[str, ...]) -> Iterator[str]:
    first, second, third = parts
    for year, month, day in ((first, second, third), (third, second, first), (third, first, second)):
        if len(year) in (2, 4) and len(month) <= 2 and len(day) <= 2:
            yield f"{year}{int(month):02d}{int(day):02d}"
