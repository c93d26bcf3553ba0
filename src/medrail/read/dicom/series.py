"""One file -> Image; one folder -> its series, and one of them -> Image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medrail.errors import GeometryError, MedrailError, ReadError, UnsupportedFormat
from medrail.read.dicom.assemble import assemble
from medrail.read.dicom.dicomdir import is_dicomdir
from medrail.read.dicom.group import Group, grouped
from medrail.read.dicom.header import KEYWORDS, Header, header_of
from medrail.read.dicom.headers import CLOSED_FOLDER, Foreign, Refused, look, outcomes_in
from medrail.read.dicom.pixels import parse
from medrail.read.dicom.stream import unread
from medrail.read.dicom.volume import Series, Volume, volumes_of
from medrail.read.dicom.walk import find_files
from medrail.read.digests import Digests
from medrail.read.guard import Guard
from medrail.read.unread import UnreadImage
from medrail.types import READ_AS_STORED, Defect, Image, Progress, ReadOptions

if TYPE_CHECKING:
    from medrail.read.dicom.cache import HeaderCache

__all__ = [
    "Scan",
    "Series",
    "open_series",
    "read_dicom",
    "read_series",
    "refused_in",
    "scan",
    "series_in",
    "volume_in",
]

_LISTED = 10


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    groups:
        Frames that fit together, one group a volume or picture.
    refused:
        Files that should be images and cannot be used; those that may be a lost slice spoil their series.
    others:
        DICOM objects that hold no picture, or none that is read.
    foreign:
        Files of other kinds.
    """

    groups: tuple[Group, ...]
    refused: tuple[Refused, ...] = ()
    others: tuple[Refused, ...] = ()
    foreign: tuple[Foreign, ...] = ()

    @property
    def broken(self) -> tuple[Refused, ...]:
        """Files that may be a slice of a series: parsing failed, or they only call themselves DICOM."""
        return tuple(
            file
            for file in self.refused
            if file.defect.name != CLOSED_FOLDER
            and (not isinstance(file.error, UnsupportedFormat) or file.error.found.startswith("looks like"))
        )


def read_dicom(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """One DICOM file -> (C, D, H, W): a slice or picture has D = 1, a multi-frame object one D a frame.

    CT is in HU. Frames without positions (cine, secondary capture) keep their order and have no geometry. A multi-frame
    object may hold several volumes (time points, echoes, stacks): ``item`` names one of them.

    Raises
    ------
    ReadError
        CorruptFile, UnsupportedFormat (no picture, segmentation, whole slide), no decoder, too large, or several
        volumes and no ``item``.
    GeometryError
        If a multi-frame object is no volume: see ``DEFECTS``.
    """
    with Guard(path, "DICOM"):
        return assemble(_volume_of_file(path, item, options), options, source=str(path))


def volume_in(path: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Volume | None:
    """What ``read_dicom``, or of a folder or DICOMDIR ``read_series``, makes an image of, from headers alone.

    None where a folder holds no DICOM image. Errors as theirs, but for what only decoding finds.
    """
    with Guard(path, "DICOM"):
        if not path.is_dir() and not is_dicomdir(path):
            return _volume_of_file(path, item, options)
        found, volumes = _volumes_in(path, options)
        return _chosen(volumes, item, options) if found.groups else None


def _volume_of_file(path: Path, item: str, options: ReadOptions) -> Volume:
    outcome = look(path)
    header = outcome if isinstance(outcome, Header) else header_of(parse(path, KEYWORDS), path)
    return _chosen(_volumes([header], options), item, options)


def series_in(
    folder: str | Path,
    options: ReadOptions = READ_AS_STORED,
    cache: HeaderCache | None = None,
    progress: Progress | None = None,
) -> list[Series]:
    """All series below a folder with their verdicts, from headers alone, sorted by their first file.

    A series that is refused is in the list, with its defects; files that belong to no series are in ``refused_in``.

    Raises
    ------
    ReadError
        If there is no such folder.
    """
    found = scan(Path(folder), cache, progress)
    return [volume.series for volume in volumes_of(found.groups, found.broken, options)]


def refused_in(folder: str | Path, cache: HeaderCache | None = None, progress: Progress | None = None) -> list[Refused]:
    """The DICOM files below a folder that are no part of any series, with the reason."""
    found = scan(Path(folder), cache, progress)
    return [*found.refused, *found.others]


def open_series(
    folder: Path, item: str = "", options: ReadOptions = READ_AS_STORED, digests: Digests | None = None
) -> Image | UnreadImage:
    """As ``read_series``; a series of plain slices comes back unread, so that they can be taken one at a time.

    Errors as ``read_series``, of pixels when they are read.
    """
    with Guard(folder, "DICOM series"):
        volume = _volume(folder, item, options)

        def read_all() -> Image:
            return assemble(volume, options, source=str(folder))

        return unread(volume, options, str(folder), read_all, digests) or read_all()


def read_series(folder: Path, item: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """The one series of a folder, or the one that ``item`` names -> (C, D, H, W), sorted along the slice normal.

    Raises
    ------
    ReadError
        If the folder holds no series, several and no ``item``, or a file that cannot be read.
    GeometryError
        If the series is no volume: see ``DEFECTS``, and ``ReadOptions.on_defect`` for what can be done.
    """
    with Guard(folder, "DICOM series"):
        return assemble(_volume(folder, item, options), options, source=str(folder))


def _volume(folder: Path, item: str, options: ReadOptions) -> Volume:
    found, volumes = _volumes_in(folder, options) if item else _judged(scan(folder), options)
    if not found.groups:
        raise _nothing(found, str(folder))
    return _chosen(volumes, item, options)


def scan(folder: Path, cache: HeaderCache | None = None, progress: Progress | None = None) -> Scan:
    """Read the headers of all DICOM files below a folder (hidden ones excepted) and group them."""
    if not folder.exists():
        raise ReadError("there is no such folder", where=str(folder), remedy="Check the path.")
    headers: list[Header] = []
    refused: list[Refused] = []
    others: list[Refused] = []
    foreign: list[Foreign] = []
    for outcome in outcomes_in(folder, cache, progress):
        if isinstance(outcome, Refused):
            refused.append(outcome)
        elif isinstance(outcome, Header):
            headers.append(outcome)
        elif outcome.kind == "dicom" and outcome.error is not None:
            others.append(Refused(outcome.path, Defect("not_an_image", outcome.error.found, "left out"), outcome.error))
        else:
            foreign.append(outcome)
    return Scan(tuple(grouped(headers)), tuple(refused), tuple(others), tuple(foreign))


_State = tuple[tuple[str, int, int, int], ...]
_Judged = tuple[Scan, list[Volume]]
_last: tuple[_State, ReadOptions, _Judged] | None = None


def _volumes_in(folder: Path, options: ReadOptions) -> _Judged:
    """What a folder holds; kept while none of its files changes, since the items of a folder are read one by one."""
    global _last  # one slot, replaced whole: threads at worst scan once more
    state = _state(folder)
    known = _last
    if known is None or known[:2] != (state, options):
        known = _last = (state, options, _judged(scan(folder), options))
    return known[2]


def _judged(found: Scan, options: ReadOptions) -> _Judged:
    return found, volumes_of(found.groups, found.broken, options)


def _state(folder: Path) -> _State:
    """Path, size and times of every file; those that cannot be asked count by their path."""
    state = [(str(folder), 0, 0, 0)]
    for path in find_files(folder) if folder.exists() else ():
        try:
            status = path.stat()
            state.append((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError:
            state.append((str(path), -1, 0, 0))
    return tuple(state)


def _volumes(headers: Sequence[Header], options: ReadOptions) -> list[Volume]:
    return volumes_of(grouped(headers), (), options)


def _nothing(found: Scan, where: str) -> MedrailError:
    left_out = [*found.refused, *found.others]
    if left_out:
        path, error = left_out[0].path, left_out[0].error
        return type(error)(
            f"{len(left_out)} DICOM file(s) in it cannot be read, as {path.name}: {error.found}",
            needed=error.needed,
            where=where,
            remedy=error.remedy,
        )
    if not found.foreign:
        return ReadError(
            "holds no image", where=where, remedy="Name the folder that holds the images, or the file itself."
        )
    return ReadError(
        "holds no DICOM image", needed="the slices of one series", where=where, remedy="Give the image file itself."
    )


def _chosen(volumes: Sequence[Volume], item: str, options: ReadOptions) -> Volume:
    if item:
        for volume in volumes:
            if volume.series.item == item:
                return volume
        raise ReadError("has no such series", needed=f"one of {_listing(volumes)}")
    if len(volumes) == 1:
        return volumes[0]
    main = [volume for volume in volumes if not volume.is_localiser]
    if options.on_defect != "refuse" and len(main) == 1:
        return main[0]
    raise _several(volumes)


def _listing(volumes: Sequence[Volume]) -> str:
    names = [str(volume.series) for volume in volumes]
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _several(volumes: Sequence[Volume]) -> MedrailError:
    remedy = "Name one of them as the item, or give it a folder of its own."
    one_series = len({volume.first.series_uid for volume in volumes}) == 1
    if not one_series or not all(volume.groups[0].placed for volume in volumes):
        return ReadError(f"holds {len(volumes)} images: {_listing(volumes)}", needed="one", remedy=remedy)
    named = dict.fromkeys(defect.name.replace("_", " ") for volume in volumes for defect in volume.series.defects)
    parts = "; ".join(volume.described() for volume in volumes[:_LISTED])
    kinds = f"{', '.join(named)}: " if named else ""
    return GeometryError(
        f"{kinds}several volumes in one series: {parts}",
        needed="slices of one grid and one kind",
        remedy=f"{remedy} A localiser or a second echo, phase or time point is often stored with the volume; "
        "data.four_d: channels makes time points channels of one image.",
    )
