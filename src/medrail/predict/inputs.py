"""What is one image of the files and folders that were named, and what it is known by: its content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medrail.cases.fingerprint import image_fingerprint
from medrail.cases.layouts.series import place_of
from medrail.errors import ConfigError, ReadError, UnsupportedFormat
from medrail.read import Series, is_dicom, is_slide
from medrail.read.contents import is_zip
from medrail.read.dicom.dicomdir import is_dicomdir
from medrail.read.dicom.headers import Foreign
from medrail.read.dicom.series import scan
from medrail.read.dicom.volume import volumes_of
from medrail.types import READ_AS_STORED, Case

ENDINGS = (
    *(".png", "_evidence.png", "_mask.nii.gz", "_seg.dcm", "_sr.dcm"),
    *("_slide.json", "_tiles.csv", "_mask.tif"),
)
"""Of all files that may be written for an input, after its name."""


@dataclass(frozen=True)
class Input:
    """One image to predict: a file, or one series of a folder.

    series:
        What the headers of the folder say of it, where it is one.
    """

    path: Path
    item: str = ""
    series: Series | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.path} [{self.item}]" if self.item else str(self.path)

    @property
    def name(self) -> str:
        """What the outputs are called after: the file's name without its endings, and the series."""
        stem = self.path.name
        for ending in (".nii.gz", ".gz", *self.path.suffixes[-1:]):
            if ending and stem.lower().endswith(ending.lower()) and len(stem) > len(ending):
                stem = stem[: -len(ending)]
                break
        return f"{stem}-{self.item}" if self.item else stem

    @property
    def may_be_dicom(self) -> bool:
        """False for a file that is something else; of what a zip or a folder holds, reading will tell."""
        return self.series is not None or not self.path.is_file() or is_dicom(self.path) or is_zip(self.path)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over the content of its files, the item, and what is wrong with the series.

        Names and folders do not count. Of a file of a folder, the other files there do not count either.

        Raises
        ------
        CaseError
            If a file is missing or cannot be read.
        """
        paths = self.series.files if self.series else (self.path,)
        if self.series is None and is_dicomdir(self.path):
            paths = (self.path.parent,)
        item = self.item
        if self.series and self.series.defects:  # a file beside a series may spoil it: then these are others
            item += f"\0{self.series.verdict}\0{self.series.defects}"
        return image_fingerprint(Case("", "", tuple(str(path) for path in paths), item=item))


def find_inputs(paths: Sequence[str | Path], series: str = "", *, out: Path | None = None) -> list[Input]:
    """Files as they are; of folders every image below, with the DICOM files of one series as one input.

    series:
        The only one that is meant, of one folder, zip or file.
    out:
        A folder below which nothing is an input, though a folder of images may hold it: that of the answers.

    Raises
    ------
    ConfigError
        If a path does not exist, a series is asked of several, or ``out`` is one of the paths.
    ReadError
        If the only path is a folder that holds nothing that medrail reads; beside others it is an input that fails.
    """
    if out and any(Path(path).is_dir() and Path(path).resolve() == out.resolve() for path in paths):
        raise ConfigError(
            "the answers would be written among the images",
            needed="another folder",
            where=str(out),
            remedy="Name it: -o OUT.",
        )
    if series:
        return _one_input(paths, series)
    inputs: list[Input] = []
    for path in map(Path, paths):
        if path.is_file():
            inputs.append(Input(path))
        elif path.is_dir():
            found = list(_inputs_below(path, out))
            if not found and len(paths) == 1:
                raise _nothing(path)
            inputs += sorted(found, key=lambda one: (str(one.path), one.item)) or [Input(path)]
        else:
            raise _no_such(path)
    return inputs


def unique_names(inputs: Sequence[Input]) -> list[str]:
    """What the files of each input are called after; no two write the same file, on a disk without capitals either."""
    names: list[str] = []
    taken: set[str] = set()
    for one in inputs:
        name, count = one.name, 1
        while not taken.isdisjoint(files := {f"{name}{ending}".lower() for ending in ENDINGS}):
            count += 1
            name = f"{one.name}-{count}"
        taken |= files
        names.append(name)
    return names


def _one_input(paths: Sequence[str | Path], series: str) -> list[Input]:
    path = Path(paths[0])
    if len(paths) != 1:
        raise ConfigError(f"--series with {len(paths)} inputs", needed="one input, which holds the series")
    if not path.exists():
        raise _no_such(path)
    return [Input(path, series)]


def _no_such(path: Path) -> ConfigError:
    return ConfigError(
        "there is no such file or folder",
        needed="an image file, or a folder of images",
        where=str(path),
        remedy="Look for a mistyped name; a relative path starts at the folder you are in.",
    )


def _nothing(folder: Path) -> ReadError:
    return ReadError(
        "no image in this folder",
        needed="DICOM, NIfTI, NRRD, MHA, PNG, JPEG, ...",
        where=str(folder),
        remedy="Name the folder that holds the images, or the files themselves.",
    )


def _inputs_below(folder: Path, out: Path | None) -> Iterator[Input]:
    holds = scan(folder)
    series = [volume.series for volume in volumes_of(holds.groups, holds.broken, READ_AS_STORED)]
    found = [Input(*place_of(one, series), series=one) for one in series]
    found += [Input(file.path) for file in holds.foreign if _is_input(file)]
    found += [Input(file.path) for file in holds.refused]  # kept, so that the summary names them
    slides = {file.path.parent: file.path for file in reversed(holds.others) if is_slide(file.path)}
    found += [Input(path) for path in slides.values()]  # one slide's levels are files of one folder
    beside = None
    if out and folder.resolve() in out.resolve().parents:
        beside = out.resolve()
    for one in found:
        if beside is None or beside not in one.path.resolve().parents:
            yield one


_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".nii", ".gz", ".mha", ".mhd", ".nrrd")


def _is_input(file: Foreign) -> bool:
    """An image, or what calls itself one and shall be named in the summary; a text beside the images is none."""
    if file.error is None:
        return file.kind not in ("npz", "zip")
    return not isinstance(file.error, UnsupportedFormat) or file.path.suffix.lower() in _IMAGE_ENDINGS
