"""From uploaded files to an image: each is looked at before it is decoded, a zip of DICOM taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medrail.read import read, read_mask
from medrail.read.contents import is_zip
from medrail.serve.archive import ArchiveLimits, unpacked
from medrail.serve.problems import Refusal
from medrail.serve.screen import SCREENS, screen, screen_slices
from medrail.serve.upload import Received
from medrail.types import Image, ReadOptions

ZIP = "zip"
PICTURES = frozenset({"png", "jpeg", "bmp"})
VOLUMES = frozenset({*SCREENS, ZIP}) - PICTURES
"""Kinds that may hold more than one slice."""
ANYTHING = frozenset({*SCREENS, ZIP})


@dataclass(frozen=True)
class Upload:
    """The files of one image: their form fields (``file``, maybe ``roi``), their private folder, and the limits.

    kinds:
        Of file that are taken, as ``sniff`` names them.
    """

    files: Mapping[str, Received]
    folder: Path
    max_values: int
    kinds: frozenset[str] = frozenset(SCREENS)
    archives: ArchiveLimits = field(default_factory=ArchiveLimits)


@dataclass(frozen=True, eq=False)
class Decoded:
    """An image and its region of interest; ``place`` is the file or folder that ``read`` made the image of."""

    image: Image
    roi: Image | None
    place: Path


def decode(upload: Upload, options: ReadOptions) -> Decoded:
    """Screen, take apart where it is a zip, and read.

    Raises
    ------
    Refusal
        For what is not taken, is too large or refers to other files.
    DataError
        For what the readers refuse.
    """
    place = _place(upload)
    if "roi" in upload.files:
        screen(upload.files["roi"].path, upload.max_values)
    image = read(place, options=options)
    roi = read_mask(upload.files["roi"].path) if "roi" in upload.files else None
    return Decoded(image, roi, place)


def _place(upload: Upload) -> Path:
    path = upload.files["file"].path
    if ZIP in upload.kinds and is_zip(path):
        return _unpacked(path, upload)
    kind = screen(path, upload.max_values)
    if kind not in upload.kinds:
        raise Refusal(
            "unsupported-format",
            f"The file is of the kind {kind}; volumes are taken here.",
            "Send a picture to /v1/predict/image.",
        )
    return path


def _unpacked(path: Path, upload: Upload) -> Path:
    folder = upload.folder / "dicom"
    if folder.is_dir():  # a second model reads the same upload
        files = tuple(sorted(folder.iterdir()))
    else:
        folder.mkdir()
        files = unpacked(path, folder, upload.archives)
        screen_slices(files, upload.max_values)
    return files[0] if len(files) == 1 else folder
