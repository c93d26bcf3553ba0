"""plan: a path -> everything that `medrail init` writes and says, without writing anything."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from medrail.cases.labels import class_names
from medrail.cases.layouts.headers import with_headers
from medrail.cases.listing import Entry, Listing, counted, shown
from medrail.cases.splits.patients import patients_of
from medrail.config import Config, DataConfig, Task
from medrail.errors import CaseError
from medrail.plan.drawings import DRAWINGS
from medrail.plan.fingerprint import Fingerprint, look_at_images
from medrail.plan.layout import Layout, NewTable, draft
from medrail.plan.look import look
from medrail.plan.machine import Machine, this_machine
from medrail.plan.notes import Notes
from medrail.plan.patients import PatientPattern, propose
from medrail.plan.planner import plan_config
from medrail.types import SPLITS, Case, Progress


@dataclass(frozen=True)
class Plan:
    """What was seen and what is proposed.

    config:
        Complete and valid; ``data.path`` is absolute, or the name of ``table``, which `init` writes into the project.
    facts:
        (what, value) as measured, for a table.
    inferred, unsure, alternatives:
        Sentences: concluded from what; to be looked at; other readings of the same data, and how to choose them.
    table:
        A CSV that the files need beside them, or None.
    cases, splits:
        All cases, and how many the data themselves give each split.
    """

    config: Config
    facts: list[tuple[str, str]]
    inferred: list[str]
    unsure: list[str]
    alternatives: list[str]
    table: NewTable | None
    cases: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)


def plan(
    data_path: str | Path,
    *,
    task: Task | None = None,
    machine: Machine | None = None,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Look at data (names of all files, at most 24 images) and propose a configuration.

    Parameters
    ----------
    data_path:
        A folder, a CSV or a MedMNIST npz; nothing is written there.
    task:
        Where data can serve both tasks, the one that is meant; None: the likelier.
    machine:
        What training must fit; None: this computer.
    minutes:
        As of ``init``.

    Raises
    ------
    CaseError
        If no layout fits, or no sampled image can be read.
    """
    layout = look(data_path, task)
    layout = replace(layout, entries=with_headers(Listing(layout.entries)).entries)
    machine = machine or this_machine()
    if minutes is not None:
        machine = replace(machine, minutes=minutes)
    notes = Notes([f"{layout.task}, {_title(layout)}: {layout.why}"], list(layout.unsure))
    pattern = _patient_pattern(layout, notes)
    found = fingerprint(layout, pattern, progress)
    for file, reason in found.failed[:3]:
        notes.unsure.append(f"{file} cannot be read ({reason}); `medrail check` lists all such files")
    data = layout.data.model_copy(update={"patient_pattern": pattern.pattern}) if pattern else layout.data
    root = Path(data_path).resolve()
    name = root.parent.name if layout.data.kind == "csv" and root.is_file() else root.name
    config, expected = plan_config(layout.task, data, found, machine, notes, name=name, label_names=layout.label_names)
    if minutes is not None:
        config = config.model_copy(update={"train": config.train.model_copy(update={"minutes": minutes})})
        notes.inferred.append(f"training is held to {minutes:g} minutes (train.minutes), whatever train.epochs says")
    _say_size(found, notes)
    _say_roi(layout, notes)
    notes.unsure += layout.alternatives
    return Plan(
        config=config,
        facts=facts_of(layout, found, config, machine, expected),
        inferred=notes.inferred,
        unsure=notes.unsure,
        alternatives=list(layout.alternatives),
        table=layout.table,
        cases=found.cases,
        splits=dict(found.splits),
    )


def fingerprint(layout: Layout, pattern: PatientPattern | None, progress: Progress | None = None) -> Fingerprint:
    """Count all entries and read a sample of them.

    Raises
    ------
    CaseError
        If none of the sampled images can be read.
    """
    segmentation = layout.task == "segmentation"
    images, masks, failed = look_at_images(layout.entries, with_masks=segmentation, progress=progress)
    if not images:
        file, reason = failed[0] if failed else (layout.data.path, "there is none")
        raise CaseError(
            f"none of {counted(len(failed), 'sampled image')} can be read, as {file}: {reason}",
            where=layout.data.path,
            remedy="Look at one of them in a viewer; copy or export them again.",
        )
    patients = _patients(layout.entries, pattern)
    splits = Counter(entry.split for entry in layout.entries if entry.split)
    by_patient: dict[str, set[str]] = defaultdict(set)
    for patient, entry in zip(patients, layout.entries, strict=True):
        if entry.split:
            by_patient[patient].add(entry.split)
    return Fingerprint(
        cases=len(layout.entries),
        patients=len(set(patients)),
        splits=tuple((name, splits[name]) for name in SPLITS if splits[name]),
        leaking_patients=sum(len(names) > 1 for names in by_patient.values()),
        classes=() if segmentation else _class_counts(layout),
        images=images,
        masks=masks,
        failed=failed,
    )


def _class_counts(layout: Layout) -> tuple[tuple[str, int], ...]:
    """In the order that the cases room gives the network's outputs."""
    counts = layout.targets | {name: 0 for name in layout.data.label_columns if name not in layout.targets}
    cases = [Case(name, name, (), target=name) for name in counts]
    return tuple((name, counts[name]) for name in class_names(draft(layout.task, layout.data), cases))


def _patients(entries: Sequence[Entry], pattern: PatientPattern | None) -> list[str]:
    data = DataConfig(kind="csv", path="", patient_pattern=pattern.pattern if pattern else "")
    return patients_of(entries, [entry.name for entry in entries], data)[0]


def _patient_pattern(layout: Layout, notes: Notes) -> PatientPattern | None:
    """From the names of those files whose patient neither the data nor DICOM headers say."""
    if any(entry.patient for entry in layout.entries):
        return None
    if layout.entries and all(entry.names_patient for entry in layout.entries):
        notes.inferred.append("the DICOM headers say which images are of one patient")
        return None
    if layout.data.kind == "medmnist":
        notes.unsure.append("the file says nothing about patients: each image counts as a patient by itself")
        return None
    found = propose([entry.name for entry in layout.entries])
    if found is None:
        if len(layout.entries) > 1:
            notes.unsure.append(
                "no patients in the file names: each image counts as a patient by itself. If one has several, give "
                "data.patient_pattern or a CSV with a column patient, or the test will be too good"
            )
        return None
    notes.unsure.append(
        f"{found.describe()}. All files of a patient go into one split: if this is not who they are, correct "
        "data.patient_pattern, or empty it"
    )
    return found


def _say_size(found: Fingerprint, notes: Notes) -> None:
    if found.cases < 50 and found.patients > 2:
        notes.unsure.append(f"{found.cases} images are few: expect a first impression rather than a result")
    volumes = sum(image.grid[0] > 1 for image in found.images)
    if 0 < volumes < len(found.images):
        pictures = counted(len(found.images) - volumes, "single picture")
        notes.unsure.append(f"the sampled images are {counted(volumes, 'volume')} and {pictures}")


def _say_roi(layout: Layout, notes: Notes) -> None:
    """That a table names regions of interest, which no step uses unless it is asked for."""
    with_roi = sum(entry.roi is not None for entry in layout.entries)
    if with_roi:
        share = (
            ""
            if with_roi == len(layout.entries)
            else f" ({with_roi:,} of {len(layout.entries):,} rows {'has' if with_roi == 1 else 'have'} one)"
        )
        notes.inferred.append(f"column roi{share}: add the step crop_roi to prepare.steps to crop to it")


def facts_of(
    layout: Layout, found: Fingerprint, config: Config, machine: Machine, minutes: float
) -> list[tuple[str, str]]:
    """What was measured, as rows of a table."""
    facts = [
        ("Layout", _title(layout)),
        ("Task", f"{config.task}, {config.model.dims}-D network"),
        ("Images", f"{found.cases:,} ({len(found.images)} read) of {counted(found.patients, 'patient')}"),
        ("Kind", _kind(found)),
        ("Size", _size(found)),
    ]
    spacing_mm = found.median_spacing_mm
    if spacing_mm is not None:
        facts.append(("Spacing", f"{_times(spacing_mm)} mm median (S-I, A-P, R-L)"))
    facts.append(("Values", _values(found)))
    if found.classes:
        facts.append(("Labels" if config.data.multi_label else "Classes", _counts(dict(found.classes))))
    if found.masks is not None:
        facts.append(("Masks", _masks(found)))
    elif layout.task == "segmentation":
        facts.append(("Masks", f"outlines (GeoJSON) of {shown(config.data.classes[1:], 8)}"))
    if found.splits:
        facts.append(("Splits given", _counts(dict(found.splits))))
    facts.append(("Machine", machine.describe()))
    facts.append(("Training", f"{config.train.epochs} epochs, roughly {_minutes(minutes)}"))
    return facts


def _title(layout: Layout) -> str:
    if layout.data.kind == "csv" and layout.table is not None:
        return DRAWINGS["pairs"].title
    return DRAWINGS[layout.data.kind].title


def _kind(found: Fingerprint) -> str:
    units = ", ".join(sorted({image.unit for image in found.images}))
    channels = "/".join(map(str, found.channels))
    grey = ", grey stored as colour" if found.all_grey and found.channels != (1,) else ""
    kinds = Counter(
        "image volume without units" if image.modality == "volume" else image.modality for image in found.images
    )
    kind = " and ".join(name if len(kinds) == 1 else f"{name} ({count})" for name, count in kinds.most_common())
    return f"{kind}, {channels} channel{'' if channels == '1' else 's'}, {units}{grey}"


def _size(found: Fingerprint) -> str:
    grids = np.array(found.grids)
    if found.is_volume:
        low, high = grids.min(axis=0).tolist(), grids.max(axis=0).tolist()
        order = " (S-I, A-P, R-L)" if found.has_geometry else " (D, H, W)"
        text = f"{_times(found.median_grid)} median{order}"
    else:
        low, high = grids[:, [2, 1]].min(axis=0).tolist(), grids[:, [2, 1]].max(axis=0).tolist()
        _, height, width = found.median_grid
        text = f"{width} x {height} median"
    return text if low == high else f"{text}, {_times(low)} to {_times(high)}"


def _values(found: Fingerprint) -> str:
    low, middle, high = np.median(np.array([image.values for image in found.images]), axis=0)
    return f"0.5 %: {low:.4g}, median {middle:.4g}, 99.5 %: {high:.4g}"


def _masks(found: Fingerprint) -> str:
    masks = found.masks
    if masks is None or masks.looks == "empty":
        return "no value above 0 seen"
    rare = {value for value, *_ in masks.rare}
    values = [value for value, _ in masks.values if value not in rare]
    shown = ", ".join(map(str, values[:10])) + (f", ... ({len(values)} values)" if len(values) > 10 else "")
    if rare:
        shown += f" (and {counted(len(rare), 'rare value')})"
    return f"{shown} in {counted(masks.read, 'mask')}; {masks.foreground_share:.1%} of an image is foreground"


def _counts(counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:8])
    return f"{shown}, ... ({len(counts)})" if len(counts) > 8 else shown


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _minutes(minutes: float) -> str:
    if minutes < 1.5:
        return "a minute"
    return f"{minutes:.0f} minutes" if minutes < 100 else f"{minutes / 60:.0f} hours"
