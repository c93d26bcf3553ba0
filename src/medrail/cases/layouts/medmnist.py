"""A MedMNIST npz: the arrays SPLIT_images (N, H, W[, C]) or (N, D, H, W) and SPLIT_labels (N, 1), or with
``data.multi_label`` (N, K) of 0 and 1, as in ChestMNIST.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from medrail.cases.labels import joined_labels
from medrail.cases.listing import Entry, Finding, Listing, correct_path, counted
from medrail.config import Config
from medrail.errors import CaseError, ConfigError, CorruptFile
from medrail.types import SPLITS, SplitName, Voxels
from medrail.workspace import Workspace


def list_medmnist(config: Config, workspace: Workspace) -> Listing:
    """One entry an image; its split is the array it is in, its class the name at the label's place in data.classes.

    Without ``data.classes`` the labels themselves are the names. Only the labels are read here.

    Raises
    ------
    ConfigError
        If the task is not classification.
    CaseError, CorruptFile
        If the file is missing or not of this form.
    """
    if config.task != "classification":
        where = "data.kind: medmnist"
        raise ConfigError("the file holds no masks", where=where, needed="task: classification")
    path = workspace.source(config.data.path)
    if not path.is_file():
        remedy = correct_path("data.path", config.data.path)
        raise CaseError("there is no such file", where=str(path), needed="a MedMNIST .npz", remedy=remedy)
    entries: list[Entry] = []
    findings: list[Finding] = []
    if config.data.multi_label:
        return Listing(tuple(_multi_label(path, config.data.classes)))
    for split, labels in _labels(path, _one_each).items():
        for index, label in enumerate(labels):
            item = f"{split}_images/{index}"
            name = _class_name(int(label), config.data.classes)
            if name is None:
                findings.append(_no_name(path, item, int(label), config.data.classes))
            else:
                entries.append(Entry(path, f"{split}-{index:06d}", target=name, split=split, item=item))
    return Listing(tuple(entries), tuple(findings))


def _multi_label(path: Path, classes: tuple[str, ...]) -> Iterator[Entry]:
    """One entry an image; without ``data.classes`` the columns' numbers are the names."""
    for split, labels in _labels(path, _several_each).items():
        names = classes or tuple(str(column) for column in range(labels.shape[1]))
        if len(names) != labels.shape[1]:
            raise CaseError(
                f"{split}_labels has {counted(labels.shape[1], 'column')}",
                where=str(path),
                needed=f"one for each of the {len(names)} names in data.classes",
                remedy="Give data.classes a name for every column, in their order.",
            )
        for index, row in enumerate(labels.tolist()):
            target = joined_labels((name for name, has in zip(names, row, strict=True) if has), names)
            yield Entry(path, f"{split}-{index:06d}", target=target, split=split, item=f"{split}_images/{index}")


def _class_name(label: int, classes: tuple[str, ...]) -> str | None:
    if not classes:
        return str(label)
    return classes[label] if 0 <= label < len(classes) else None


def _no_name(path: Path, item: str, label: int, classes: tuple[str, ...]) -> Finding:
    names = counted(len(classes), "name")
    what = f"label {label}, but data.classes has {names} (for the labels 0 to {len(classes) - 1})"
    return Finding("unknown_class", f"{path}, {item}", what, "Give data.classes a name for every label.")


def _labels(path: Path, checked: Callable[[Voxels, Path, str], Voxels]) -> dict[SplitName, Voxels]:
    try:
        # The file is opened here because numpy leaves it open when it turns out to be no archive.
        with path.open("rb") as file, zipfile.ZipFile(file), np.load(file, allow_pickle=False) as archive:
            names = set(archive.files)
            present: list[SplitName] = [split for split in SPLITS if f"{split}_images" in names]
            if not present:
                raise CaseError(
                    f"the arrays are {', '.join(sorted(names)) or 'none'}",
                    where=str(path),
                    needed="train_images and train_labels (and val_, test_)",
                )
            missing = [f"{split}_labels" for split in present if f"{split}_labels" not in names]
            if missing:
                raise CaseError(f"no {', '.join(missing)}", where=str(path), needed="a label for every image")
            return {split: checked(archive[f"{split}_labels"], path, split) for split in present}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        reason = f"not readable as npz ({type(error).__name__})"
        raise CorruptFile(reason, where=str(path), remedy="Download it again.") from None


def _one_each(labels: Voxels, path: Path, split: str) -> Voxels:
    columns = int(np.prod(labels.shape[1:]))
    if columns != 1:
        raise CaseError(
            f"{split}_labels has {columns} labels an image",
            where=str(path),
            needed="one class an image",
            remedy="Set data.multi_label: true where an image may have several of them, as in ChestMNIST.",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise CaseError(f"{split}_labels holds {labels.dtype}", where=str(path), needed="whole numbers")
    return labels.reshape(len(labels))


def _several_each(labels: Voxels, path: Path, split: str) -> Voxels:
    found = labels.reshape(len(labels), -1)
    if not np.isin(found, (0, 1)).all():
        remedy = "Set data.multi_label: false where each image has one class."
        raise CaseError(f"{split}_labels holds other values", where=str(path), needed="0 and 1", remedy=remedy)
    return found
