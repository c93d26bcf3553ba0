"""Writes docs/reference/dicom.md: which decoder reads which transfer syntax, and what becomes of every file that the
package pydicom ships for testing. ``--check`` writes nothing; the exit code is 1 when the page is stale.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_files
from pydicom.uid import UID, AllTransferSyntaxes

from medrail.errors import MedrailError
from medrail.read import read
from medrail.read.dicom.decoders import DECODERS
from medrail.read.dicom.pixels import ENCAPSULATED, UNCOMPRESSED, syntax_name
from medrail.read.guard import Guard

PAGE = Path(__file__).resolve().parent / "reference" / "dicom.md"
_SHIPPED = Path(pydicom.__file__).parent / "data"
_NO_DICOM = (".json", ".txt", ".py", ".md", ".zip", ".dic")
# Known to the standard and not to pydicom.
_LATER = {
    ENCAPSULATED: "Encapsulated Uncompressed Explicit VR Little Endian",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
}
_LISTED = 8
_NOTES = {
    "1.2.840.10008.1.2.4.50": "8 bits",
    "1.2.840.10008.1.2.4.51": "8 and 12 bits",
    "1.2.840.10008.1.2.4.57": "2 to 16 bits, predictors 1 to 7",
    "1.2.840.10008.1.2.4.70": "2 to 16 bits",
    "1.2.840.10008.1.2.4.92": "streams without the transforms of part 2",
    "1.2.840.10008.1.2.4.93": "streams without the transforms of part 2",
    "1.2.840.10008.1.2.1.99": "inflated size checked first",
}
_WHY = """## Why these decoders

Damaged streams must never end the process, and never pass for whole ones. In one-off trials (November 2026, streams
mutated at random in child processes, imagecodecs 2026.3.6; no script of this repository repeats them) the decoders of
the package imagecodecs behaved so:

| decoder | what happened | used |
|---|---|---|
| libjpeg-turbo (`jpeg8`), 8 and 12 bits | no crash; fills up silently what a stream lacks | yes, with a test for streams that run out |
| libjpeg-turbo (`jpeg8`), lossless | no crash; fills up silently; as much memory as the header declares | yes, with that test and a check of the declared size |
| `jpegsof3`, lossless JPEG | segmentation faults | no |
| `ljpeg`, lossless JPEG | segmentation faults | no |
| CharLS (`jpegls`) | no crash; seconds for a stream without its end | yes, with a check of the end |
| OpenJPEG (`jpeg2k`) | no crash; as much memory as the header declares | yes, with a check of the declared size |
| OpenJPH (`htj2k`) | hangs; answers a broken stream with memory nobody wrote | no: OpenJPEG reads HTJ2K |
| `dicomrle` | segmentation faults | no: the RLE header is read here, its segments by `packbits` |

What medrail reads is put to such streams by `tests/read/test_fuzz.py`, and longer by `benchmarks/fuzz`.

Films (MPEG-2, H.264, HEVC) are refused: in a trial of the same time, OpenCV's FFmpeg read many damaged MPEG-2 films with
the right number of frames and wrong pictures in them, so that the header cannot tell a whole film from a damaged
one."""  # noqa: E501


def page() -> str:
    """The text of docs/reference/dicom.md."""
    rows, refused = [], defaultdict(list)
    for path in shipped_files():
        name = path.relative_to(_SHIPPED).as_posix().removeprefix("test_files/")
        try:
            image = read(path)
        except MedrailError as error:
            refused[f"{type(error).__name__}: {error.found}"].append(name)
        else:
            size = " x ".join(str(extent) for extent in image.voxels.shape)
            rows.append((f"`{name}`", _syntax(path), size, image.voxels.dtype.name, image.unit))
    count = sum(len(names) for names in refused.values())
    parts = [
        "<!-- Made by docs/make_dicom_table.py; run that to renew it. -->",
        "# DICOM: what is read",
        "A file is read right, or refused by name. Here stands which transfer syntaxes are read, by which decoder, and "
        "what becomes of each file that the package pydicom ships for testing.",
        "## Transfer syntaxes",
        _table(("transfer syntax", "UID", "read by", "note"), _syntaxes()),
        _WHY,
        "## Files that pydicom ships",
        f"pydicom {pydicom.__version__} ships {len(rows) + count} files that are not text or archives by their names: "
        f"{len(rows)} are read, {count} are refused. The tests compare their values and geometry with SimpleITK, and "
        "their pixels and colours with pydicom.",
        "### Read",
        _table(("file", "transfer syntax", "C x D x H x W", "type", "unit"), rows),
        "### Refused",
        _table(("reason", "files"), [(_cell(why), _listing(names)) for why, names in refused.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def shipped_files() -> list[Path]:
    """What comes with the package, without what an earlier test may have downloaded beside it."""
    paths = {Path(path) for path in get_testdata_files("**/*")}
    inside = [path for path in paths if path.is_relative_to(_SHIPPED) and path.is_file()]
    return sorted(path for path in inside if path.suffix not in _NO_DICOM)


def _syntaxes() -> Iterator[tuple[str, ...]]:
    known = {*map(str, AllTransferSyntaxes), *_LATER}
    for uid in sorted(known, key=lambda uid: [int(part) for part in uid.split(".")]):
        name = _LATER.get(uid) or str(UID(uid).name)
        if uid in UNCOMPRESSED or uid == ENCAPSULATED:
            reader = "numpy"
        else:
            reader = DECODERS[uid].name if uid in DECODERS else "refused by name"
        yield name, uid, reader, _NOTES.get(uid, "")


def _syntax(path: Path) -> str:
    with Guard(path, "DICOM"):
        meta = pydicom.dcmread(path, force=True, stop_before_pixels=True).get("file_meta")
    uid = meta.get("TransferSyntaxUID") if meta else None
    return syntax_name(uid) if uid else "not said"


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    lines = [" | ".join(head), "|".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"|{line}|" if line.startswith("---") else f"| {line} |" for line in lines)


def _listing(names: list[str]) -> str:
    """The files; of many in one folder only how many."""
    folders = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    parts = [
        [f"{len(inside)} files in `{folder}`"] if folder and len(inside) > _LISTED else [f"`{name}`" for name in inside]
        for folder, inside in folders.items()
    ]
    return ", ".join(entry for part in parts for entry in part)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when the page is stale")
    text = page()
    if parser.parse_args().check:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text
        if stale:
            print("stale: docs/reference/dicom.md; run docs/make_dicom_table.py", file=sys.stderr)
        return int(stale)
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    print("wrote docs/reference/dicom.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
