"""planner: layout + fingerprint + machine -> a complete Config that runs on this machine, and what to say about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medrail.cases.listing import counted
from medrail.config import (
    AugmentConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    PrepareConfig,
    SplitConfig,
    Task,
    TrainConfig,
)
from medrail.plan.effort import epoch_seconds
from medrail.plan.fingerprint import Fingerprint
from medrail.plan.intensity import augmentation, colour_steps, value_steps
from medrail.plan.machine import Machine
from medrail.plan.mask_facts import MaskFacts
from medrail.plan.notes import Notes
from medrail.plan.shapes import Shape, choose_shape

_LEARNING_RATE = {"tiny_cnn": 3e-3, "resnet18": 1e-3, "unet": 2e-3}
_MOST_VALUES_NAMED = 12
_MOST_PIXELS = 2_000_000
"""In a batch; many small steps learn more than few large ones."""
_SMALL_GPU_GB = 6.0
_MEMORY_SHARE = 0.25
"""Of the memory, for a batch: the data and other programs need some, and the estimate is rough."""


def plan_config(
    task: Task,
    data: DataConfig,
    found: Fingerprint,
    machine: Machine,
    notes: Notes,
    *,
    name: str = "model",
    label_names: Sequence[tuple[int, str]] = (),
) -> tuple[Config, float]:
    """Every value of the configuration, and roughly how many minutes training will take.

    ``notes`` gets what was inferred and what a person should look at.

    Parameters
    ----------
    data:
        As the layout says, with ``patient_pattern`` where there is one; the classes are added here.
    label_names:
        (mask value, name) as far as known.
    """
    data = _with_classes(task, data, found, notes, label_names)
    split = plan_split(found, notes)
    train_cases = _train_cases(found, split)
    shape = choose_shape(found, task, train_cases, machine, notes)
    colour, channels = colour_steps(found, notes)
    values, normalise = value_steps(found, task, channels, notes)
    steps = [*colour, *shape.before, *values, *normalise, *shape.after]
    if values or found.is_volume:  # no whole numbers any more: half the room, and no less is learnt
        steps.append({"kind": "round", "to": "float16"})
    config = Config(
        name=name_of(name),
        task=task,
        data=data,
        split=split,
        prepare=PrepareConfig(steps=tuple(steps)),
        model=ModelConfig(
            name=shape.network, dims=3 if shape.work.dims == 3 else 2, channels=channels, patch=shape.patch
        ),
        train=_train(shape, augmentation(found, data.classes, notes), machine),
        evaluate=EvaluateConfig(),
    )
    return config, _minutes(config, shape, machine)


def _minutes(config: Config, shape: Shape, machine: Machine) -> float:
    samples = config.train.samples_per_epoch or shape.work.samples
    seconds = epoch_seconds(shape.work, machine) * samples / shape.work.samples
    return config.train.epochs * seconds / 60


def _train(shape: Shape, augment: AugmentConfig, machine: Machine) -> TrainConfig:
    samples = shape.samples_per_epoch or shape.work.samples
    values: dict[str, Any] = {
        "epochs": shape.epochs,
        "batch_size": _batch_size(shape, samples, machine),
        "lr": _LEARNING_RATE[shape.network],
        "samples_per_epoch": shape.samples_per_epoch,
        "augment": augment,
        "patience": max(10, shape.epochs // 3),
    }
    return TrainConfig(**values)


def _batch_size(shape: Shape, samples: int, machine: Machine) -> int:
    """Small enough that an epoch has a few steps, and that a batch fits into a share of the memory.

    Where the GPU's memory is unknown, it is taken for a small one's.
    """
    most = 32 if shape.work.network != "unet" else 16
    memory_gb = (machine.gpu_gb or _SMALL_GPU_GB) if machine.gpu else machine.memory_gb
    by_memory = max(1, int(_MEMORY_SHARE * memory_gb * 2**30 // shape.work.bytes_a_sample))
    by_pixels = max(1, _MOST_PIXELS // shape.work.pixels)
    by_samples = max(2, samples // (16 if shape.work.network == "unet" else 8))
    size = 1
    while 2 * size <= min(most, by_memory, by_pixels, by_samples):
        size *= 2
    return size


def plan_split(found: Fingerprint, notes: Notes) -> SplitConfig:
    """The data's own splits where they are whole and no patient stands in two; else patients are drawn."""
    given = dict(found.splits)
    if given.get("train") and given.get("test") and sum(given.values()) == found.cases:
        if not found.leaking_patients:
            notes.inferred.append("the data's own splits are kept (split.by: given)")
            if not given.get("val"):
                notes.unsure.append("the data give no validation split: training cannot stop early")
            return SplitConfig(by="given")
        notes.unsure.append(
            f"{counted(found.leaking_patients, 'patient')} {'stands' if found.leaking_patients == 1 else 'stand'} in "
            "more than one of the data's own splits, which would make the "
            "test too good: patients are divided anew (split.by: patient)"
        )
    elif given:
        notes.unsure.append("the data's own splits are incomplete (train and test are needed): patients are drawn anew")
    if found.patients == 1:
        notes.unsure.append(
            "one patient only: nothing is left to test on, so `medrail check` says stop until there are more. "
            "With a second one, as the test, everything runs"
        )
        return SplitConfig(val=0, test=0.5)
    if found.patients == 2:
        notes.unsure.append("two patients only: one to train on and one to test on, none to validate")
        return SplitConfig(val=0, test=0.5)
    if found.patients < 20:
        notes.unsure.append(f"{found.patients} patients: the intervals of the results will be wide")
        return SplitConfig(val=0.2, test=0.2)
    return SplitConfig()


def _train_cases(found: Fingerprint, split: SplitConfig) -> int:
    if split.by == "given":
        return dict(found.splits)["train"]
    return max(1, round(found.cases * (1 - split.val - split.test)))


def _with_classes(
    task: Task, data: DataConfig, found: Fingerprint, notes: Notes, label_names: Sequence[tuple[int, str]]
) -> DataConfig:
    if task == "classification":
        return _with_class_names(data, found, notes)
    if data.kind == "slides" and data.classes:  # outlines name their classes
        return data
    return data.model_copy(update=mask_classes(found.masks, notes, dict(label_names)))


def _with_class_names(data: DataConfig, found: Fingerprint, notes: Notes) -> DataConfig:
    counts = dict(found.classes)
    if "?" in counts:  # a table that is still to be filled in
        return data
    names = tuple(counts)
    if data.multi_label:
        _note_labels(counts, found.cases, notes)
    elif len(names) > 1 and max(counts.values()) > 3 * min(counts.values()):
        rare = min(counts, key=lambda name: counts[name])
        notes.inferred.append(f"classes are of unequal size ({rare}: {counts[rare]}): the loss is weighted by class")
    few = [name for name, count in counts.items() if count < 3]
    if few:
        notes.unsure.append(f"too few images to learn and test it: class {', '.join(few[:5])} (fewer than three)")
    if names and all(name.isdigit() for name in names):
        notes.unsure.append(f"classes are called {', '.join(names[:6])}: what do they mean?")
        if data.kind == "medmnist" and names == tuple(str(number) for number in range(len(names))):
            notes.unsure[-1] += " Write their names into data.classes, in this order"
    return data.model_copy(update={"classes": names})


def _note_labels(counts: dict[str, int], cases: int, notes: Notes) -> None:
    rare = min(counts, key=lambda name: counts[name])
    if 3 * counts[rare] < cases:
        notes.inferred.append(
            f"labels are rare ({rare}: {counts[rare]} of {cases}): in the loss the images that have a label count as "
            "much as those that do not, but none more than 20 times"
        )


def mask_classes(masks: MaskFacts | None, notes: Notes, names: dict[int, str]) -> dict[str, Any]:
    """``classes`` with ``mask_values`` or ``foreground_nonzero``, from the values that masks were found to hold."""
    two = {"classes": ("background", "foreground")}
    if masks is None or masks.looks == "empty" or max(masks.foreground, default=0) <= 0:
        notes.unsure.append("no mask with a value above 0 was seen: data.classes is a guess")
        return two
    _note_mask_problems(masks, notes)
    if masks.looks == "grey":
        notes.unsure.append(
            "the masks hold grey values, as an image does: every value above 0 counts as foreground. Are these masks?"
        )
        return two | {"foreground_nonzero": True}
    if masks.looks == "instances":
        notes.unsure.append(
            "masks number their objects 1, 2, 3, ...: one class of foreground is learnt, not the single objects"
        )
        return two | {"foreground_nonzero": True}
    return _labels(masks, notes, names)


def _labels(masks: MaskFacts, notes: Notes, names: dict[int, str]) -> dict[str, Any]:
    rare = [(value, *counts) for value, *counts in masks.rare if value not in names]
    values = (0, *(value for value in masks.foreground if value > 0 and value not in {value for value, *_ in rare}))
    if rare:
        notes.unsure.append(_rare_note(rare, masks.read))
    if names and set(values) <= set(names):
        values = tuple(sorted(names))
        notes.inferred.append("the names of the mask's values are those of dataset.json")
    elif len(values) == 2:
        names = {0: "background", values[1]: "foreground"}
    else:
        shown = ", ".join(map(str, values[:_MOST_VALUES_NAMED]))
        notes.unsure.append(f"the masks' values are {shown}: what do they mean? Write names into data.classes")
    called = tuple(names.get(value, "background" if value == 0 else f"value_{value}") for value in values)
    if len(set(called)) < len(called):
        called = tuple("background" if value == 0 else f"value_{value}" for value in values)
    notes.inferred.append(
        f"mask values {', '.join(map(str, values[:_MOST_VALUES_NAMED]))}, seen in {counted(masks.read, 'mask')}"
    )
    plain = values == tuple(range(len(values)))
    return {"classes": called} | ({} if plain else {"mask_values": values})


def _rare_note(rare: Sequence[Sequence[int]], masks: int) -> str:
    which = ", ".join(str(value) for value, *_ in rare[:_MOST_VALUES_NAMED])
    most, voxels = max(count for _, count, _ in rare), counted(sum(count for *_, count in rare), "voxel")
    if len(rare) == 1:
        found, them, one = f"the mask value {which} stands in {most} of {counted(masks, 'mask')}, {voxels}", "it", "it"
    else:
        each = f"{most} of {counted(masks, 'mask')} {'each' if most == 1 else 'or fewer'}"
        found, them, one = f"the mask values {which} stand in {each}, {voxels} in all", "them", "one"
    return (
        f"{found}: an error? No class is made of {them}, and masks that have {one} cannot be used until "
        f"data.classes and data.mask_values name {them}; `medrail check` says which masks these are"
    )


def _note_mask_problems(masks: MaskFacts, notes: Notes) -> None:
    if masks.other_grid:
        have, them = ("has", "it") if masks.other_grid == 1 else ("have", "them")
        notes.unsure.append(
            f"{masks.other_grid} of {counted(masks.read, 'mask')} {have} another size than their "
            f"image: `medrail check` names {them}"
        )
    for problem in masks.problems[:3]:
        notes.unsure.append(f"some masks cannot be used as they are: a mask {problem}")
    if any(value < 0 for value in masks.foreground):
        notes.unsure.append("some masks hold values below 0, which mean no class here")


def name_of(path: str) -> str:
    """A name for the model and its bundle, from the data's folder or file."""
    base = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    base = re.sub(r"\.(csv|tsv|npz)$", "", base, flags=re.IGNORECASE)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", base).strip("-._")[:64]
    return plain or "model"
