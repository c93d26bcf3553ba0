"""What a file, folder, zip or DICOMDIR holds: a verdict on each image, from its header and, if wanted, its pixels.

``inspect(path, options)`` gives an ``Inspection``; nothing is written, and no identifier of a header is in it.
``convert(path, out)`` writes one of its images as NIfTI.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from medrail.cases.listing import counted, image_suffix
from medrail.errors import ConfigError, MedrailError, UnsupportedFormat
from medrail.read import Place, is_slide, read, slide_facts, write_nifti
from medrail.read.contents import Opened, opened, readable
from medrail.read.dicom.assemble import assemble
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.defects import DEFECTS, in_words
from medrail.read.dicom.headers import Foreign
from medrail.read.dicom.series import Scan, scan
from medrail.read.dicom.volume import Volume, volumes_of
from medrail.read.npz import npz_pictures
from medrail.types import READ_AS_STORED, Defect, Geometry, Image, Progress, ReadOptions

Verdict = Literal["ok", "accepted", "refused"]
_MANY = 50  # files of one kind beyond which those that are alike share a row
_FOLDERS = 10  # so many folders of them, or fewer, have a row each
_PATHS = 20  # files of a series that are listed
_WIDEST = 40  # of a cell that says where
READ = "DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, BMP, whole slides and MedMNIST npz"


@dataclass(frozen=True)
class Found:
    """One image.

    id:
        The series' name for ``--series``; for other files the path inside what was inspected.
    where:
        The file, or the folder that holds all its files, below what was inspected; "." for that itself.
    kind:
        Name of the DICOM object, or the file format.
    shape, spacing_mm, affine_ras_mm, unit:
        As ``Image`` has them: (C, D, H, W), (D, H, W) in mm; None where they are not known.
    files:
        How many it is made of.
    paths:
        The first of them, below what was inspected, in the order in which they were found.
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
    where: str = "."
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What lies there.

    found:
        All images.
    refused:
        The files that should be images and cannot be used, and the folders that may not be opened; each with why.
    others:
        What is no image: kind -> number of files.
    unread:
        What holds images and was not looked into: kind -> number of files.
    """

    found: tuple[Found, ...]
    refused: tuple[tuple[str, str], ...]
    others: dict[str, int]
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing that is an image, or claims to be one."""
        return not (self.found or self.refused or self.unread)

    @property
    def failed(self) -> bool:
        """Whether anything that claims to be an image is refused, or nothing does."""
        return self.empty or bool(self.refused) or any(one.verdict == "refused" for one in self.found)

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Names of the columns, and a row an image; many files of one kind are one row."""
        alike: dict[tuple[str, ...], list[Found]] = {}
        counts = Counter(one.kind for one in self.found if not one.modality)
        folders = {kind: {_top(one) for one in self.found if one.kind == kind} for kind in counts}
        for number, one in enumerate(self.found):
            key = str(number)
            if not one.modality and counts[one.kind] > _MANY:
                key = _top(one) if len(folders[one.kind]) <= _FOLDERS else ""
            alike.setdefault((one.kind, one.unit or "", one.verdict, key), []).append(one)
        header = (
            "series",
            "verdict",
            "where",
            "what",
            "C x D x H x W",
            "spacing mm (D, H, W)",
            "unit",
            "files",
            "scanner",
        )
        rows = [_row(members) for members in alike.values()]
        if all(row[2] in ("", ".") for row in rows):
            rows = [(*row[:2], "", *row[3:]) for row in rows]
        return header, rows

    def sections(self) -> Iterator[tuple[str, list[str]]]:
        """Below the table: defects, refused files by reason, other files; each a title and its sentences."""
        by_defect: dict[str, list[str]] = {}
        for one in self.found:
            for defect in one.defects:
                name = one.id if where_is_said(one) else f"{one.id} ({_shortened(one.where)})"
                by_defect.setdefault(str(defect), []).append(name)
        if by_defect:
            yield "Defects", _some([f"{_named(ids)}: {text}" for text, ids in by_defect.items()])
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.refused:
            by_reason.setdefault(reason, []).append(path)
        if by_reason:
            yield "Refused", _some([f"{_named(paths)}: {reason}" for reason, paths in by_reason.items()])
        for title, counts in (("Not looked into", self.unread), ("No images", self.others)):
            if counts:
                yield title, _some([f"{counted(count, 'file')}: {kind}" for kind, count in counts.items()])

    @property
    def summary(self) -> str:
        if self.empty:
            return f"No image here. Needed: {READ}, at any depth. Name the folder that holds the images."
        verdicts = Counter(one.verdict for one in self.found)
        told = ", ".join(
            f"{verdicts[verdict]} {verdict}" for verdict in ("ok", "accepted", "refused") if verdicts[verdict]
        )
        files = f"; {counted(len(self.refused), 'file')} refused" if self.refused else ""
        if not self.found and not self.refused:
            return "No image was looked into: see above."
        return f"{counted(len(self.found), 'image')}{f' ({told})' if told else ''}{files}."

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``inspect --json``."""
        return {
            "series": [asdict(one) for one in self.found],
            "refused": [{"path": path, "reason": reason} for path, reason in self.refused],
            "others": [{"kind": kind, "files": count} for kind, count in {**self.others, **self.unread}.items()],
        }


def _row(members: Sequence[Found]) -> tuple[str, ...]:
    """One image, or many files of one kind: sizes from the least to the largest, and the folder that holds them all."""
    one = members[0]
    what = f"{one.modality} {one.kind.removesuffix(' Image Storage').removesuffix(' Storage')}".strip()
    what = one.modality if what == f"{one.modality} {one.modality}" else what
    where = "" if one.where == one.id else one.where
    if len(members) > 1:
        where = Path(os.path.commonpath([Path(member.where).parent for member in members])).as_posix()
    shape = " x ".join(_ranges([member.shape for member in members], ""))
    spacing = ", ".join(_ranges([member.spacing_mm for member in members], ".4g"))
    name = one.id if len(members) == 1 else f"{len(members):,} files"
    files = f"{sum(member.files for member in members):,}"
    return name, one.verdict, _shortened(where), what, shape, spacing, one.unit or "", files, one.scanner


def _top(one: Found) -> str:
    """The topmost of the folders that an image lies in, "" for none; "/" so that it never is a number."""
    parts = Path(one.where).parts
    return f"/{parts[0]}" if len(parts) > 1 else "/"


def where_is_said(one: Found) -> bool:
    """Whether the name says where it is already, or there is but one place."""
    return one.where in (".", one.id)


def _ranges(tuples: Sequence[Sequence[float] | None], form: str) -> list[str]:
    """Of each axis the number, or the least and the largest."""
    known = [numbers for numbers in tuples if numbers]
    ends = [(f"{min(axis):{form}}", f"{max(axis):{form}}") for axis in zip(*known, strict=False)]
    return [low if low == high else f"{low}-{high}" for low, high in ends]


def _shortened(text: str) -> str:
    """A path that fits into a column: both ends tell more than the middle."""
    if len(text) <= _WIDEST:
        return text
    head = (_WIDEST - 3) // 2
    return f"{text[:head]}...{text[head + 3 - _WIDEST :]}"


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
        with HeaderCache.of_user() if place.inside is None else nullcontext() as cache:
            headers = scan(place.root, cache, looking)
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
        others, unread = _others(headers), _unread(headers, () if pixels else files)
    return Inspection(tuple(found), tuple(refused), others, unread)


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
            defects, verdict = (*defects, defect_of(error, place, series.files)), "refused"
    geometry = image.geometry if image else None
    return Found(
        id=series.item,
        path=str(place.shown(_folder_of(series.files))),
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
        where=_below(_folder_of(series.files), place),
        paths=tuple(_below(file, place) for file in series.files[:_PATHS]),
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
        where=_below(file.path, place),
        paths=(_below(file.path, place),),
    )


def defect_of(error: MedrailError, place: Opened, files: Sequence[Path]) -> Defect:
    """An error of reading under the name of the defect that it tells of; it names the one of several files."""
    text = _plain(place.text(error.found))
    name = next((name for name in DEFECTS if text.startswith(f"{in_words(name)}:")), "undecodable_pixel_data")
    evidence = text.removeprefix(f"{in_words(name)}: ")
    broken = next((file for file in files if str(file) == error.where), None) if len(files) > 1 else None
    return Defect(name, f"{_below(broken, place)}: {evidence}" if broken else evidence, "refused")


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


def _others(headers: Scan) -> dict[str, int]:
    """What is no image: kind -> number of files."""
    counts: Counter[str] = Counter(_plain(file.error.found) for file in headers.others)
    for file in headers.foreign:
        if not file.kind and not (file.error is not None and image_suffix(file.path.name)):
            counts[_looks_like(file.error)] += 1
    return dict(sorted(counts.items()))


def _unread(headers: Scan, files: Sequence[Foreign]) -> dict[str, int]:
    """What holds images, and is read elsewhere, or without --headers-only: kind -> number of files."""
    counts = Counter(f"{file.kind} (not read)" for file in files)
    for file in headers.foreign:
        if file.error is None and file.kind == "zip":
            counts["zip (give it to `medrail inspect` by itself)"] += 1
        elif file.error is None and file.kind == "npz":
            counts[f"npz with {_arrays(file.path)} (`medrail check` and `medrail init --data` read it)"] += 1
    return dict(sorted(counts.items()))


def _arrays(path: Path) -> str:
    """The pictures of an npz: names and shapes, from the headers of its arrays."""
    try:
        found = npz_pictures(path)
    except MedrailError:
        return "arrays that cannot be read"
    return ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in found.items()) or "no pictures"


def _looks_like(error: MedrailError | None) -> str:
    if not isinstance(error, UnsupportedFormat):
        return "an empty file"
    return error.found.removeprefix("looks like ").partition(" (")[0]


def _folder_of(files: Sequence[Path]) -> Path:
    """The file, or the folder that holds all of them."""
    return files[0] if len(files) == 1 else Path(os.path.commonpath([file.parent for file in files]))


def _below(path: Path, place: Opened) -> str:
    """A path as it is below what is inspected."""
    folder = place.root if place.root.is_dir() else place.root.parent
    return _plain(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name)


def _rows(geometry: Geometry) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(number) for number in row) for row in geometry.affine_ras_mm)


def _plain(text: str) -> str:
    """Text of a header as it may reach a terminal: no control characters, no more than a line."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)[:500]


@dataclass(frozen=True)
class Converted:
    """An image as it was written; ``pixel_mm`` (along H, W) where only the size of its pixels is known."""

    image: Image
    pixel_mm: tuple[float, float] | None = None


def convert(
    path: Path, out: Path, series: str = "", options: ReadOptions = READ_AS_STORED, *, force: bool = False
) -> Converted:
    """Read one image of ``path`` and write it as NIfTI: real values (CT in HU), RAS+ affine in mm.

    A picture without place in the patient gets the codes that say "no orientation known"; its pixels have the size that
    a slide or a DICOM header says, else 1 mm.

    Raises
    ------
    ConfigError
        If there is no such path, or ``out`` is no NIfTI name, is among the input, or is there and ``force`` is not set.
    MedrailError
        As ``read``; several images and no ``series`` is a ReadError that lists them.
    """
    _existing(path)
    _check_out(out, path, force)
    image = read(path, series, options)
    pixel_mm = None if image.geometry else pixel_mm_of(path, series, options)
    write_nifti(image, out, pixel_mm)
    return Converted(image, pixel_mm)


def _check_out(out: Path, path: Path, force: bool) -> None:
    if not out.name.endswith((".nii", ".nii.gz")):
        raise ConfigError(f"{out.name!r} is no NIfTI name", needed=".nii or .nii.gz", where="--out")
    if not out.exists():
        return
    if out.is_dir() or out.samefile(path) or _is_input(out, path):
        remedy = "Choose another name: the originals are never touched."
        raise ConfigError("would overwrite the input", where=str(out), needed="a file of its own", remedy=remedy)
    if not force:
        raise ConfigError(
            "is there already", where=str(out), remedy="Choose another name, or overwrite it with --force."
        )


def pixel_mm_of(path: Path, series: str, options: ReadOptions) -> tuple[float, float] | None:
    """The size of a picture's pixels along H and W: of a slide, or as PixelSpacing of DICOM says; None if unknown."""
    with opened(path) as place:
        found = scan(place.root)
        for volume in volumes_of(found.groups, found.broken, options):
            spacing = volume.groups[0].planes[0].spacing_mm
            if spacing and (volume.series.item == series or len(found.groups) == 1):
                return spacing[0], spacing[1]
        file = place.root / series if place.root.is_dir() else place.root
        if not file.is_file() or not is_slide(file):
            return None
        um = slide_facts(file).um_per_px
        if series and file == place.root:
            size = Place.parse(series).um_per_px
            um = (size, size)
    return (um[1] / 1000, um[0] / 1000) if um else None


def _is_input(out: Path, path: Path) -> bool:
    """Whether an existing file below the input's folder is one of the images there."""
    from medrail.read import files_of

    if path.is_dir():
        return any(out.samefile(file) for file in path.rglob(out.name) if file.is_file())
    return any(out.samefile(file) for file in files_of(path))
