"""What tells who an image is of: collected from the original's header, then searched for in bytes.

The rule of the search, for one value of the header or for all bytes of a file but its pixels:

* **Words** (names in parts, identity numbers, institutions, addresses, telephones, serial numbers) without regard to
  case, in UTF-8, Latin-1, UTF-16 and the file's own character sets, with and without accents. Six or more letters count
  anywhere, even inside a longer word; fewer only as a word of their own: from two letters on in text, from five in
  bytes that may be numbers. Digits alone count as a number of their own: from four on in text, six in codes,
  eight in other bytes.
* **Dates** as eight digits, alone or before a time, and as numbers parted by ``- / . :`` in the usual orders.
* **UIDs** that stand as a whole.

Single letters, titles, and words that the standard or any hospital uses (``COMMON``) are not searched for; that an
attribute's own value has changed is judged apart (``medrail.cases.deidentify.verify``).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Titles and fillers; what institutions, devices and codes call things; the words that a copy is marked with.
_COMMON = """
dr prof mr mrs ms md phd sir jr sr van von der den de del la le da di du el al und and of the for at in on no na not
none unknown anonymous anonymized anonymised anon removed patient name test tests phantom subject case id
hospital hospitals clinic clinics klinik klinikum hopital hôpital ospedale university universität universitair medical
medicine center centre zentrum institute institut department dept radiology radiologie imaging health healthcare care
general national regional city saint st street road avenue north south east west research
ct mri pt pet nm us cr dx mg xa rf sc ot sm io px es em gm op seg pr ko rt head neck brain skull chest thorax abdomen
pelvis spine arm leg hand foot knee hip hips shoulder heart liver lung lungs breast whole body wrist ankle elbow
original primary derived secondary axial localizer sagittal coronal other left right feet first supine prone hfs ffs hfp
ffp mono rgb image images series study scan scanner system software version standard
yes dicom basic application confidentiality profile option retain longitudinal temporal information full dates modified
uids identity safe private clean descriptors pixel data finding contains text medrail
siemens philips ge toshiba canon hitachi fuji agfa kodak varian elekta hologic konica samsung medison acuson
"""
COMMON = frozenset(_COMMON.split())

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_UID = re.compile(rb"(?<!\d)\d{1,64}(?:\.\d{1,64}){2,64}")
_DIGITS = re.compile(rb"(?<![\d.])\d{8,14}(?![\d.]\d|\d)")
_YEAR_FIRST = re.compile(rb"(?<!\d)(\d{4})[-/.:](\d{1,2})[-/.:](\d{1,2})(?!\d)")
_YEAR_LAST = re.compile(rb"(?<!\d)(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?!\d)")

TEXT, CODE, BYTES = "text", "code", "bytes"
# Shortest word of letters, and of digits alone, that is searched for, by the kind of place.
_SHORTEST = {TEXT: (2, 4), CODE: (3, 6), BYTES: (5, 8)}
_ANYWHERE = 6  # letters


@dataclass(frozen=True, repr=False)
class Identifiers:
    """Words (in lower case), dates (YYYYMMDD) and UIDs of one original; never shown, so it has no repr."""

    words: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()
    encodings: tuple[str, ...] = ()
    raw: frozenset[bytes] = frozenset()  # words as the file spelled them, in its own character set

    def with_words(self, words: Iterable[str]) -> Identifiers:
        return Identifiers(self.words | frozenset(words), self.dates, self.uids, self.encodings, self.raw)

    def found_in(self, content: bytes, place: str) -> frozenset[str]:
        """Which kinds ("word", "date", "UID") stand in the bytes; never which one.

        place:
            ``TEXT``, ``CODE`` or ``BYTES``: how careful one must be with short ones.
        """
        views = {content, content.replace(b"\0", b"")}  # without zeros, UTF-16 reads as ASCII
        found = set()
        spelled = {view.lower() for view in views}
        if not all(word.isascii() for word in self.words):
            # The case of other letters is known only to who knows the encoding.
            spelled |= {lower for view in views for lower in _lower(view, self.encodings)}
        if any(self._word_in(view, place) for view in spelled):
            found.add("word")
        if self.dates and any(not self.dates.isdisjoint(_dates_in(view)) for view in views):
            found.add("date")
        if self.uids and any(not self.uids.isdisjoint(_uids_in(view)) for view in views):
            found.add("UID")
        return frozenset(found)

    def without(self, text: str) -> str:
        """A description with every word that identifies taken out, and all dates (PS3.15 section E.3.6)."""
        known = {plain(word) for word in self.words} | self.words
        parts = [part for word in known for part in _WORD.findall(word)]
        parts = [part for part in (*known, *parts) if len(part) > 1 and part not in COMMON]
        for part in sorted(set(parts), key=len, reverse=True):
            pattern = re.escape(part) if len(part) >= _ANYWHERE else rf"(?<![^\W_]){re.escape(part)}(?![^\W_])"
            text = re.sub(pattern, "", text, flags=re.IGNORECASE)
        text = re.sub(r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{2,4}|(?<!\d)\d{6,}(?!\d)|\d+(?:\.\d+){3,}", "", text)
        return re.sub(r"\s{2,}", " ", text).strip()

    def _word_in(self, content: bytes, place: str) -> bool:
        return any(
            needle in content and _stands(needle, content, place, is_number)
            for needle, is_number in _needles(self.words, self.encodings, self.raw)
        )


def words_of_name(text: str) -> Iterator[str]:
    """A person's name, institution or address: the whole, and each word of it that says something."""
    yield from words_of_id(" ".join(_WORD.findall(text)))
    for group in re.split(r"[=\\]", text):
        yield from words_of_id(" ".join(_WORD.findall(group)))
        for word in (*_WORD.findall(group), *re.split(r"[\^=\s,;/()]+", group)):
            if not (word.isdigit() and len(word) < 4):
                yield from words_of_id(word)


def words_of_id(text: str) -> Iterator[str]:
    """An identity number or code as a whole, as written and without what parts it."""
    for part in text.split("\\"):
        folded = part.strip(" \0").lower()
        joined = "".join(_WORD.findall(folded))
        for word in {folded, joined}:
            if len(word) > 1 and word not in COMMON and not all(part in COMMON for part in _WORD.findall(word)):
                yield word


def dates_of(text: str) -> Iterator[str]:
    """The dates in DA or DT values, and in any other text where they are written as such."""
    for part in text.split("\\"):
        if re.match(r"\d{8}", part.strip()):
            yield part.strip()[:8]


def plain(text: str) -> str:
    """Without accents: what a German or French name becomes in ASCII."""
    spelled = text.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue").replace("ø", "oe").replace("å", "aa")
    return _bare(spelled)


def _bare(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))


@functools.lru_cache(maxsize=8)
def _needles(
    words: frozenset[str], encodings: tuple[str, ...], raw: frozenset[bytes]
) -> tuple[tuple[bytes, bool], ...]:
    needles: dict[bytes, bool] = {}
    for word in words:
        spellings = {word, plain(word), _bare(word)}
        if not word.isascii():
            spellings |= {word.upper(), word.title()}
        for spelling in spellings:
            for encoding in ("utf-8", "latin-1", "utf-16-le", "utf-16-be", *encodings):
                try:
                    needle = spelling.encode(encoding).lower()
                except (UnicodeEncodeError, LookupError):
                    continue
                needles[needle] = word.isdigit()
    needles |= {value.lower(): False for value in raw if not value.isascii()}
    return tuple((needle, number) for needle, number in needles.items() if len(needle) > 1)


def _lower(content: bytes, encodings: tuple[str, ...]) -> Iterator[bytes]:
    """The content read in each encoding, in lower case, as UTF-8."""
    for encoding in dict.fromkeys(("utf-8", "latin-1", "utf-16-le", "utf-16-be", *encodings)):
        for start in (0, 1) if encoding.startswith("utf-16") else (0,):
            try:
                yield content[start:].decode(encoding, "replace").lower().encode("utf-8")
            except LookupError:
                continue


def _stands(needle: bytes, content: bytes, place: str, is_number: bool) -> bool:
    letters, digits = _SHORTEST[place]
    escaped = re.escape(needle)
    if is_number:
        pattern = rb"(?<!\d)(?<!\d\.)" + escaped + rb"(?!\d)(?!\.\d)"
        return len(needle) >= digits and re.search(pattern, content) is not None
    if not needle.isascii() or len(needle) >= _ANYWHERE:
        return len(needle) >= letters
    return len(needle) >= letters and re.search(rb"(?<![a-z0-9])" + escaped + rb"(?![a-z0-9])", content) is not None


def _uids_in(content: bytes) -> Iterator[str]:
    return (found.group().decode("ascii") for found in _UID.finditer(content))


def _dates_in(content: bytes) -> Iterator[str]:
    for found in _DIGITS.finditer(content):
        if len(found.group()) in (8, 10, 12, 14):
            yield found.group()[:8].decode("ascii")
    for year, month, day in _YEAR_FIRST.findall(content):
        yield f"{int(year):04d}{int(month):02d}{int(day):02d}"
    for first, second, year in _YEAR_LAST.findall(content):
        yield f"{int(year):04d}{int(second):02d}{int(first):02d}"
        yield f"{int(year):04d}{int(first):02d}{int(second):02d}"
