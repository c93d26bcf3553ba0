"""FolderListing: which files lie below a folder and of what kind they are, told as cheaply as possible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from medrail.cases.listing import counted, files_below, image_suffix, may_be_image
from medrail.cases.listing import stem as without_image_suffix
from medrail.errors import ReadError
from medrail.read import SLIDE_SUFFIXES, is_slide, sniff

_VOLUME_SUFFIXES = frozenset({".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"})
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
_VOLUME_FORMATS = frozenset({"nifti", "metaimage", "nrrd"})


def stem(name: str) -> str:
    """A file's name without folder and image suffix (".nii.gz" is one suffix)."""
    return without_image_suffix(PurePosixPath(name).name)


def folder_of(name: str) -> str:
    """The folder part of a posix path below the root; "" for files directly in it."""
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent


@dataclass(frozen=True)
class FolderListing:
    """All files below ``root`` as sorted posix paths relative to it, by kind."""

    root: Path
    pictures: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    dicoms: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    slides: tuple[str, ...] = ()

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Pictures, volumes and DICOM files together."""
        return tuple(sorted((*self.pictures, *self.volumes, *self.dicoms)))

    @cached_property
    def by_folder(self) -> dict[str, tuple[str, ...]]:
        """Folder (relative, "" is the root) -> the images directly in it."""
        return _grouped(self.images, folder_of)

    @cached_property
    def top_folders(self) -> dict[str, tuple[str, ...]]:
        """First folder level -> all images below it, at any depth."""
        return _grouped((name for name in self.images if "/" in name), lambda name: name.partition("/")[0])

    def describe(self) -> str:
        """One line: how many files of which kind."""
        counts = {
            "picture": len(self.pictures),
            "volume": len(self.volumes),
            "DICOM file": len(self.dicoms),
            "CSV file": len(self.tables),
            "npz file": len(self.arrays),
            "whole slide": len(self.slides),
        }
        endings = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in self.others)
        found = [counted(count, kind) for kind, count in counts.items() if count]
        if endings:
            most = ", ".join(ending for ending, _ in endings.most_common(4))
            found.append(f"{counted(len(self.others), 'other file')} ({most})")
        return ", ".join(found) or "no file"


def list_files(root: Path) -> FolderListing:
    """Walk a folder; hidden files and what archives leave behind are passed over."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for path, below in files_below(root):
        kinds[_kind(path)].append(below.as_posix())
    return FolderListing(root, **{kind: tuple(sorted(names)) for kind, names in kinds.items()})


def _kind(path: Path) -> str:
    suffix = image_suffix(path.name).lower()
    if path.suffix.lower() in SLIDE_SUFFIXES or (suffix in (".tif", ".tiff") and is_slide(path)):
        return "slides"
    if suffix:
        return "volumes" if suffix in _VOLUME_SUFFIXES else "dicoms" if suffix in _DICOM_SUFFIXES else "pictures"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "tables"
    if path.suffix.lower() == ".npz":
        return "arrays"
    if not may_be_image(path.name):
        return "others"
    try:
        found = sniff(path)
    except (ReadError, OSError):
        return "others"
    if found in ("npz", "zip"):
        return "arrays" if found == "npz" else "others"
    if found == "slide":
        return "slides"
    return "dicoms" if found == "dicom" else "volumes" if found in _VOLUME_FORMATS else "pictures"


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return {group: tuple(members) for group, members in sorted(groups.items())}
