"""What was done, counted: never a value of a header, never a name of an original file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medrail.cases.deidentify.actions import EDITION
from medrail.cases.deidentify.options import KEEP, Options

NOTE = (
    "No guarantee is given for faces that can be rebuilt from head scans, and for text drawn into the pixels: "
    "look at the pictures before you pass them on."
)


@dataclass
class Report:
    """Counts of one run. A file is called by its number: its place among all files of IN, sorted by path."""

    options: Options
    out: Path | None
    linkage: Path | None
    files: int = 0
    written: int = 0
    patients: set[str] = field(default_factory=set, repr=False)
    studies: set[str] = field(default_factory=set, repr=False)
    series: set[str] = field(default_factory=set, repr=False)
    actions: Counter[tuple[str, str]] = field(default_factory=Counter)
    failed: list[tuple[int, str]] = field(default_factory=list)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    warnings: dict[str, str] = field(default_factory=dict)
    note: str = NOTE

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``--json`` and of deidentified.json."""
        by_action: dict[str, dict[str, int]] = {}
        for (action, name), count in sorted(self.actions.items()):
            by_action.setdefault(action, {})[name] = count
        return {
            "profile": f"DICOM PS3.15 {EDITION} Basic Application Level Confidentiality Profile",
            "keep": [name for name in KEEP if self.options.keeps(name)],
            "blank_rules": len(self.options.rules),
            "files": self.files,
            "written": self.written,
            "patients": len(self.patients),
            "studies": len(self.studies),
            "series": len(self.series),
            "failed": [{"file": number, "reason": reason} for number, reason in self.failed],
            "left_out": [{"file": number, "reason": reason} for number, reason in self.left_out],
            "actions": by_action,
            "warnings": [{"where": where, "warning": text} for where, text in sorted(self.warnings.items())],
            "note": NOTE,
        }

    def table(self) -> tuple[tuple[str, str], ...]:
        """Counts for a terminal: actions by kind, then what was not written."""
        totals: Counter[str] = Counter()
        for (action, _), count in self.actions.items():
            totals[action] += count
        rows = [("kept", ", ".join(name for name in KEEP if self.options.keeps(name)) or "nothing on request")]
        rows += [(action, str(count)) for action, count in sorted(totals.items())]
        return (*rows, ("left out", str(len(self.left_out))), ("failed", str(len(self.failed))))

    def to_markdown(self) -> str:
        """The same as a page to read."""
        facts = self.to_dict()
        lines = ["# De-identified images", "", f"Profile: {facts['profile']}.", ""]
        lines += [f"Kept on request: {', '.join(facts['keep']) or 'nothing'}.", ""]
        lines += ["| what | number |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {facts[name]} |" for name in _COUNTS]
        lines += [f"| failed | {len(self.failed)} |", f"| left out | {len(self.left_out)} |", "", NOTE, ""]
        for title, rows in (("Failed", self.failed), ("Left out", self.left_out)):
            if rows:
                lines += [f"## {title}", "", *(f"- file {number}: {reason}" for number, reason in rows), ""]
        if self.warnings:
            lines += ["## Look at these", "", *(f"- {w}: {text}" for w, text in sorted(self.warnings.items())), ""]
        lines += ["## What was done", "", "| action | attribute | times |", "|---|---|---|"]
        lines += [f"| {action} | {name} | {count} |" for action, name, count in _rows(facts["actions"])]
        return "\n".join(lines) + "\n"


_COUNTS = ("files", "written", "patients", "studies", "series")


def _rows(actions: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int]]:
    return [(action, name, count) for action, names in actions.items() for name, count in names.items()]
