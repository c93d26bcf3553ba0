"""What a PACS says that became of the objects that it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medrail.serve.pacs.attributes import FAILED, REASON, REFERENCED, REFERENCED_UID, count, items, text
from medrail.serve.problems import Refusal

# PS3.18, table I.2-2, and PS3.4, annex B.2.3: the first digits say the kind.
_REASONS = {
    0x0110: "it could not process it",
    0x0111: "it has one of the same UID already",
    0x0122: "it does not keep this kind of object",
    0x0124: "this service may not store there",
    0x0131: "its own rules forbid it",
    0x0132: "its own settings forbid it",
}
_RANGES = {0xA7: "it has no room left", 0xA9: "it finds it not as its kind must be", 0xC: "it does not understand it"}


@dataclass(frozen=True)
class Stored:
    """One object: whether the PACS has it, and if not, why as far as it says."""

    uid: str
    stored: bool
    reason: str = ""


def stored_of(uids: Sequence[str], status: int, said: Any) -> list[Stored]:
    """By the answer to STOW-RS (PS3.18, 10.5.3). Only what it names is taken as stored.

    Raises
    ------
    Refusal
        "pacs-answer" where it is no such answer.
    """
    if not isinstance(said, dict):
        raise Refusal("pacs-answer", "The PACS did not say what it stored.")
    kept = {text(item, REFERENCED_UID) for item in items(said, REFERENCED)}
    failed = {text(item, REFERENCED_UID): count(item, REASON) for item in items(said, FAILED)}
    general = next(iter(failed.values()), None)
    return [
        Stored(uid, True) if uid in kept else Stored(uid, False, _reason(failed.get(uid, general), status))
        for uid in uids
    ]


def _reason(code: int | None, status: int) -> str:
    if code is None:
        return f"it did not say why (status {status})"
    known = _REASONS.get(code) or _RANGES.get(code >> 8) or _RANGES.get(code >> 12)
    return f"{known or 'it failed'} (code {code:04X})"
