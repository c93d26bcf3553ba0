"""What kind of file this is, by its content; names and extensions lie."""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.archive import is_office
from medrail.read.guard import Guard
from medrail.read.slide_kind import is_slide_tiff, slide_by_magic

_HEAD_BYTES = 1024
_HEADER_BYTES = 352  # of the longest header that is told apart
_MOST_GZIP_HEAD = 64 << 10  # of a gzip file that are looked at for it
_READABLE = "DICOM, NIfTI, MetaImage, NRRD, PNG, JPEG, TIFF, BMP or a MedMNIST npz"

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"NRRD0", "nrrd"),
)

# What else is found in folders of images, and what to do with it.
_FOREIGN = (
    (b"%PDF", "a PDF document", "Export the image itself."),
    (b"GIF8", "a GIF picture", "Save it as PNG."),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture", "Save it as PNG or TIFF."),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 codestream", "Save it as PNG or TIFF."),
    (b"\x89HDF", "an HDF5 file", "Convert it to NIfTI."),
    (b"CDF\x01", "a NetCDF or MINC file", "Convert it to NIfTI."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"\x93NUMPY", "a bare numpy array", "Write it as NIfTI, or into an npz as MedMNIST does."),
    (b"\x80\x02", "a Python pickle", "Convert it to NIfTI or PNG; pickles can run code and are never opened."),
    (b"\x7fELF", "a program", ""),
)
_TEXT = re.compile(rb"[\x09\x0a\x0c\x0d\x20-\x7e\x80-\xff]*\Z")
_METAIMAGE = re.compile(rb"\A\s*(?:ObjectType|NDims|Comment)\s*=.*?^\s*(?:NDims|DimSize)\s*=", re.DOTALL | re.MULTILINE)

# Value representations of DICOM PS3.5 section 6.2.
_VALUE_REPRESENTATIONS = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV".split()
)


def sniff(path: str | Path) -> str:
    """The format of a file, told from its first bytes.

    Returns one of "dicom" "nifti" "metaimage" "nrrd" "png" "jpeg" "tiff" "bmp" "npz" "slide" (a slide in DICOM is
    "dicom") "zip" (an archive of files, whatever they are).

    Raises
    ------
    ReadError
        If the file is missing or may not be opened.
    CorruptFile
        If it is empty, or zeros as an interrupted copy leaves them.
    UnsupportedFormat
        If it is none of these; the error says what it looks like.
    """
    path = Path(path)
    with Guard(path, "file"):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UnsupportedFormat("is a folder", needed="a file", where=str(path))
        if not stat.S_ISREG(mode):
            raise UnsupportedFormat("is a pipe, a socket or a device", needed="a file", where=str(path))
        head = _head(path)
    if not head:
        raise CorruptFile("is empty (0 bytes)", needed="an image", where=str(path), remedy="Copy it again.")
    if not head[:128].strip(b"\0") and (len(head) < 132 or not head.strip(b"\0")):
        raise CorruptFile("begins with nothing but zeros", needed="an image", where=str(path), remedy="Copy it again.")
    if slide_by_magic(head, path):
        return "slide"
    known = _known(head, path) or (_zip_kind(path) if head.startswith(b"PK\x03\x04") else "")
    if known:
        return "slide" if known == "tiff" and is_slide_tiff(path) else known
    looks_like, remedy = _foreign(head, path)
    raise UnsupportedFormat(f"looks like {looks_like}", needed=_READABLE, where=str(path), remedy=remedy)


def known_kind(path: Path) -> str:
    """As ``sniff`` but quicker, and "" for archives and for what is not read; OSError where there is no such file."""
    return _known(_head(path), path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _known(head: bytes, path: Path) -> str:
    if head[128:132] == b"DICM":
        return "dicom"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"BM") and head[14:18] in (
        b"\x0c\0\0\0",
        b"\x28\0\0\0",
        b"\x38\0\0\0",
        b"\x6c\0\0\0",
        b"\x7c\0\0\0",
    ):
        return "bmp"
    if _is_nifti(_gunzipped(head, path)):
        return "nifti"
    if _METAIMAGE.match(head):
        return "metaimage"
    return "dicom" if _is_bare_dicom(head) else ""


def _gunzipped(head: bytes, path: Path) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        with path.open("rb") as file:
            return _inflated(file.read(_MOST_GZIP_HEAD))
    except (OSError, zlib.error):
        return b""


def _inflated(packed: bytes) -> bytes:
    """The beginning of a gzip file, which may have several members; b"" where a name without end comes before it."""
    found = b""
    while packed and len(found) < _HEADER_BYTES:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        found += member.decompress(packed, _HEADER_BYTES - len(found))
        if not member.eof:
            break
        packed = member.unused_data
    return found


def _is_nifti(head: bytes) -> bool:
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


def _is_analyze(head: bytes) -> bool:
    return len(head) >= 348 and head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") and head[38:39] == b"r"


def _is_mgh(head: bytes) -> bool:
    """Version 1, four sizes, and a type of voxel of FreeSurfer's format, all big-endian."""
    if len(head) < 24:
        return False
    version, *sizes, voxel_type = struct.unpack_from(">6i", head)
    return version == 1 and min(sizes) > 0 and voxel_type in (0, 1, 3, 4)


def _is_bare_dicom(head: bytes) -> bool:
    """A data set without the preamble, as old scanners wrote: group 0002 or 0008 comes first."""
    if len(head) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack(f"{order}HH", head[:4])
        if group not in (0x0002, 0x0008) or element > 0x0070:
            continue
        if head[4:6] in _VALUE_REPRESENTATIONS:
            return True
        (length,) = struct.unpack(f"{order}I", head[4:8])
        if order == "<" and length <= 128 and length % 2 == 0:
            return True
    return False


def _zip_kind(path: Path) -> str:
    with Guard(path, "zip"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(".npy") for name in names):
        return "npz"
    return "" if is_office(names) or not names else "zip"


def _foreign(head: bytes, path: Path) -> tuple[str, str]:
    for magic, name, remedy in _FOREIGN:
        if head.startswith(magic):
            return name, remedy
    if head.startswith(b"PK\x03\x04"):
        return "an Office document or an empty zip", "Export the image itself."
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "a WebP picture", "Save it as PNG."
    if _is_mgh(_gunzipped(head, path)):
        return "a FreeSurfer MGH volume", "Convert it to NIfTI, as with mri_convert."
    if head.startswith(b"\x1f\x8b"):
        return "a gzip file that holds no NIfTI image", "Unpack it first."
    if _is_analyze(head):
        return (
            "an Analyze 7.5 header, which does not say which side is left",
            "Convert it to NIfTI with a tool that knows how it was written.",
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", head, re.IGNORECASE):
        return "an HTML or XML page", "Perhaps a download that asked for a login: fetch the image again."
    if _TEXT.match(head):
        return "a text file", ""
    return f"an unknown kind of file (it begins with {head[:8].hex(' ')})", "Convert it to one of these."
