"""Layout: how the data lie on the disk, as a DataConfig that the cases room reads, and why it was taken for that.

A guess is never taken on trust: the cases room itself lists the cases of a proposed configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.cases import LAYOUTS, labels_of
from medrail.cases.listing import Entry, Finding, Listing
from medrail.config import Config, DataConfig, ModelConfig, Task
from medrail.errors import ConfigError, DataError
from medrail.workspace import Workspace

_MOST_CLASSES = 50


@dataclass(frozen=True)
class NewTable:
    """A CSV that `init` writes beside medrail.yaml, because the files alone do not say what it says.

    ``rows`` hold absolute paths in the columns called path and mask; ``needs_filling`` when a person must complete it.
    """

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    needs_filling: bool = False


@dataclass(frozen=True)
class Layout:
    """What was seen.

    data:
        ``path`` (and ``labels``) absolute, or the name of ``table``, which is to be written into the project.
    entries:
        One for each image, as the cases room lists them.
    why:
        What the layout was told from, as the rest of "this is ... because".
    rank:
        The smaller, the likelier, where several layouts are possible.
    label_names:
        Names of mask values that a dataset.json gives.
    """

    task: Task
    data: DataConfig
    entries: tuple[Entry, ...]
    why: str
    rank: int
    unsure: tuple[str, ...] = ()
    alternatives: tuple[str, ...] = ()
    table: NewTable | None = None
    label_names: tuple[tuple[int, str], ...] = ()

    @property
    def targets(self) -> dict[str, int]:
        """Classification: images of each class, or that have each label."""
        counts: dict[str, int] = {}
        for entry in self.entries:
            for name in labels_of(entry.target, self.data):
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items()))


def list_entries(task: Task, data: DataConfig) -> Listing | None:
    """What the cases room lists for a proposed configuration, or None where it refuses it."""
    try:
        config = draft(task, data)
        return LAYOUTS[data.kind](config, Workspace(Path(data.path)))
    except (ConfigError, DataError, ValueError):
        return None


def draft(task: Task, data: DataConfig) -> Config:
    """A configuration that is only good for listing cases."""
    if task == "segmentation" and len(data.classes) < 2:
        data = data.model_copy(update={"classes": ("background", "foreground")})
    name = "tiny_cnn" if task == "classification" else "unet"
    return Config(task=task, data=data, model=ModelConfig(name=name, dims=2))


def stopping(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that keep a case from being made."""
    return [finding for finding in findings if finding.severity == "stop"]


def told(findings: Sequence[Finding], root: Path) -> tuple[str, ...]:
    """Findings as notes: the first of each kind, and how many there are."""
    by_defect: dict[str, list[Finding]] = {}
    for finding in findings:
        by_defect.setdefault(finding.defect, []).append(finding)
    notes = []
    for group in by_defect.values():
        first = group[0]
        where = first.where.removeprefix(f"{root}/")
        more = f" (and {len(group) - 1:,} more like it)" if len(group) > 1 else ""
        notes.append(f"{where}: {first.what}{more}. {first.remedy}".strip())
    return tuple(notes)


def too_many_classes(targets: Mapping[str, int]) -> bool:
    """Whether labels look like names or measurements rather than classes."""
    return len(targets) > _MOST_CLASSES or (len(targets) > 10 and 2 * len(targets) > sum(targets.values()))
