"""One case looked at: can it be read, is its mask right, is it blank, and which pixels has it (as a hash)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medrail.cases.fingerprint import FileHashes, source_fingerprint
from medrail.cases.listing import Finding, counted
from medrail.cases.masks import read_roi, read_target_mask
from medrail.config import Config
from medrail.errors import GeometryError, MedrailError, ReadError
from medrail.read import read
from medrail.types import Case, Image, Voxels

# Raise it when what is kept of a case changes meaning.
_VERSION = 2


@dataclass(frozen=True)
class Facts:
    """What is known of a case after reading it.

    pixels:
        SHA-256 over size and values; "" when unreadable. Equal for the same picture in two lossless formats.
    blank:
        Whether all values are the same.
    classes:
        Segmentation: indices of the classes that stand in the mask.
    shape, spacing_mm, unit:
        (C, D, H, W), (D, H, W) in mm or (), and the unit, as ``Image`` has them.
    low, high:
        The 0.5th and 99.5th percentile of the values.
    signature:
        What near-duplicates are found by (``medrail.cases.near``), as text; "" for blank images.
    text:
        Evidence of text burned into the pixels; "" where none was found.
    thumbnail:
        A small picture (PNG), its middle slice for a volume.
    defects:
        Names of ``Image.defects``.
    """

    pixels: str = ""
    blank: bool = False
    classes: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    shape: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    unit: str = ""
    low: float = 0.0
    high: float = 0.0
    signature: str = ""
    text: str = ""
    thumbnail: bytes = b""
    defects: tuple[str, ...] = ()


def examine(case: Case, config: Config, hashes: FileHashes) -> Facts:
    """Read a case's image and mask, or recall what was found when its files last changed; bad files are findings."""
    try:
        key = _key(case, config, hashes)
    except MedrailError as error:
        return Facts(findings=(_finding("missing_file", case, error),))
    kept = hashes.fact(key)
    if kept is not None:
        pixels, blank, classes = json.loads(kept)
        return Facts(pixels, blank, tuple(classes))
    facts = look(case, config)
    if not facts.findings:
        hashes.keep(key, json.dumps([facts.pixels, facts.blank, facts.classes]))
    return facts


def look(case: Case, config: Config) -> Facts:
    """As ``examine``, without a memory."""
    try:
        image = read(case.paths[0], case.item, config.data.read_options)
    except (MedrailError, OSError) as error:
        return Facts(findings=(_finding("unreadable", case, error),))
    findings = _not_finite(case, image)
    classes: tuple[int, ...] = ()
    if config.task == "segmentation":
        mask = _tried(lambda: read_target_mask(case, image, config.data), case, findings)
        classes = tuple(int(value) for value in np.unique(mask.voxels)) if mask else ()
    _tried(lambda: read_roi(case, image), case, findings)
    blank = bool(image.voxels.min() == image.voxels.max())
    return Facts(pixel_hash(image.voxels), blank, classes, tuple(findings))


def _not_finite(case: Case, image: Image) -> list[Finding]:
    """NaN and infinite values spread through every filter and every layer."""
    count = int((~np.isfinite(image.voxels)).sum()) if image.voxels.dtype.kind == "f" else 0
    if not count:
        return []
    what = f"{counted(count, 'voxel is', 'voxels are')} not a number or infinite"
    remedy = "Export the image again, or take the case out of the data."
    return [Finding("not_finite", _place(case), what, remedy, "warn")]


def _place(case: Case) -> str:
    return f"{case.paths[0]}{f' [{case.item}]' if case.item else ''}"


def _tried(action: Callable[[], Image | None], case: Case, findings: list[Finding]) -> Image | None:
    try:
        return action()
    except GeometryError as error:
        findings.append(_finding("mask_grid", case, error))
    except (ReadError, OSError) as error:
        findings.append(_finding("unreadable_mask", case, error))
    except MedrailError as error:
        findings.append(_finding("mask_values", case, error))
    return None


def _finding(defect: str, case: Case, error: MedrailError | OSError) -> Finding:
    place = _place(case)
    if isinstance(error, OSError):
        return Finding(defect, place, error.strerror or type(error).__name__, "Copy the file again.", "warn")
    what = f"{error.found}; needed: {error.needed}" if error.needed else error.found
    remedy = error.remedy or "Repair it, or take the case out of the data."
    return Finding(defect, error.where or place, what, remedy, "warn")


def _key(case: Case, config: Config, hashes: FileHashes) -> str:
    data = config.data
    meaning = [_VERSION, config.task, list(data.classes), list(data.mask_values), data.foreground_nonzero]
    return hashlib.sha256(
        f"{source_fingerprint(case, hashes, data.read_options)}{json.dumps(meaning)}".encode()
    ).hexdigest()


def pixel_hash(voxels: Voxels) -> str:
    """SHA-256 over the size and the values of (C, D, H, W); grey stored as three equal channels is grey."""
    if voxels.shape[0] == 3 and (voxels[0] == voxels[1]).all() and (voxels[0] == voxels[2]).all():
        voxels = voxels[:1]
    digest = hashlib.sha256(str(voxels.shape).encode())
    for channel in voxels:
        for plane in channel:  # by plane, so that a large volume is not held twice
            digest.update((plane.astype("<f4") + np.float32(0)).tobytes())  # -0.0 becomes 0.0
    return digest.hexdigest()
