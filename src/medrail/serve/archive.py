"""A zip of DICOM that a stranger sent: taken apart into a folder of the job's own, or refused before it costs anything.

``medrail.read`` takes zips apart for the person at the machine, who knows their origin. Here nobody does, so this is
stricter: no name of the archive ever becomes a path, one broken member refuses the whole (a missing slice would be an
answer about another body), and entries may not share bytes (the "better zip bomb", D. Fifield, WOOT 2019).
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from medrail.errors import CorruptFile, MedrailError
from medrail.read.sniff import sniff
from medrail.serve.problems import Refusal
from medrail.serve.settings import MEBIBYTE, Settings

_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 1024
_ENTRY_BYTES = 46 + 512  # of one entry in the table of contents, with a long name
_TAIL_BYTES = 22 + 65_535 + 76  # the end record, the longest comment, and what zip64 puts before them
_MOST_END_RECORDS = 8
_MOST_NAME = 1024
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ\0", b"\x1f\x8b", b"MSCF")
_TAR = slice(257, 262)
_DICOMDIR = b"1.2.840.10008.1.3.10"
_WHOLE = "Pack the DICOM files again, as a plain zip."


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold.

    files:
        Members that are no folders.
    total_bytes:
        Of all members, unpacked.
    ratio:
        Unpacked to packed, of the whole archive; counts from ``ratio_from_bytes`` on, because a slice of air deflates
        to a thousandth and a study of them does not.
    """

    files: int = 10_000
    total_bytes: int = 2048 * MEBIBYTE
    ratio: float = 100.0
    ratio_from_bytes: int = 64 * MEBIBYTE

    @staticmethod
    def of(settings: Settings) -> ArchiveLimits:
        """As the service is set."""
        return ArchiveLimits(settings.max_archive_files, int(settings.max_archive_mb * MEBIBYTE))


def unpacked(path: Path, folder: Path, limits: ArchiveLimits) -> tuple[Path, ...]:
    """The DICOM files of a zip, written into ``folder`` under names of a counter, in the archive's order.

    What is no DICOM (a viewer, a read-me, a DICOMDIR, hidden files) is left out and never written.

    Parameters
    ----------
    path:
        The zip.
    folder:
        An empty folder that is there; the only place that is written to. After a refusal, files may lie in it.
    limits:
        Looked at in the table of contents first, and again while unpacking.

    Raises
    ------
    Refusal
        "archive-too-large"; "unsafe-archive" for names that lead out, links, encryption, archives inside, entries
        that share bytes or a name; "corrupt-file" for what is broken or cut off; "unsupported-format" if no DICOM is
        inside.
    """
    try:
        _check_end(path, limits)
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _check_contents(members, path.stat().st_size, limits)
            _check_layout(file, archive.infolist(), archive.start_dir)
            _check_room(members, folder)
            written = tuple(
                found
                for number, member in enumerate(member for member in members if not _is_hidden(member))
                if (found := _write(archive, member, folder / f"{number:06d}")) is not None
            )
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError, ValueError):
        raise _broken() from None
    if not written:
        raise Refusal("unsupported-format", "The archive holds no DICOM file.", "Send a zip of one DICOM series.")
    return written


def _check_end(path: Path, limits: ArchiveLimits) -> None:
    """Bound the table of contents before ``zipfile`` reads it whole; every end record counts that it could choose."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _TAIL_BYTES)
        file.seek(start)
        tail = file.read(_TAIL_BYTES)
        ends = [match.start() for match in re.finditer(rb"PK\x05\x06", tail)]
        locators = [match.start() for match in re.finditer(rb"PK\x06\x07", tail)]
        larger = [start + match.start() for match in re.finditer(rb"PK\x06\x06", tail)]
        if not ends:
            raise _broken()
        if max(len(ends), len(locators), len(larger)) > _MOST_END_RECORDS:
            raise _unsafe("The archive has several ends.")
        sizes = [struct.unpack("<I", tail[at + 12 : at + 16])[0] for at in ends if at + 16 <= len(tail)]
        for at in locators:
            larger.append(struct.unpack("<Q", tail[at + 8 : at + 16])[0])
        for place in larger:
            if place + 48 <= size:
                file.seek(place + 40)
                sizes.append(struct.unpack("<Q", file.read(8))[0])
    if max((each for each in sizes if each != 0xFFFFFFFF), default=0) > limits.files * _ENTRY_BYTES:
        raise _too_large(f"at most {limits.files} files are accepted")


def _check_contents(members: Sequence[zipfile.ZipInfo], size: int, limits: ArchiveLimits) -> None:
    if len(members) > limits.files:
        raise _too_large(f"it holds {len(members)} files, and at most {limits.files} are accepted")
    declared = sum(member.file_size for member in members)
    if declared > limits.total_bytes:
        raise _too_large(f"it unpacks to more than {limits.total_bytes // MEBIBYTE} MiB")
    if declared > limits.ratio_from_bytes and declared > limits.ratio * size:
        raise _too_large(f"it unpacks to more than {limits.ratio:g} times its size")
    names = [member.filename.replace("\\", "/") for member in members]
    if len(set(names)) < len(names):
        raise _unsafe("The archive holds two files of the same name.")
    for member, name in zip(members, names, strict=True):
        below = PurePosixPath(name)
        if below.is_absolute() or ".." in below.parts or re.search(r"[:\x00-\x1f]", name) or len(name) > _MOST_NAME:
            raise _unsafe("The archive holds a file whose name leads out of its folder.")
        if _is_special(member):
            raise _unsafe("The archive holds a link or a device.")
        if member.flag_bits & _ENCRYPTED:
            raise _unsafe("The archive is encrypted.")
        if member.compress_type not in _METHODS:
            raise _unsafe("The archive is packed by another method than deflate.")


def _is_special(member: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(member.external_attr >> 16)
    return kind not in (0, stat.S_IFREG)


def _is_hidden(member: zipfile.ZipInfo) -> bool:
    """What a file manager leaves in every folder that it packs."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def _check_layout(file: BinaryIO, members: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Each entry has bytes of its own, all of them before the table of contents."""
    taken = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        file.seek(member.header_offset)
        header = file.read(30)
        if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
            raise _broken()
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        if member.header_offset < taken:
            raise _unsafe("Entries of the archive share the same bytes.")
        taken = member.header_offset + 30 + name_bytes + extra_bytes + member.compress_size
        if taken > end:
            raise _broken()


def _check_room(members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    if sum(member.file_size for member in members) > shutil.disk_usage(folder).free // 2:
        raise _too_large("there is no room to unpack it at present")


def _write(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> Path | None:
    """Write one member if it is DICOM; of anything else that does no harm, only the head is read (None)."""
    left = member.file_size
    with archive.open(member) as source:
        head = source.read(_HEAD_BYTES)
        if head.startswith(_ARCHIVES) or head[_TAR] == b"ustar":
            raise _unsafe("The archive holds another archive.")
        if not _is_dicom(head, target):
            return None
        with target.open("xb") as file:
            file.write(head)
            left -= len(head)
            while chunk := source.read(_CHUNK_BYTES):
                left -= len(chunk)
                if left < 0:
                    raise _unsafe("A file of the archive is larger than the archive says.")
                file.write(chunk)
    if left:
        raise _broken()
    return target


def _is_dicom(head: bytes, target: Path) -> bool:
    """Told by the head alone, which is written where the file itself would come to lie."""
    if _DICOMDIR in head[128:512] and head[128:132] == b"DICM" and _is_directory(head):
        return False
    target.write_bytes(head)
    try:
        return sniff(target) == "dicom"
    except CorruptFile:  # nothing, or nothing but zeros: an interrupted copy, perhaps of a slice
        raise _broken() from None
    except MedrailError:
        return False
    finally:
        target.unlink()


def _is_directory(head: bytes) -> bool:
    """Whether the Media Storage SOP Class (0002,0002) is that of a DICOMDIR, which names files that are not there."""
    at = head.find(b"\x02\0\x02\0UI")
    return at >= 0 and head[at + 8 :].startswith(_DICOMDIR + b"\0")


def _too_large(reason: str) -> Refusal:
    return Refusal("archive-too-large", f"The archive is not unpacked: {reason}.")


def _unsafe(reason: str) -> Refusal:
    return Refusal("unsafe-archive", reason)


def _broken() -> Refusal:
    return Refusal("corrupt-file", "The archive is broken or cut off.", _WHOLE)
