"""What tells who an image is of: collected from the original's header, then searched for in bytes.

The rule of the search, for one value of the header or for all bytes of a file but its pixels:

* **Words** (names in parts, identity numbers, institutions, addresses, telephones, serial numbers) without regard to
  case, in UTF-8, Latin-1, UTF-16 and the file's own character sets, with and without accents. Six or more letters count
  anywhere, even inside a longer word; fewer only as a word of their own: from two letters on in text, from five in
  bytes that may be numbers. Digits alone count as a number of their own: from four on in text, six in codes,
  eight in other bytes.
* **The patient's own** names: in text, each word of four letters or more counts anywhere, also inside a longer word,
  and of six or more also when it is parted by spaces or signs; whatever the word is, as "West" or "Case".
* **Numbers** (DS, IS, and numbers in binary) that as a whole are an identity number, from four digits on; from six in
  binary. Of the patient's own numbers the digits count without their letters.
* **Dates** as eight digits, alone or before a time, and as numbers parted by ``- / . :``; in text in every form that
  ``dates`` knows.
* **UIDs** that stand as a whole.

Elsewhere than in text, single letters, titles, and words that the standard or any hospital uses (``COMMON``) are not
searched for; nor are they in text, but for the patient's own name. That an attribute's own value has changed is judged
apart (``medrail.cases.deidentify.verify``).
"""

from __future__ import annotations

import functools
import re
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from medrail.cases.deidentify.dates import dates_in_bytes, dates_in_text, without_dates

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
_NO_LETTER = re.compile(rb"[^0-9a-z\x80-\xff]+")
_PRINTED = re.compile(rb"[\t\r\n -~]{4,65536}")

# What a value is: free text; a code (CS, AS); a time or date; numbers as text (DS, IS); a UID; numbers in binary, by
# the struct code of their VR; anything else.
TEXT, CODE, TIME, NUMBER, UID, BYTES = "text", "code", "time", "number", "uid", "bytes"
BINARY = {"UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
# Shortest word of letters, and of digits alone, that is searched for, by the kind of place.
_SHORTEST = {TEXT: (2, 4), CODE: (3, 6), TIME: (3, 6)}
_IN_BYTES = (5, 8)
_ANYWHERE = 6  # letters
_OWN_ANYWHERE = 4  # letters, of the patient's own name in text
_OWN_DIGITS = 5  # of a number inside of the patient's own identity number
_WHOLE_NUMBER, _WHOLE_BINARY = 4, 6  # digits


@dataclass(frozen=True, repr=False)
class Identifiers:
    """Words (in lower case), dates (YYYYMMDD) and UIDs of one original; never shown, so it has no repr.

    raw:
        Words as the file spelled them, in its own character set.
    own:
        Words of the patient's own name, common ones too.
    """

    words: frozenset[str] = frozenset()
    dates: frozenset[str] = frozenset()
    uids: frozenset[str] = frozenset()
    encodings: tuple[str, ...] = ()
    raw: frozenset[bytes] = frozenset()
    own: frozenset[str] = frozenset()

    def with_patient(self, other: Identifiers) -> Identifiers:
        """And those of the same patient in other files."""
        return replace(self, words=self.words | other.words, own=self.own | other.own)

    def but_for(self, word: str, dates: Iterable[str]) -> Identifiers:
        """Without what a copy is given: the patient's new name, moved dates."""
        less = frozenset({word.lower()})
        return replace(self, words=self.words - less, own=self.own - less, dates=self.dates - frozenset(dates))

    def found_in(self, content: bytes, place: str) -> frozenset[str]:
        """Which kinds ("word", "number", "date", "UID") stand in the bytes; never which one.

        place:
            ``TEXT``, ``CODE``, ... or a VR of ``BINARY``: how careful one must be with short ones.
        """
        found = set()
        if place == NUMBER and self._is_number(content.decode("ascii", "replace")):
            found.add("number")
        if place in BINARY:
            return frozenset({"number"} if self._is_binary(content, BINARY[place]) else ())
        if place == BYTES and _PRINTED.fullmatch(content.strip(b"\0 ")):
            place = TEXT
        views = {content, content.replace(b"\0", b"")}  # without zeros, UTF-16 reads as ASCII
        spelled = {view.lower() for view in views}
        if not all(word.isascii() for word in self.words | self.own):
            # The case of other letters is known only to who knows the encoding.
            spelled |= {lower for view in views for lower in _lower(view, self.encodings)}
        if any(self._word_in(view, place) for view in spelled):
            found.add("word")
        if place == TEXT and any(self._own_in(view) for view in spelled):
            found.add("word")
        if self.dates and any(not self.dates.isdisjoint(dates_in_bytes(view)) for view in views):
            found.add("date")
        if place in (TEXT, CODE, NUMBER) and self._date_in(content):
            found.add("date")
        if self.uids and any(not self.uids.isdisjoint(_uids_in(view)) for view in views):
            found.add("UID")
        return frozenset(found)

    def without(self, text: str) -> str:
        """A description with every word that identifies taken out, and all dates (PS3.15 section E.3.6)."""
        known = {plain(word) for word in self.words} | self.words
        parts = [part for word in known for part in _WORD.findall(word)]
        parts = [part for part in (*known, *parts) if len(part) > 1 and part not in COMMON]
        own = {plain(word) for word in self.own} | self.own
        for part in sorted({*parts, *own}, key=len, reverse=True):
            anywhere = len(part) >= (_OWN_ANYWHERE if part in own else _ANYWHERE)
            pattern = re.escape(part) if anywhere else rf"(?<![^\W_]){re.escape(part)}(?![^\W_])"
            text = re.sub(pattern, "", text, flags=re.IGNORECASE)
        text = re.sub(r"(?<!\d)\d{6,}(?!\d)|\d+(?:\.\d+){3,}", "", without_dates(text, self._dates_and_short))
        return re.sub(r"\s{2,}", " ", text).strip()

    def _word_in(self, content: bytes, place: str) -> bool:
        return any(
            needle in content and _stands(needle, content, place, is_number)
            for needle, is_number in _needles(self.words, self.encodings, self.raw)
        )

    def _own_in(self, content: bytes) -> bool:
        """Inside of longer words too, and parted by what is no letter."""
        joined = _NO_LETTER.sub(b"", content)
        return any(
            needle in content or (len(needle) >= _ANYWHERE and needle in joined)
            for needle, _ in _needles(self.own, self.encodings, frozenset())
        )

    def _date_in(self, content: bytes) -> bool:
        if not self.dates:
            return False
        content = content.replace(b"\0", b"")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        return not self._dates_and_short.isdisjoint(dates_in_text(text))

    @property
    def _dates_and_short(self) -> frozenset[str]:
        """Also without their century."""
        return self.dates | {date[2:] for date in self.dates}

    def _is_number(self, text: str) -> bool:
        known = _numbers(self.words, _WHOLE_NUMBER)
        return bool(known) and any(_whole(part) in known for part in text.split("\\"))

    def _is_binary(self, content: bytes, code: str) -> bool:
        known, size = _numbers(self.words, _WHOLE_BINARY), struct.calcsize(code)
        if not known or len(content) > 4096 or len(content) % size:
            return False
        values = [struct.unpack(f"{order}{len(content) // size}{code}", content) for order in "<>"]
        return any(value in known for order in values for value in order)


NOTHING = Identifiers()


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


def own_of_name(text: str) -> Iterator[str]:
    """Each word of the patient's own name that has four letters or more, common or not."""
    yield from (word for word in _WORD.findall(text.lower()) if word.isalpha() and len(plain(word)) >= _OWN_ANYWHERE)


def own_of_id(text: str) -> Iterator[str]:
    """The numbers in the patient's own identity number, apart from its letters."""
    yield from (digits for digits in re.findall(r"\d+", text) if len(digits) >= _OWN_DIGITS)


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
    letters, digits = _SHORTEST.get(place, _IN_BYTES)
    escaped = re.escape(needle)
    if is_number:
        pattern = rb"(?<!\d)(?<!\d\.)" + escaped + rb"(?!\d)(?!\.\d)"
        return len(needle) >= digits and re.search(pattern, content) is not None
    if not needle.isascii() or len(needle) >= _ANYWHERE:
        return len(needle) >= letters
    return len(needle) >= letters and re.search(rb"(?<![a-z0-9])" + escaped + rb"(?![a-z0-9])", content) is not None


def _uids_in(content: bytes) -> Iterator[str]:
    return (found.group().decode("ascii") for found in _UID.finditer(content))


@functools.lru_cache(maxsize=8)
def _numbers(words: frozenset[str], digits: int) -> frozenset[int]:
    """Leading zeros are no digits: a patient "00001" must not empty each 1."""
    numbers = (int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 64)
    return frozenset(number for number in numbers if number >= 10 ** (digits - 1))


def _whole(text: str) -> int | None:
    """A DS or IS value that is a whole number, however written."""
    try:
        number = float(text.strip(" \0"))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
