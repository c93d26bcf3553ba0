"""What lies inside a folder, a zip or a DICOMDIR, and one image of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from medrail.errors import ReadError
from medrail.read.archive import Unpacked, unpacked
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.dicomdir import is_dicomdir
from medrail.read.dicom.headers import Foreign
from medrail.read.dicom.series import Scan, read_series, scan
from medrail.read.dicom.series import series_in as series_in_folder
from medrail.read.dicom.volume import Series
from medrail.read.guard import Guard
from medrail.read.sniff import sniff
from medrail.types import READ_AS_STORED, Image, Progress, ReadOptions

_LISTED = 10


@dataclass(frozen=True)
class Opened:
    """A path whose files can be read now.

    root:
        The folder, the file, or the folder of what was unpacked.
    inside:
        The zip, where it is one.
    """

    root: Path
    inside: Unpacked | None = None

    def shown(self, path: Path) -> Path:
        """A file's path as people know it."""
        return path if self.inside is None else self.inside.shown(path)

    def text(self, text: str) -> str:
        """A sentence with paths as people know them."""
        return text if self.inside is None else self.inside.text(text)


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """``with opened(path) as place:`` for a file, a folder or a zip, which is unpacked until the ``with`` ends.

    Raises
    ------
    ReadError
        If a zip is broken, too large, or made to harm.
    """
    if is_zip(path):
        with unpacked(path) as inside:
            yield Opened(inside.folder, inside)
    else:
        yield Opened(path)


def is_zip(path: Path) -> bool:
    """Whether a file is an archive of files (and no npz); never raises."""
    try:
        with Guard(path, "file"):
            return path.is_file() and sniff(path) == "zip"
    except ReadError:
        return False


def holds_many(path: Path, kind: str) -> bool:
    """Whether a file of this kind stands for several files."""
    return kind == "zip" or (kind == "dicom" and is_dicomdir(path))


def names_a_file(folder: Path, item: str) -> bool:
    """Whether an item is the path of a file inside a folder."""
    named = PurePosixPath(item)
    return bool(item) and not named.is_absolute() and ".." not in named.parts and (folder / named).is_file()


def read_inside(path: Path, item: str, options: ReadOptions, read: Callable[[Path, str], Image]) -> Image:
    """The one image of a zip or a DICOMDIR, or the one that ``item`` names: a series, or a file by its path inside.

    Raises
    ------
    ReadError
        If there is none, several and no ``item``, or the archive cannot be unpacked.
    GeometryError
        As ``read_series``.
    """
    with opened(path) as place:
        found = scan(place.root)
        image = _one(found, place, item, options, read)
        return replace(image, source=place.text(image.source))


def _one(found: Scan, place: Opened, item: str, options: ReadOptions, read: Callable[[Path, str], Image]) -> Image:
    files = {_inner(place, file.path): file.path for file in readable(found.foreign)}
    if item in files:
        return read(files[item], "")
    if not found.groups and len(files) == 1 and not item:
        return read(next(iter(files.values())), "")
    if not files or (found.groups and item):
        return read_series(place.root, item, options)
    names = [*files][:_LISTED]
    series = f"{len(found.groups)} DICOM images and " if found.groups else ""
    more = f" and {len(files) - _LISTED} more" if len(files) > _LISTED else ""
    raise ReadError(
        f"holds {series}{len(files)} other images: {', '.join(names)}{more}",
        needed="one",
        where=str(place.root),
        remedy="Name one of them as the item.",
    )


def readable(files: tuple[Foreign, ...]) -> list[Foreign]:
    """Of the files that are no DICOM, those that are images of another kind."""
    return [file for file in files if file.error is None and file.kind not in ("", "npz", "zip", "dicom")]


def _inner(place: Opened, path: Path) -> str:
    return path.relative_to(place.root).as_posix() if path.is_relative_to(place.root) else path.name


def series_in(
    path: str | Path,
    options: ReadOptions = READ_AS_STORED,
    cache: HeaderCache | None = None,
    progress: Progress | None = None,
) -> list[Series]:
    """All DICOM series below a folder, in a zip, or of a DICOMDIR, with their verdicts, from headers alone.

    Sorted by their first file; a series that is refused is in the list, with its defects. Files inside a zip are named
    as study.zip/inner.

    Raises
    ------
    ReadError
        If there is no such path, or the zip cannot be unpacked.
    """
    with opened(Path(path)) as place:
        found = series_in_folder(place.root, options, cache if place.inside is None else None, progress)
        return [replace(one, files=tuple(place.shown(file) for file in one.files)) for one in found]
