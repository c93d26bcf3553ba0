"""A zip of images: unpacked into a private folder for as long as it is needed, under limits that no bomb passes."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from medrail.errors import CorruptFile, MedrailError, ReadError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.private_folder import private_folder

# A whole-body CT with its reconstructions is 2 to 4 GB; what is larger is unpacked by hand, where one sees it grow.
MAX_BYTES = 16 << 30
MAX_FILES = 200_000
# Slices of one value deflate to a thousandth, but never a whole study of them.
MAX_RATIO = 100
_RATIO_COUNTS_FROM = 256 << 20
_MAX_NAME = 1024
_CHUNK = 1 << 20
_NESTED = (b"PK\x03\x04", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ\0")
_ENCRYPTED = 0x1
_OFFICE = ("[Content_Types].xml", "mimetype", "META-INF/MANIFEST.MF")


@dataclass(frozen=True)
class Unpacked:
    """What a zip holds, as files.

    folder:
        Where they lie, for this user only, until the ``with`` ends.
    archive:
        The zip itself, which paths for people begin with.
    refused:
        Members that were left out, by name, with the reason.
    """

    folder: Path
    archive: Path
    refused: tuple[tuple[Path, MedrailError], ...] = ()

    def shown(self, path: Path) -> Path:
        """A path of the unpacked folder as people know it: study.zip/inner."""
        return self.archive / path.relative_to(self.folder) if path.is_relative_to(self.folder) else path

    def text(self, text: str) -> str:
        """A sentence with such paths in it."""
        return text.replace(str(self.folder), str(self.archive))

    def error(self, error: MedrailError) -> MedrailError:
        """The same error, which names the zip and not a folder that is gone."""
        error.where, error.found = self.text(error.where), self.text(error.found)
        error.needed, error.remedy = self.text(error.needed), self.text(error.remedy)
        return error


@contextmanager
def unpacked(path: Path) -> Iterator[Unpacked]:
    """``with unpacked("study.zip") as inside:`` gives its files in ``inside.folder``; afterwards they are gone.

    Errors that leave the ``with`` name the zip, not the folder. See ``private_folder`` for processes that are ended.

    Raises
    ------
    CorruptFile
        If it is no whole zip, or holds what its table of contents does not declare.
    ReadError
        If it is larger than the limits, encrypted, or has a name that leads out of its folder or is a link.
    """
    with private_folder() as folder:
        inside = Unpacked(folder, path)
        try:
            with Guard(path, "zip"):
                refused = tuple(_unpack(path, folder))
            yield Unpacked(folder, path, refused)
        except MedrailError as error:
            raise inside.error(error) from None


def is_office(names: list[str]) -> bool:
    """Whether a zip with these members is a document or a program, which are zips too."""
    return any(name in _OFFICE for name in names)


def _unpack(path: Path, folder: Path) -> Iterator[tuple[Path, MedrailError]]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        _check_whole(members, path)
        left = min(MAX_BYTES, max(_RATIO_COUNTS_FROM, MAX_RATIO * path.stat().st_size))
        for member in members:
            below = _below(member, path)
            if any(part.startswith((".", "__MACOSX")) for part in below.parts):
                continue
            target = folder / below
            target.parent.mkdir(parents=True, exist_ok=True)
            error, written = _write(archive, member, target, left, path / below)
            left -= written
            if error is not None:
                target.unlink(missing_ok=True)
                yield path / below, error


def _check_whole(members: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse by what the table of contents declares, before anything is written."""
    if len(members) > MAX_FILES:
        raise ReadError(f"holds {len(members):,} files", needed=f"at most {MAX_FILES:,}", remedy="Unpack it first.")
    declared = sum(member.file_size for member in members)
    if declared > MAX_BYTES:
        raise ReadError(
            f"unpacks to {declared / 2**30:.1f} GiB",
            needed=f"at most {MAX_BYTES / 2**30:.0f} GiB",
            remedy="Unpack it first and give the folder.",
        )
    if declared > _RATIO_COUNTS_FROM and declared > MAX_RATIO * path.stat().st_size:
        raise _bomb()
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if declared > free:
        raise ReadError(
            f"unpacks to {declared / 2**20:.0f} MiB, and the folder for temporary files has {free / 2**20:.0f} MiB",
            needed="room to unpack it",
            remedy="Set TMPDIR to a larger disk, or unpack it first.",
        )
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise ReadError("is encrypted", needed="a zip without a password", remedy="Unpack it first.")
    for member in members:
        _below(member, path)


def _bomb() -> ReadError:
    return ReadError(
        f"unpacks to more than {MAX_RATIO} times its size",
        needed="images",
        remedy="It is made to harm, or holds nothing but one value: leave it out, or unpack it first.",
    )


def _below(member: zipfile.ZipInfo, path: Path) -> PurePosixPath:
    """Where a member belongs, which is inside the folder."""
    name = member.filename.replace("\\", "/")  # as some programs of Windows write it
    below = PurePosixPath(name)
    leads_out = below.is_absolute() or ".." in below.parts or any(sign in name for sign in ":\0")
    if leads_out or not below.parts or len(name) > _MAX_NAME:
        raise ReadError(
            "holds a file whose name leads out of its folder",
            needed="plain names",
            remedy="It is made to harm, or packed with a broken program: leave it out.",
        )
    if stat.S_ISLNK(member.external_attr >> 16):
        raise ReadError("holds a link", needed="files", remedy="Pack the files that the links lead to.")
    return below


def _write(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int, shown: Path
) -> tuple[MedrailError | None, int]:
    """Unpack one member; what is wrong with it alone, and the number of bytes written."""
    written = 0
    where = str(shown)
    try:
        with archive.open(member) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                if written == 0 and chunk.startswith(_NESTED) and not _is_npz(target.name):
                    return _nested(where), 0
                written += len(chunk)
                if written > member.file_size or written > left:
                    raise _bomb()
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        remedy = "Copy it again."
        return CorruptFile("is broken inside the zip", needed="a whole file", where=where, remedy=remedy), written
    except (NotImplementedError, RuntimeError):
        remedy = "Unpack it first."
        return ReadError("is packed in a way that is not read", needed="deflate", where=where, remedy=remedy), written
    except (FileExistsError, IsADirectoryError):
        return CorruptFile("stands twice in the zip", needed="one file a name", where=where), written
    if written < member.file_size:
        return CorruptFile("ends before its time inside the zip", where=where, remedy="Copy it again."), written
    return None, written


def _nested(where: str) -> UnsupportedFormat:
    return UnsupportedFormat(
        "is an archive inside an archive", needed="images", where=where, remedy="Unpack it first and give the folder."
    )


def _is_npz(name: str) -> bool:
    return name.lower().endswith(".npz")
