"""Case ids: unique, safe as file names on every system, and the same whatever order the files come in."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from medrail.cases.listing import stem

LONGEST = 120
_KEPT = frozenset("._-")
_NOT_KEPT = re.compile(r"[^0-9A-Za-z._-]+")
# Device names of Windows, which cannot be file names there whatever their suffix.
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})


def safe_id(name: str) -> str:
    """A name as an id: letters and digits of any script, dot, underscore, hyphen; the rest becomes one hyphen."""
    if name.isascii():  # the same, quicker
        plain = _NOT_KEPT.sub("-", name).strip("-._")
    else:
        text = unicodedata.normalize("NFC", name)
        mapped = "".join(letter if letter.isalnum() or letter in _KEPT else " " for letter in text)
        plain = "-".join(mapped.split()).strip("-._")
    if not plain or plain.split(".")[0].casefold() in _RESERVED:
        plain = f"case-{plain}".rstrip("-")
    while len(plain.encode()) > LONGEST:
        plain = f"{plain[: max(1, len(plain) * 3 // 4 - 9)].rstrip('-._')}-{_short_hash(name)}"
    return plain


def unique_ids(names: Sequence[str]) -> list[str]:
    """An id for each file's name, in order, without the image's suffix.

    Names that would get the same id (case ignored) get a hash of the whole name behind.

    The names themselves must be different from each other.
    """
    ids = [safe_id(stem(name)) for name in names]
    keys = [_key(text) for text in ids]
    counts = Counter(keys)
    if len(counts) == len(ids):
        return ids
    ids = [
        text if counts[key] == 1 else f"{text}-{_short_hash(name)}"
        for text, key, name in zip(ids, keys, names, strict=True)
    ]
    if len({_key(text) for text in ids}) == len(ids):
        return ids
    return [f"{text}-{_short_hash(name, 32)}" for text, name in zip(ids, names, strict=True)]


def is_safe_id(text: str) -> bool:
    """Whether a text may be an id as it is: ``safe_id`` would not change it."""
    return bool(text) and safe_id(text) == text


def _key(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def _short_hash(name: str, length: int = 8) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:length]
