"""DICOMDIR: the table of contents of a CD (PS3.3 annex F, PS3.10 section 8). It names files; it is not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medrail.errors import CorruptFile, MedrailError, ReadError
from medrail.read.dicom.pixels import parse
from medrail.read.dicom.quick import is_cut_off
from medrail.read.guard import Guard

_MEDIA_STORAGE_DIRECTORY = b"1.2.840.10008.1.3.10"
_MOST_BYTES = 64 << 20
_MOST_FILES = 200_000
_MOST_PARTS = 8  # PS3.10, section 8.2: components of a file ID


def is_dicomdir(path: Path) -> bool:
    """Whether a file says of itself that it is a DICOMDIR (its Media Storage SOP Class)."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head[128:132] == b"DICM" and _MEDIA_STORAGE_DIRECTORY in head[132:]


def referenced(path: Path) -> tuple[list[Path], list[tuple[Path, MedrailError]]]:
    """The files that a DICOMDIR names, in its order, and where those should be that are not there, with the reason.

    Only files inside the DICOMDIR's folder are meant; letters may be of the other case, as copies of CDs have it.

    Raises
    ------
    ReadError
        If it is too large, or cannot be parsed.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ReadError(
            f"is a DICOMDIR of {path.stat().st_size >> 20} MiB",
            needed=f"at most {_MOST_BYTES >> 20} MiB",
            where=str(path),
            remedy="Give its folder instead.",
        )
    with Guard(path, "DICOMDIR"), path.open("rb", buffering=0) as file:
        if is_cut_off(file, path.stat().st_size):
            raise CorruptFile("is cut off", needed="a whole DICOMDIR", remedy="Copy it again, or give its folder.")
        dataset = parse(path, ["DirectoryRecordSequence"])
        records = dataset.get("DirectoryRecordSequence") or ()
        names = [_parts(record.get("ReferencedFileID")) for record in records]
    named = list(dict.fromkeys(parts for parts in names if parts))
    if len(named) > _MOST_FILES:
        raise ReadError(f"names {len(named)} files", needed=f"at most {_MOST_FILES}", where=str(path))
    folders = _Folders(path.parent)
    found: list[Path] = []
    missing: list[tuple[Path, MedrailError]] = []
    for parts in named:
        named_file = folders.file(parts)
        if named_file is None:
            missing.append((folders.nearest(parts) or path, _no_file(parts, path)))
        else:
            found.append(named_file)
    return found, missing


def _parts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    return tuple(str(part).strip() for part in ([value] if isinstance(value, str) else value))


def _no_file(parts: tuple[str, ...], path: Path) -> MedrailError:
    name = "/".join(parts) if _is_plain(parts) else "a path that leads out of its folder"
    return CorruptFile(
        f"names {name[:80]}, and there is no such file beside it",
        needed="the files that it lists",
        where=str(path),
        remedy="Copy the whole medium again.",
    )


def _is_plain(parts: tuple[str, ...]) -> bool:
    return 0 < len(parts) <= _MOST_PARTS and all(
        part and part not in (".", "..") and not set(part) & set("/\\:\0") and part.isprintable() for part in parts
    )


class _Folders:
    """Names below one folder, whatever their case; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[Path, dict[str, Path]] = {}

    def file(self, parts: tuple[str, ...]) -> Path | None:
        """The file that the components name, inside the root; None when there is none."""
        if not _is_plain(parts):
            return None
        at: Path | None = self._root
        for part in parts:
            at = self._inside(at).get(part.upper().rstrip(".")) if at else None
        if at is None or not at.is_file() or not at.resolve().is_relative_to(self._root.resolve()):
            return None
        return at

    def nearest(self, parts: tuple[str, ...]) -> Path | None:
        """Where the missing file would lie, so that what lies beside it does not pass for whole."""
        if not _is_plain(parts):
            return None
        at = self._root
        for part in parts[:-1]:
            at = self._inside(at).get(part.upper().rstrip("."), at / part)
        return at / parts[-1]

    def _inside(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            try:
                names = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            except OSError:
                names = []
            self._listed[folder] = {_media_name(path.name): path for path in names}
        return self._listed[folder]


def _media_name(name: str) -> str:
    """ISO 9660 systems show "IM1" also as "im1", "IM1." and "IM1.;1"."""
    return name.upper().partition(";")[0].rstrip(".")
