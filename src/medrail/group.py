"""Group: runs that belong together, as five seeds of one training or the five folds of one data set.

::

    DIR/runs/NAME-seeds-001/group.json     kind, members, and the configuration they share
    DIR/runs/NAME-seeds-001/summary.json   what the members' evaluations say together
    DIR/runs/NAME-folds-001/evaluation/    folds: every case, judged by the network that had not seen it

The members are ordinary runs beside it; each one's passport names its groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from medrail.errors import RunError
from medrail.workspace import Run, Workspace, read_json, write_json

GroupKind = Literal["seeds", "folds"]
GROUP_FILE = "group.json"
FORMAT = 1
MEMBER_NOUN: dict[GroupKind, str] = {"seeds": "seed", "folds": "fold"}


@dataclass(frozen=True)
class Member:
    """One run of a group: its seed or fold, its fingerprint, and its name once it is finished ("" before)."""

    number: int
    fingerprint: str
    run: str = ""


@dataclass(frozen=True)
class Group:
    """A group's folder and what group.json says; ``config``: what the members share, as JSON values."""

    folder: Path
    kind: GroupKind
    members: tuple[Member, ...]
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def workspace(self) -> Workspace:
        return Run(self.folder).workspace

    @property
    def runs(self) -> tuple[Run, ...]:
        """The members.

        Raises
        ------
        RunError
            If not all of them are trained.
        """
        missing = sum(not member.run for member in self.members)
        if missing:
            raise RunError(
                f"{missing} of {len(self.members)} members are not trained yet",
                where=str(self.folder),
                remedy=f"Repeat `medrail train` with --{self.kind} {len(self.members)}: it goes on where it stopped.",
            )
        return tuple(self.workspace.run(member.run) for member in self.members)

    def write(self) -> None:
        """Write group.json."""
        noun = MEMBER_NOUN[self.kind]
        members = [{"run": one.run or None, noun: one.number, "fingerprint": one.fingerprint} for one in self.members]
        values = {
            "format": FORMAT,
            "kind": self.kind,
            "runs": [one.run for one in self.members if one.run],
            "members": members,
            "config": dict(self.config),
        }
        write_json(self.folder / GROUP_FILE, values)


def is_group(path: str | Path) -> bool:
    """Whether it is the folder of a group."""
    return (Path(path) / GROUP_FILE).is_file()


def read_group(path: str | Path) -> Group:
    """The group of a folder.

    Raises
    ------
    RunError
        If there is none, or group.json is broken.
    """
    folder = Path(path).resolve()
    values = read_json(folder / GROUP_FILE)
    try:
        kind: GroupKind = values["kind"]
        noun = MEMBER_NOUN[kind]
        members = tuple(
            Member(int(one[noun]), str(one["fingerprint"]), str(one["run"] or "")) for one in values["members"]
        )
        if values["format"] != FORMAT or not members:
            raise ValueError
        return Group(folder, kind, members, dict(values["config"]))
    except (KeyError, TypeError, ValueError):
        raise RunError(
            "not a group that this medrail reads",
            where=str(folder / GROUP_FILE),
            remedy="Delete the folder, and train the group again: finished runs are kept.",
        ) from None


def find_group(workspace: Workspace, name: str, kind: GroupKind, fingerprints: Sequence[str]) -> Path:
    """The folder of the group with these members, or the next free one, ``runs/NAME-KIND-001`` and so on."""
    pattern = re.compile(rf"{re.escape(name)}-{kind}-(\d+)")
    taken = [0]
    for folder in sorted(workspace.runs.glob("[!.]*")):
        match = pattern.fullmatch(folder.name)
        if match:
            taken.append(int(match[1]))
        if match and is_group(folder):
            try:
                known = read_group(folder)
            except RunError:
                continue
            if known.kind == kind and [one.fingerprint for one in known.members] == list(fingerprints):
                return folder
    return workspace.runs / f"{name}-{kind}-{max(taken) + 1:03d}"
