"""DIR/CLASS/*.png, DIR/{train,val,test}/CLASS/*.png or DIR/CLASS/{train,val,test}/*.png."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
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
from medrail.types import ReadOptions, SplitName
from medrail.workspace import Workspace


@dataclass(frozen=True)
class _Place:
    """What an image's folders say about it; ``depth`` is how many of them it took, ``where`` the class's own."""

    split: SplitName | None
    name: str
    depth: int
    where: str = ""


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
    folders: dict[tuple[str, ...], _Place] = {}
    entries: list[Entry] = []
    slices: dict[tuple[PurePosixPath, _Place], list[Path]] = defaultdict(list)
    for path, below in images:
        above = below.parts[:-1]
        place = folders.get(above) or folders.setdefault(above, _place(above, divided, root))
        if not place.name:
            findings.append(_outside(path, divided))
        elif len(above) > place.depth and is_dicom(path):
            slices[PurePosixPath(*above[: place.depth + 1]), place].append(path)
        else:
            entries.append(_entry(path, below.as_posix(), place))
    series = _series(root, slices, data.read_options) if slices else Listing(())
    entries += series.entries
    findings += series.findings
    if not entries and not findings:
        raise none_found(root, "image in a class folder", "data.path needs one folder a class, with its images inside.")
    return Listing(tuple(sorted(entries, key=lambda entry: entry.name)), tuple(findings))


def _entry(path: Path, name: str, place: _Place) -> Entry:
    return Entry(path, name, target=place.name, split=place.split, where=place.where)


def _series(root: Path, slices: Mapping[tuple[PurePosixPath, _Place], Sequence[Path]], options: ReadOptions) -> Listing:
    """DICOM files by the folder below the class's folder: several are one case a series, and one is itself."""
    entries: list[Entry] = []
    findings: list[Finding] = []
    with HeaderCache.of_user() as cache:
        for (below, place), files in slices.items():
            if len(files) == 1:
                entries.append(_entry(files[0], files[0].relative_to(root).as_posix(), place))
                continue
            name = below.as_posix()
            found = series_entries(
                root / below, name, target=place.name, split=place.split, options=options, cache=cache
            )
            entries += (replace(entry, where=place.where) for entry in found.entries)
            findings += found.findings
    return Listing(tuple(entries), tuple(findings))


def _divided_at_the_top(root: Path) -> bool:
    """Whether the first level is the split: a folder named as the training split that holds folders itself.

    A class may be called "test" (test and control eyes), so without a training folder all must be named as splits.
    """
    tops = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__"))]
    named = [
        folder for folder in tops if split_named(folder.name) and any(child.is_dir() for child in folder.iterdir())
    ]
    return any(split_named(folder.name) == "train" for folder in named) or (bool(named) and len(named) == len(tops))


def _place(folders: tuple[str, ...], divided: bool, root: Path) -> _Place:
    where = str(root.joinpath(*folders[: 2 if divided else 1]))
    if divided:
        split = split_named(folders[0]) if folders else None
        return _Place(split, folders[1] if split and len(folders) > 1 else "", 2, where)
    if not folders:
        return _Place(None, "", 0)
    split = split_named(folders[1]) if len(folders) > 1 else None
    return _Place(split, folders[0], 2 if split else 1, where)


def _outside(path: Path, divided: bool) -> Finding:
    shape = "train, val or test, then CLASS" if divided else "CLASS"
    return Finding(
        "image_without_class",
        str(path),
        f"the image lies in no class folder (below data.path: {shape})",
        "Move it into its class's folder, out of data.path, or leave it out with data.pattern.",
    )
