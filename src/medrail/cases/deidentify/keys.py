"""New names for patients and UIDs, and a shift in days for each patient: all made from one secret, so always alike."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, timedelta

from pydicom import config
from pydicom.uid import UID

_SHORTEST_SHIFT_DAYS, _LONGEST_SHIFT_DAYS = 180, 3650
_DATE = re.compile(r"(\d{4})(\d{2})(\d{2})")


def new_secret() -> str:
    """256 random bits as hexadecimal text."""
    return secrets.token_hex(32)


@dataclass
class Keys:
    """The secret, and the patients that have a new name: ``patients`` maps an original key to P0001, P0002, ...

    A later batch with the same secret and patients gives the same names, UIDs and shifts.
    """

    secret: str = field(default_factory=new_secret, repr=False)
    patients: dict[str, str] = field(default_factory=dict, repr=False)

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(bytes.fromhex(self.secret), f"{kind}\0{text}".encode(), hashlib.sha256).digest()

    def add_patients(self, keys: Iterable[str], taken: Iterable[str] = ()) -> None:
        """Number new patients in an order that tells nothing of their names; names in ``taken`` are passed over."""
        used = {name.casefold() for name in (*self.patients.values(), *taken)}
        number = 0
        for key in sorted(set(keys) - set(self.patients), key=lambda key: self._digest("patient", key)):
            number += 1
            while f"p{number:04d}" in used:
                number += 1
            self.patients[key] = f"P{number:04d}"

    def new_uid(self, uid: str) -> str:
        """A UID below 2.25 (PS3.5 section B.2) of 128 keyed bits; one that the standard defines stays."""
        if not uid or is_standard(uid):
            return uid
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def label(self, kind: str, text: str) -> str:
        """Eight letters for a folder's name."""
        return self._digest(kind, text).hex()[:8]

    def shift_days(self, patient: str) -> int:
        """By how much a patient's dates go back: 180 to 3,650 days."""
        span = _LONGEST_SHIFT_DAYS - _SHORTEST_SHIFT_DAYS + 1
        return -(_SHORTEST_SHIFT_DAYS + int.from_bytes(self._digest("shift", patient)[:8], "big") % span)


def is_standard(uid: str) -> bool:
    """Whether the standard itself defines the UID (PS3.6, annex A)."""
    known = UID(uid, validation_mode=config.IGNORE)
    return bool(known.name != uid)


def shifted(text: str, days: int) -> str | None:
    """A DA or DT value with its date moved; time and zone stay. None for what is no date (PS3.5 section 6.2)."""
    found = _DATE.match(text)
    if not found or (len(text) > 8 and not re.fullmatch(r"\d{8}\d{0,6}(\.\d{1,6})?([+-]\d{4})?\s*", text)):
        return None
    try:
        moved = date(*(int(part) for part in found.groups())) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    return f"{moved:%Y%m%d}".rjust(8, "0") + text[8:]
