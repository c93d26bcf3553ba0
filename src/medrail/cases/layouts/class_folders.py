"""DIR/CLASS/*.png, DIR/{train,val,test}/CLASS/*.png or DIR/CLASS/{train,val,test}/*.png."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medrail.cases.layouts.series import is_dicom, series_entries
from medrail.cases.listing import (
    Entry,
    Finding,
    Listing,
    existing_folder,
    files_below,
    matching,
    none_found,
    only_images,
    split_named,
)
from medrail.config import Config
from medrail.errors import ConfigError
from medrail.read.dicom.cache import HeaderCache
from medrail.types import SplitName
from medrail.workspace import Workspace


@dataclass(frozen=True)
class _Place:
    """What an image's folders say about it; ``depth`` is how many of them it took."""

    split: SplitName | None
    name: str
    depth: int


def list_class_folders(config: Config, workspace: Workspace) -> Listing:
    """Every image's class is the folder it lies in (at any depth); folders named as splits give the split.

    A folder below a class folder that holds several DICOM files is one case a series.

    Raises
    ------
    ConfigError
        If the task is not classification or the folder does not exist.
    CaseError
        If there is no image at all.
    """
    data = config.data
    if config.task != "classification":
        raise ConfigError(
            "class folders hold no masks",
            where="data.kind: class_folders",
            needed="task: classification",
            remedy="Use data.kind: pairs or csv for segmentation.",
        )
    root = existing_folder(workspace.source(data.path), "data.path", data.path)
    images, findings = only_images(files_below(root), matching(root, data.pattern))
    divided = _divided_at_the_top(root)
    entries: list[Entry] = []
    slices: dict[tuple[PurePosixPath, _Place], list[Path]] = defaultdict(list)
    for path, below in images:
        place = _place(below.parts[:-1], divided)
        if not place.name:
            findings.append(_outside(path, divided))
        elif len(below.parts) > place.depth + 1 and is_dicom(path):
            slices[PurePosixPath(*below.parts[: place.depth + 1]), place].append(path)
        else:
            entries.append(Entry(path, below.as_posix(), target=place.name, split=place.split))
    with HeaderCache.of_user() as cache:
        for (below, place), files in slices.items():
            if len(files) > 1:
                found = series_entries(
                    *(root / below, below.as_posix()),
                    target=place.name,
                    split=place.split,
                    options=data.read_options,
                    cache=cache,
                )
                entries += found.entries
                findings += found.findings
            else:
                name = files[0].relative_to(root).as_posix()
                entries.append(Entry(files[0], name, target=place.name, split=place.split))
    if not entries and not findings:
        raise none_found(root, "image in a class folder", "data.path needs one folder a class, with its images inside.")
    entries = [replace(entry, where=str(_class_folder(root, entry, divided))) for entry in entries]
    return Listing(tuple(sorted(entries, key=lambda entry: entry.name)), tuple(findings))


def _class_folder(root: Path, entry: Entry, divided: bool) -> Path:
    return root.joinpath(*PurePosixPath(entry.name).parts[: 2 if divided else 1])


def _divided_at_the_top(root: Path) -> bool:
    """Whether the first level is the split: a folder named as the training split that holds folders itself.

    A class may be called "test" (test and control eyes), so without a training folder all must be named as splits.
    """
    tops = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__"))]
    named = [
        folder for folder in tops if split_named(folder.name) and any(child.is_dir() for child in folder.iterdir())
    ]
    return any(split_named(folder.name) == "train" for folder in named) or (bool(named) and len(named) == len(tops))


def _place(folders: tuple[str, ...], divided: bool) -> _Place:
    if divided:
        split = split_named(folders[0]) if folders else None
        return _Place(split, folders[1] if split and len(folders) > 1 else "", 2)
    if not folders:
        return _Place(None, "", 0)
    split = split_named(folders[1]) if len(folders) > 1 else None
    return _Place(split, folders[0], 2 if split else 1)


def _outside(path: Path, divided: bool) -> Finding:
    shape = "train, val or test, then CLASS" if divided else "CLASS"
    return Finding(
        "image_without_class",
        str(path),
        f"the image lies in no class folder (below data.path: {shape})",
        "Move it into its class's folder, out of data.path, or leave it out with data.pattern.",
    )
