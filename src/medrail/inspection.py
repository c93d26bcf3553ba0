"""What a file, folder, zip or DICOMDIR holds: a verdict on each image, from its header and, if wanted, its pixels.

``inspect(path, options)`` gives an ``Inspection``; nothing is written, and no identifier of a header is in it.
``convert(path, out)`` writes one of its images as NIfTI.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from medrail.cases.listing import counted, image_suffix
from medrail.errors import ConfigError, MedrailError, UnsupportedFormat
from medrail.read import read, write_nifti
from medrail.read.contents import Opened, opened, readable
from medrail.read.dicom.assemble import assemble
from medrail.read.dicom.defects import DEFECTS, in_words
from medrail.read.dicom.headers import Foreign
from medrail.read.dicom.series import Scan, scan
from medrail.read.dicom.volume import Volume, volumes_of
from medrail.types import READ_AS_STORED, Defect, Geometry, Image, Progress, ReadOptions

Verdict = Literal["ok", "accepted", "refused"]
_MANY = 50  # files of one kind beyond which those that are alike share a row


@dataclass(frozen=True)
class Found:
    """One image.

    id:
        The series' name for ``--series``; for other files the path inside what was inspected.
    kind:
        Name of the DICOM object, or the file format.
    shape, spacing_mm, affine_ras_mm, unit:
        As ``Image`` has them: (C, D, H, W), (D, H, W) in mm; None where they are not known.
    files:
        How many it is made of.
    """

    id: str
    path: str
    modality: str
    kind: str
    shape: tuple[int, ...] | None
    spacing_mm: tuple[float, ...] | None
    affine_ras_mm: tuple[tuple[float, ...], ...] | None
    unit: str | None
    files: int
    verdict: Verdict
    defects: tuple[Defect, ...] = ()
    scanner: str = ""
    burned_in: str = ""


@dataclass(frozen=True)
class Inspection:
    """All images, the files that should be images and cannot be used, and what else there is: kind -> number."""

    found: tuple[Found, ...]
    refused: tuple[tuple[str, str], ...]
    others: dict[str, int]

    @property
    def failed(self) -> bool:
        """Whether anything that claims to be an image is refused."""
        return bool(self.refused) or any(one.verdict == "refused" for one in self.found)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Names of the columns, and a row an image; many files of one kind and shape are one row."""
        alike: dict[tuple[str, ...], list[Found]] = {}
        counts = Counter(one.kind for one in self.found if not one.modality)
        for number, one in enumerate(self.found):
            many = not one.modality and counts[one.kind] > _MANY
            alike.setdefault(_cells(one, "" if many else str(number)), []).append(one)
        header = ("series", "what", "C x D x H x W", "spacing mm (D, H, W)", "unit", "files", "scanner", "verdict")
        rows = [
            (
                *(members[0].id if len(members) == 1 else f"{len(members)} files", *cells[1:5]),
                *(str(sum(one.files for one in members)), *cells[5:]),
            )
            for cells, members in alike.items()
        ]
        return header, rows

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """Below the table: defects, refused files by reason, other files; each a title and its sentences."""
        by_defect: dict[str, list[str]] = {}
        for one in self.found:
            for defect in one.defects:
                by_defect.setdefault(str(defect), []).append(one.id)
        if by_defect:
            yield "Defects", _some([f"{_named(ids)}: {text}" for text, ids in by_defect.items()])
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.refused:
            by_reason.setdefault(reason, []).append(path)
        if by_reason:
            yield "Refused", _some([f"{_named(paths)}: {reason}" for reason, paths in by_reason.items()])
        if self.others:
            yield "No images", [f"{counted(count, 'file')}: {kind}" for kind, count in self.others.items()]

    @property
    def summary(self) -> str:
        verdicts = Counter(one.verdict for one in self.found)
        told = ", ".join(
            f"{verdicts[verdict]} {verdict}" for verdict in ("ok", "accepted", "refused") if verdicts[verdict]
        )
        files = f"; {counted(len(self.refused), 'file')} refused" if self.refused else ""
        return f"{counted(len(self.found), 'image')}{f' ({told})' if told else ''}{files}."

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``inspect --json``."""
        return {
            "series": [asdict(one) for one in self.found],
            "refused": [{"path": path, "reason": reason} for path, reason in self.refused],
            "others": [{"kind": kind, "files": count} for kind, count in self.others.items()],
        }


def _cells(one: Found, key: str) -> tuple[str, ...]:
    shape = " x ".join(map(str, one.shape)) if one.shape else ""
    spacing = ", ".join(f"{part:.4g}" for part in one.spacing_mm or ())
    what = f"{one.modality} {one.kind.removesuffix(' Image Storage').removesuffix(' Storage')}".strip()
    what = one.modality if what == f"{one.modality} {one.modality}" else what
    return key, what, shape, spacing, one.unit or "", one.scanner, one.verdict


def _named(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _some(sentences: list[str]) -> list[str]:
    rest = len(sentences) - _MANY
    return [*sentences[:_MANY], f"and {rest} more (--json lists all)"] if rest > 0 else sentences


def inspect(
    path: Path,
    options: ReadOptions = READ_AS_STORED,
    *,
    pixels: bool = True,
    looking: Progress | None = None,
    decoding: Progress | None = None,
) -> Inspection:
    """Judge everything at ``path``.

    Parameters
    ----------
    pixels:
        Decode every image too. Without, DICOM is judged by its headers, and other files by their first bytes only.

    Raises
    ------
    ConfigError
        If there is no such path.
    ReadError
        If a zip or DICOMDIR cannot be opened at all.
    """
    _existing(path)
    with opened(path) as place:
        headers = scan(place.root, progress=looking)
        volumes = volumes_of(headers.groups, headers.broken, options)
        files = readable(headers.foreign)
        found: list[Found] = []
        refused = [*_refused(headers, place)]
        total = len(volumes) + len(files)
        for number, one in enumerate([*volumes, *(files if pixels else ())], 1):
            if isinstance(one, Volume):
                found.append(_volume(one, place, options if pixels else None))
            else:
                image = _file(one, place, options)
                (found if isinstance(image, Found) else refused).append(image)  # type: ignore[arg-type]
            if decoding and pixels:
                decoding(number, total)
        others = _others(headers, () if pixels else files)
    return Inspection(tuple(found), tuple(refused), others)


def _existing(path: Path) -> None:
    if not path.exists():
        raise ConfigError(
            "there is no such file or folder",
            needed="an image, a folder, a zip or a DICOMDIR",
            where=str(path),
            remedy="Look for a mistyped name; a relative path starts at the folder you are in.",
        )


def _volume(volume: Volume, place: Opened, options: ReadOptions | None) -> Found:
    """A DICOM volume, decoded where there are options for it."""
    series, image, defects = volume.series, None, volume.series.defects
    verdict: Verdict = series.verdict
    if options is not None and verdict != "refused":
        try:
            image = assemble(volume, options, "")
            defects = image.defects
            verdict = "accepted" if defects else "ok"
        except MedrailError as error:
            defects, verdict = (*defects, defect_of(error, place)), "refused"
    geometry = image.geometry if image else None
    return Found(
        id=series.item,
        path=str(_common(place, series.files)),
        modality=_plain(series.modality),
        kind=_plain(series.kind),
        shape=image.voxels.shape if image else series.shape,
        spacing_mm=geometry.spacing_mm if geometry else None if verdict == "refused" else series.spacing_mm,
        affine_ras_mm=_rows(geometry) if geometry else None if verdict == "refused" else series.affine_ras_mm,
        unit=image.unit if image else series.unit,
        files=len(series.files),
        verdict=verdict,
        defects=tuple(Defect(one.name, _plain(place.text(one.evidence)), _plain(one.action)) for one in defects),
        scanner=_plain(series.scanner),
        burned_in=series.burned_in,
    )


def _file(file: Foreign, place: Opened, options: ReadOptions) -> Found | tuple[str, str]:
    """An image of another format, read; or its path and why it cannot be."""
    shown = str(place.shown(file.path))
    try:
        image = read(file.path, "", options)
    except MedrailError as error:
        return shown, reason_of(error, file.path, place)
    return Found(
        id=_below(file.path, place),
        path=shown,
        modality="",
        kind=file.kind,
        shape=image.voxels.shape,
        spacing_mm=image.geometry.spacing_mm if image.geometry else None,
        affine_ras_mm=_rows(image.geometry) if image.geometry else None,
        unit=image.unit,
        files=1,
        verdict="accepted" if image.defects else "ok",
        defects=image.defects,
    )


def defect_of(error: MedrailError, place: Opened) -> Defect:
    """An error of reading under the name of the defect that it tells of."""
    text = _plain(place.text(error.found))
    name = next((name for name in DEFECTS if text.startswith(f"{in_words(name)}:")), "undecodable_pixel_data")
    return Defect(name, text.removeprefix(f"{in_words(name)}: "), "refused")


def reason_of(error: MedrailError, path: Path, place: Opened) -> str:
    """An error without the path, which stands beside it."""
    text = str(error)
    for where in (error.where, str(path)):
        text = text.removeprefix(f"{where}: ") if where else text
    return _plain(place.text(text))


def _refused(headers: Scan, place: Opened) -> Iterator[tuple[str, str]]:
    """Files that should be images: broken DICOM, what calls itself an image and is none, and whatever was given."""
    for file in headers.refused:
        yield str(place.shown(file.path)), reason_of(file.error, file.path, place)
    given = place.root.is_file()
    unread = [(file.path, file.error) for file in headers.foreign if image_suffix(file.path.name) or given]
    unread += [(file.path, file.error) for file in headers.others if given]
    for path, cause in unread:
        if cause is not None:
            yield str(place.shown(path)), reason_of(cause, path, place)
    for path, error in place.inside.refused if place.inside else ():
        yield str(path), reason_of(error, path, place)


def _others(headers: Scan, unread: Sequence[Foreign]) -> dict[str, int]:
    """What is no image: kind -> number of files."""
    counts: Counter[str] = Counter(_plain(file.error.found) for file in headers.others)
    listed = {file.path for file in readable(headers.foreign)}
    for file in headers.foreign:
        if file.path not in listed and not (file.error is not None and image_suffix(file.path.name)):
            counts[file.kind or _looks_like(file.error)] += 1
    counts.update(f"{file.kind} (not read)" for file in unread)
    return dict(sorted(counts.items()))


def _looks_like(error: MedrailError | None) -> str:
    if not isinstance(error, UnsupportedFormat):
        return "an empty file"
    return error.found.removeprefix("looks like ").partition(" (")[0]


def _common(place: Opened, files: Sequence[Path]) -> Path:
    """The file, or the folder that holds all of them."""
    if len(files) == 1:
        return place.shown(files[0])
    parts = [file.parent.parts for file in files]
    same = 0
    while all(len(one) > same and one[same] == parts[0][same] for one in parts):
        same += 1
    return place.shown(Path(*parts[0][:same]))


def _below(path: Path, place: Opened) -> str:
    return path.relative_to(place.root).as_posix() if place.root.is_dir() else path.name


def _rows(geometry: Geometry) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(number) for number in row) for row in geometry.affine_ras_mm)


def _plain(text: str) -> str:
    """Text of a header as it may reach a terminal: no control characters, no more than a line."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:500]


def convert(path: Path, out: Path, series: str = "", options: ReadOptions = READ_AS_STORED) -> Image:
    """Read one image of ``path`` and write it as NIfTI: real values (CT in HU), RAS+ affine in mm.

    A picture without physical space gets voxels of 1 mm and the codes that say "no orientation known".

    Raises
    ------
    ConfigError
        If there is no such path, or ``out`` is no NIfTI name, or is among the input.
    MedrailError
        As ``read``; several images and no ``series`` is a ReadError that lists them.
    """
    _existing(path)
    if not out.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{out.name!r} is no NIfTI name", needed=".nii or .nii.gz", where="--out")
    if out.exists() and (out.is_dir() or out.samefile(path) or _is_input(out, path)):
        remedy = "Choose another name: the originals are never touched."
        raise ConfigError("would overwrite the input", where=str(out), needed="a file of its own", remedy=remedy)
    image = read(path, series, options)
    write_nifti(image, out)
    return image


def _is_input(out: Path, path: Path) -> bool:
    """Whether an existing file below the input's folder is one of the images there."""
    from medrail.read import files_of

    if path.is_dir():
        return any(out.samefile(file) for file in path.rglob(out.name) if file.is_file())
    return any(out.samefile(file) for file in files_of(path))
