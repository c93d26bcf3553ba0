"""The actions carried out on one data set, in place, to every depth."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from medrail.cases.deidentify import dummies
from medrail.cases.deidentify.actions import CLASS_UIDS, FREE_TEXT, PIXELS, action_for
from medrail.cases.deidentify.header import MAX_DEPTH, decoded, encodings_of, place_of, stored
from medrail.cases.deidentify.identifiers import Identifiers
from medrail.cases.deidentify.keys import Keys, shifted
from medrail.cases.deidentify.options import Options
from medrail.cases.deidentify.safe_private import clean_csa, is_csa, is_safe
from medrail.errors import CorruptFile

_LONGEST = {"SH": 16, "CS": 16, "LO": 64}
_OLDEST_YEARS = 90  # ages above are rare enough to tell a person (HIPAA 45 CFR 164.514(b)(2)(i)(C))
_NAMES = {"X": "removed", "Z": "emptied", "D": "replaced", "U": "UID mapped", "S": "date shifted", "C": "cleaned"}


@dataclass
class Cleaner:
    """Carries out the actions for one file and counts them in ``done``: (action, attribute's keyword)."""

    options: Options
    keys: Keys
    identifiers: Identifiers
    shift_days: int
    dummy_needed: bool
    done: Counter[tuple[str, str]] = field(default_factory=Counter)
    encodings: tuple[str, ...] = ()

    def clean(self, dataset: Dataset, depth: int = 0, *, dummies_only: bool = False) -> None:
        """Change a data set; with ``dummies_only`` every leaf gets a dummy (items of sequences of action D)."""
        if depth > MAX_DEPTH:
            raise CorruptFile(f"nests sequences more than {MAX_DEPTH} deep", remedy="Leave it out; it is no image.")
        if depth == 0 or "SpecificCharacterSet" in dataset:
            self.encodings = encodings_of(dataset)
        for tag in [int(tag) for tag in sorted(dataset.keys())]:
            if tag in PIXELS and depth == 0:
                continue
            if tag not in dataset:
                continue
            if tag >> 16 & 1:
                self._private(dataset, tag)
                continue
            vr, value = stored(dataset, tag)
            action = action_for(tag, vr, self.options, dummy_needed=self.dummy_needed)
            if dummies_only and action in "KCZS":
                action = "D"
            if vr == "SQ":
                self._sequence(dataset, tag, action, depth, dummies_only=dummies_only)
            else:
                self._leaf(dataset, tag, vr, value or b"", action)

    def _sequence(self, dataset: Dataset, tag: int, action: str, depth: int, *, dummies_only: bool) -> None:
        items = dataset[tag].value or Sequence()
        if action in "XZ":
            self._carry_out(dataset, tag, "SQ", action)
        elif keyword_for_tag(tag) == "ContentSequence" and action == "D" and not dummies_only:
            self._note("D", tag)
            dataset[tag] = DataElement(tag, "SQ", dummies.content())
        else:
            replaced = dummies_only or action == "D"
            if replaced:
                self._note("D", tag)
                items = Sequence(list(items)[:1])
            for item in items:
                self.clean(item, depth + 1, dummies_only=replaced)
            # Set anew: a sequence kept as read would be written with what its items were.
            dataset[tag] = DataElement(tag, "SQ", Sequence(list(items)))

    def _leaf(self, dataset: Dataset, tag: int, vr: str, value: bytes, action: str) -> None:
        if not value.strip(b" \0") and action not in "X":
            return
        if vr == "UI" and action in "UDKC":
            self._uid(dataset, tag, value, keep=action == "K")
        elif action == "S":
            self._shift(dataset, tag, vr, value)
        elif action == "C":
            self._clean_text(dataset, tag, vr, value)
        elif action == "K":
            self._keep(dataset, tag, vr, value)
        else:
            self._carry_out(dataset, tag, vr, action)

    def _carry_out(self, dataset: Dataset, tag: int, vr: str, action: str) -> None:
        self._note(action, tag)
        if action == "X":
            del dataset[tag]
        else:
            dataset[tag] = dummies.empty(tag, vr) if action == "Z" else dummies.dummy(tag, vr)

    def _uid(self, dataset: Dataset, tag: int, value: bytes, *, keep: bool) -> None:
        if keep or tag in CLASS_UIDS:
            return
        uids = [part.strip(" \0") for part in value.decode("ascii", "replace").split("\\")]
        self._note("U", tag)
        dataset[tag] = DataElement(tag, "UI", [self.keys.new_uid(uid) for uid in uids] if len(uids) > 1 else
                                   self.keys.new_uid(uids[0]))  # fmt: skip

    def _shift(self, dataset: Dataset, tag: int, vr: str, value: bytes) -> None:
        if vr == "TM":
            self._keep(dataset, tag, vr, value)
            return
        parts = [shifted(part.strip(" \0"), self.shift_days) for part in value.decode("ascii", "replace").split("\\")]
        if None in parts:
            self._carry_out(dataset, tag, vr, "Z")
            return
        self._note("S", tag)
        dataset[tag] = DataElement(tag, vr, parts if len(parts) > 1 else parts[0])

    def _clean_text(self, dataset: Dataset, tag: int, vr: str, value: bytes) -> None:
        text = self.identifiers.without(decoded(value, self.encodings))
        self._note("C", tag)
        # Whatever else it said, it says it in ASCII: the character set of the original need not be known to read it.
        clean = text.encode("ascii", "replace").decode("ascii")[: _LONGEST.get(vr)]
        if self.identifiers.found_in(clean.encode("ascii"), place_of(vr)):
            clean = ""
        dataset[tag] = DataElement(tag, vr, clean)

    def _keep(self, dataset: Dataset, tag: int, vr: str, value: bytes) -> None:
        if keyword_for_tag(tag) == "PatientAge" and value[:3].isdigit() and value[3:4] in b"Y":
            if int(value[:3]) > _OLDEST_YEARS:
                self._note("C", tag)
                dataset[tag] = DataElement(tag, vr, f"{_OLDEST_YEARS:03d}Y")
        elif self.identifiers.found_in(value, place_of(vr)):
            # The standard keeps the attribute, but this one tells who it is.
            self._carry_out(dataset, tag, vr, "Z" if vr in FREE_TEXT or vr in ("CS", "DS", "IS", "AS") else "X")

    def _private(self, dataset: Dataset, tag: int) -> None:
        creator = self._creator(dataset, tag) if self.options.keeps("safe-private") else ""
        if tag & 0xFFFF < 0x1000:
            if not (creator and self._has_safe(dataset, tag, creator)):
                self._remove_private(dataset, tag)
            return
        vr, value = stored(dataset, tag) if creator and is_safe(creator, tag) else ("SQ", None)
        if value is None or self.identifiers.found_in(value, place_of(vr)):
            self._remove_private(dataset, tag)
        elif is_csa(creator, tag):
            clean = clean_csa(value)
            self.done["cleaned" if clean else "removed", "private attributes"] += 1
            if clean:
                dataset[tag] = DataElement(tag, "OB", clean)
            else:
                del dataset[tag]
        else:
            self.done["kept", "safe private attributes"] += 1

    def _has_safe(self, dataset: Dataset, tag: int, creator: str) -> bool:
        block = (tag & 0xFF) << 8
        return any(
            int(other) >> 16 == tag >> 16 and int(other) & 0xFF00 == block and is_safe(creator, int(other))
            for other in dataset.keys()  # noqa: SIM118  (a data set iterates over its elements)
        )

    def _remove_private(self, dataset: Dataset, tag: int) -> None:
        self.done["removed", "private attributes"] += 1
        del dataset[tag]

    def _creator(self, dataset: Dataset, tag: int) -> str:
        """The maker of a private block (PS3.5 section 7.8.1), of the creator's element or of one in its block."""
        low = tag & 0xFFFF
        creator_tag = Tag(tag >> 16, low if low < 0x1000 else low >> 8)
        if creator_tag not in dataset:
            return ""
        value: Any = stored(dataset, int(creator_tag))[1]
        return (value or b"").decode("ascii", "replace").strip(" \0")

    def _note(self, action: str, tag: int) -> None:
        name = keyword_for_tag(tag) or f"{tag >> 16:04X},{tag & 0xFFFF:04X}"
        group = tag >> 16 & 0xFF00
        name = {0x5000: "curves", 0x6000: "overlays"}.get(group, name)
        self.done[_NAMES[action], name] += 1
