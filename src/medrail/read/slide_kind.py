"""Which files are whole slides: told from their content, without OpenSlide, so that the answer is the same without it.

A slide may be a TIFF, a JPEG or a DICOM file, and so may an ordinary picture. What is told apart here stays with the
reader of pictures when in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrail.errors import CorruptFile, MedrailError, UnsupportedFormat
from medrail.read.guard import Guard
from medrail.read.limits import MAX_PICTURE_PIXELS

# Names of files that scanners write. Only a hint, asked where the content is too broken to tell.
SLIDE_SUFFIXES = frozenset({".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi"})

_HEAD_BYTES = 1024
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_VENDORS = ("is_svs", "is_ndpi", "is_scn", "is_bif", "is_philips")
# DICOM PS3.6, table A-1: VL Whole Slide Microscopy Image Storage.
_SLIDE_SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.77.1.6"


def slide_by_magic(head: bytes, path: Path) -> bool:
    """Whether the first bytes (and, where many formats share them, the name) are those of a slide that is no TIFF."""
    if head.startswith(b"ZISRAWFILE"):  # Zeiss CZI
        return True
    if head.startswith((b"[Virtual Microscope Specimen]", b"[Uncompressed Virtual Microscope Specimen]")):
        return True
    suffix = path.suffix.lower()
    if head.startswith(b"SQLite format 3\0"):
        return suffix == ".svslide"
    if head.startswith(b"\xff\xd8\xff"):  # MIRAX: a JPEG beside a folder of the same name
        return suffix == ".mrxs" and (path.with_suffix("") / "Slidedat.ini").is_file()
    return False


def is_slide_tiff(path: Path) -> bool:
    """Whether a TIFF is a whole slide: a scanner's own kind, or 8 bit tiles with reduced copies behind them.

    A tiled TIFF of one page is a slide where it is larger than any picture that is read whole. Several tiled pages of
    one size (a stack) are none. A TIFF that is too broken to tell is one if it is called as scanners call theirs.
    """
    import tifffile

    try:
        with Guard(path, "TIFF"), path.open("rb") as stream, tifffile.TiffFile(stream) as file:
            first = file.pages.first
            if any(getattr(file, vendor, False) for vendor in _VENDORS):
                return True
            if not first.is_tiled or first.bitspersample != 8 or first.samplesperpixel not in (1, 3, 4):
                return False
            return _has_reduced_copies(file) or first.imagewidth * first.imagelength > MAX_PICTURE_PIXELS
    except MedrailError:  # the reader will say what is wrong
        return path.suffix.lower() in SLIDE_SUFFIXES


def _has_reduced_copies(file: Any) -> bool:
    """TIFF 6.0, NewSubfileType: bit 0 marks a reduced-resolution version of another page."""
    try:
        second = file.pages[1]
    except IndexError:
        return False
    return bool(second.is_reduced and second.is_tiled)


def is_slide_dicom(path: Path) -> bool:
    """Whether a DICOM file is part of a whole slide, as its file meta information says."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    start = head.find(_SLIDE_SOP_CLASS)
    after = head[start + len(_SLIDE_SOP_CLASS) :][:1]
    return start >= 0 and after not in b".0123456789"


def is_slide(path: Path) -> bool:
    """Whether a file is a whole slide of any kind, or (DICOM) one file of several that make one; never raises."""
    try:
        with Guard(path, "file"):
            if not path.is_file():
                return False
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            if head[:4] in _TIFF_MAGIC:
                return is_slide_tiff(path)
            return is_slide_dicom(path) if head[128:132] == b"DICM" else slide_by_magic(head, path)
    except MedrailError:
        return False


def slide_files(path: Path) -> tuple[Path, ...]:
    """The files that a slide is made of, itself first: MIRAX has a folder beside it, a DICOM slide its siblings."""
    if path.suffix.lower() == ".mrxs":
        folder = path.with_suffix("")
        return (path, *sorted(file for file in folder.rglob("*") if file.is_file())) if folder.is_dir() else (path,)
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM" or not is_slide_dicom(path):
            return (path,)
    others = (file for file in sorted(path.parent.iterdir()) if file != path and file.is_file())
    return (path, *(file for file in others if is_slide_dicom(file)))


def check_whole_tiff(path: Path) -> None:
    """Refuse a slide in a TIFF whose tiles lie behind the end of the file, and a stack of several pictures.

    Raises
    ------
    CorruptFile
        With the size that it has and what is missing.
    UnsupportedFormat
        For several tiled pages of one size, of which only the first would be read.
    """
    import tifffile

    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(4) not in _TIFF_MAGIC:
            return
        stream.seek(0)
        try:
            file = tifffile.TiffFile(stream)
            pages: list[Any] = list(file.pages)
        except Exception:  # noqa: BLE001 - a parser of broken files may raise anything
            pages = []
        if not pages:
            raise _truncated(size, "its directory of tiles lies")
        for page in pages:
            if page.is_tiled and page.dataoffsets:
                end = max(offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
                if end > size:
                    raise _truncated(size, f"tiles up to byte {end:,} lie")
        if not any(getattr(file, vendor, False) for vendor in _VENDORS):
            _refuse_stack(pages)


def _refuse_stack(pages: Sequence[Any]) -> None:
    alike = sum(page.is_tiled and not page.is_reduced and page.shape == pages[0].shape for page in pages)
    if alike > 1:
        raise UnsupportedFormat(
            f"holds {alike} pictures of one size",
            needed="one slide, with nothing but reduced copies of it behind",
            remedy="Save each as a file of its own.",
        )


def _truncated(size: int, missing: str) -> CorruptFile:
    return CorruptFile(
        f"is a slide that was cut off: it has {size:,} bytes, and {missing} behind its end",
        needed="the whole file",
        remedy="Copy it again from the scanner or the archive.",
    )
