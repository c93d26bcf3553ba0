"""What a run's passport and record name, and what is there now: every difference by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medrail.cases import FileHashes, Record, drawn_fingerprint, image_fingerprint
from medrail.cases.listing import counted, shown
from medrail.config import Config
from medrail.errors import ConfigError, DataError, RunError
from medrail.train.material import start_weights
from medrail.train.passport import sha256_of
from medrail.train.weights import weights_sha256
from medrail.types import Case
from medrail.workspace import Run, Workspace

Kind = Literal["seed", "configuration", "data", "code", "environment", "weights"]
KINDS: tuple[Kind, ...] = ("seed", "configuration", "data", "code", "environment", "weights")
_NAMED, _HASH_SHOWN = 6, 12

CIRCUMSTANCES: dict[str, tuple[Kind, tuple[str, ...]]] = {
    "medrail version": ("code", ("medrail", "version")),
    "medrail source": ("code", ("medrail", "source_sha256")),
    "project commit": ("code", ("project", "commit")),
    "project diff": ("code", ("project", "diff_sha256")),
    **{
        name: ("environment", ("machine", name))
        for name in ("python", "system", "architecture", "processor", "capability", "device", "device_name")
    },
    "threads": ("environment", ("machine", "threads")),
    "precision": ("environment", ("machine", "precision")),
    "processes": ("environment", ("machine", "processes")),
}
"""Name -> its kind and where the passport has it; the packages come to it. The kernel's release and the number of
cores are left out: neither changes a number.
"""


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was: its kind, its name, and both values as text ("" where there is none)."""

    what: Kind
    name: str
    recorded: str
    found: str

    def to_json(self) -> dict[str, str]:
        return {"what": self.what, "name": self.name, "recorded": self.recorded, "found": self.found}

    def __str__(self) -> str:
        return f"{self.name} {_short(self.recorded)} -> {_short(self.found)}"


def of_circumstances(passport: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """Code and environment: the passport's, with those of its later sessions, against ``passport.circumstances``."""
    sessions = list(_sessions(passport))
    packages = {name for session in (*sessions, now) for name in session.get("packages") or ()}
    table = CIRCUMSTANCES | {name: ("environment", ("packages", name)) for name in sorted(packages)}
    found = []
    for name, (kind, place) in table.items():
        recorded = list(dict.fromkeys(_at(session, place) for session in sessions))
        value = _at(now, place)
        if recorded != [value]:
            found.append(Difference(kind, name, ", then ".join(recorded), value))
    return found


def of_seed(passport: Mapping[str, Any], config: Config) -> list[Difference]:
    """The seed of the passport against that of the run's config.yaml."""
    recorded, found = str(passport.get("seed")), str(config.train.seed)
    return [Difference("seed", "train.seed", recorded, found)] if recorded != found else []


def of_data(record: Record, cases: Sequence[Case], workspace: Workspace, *, drawn: bool) -> list[Difference]:
    """The record's cases against the data as they are now: missing, other image, mask, label, patient or split.

    Parameters
    ----------
    cases:
        All cases that the configuration makes of the data now. Those that the record does not know do not count.
    drawn:
        Whether the splits are drawn by seed: then added or missing cases change who is drawn, which is no difference of
        the data's own, so splits are compared only where the cases are the same ones.
    """
    now = {case.id: case for case in cases}
    same_cases = now.keys() == record.cases.keys()
    found = []
    with FileHashes.of(workspace) as hashes:
        for case_id, then in record.cases.items():
            case = now.get(case_id)
            if case is None:
                found.append(Difference("data", f"case {case_id}", "there", "missing"))
                continue
            pairs = {
                "image": (record.images.get(case_id, ""), _digest(image_fingerprint, case, hashes)),
                "mask": (record.masks.get(case_id, ""), _digest(drawn_fingerprint, case, hashes)),
                "label": (_label(then), _label(case)),
                "patient": ("the recorded one", "the recorded one" if then.patient == case.patient else "another"),
            }
            if not record.masks:  # a record that was written before masks were taken down
                del pairs["mask"]
            if same_cases or not drawn:
                pairs["split"] = (then.split or "", case.split or "")
            found += [
                Difference("data", f"{name} of case {case_id}", *pair)
                for name, pair in pairs.items()
                if pair[0] != pair[1]
            ]
    return found


def of_start(passport: Mapping[str, Any], config: Config, workspace: Workspace) -> list[Difference]:
    """The file of weights that the training starts from; one that has an address is fetched where it is not here."""
    recorded = _at(passport, ("data", "start_weights"))
    if not config.model.weights or not recorded:
        return []
    try:
        path = start_weights(config.model.weights, workspace)
        found = sha256_of(path) if path else "missing"
    except ConfigError:
        found = "missing"
    return [Difference("data", "file of model.weights", recorded, found)] if recorded != found else []


def of_prepared(passport: Mapping[str, Any], now: Mapping[str, str]) -> list[Difference]:
    """The prepared numbers; they are made of the data by code and packages, so these are looked at first."""
    names = {"pipeline": "prepare.steps", "fingerprint": "files of the prepared cases", "numbers": "prepared numbers"}
    pairs = {names[key]: (_at(passport, ("data", key)), now[key]) for key in names}
    return [Difference("data", name, *pair) for name, pair in pairs.items() if pair[0] and pair[0] != pair[1]]


def of_weights(passport: Mapping[str, Any], run: Run) -> list[Difference]:
    """Whether the run's weights are those that its passport names."""
    recorded = _at(passport, ("result", "weights_sha256"))
    if not recorded:
        return []
    try:
        found = weights_sha256(run)
    except RunError:
        found = "missing or broken"
    return [Difference("weights", f"checkpoints/{run.best.name}", recorded, found)] if recorded != found else []


def told(differences: Iterable[Difference]) -> list[str]:
    """A sentence a kind, as ``data: image of 1 case changed (p03), 2 cases missing (p04, p05)``."""
    lines = []
    all_of_them = list(differences)
    for kind in KINDS:
        of_kind = [one for one in all_of_them if one.what == kind]
        if not of_kind:
            continue
        by_case = [one for one in of_kind if kind == "data" and " case " in f" {one.name}"]
        parts = [str(one) for one in of_kind if one not in by_case]
        lines.append(f"{kind}: {', '.join([*_grouped(by_case), *parts])}")
    return lines


def _grouped(differences: Sequence[Difference]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for one in differences:
        what, _, case_id = one.name.rpartition("case ")
        groups.setdefault(what, []).append(case_id)
    for what, ids in groups.items():
        names = f"({shown(ids, _NAMED)})"
        yield (
            f"{what}{counted(len(ids), 'case')} changed {names}"
            if what
            else (f"{counted(len(ids), 'case')} missing {names}")
        )


def _sessions(passport: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The passport, and as each later session changed it."""
    state = dict(passport)
    yield state
    for session in passport.get("sessions", ()):
        state = state | session
        yield state


def _at(values: Mapping[str, Any], place: Sequence[str]) -> str:
    found: Any = values
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return "" if found is None else str(found)


def _digest(fingerprint: Any, case: Case, hashes: FileHashes) -> str:
    try:
        return str(fingerprint(case, hashes))
    except DataError:
        return "cannot be read"


def _label(case: Case) -> str:
    """The class; of a mask only that there is one, since where it lies does not matter."""
    target = case.target or ""
    return "a mask" if Path(target).is_absolute() else target


def _short(value: str) -> str:
    """A hash is cut to what a person compares."""
    words = value.split(", then ")
    cut = [f"{word[:_HASH_SHOWN]}..." if len(word) >= 40 and word.isalnum() else word for word in words]
    return ", then ".join(cut) or "(none)"
