"""Images with a mask each: in a folder of masks (data.mask_path), or beside the image (data.mask_suffix)."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medrail.cases.listing import (
    Entry,
    Finding,
    Listing,
    counted,
    existing_folder,
    files_below,
    matching,
    none_found,
    only_images,
    split_named,
    stem,
)
from medrail.config import Config, DataConfig
from medrail.errors import CaseError, ConfigError
from medrail.types import SplitName
from medrail.workspace import Workspace

Images = list[tuple[Path, PurePosixPath]]
# nnU-Net calls the image of case_7 case_7_0000 (its channel) and the mask case_7.
_CHANNEL = "_0000"


def list_pairs(config: Config, workspace: Workspace) -> Listing:
    """One entry for each image with a mask; images without masks and masks without images are findings.

    A mask is called as its image (the format may differ) with ``data.mask_suffix`` behind. ``data.mask_path`` is a
    folder below ``data.path``, or beside the folder of the images (``a/images/1.png``, ``a/masks/1.png``).

    Raises
    ------
    ConfigError
        If neither ``mask_path`` nor ``mask_suffix`` says how masks are called, or the task is not segmentation.
    CaseError
        If there is no image at all.
    """
    data = config.data
    if config.task != "segmentation":
        where, remedy = "data.kind: pairs", "Use class_folders, csv or medmnist for classification."
        raise ConfigError("pairs hold masks, not classes", where=where, needed="task: segmentation", remedy=remedy)
    if not data.mask_path and not data.mask_suffix:
        raise ConfigError(
            "no rule says where an image's mask is",
            where="data.kind: pairs",
            needed="data.mask_path (a folder) or data.mask_suffix (as _mask)",
            remedy="Add one of them to medrail.yaml.",
        )
    root = existing_folder(workspace.source(data.path), "data.path", data.path)
    files, findings = only_images(files_below(root))
    chosen = matching(root, data.pattern)
    top, ending = Path(os.path.normpath(root / data.mask_path)), stem(data.mask_suffix)
    inside = top.relative_to(root).parts if top.is_relative_to(root) else None
    mask_files = [file for file in files if _is_mask(file[1], inside, ending)]
    images = [file for file in files if not _is_mask(file[1], inside, ending) and (chosen is None or file[0] in chosen)]
    if inside is None:  # data.mask_path: ../masks
        outside, ignored = only_images(files_below(existing_folder(top, "data.mask_path")))
        mask_files, findings = outside, findings + ignored
    masks = _Masks(mask_files, root, top, ending)
    if not images:
        raise none_found(root, "image", f"Correct data.path or data.pattern ({data.pattern or 'every file'}).")
    entries = []
    for path, below in images:
        found = masks.of(path)
        if len(found) == 1:
            entries.append(Entry(path, below.as_posix(), target=str(found[0]), split=_split(below)))
        else:
            findings.append(_without_mask(path, data, found))
    if not entries:
        raise _none_has_a_mask(root, data, len(images), findings)
    findings += masks.left_over()
    return Listing(tuple(entries), tuple(findings))


def _is_mask(below: PurePosixPath, inside: tuple[str, ...] | None, ending: str) -> bool:
    """Whether a file below data.path is a mask; ``inside`` are the folders of data.mask_path, None if not below it."""
    if inside is None:
        return False
    if not inside:
        return stem(below.name).endswith(ending)
    parts = below.parts[:-1]
    return any(parts[start : start + len(inside)] == inside for start in range(len(parts)))


def _split(below: PurePosixPath) -> SplitName | None:
    """The first folder on the way that is named as a split (``train/images/1.png``)."""
    return next((split for part in below.parts[:-1] if (split := split_named(part))), None)


class _Masks:
    """The masks by folder and name, and which of them belong to an image."""

    def __init__(self, files: Images, root: Path, top: Path, ending: str) -> None:
        self._root, self._top, self._ending = root, top, ending
        self._used: set[Path] = set()
        self._by_place: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        for path, _ in files:
            self._by_place[path.parent, stem(path.name)].append(path)

    def of(self, image: Path) -> list[Path]:
        """The image's mask; several where it is not clear which."""
        name = stem(image.name)
        for folder in self._folders(image):
            for called in (name, name.removesuffix(_CHANNEL)):
                found = self._by_place.get((folder, called + self._ending), [])
                if found:
                    self._used.update(found)
                    return found
        return []

    def _folders(self, image: Path) -> Iterator[Path]:
        if self._top == self._root:
            yield image.parent
            return
        folders = image.parent.relative_to(self._root).parts
        for start in range(len(folders) + 1):  # masks/a/b, masks/b, masks for an image in a/b
            yield self._top.joinpath(*folders[start:])
        if not self._top.is_relative_to(self._root):
            return
        mask_path = self._top.relative_to(self._root)
        for level in (image.parent, *image.parent.parents):  # a/b/masks, a/masks
            if not level.is_relative_to(self._root):
                break
            yield level / mask_path
            yield level / mask_path / image.parent.name

    def left_over(self) -> list[Finding]:
        unused = sorted(path for paths in self._by_place.values() for path in paths if path not in self._used)
        remedy = "Add its image, or move the mask out of data.path."
        return [
            Finding("mask_without_image", str(path), "no image belongs to this mask", remedy, "warn") for path in unused
        ]


def _none_has_a_mask(root: Path, data: DataConfig, count: int, findings: list[Finding]) -> CaseError:
    folders = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    return CaseError(
        f"none of {counted(count, 'image')} has a mask; the first: {findings[-count]}",
        needed=f"masks by data.mask_path: {data.mask_path!r} and data.mask_suffix: {data.mask_suffix!r}",
        where=str(root),
        remedy=f"The folders here are: {folders}.",
    )


def _without_mask(path: Path, data: DataConfig, found: list[Path]) -> Finding:
    if found:
        what = f"{len(found)} masks could be this image's: {', '.join(mask.name for mask in found)}"
        return Finding("several_masks", str(path), what, "Keep one of them in the folder of masks.")
    needed = f"{stem(path.name)}{stem(data.mask_suffix)}.*"
    place = f"in {data.mask_path}/" if data.mask_path else "beside it"
    return Finding(
        "image_without_mask",
        str(path),
        f"no mask {needed} {place}",
        "Add the mask, correct data.mask_path or data.mask_suffix, or leave the image out with data.pattern.",
    )
