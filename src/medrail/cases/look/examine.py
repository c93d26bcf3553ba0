"""One case looked at, once: can it be read, is its mask right, what does it hold, and what does it look like."""

from __future__ import annotations

import base64
import hashlib
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from medrail.cases.fingerprint import FileHashes, source_fingerprint
from medrail.cases.listing import Finding, counted
from medrail.cases.look.burned_in import text_in
from medrail.cases.look.thumbnail import thumbnail
from medrail.cases.masks import read_roi, read_target_mask
from medrail.cases.near.signature import signature_of
from medrail.config import Config
from medrail.errors import GeometryError, MedrailError, ReadError
from medrail.read import read
from medrail.types import Case, Image, Voxels

# Raise it when what is kept of a case changes meaning; also when signatures or the detector of text change.
_VERSION = 5
# Percentiles are taken of at most so many values, on an even stride: sorting a whole CT takes longer than reading it.
_SAMPLED = 200_000
_AIR_HU = -1024.0  # CT scanners write lower numbers outside of the circle that they see
_LOW_HIGH_PERCENT = (0.5, 99.5)


@dataclass(frozen=True)
class Facts:
    """What is known of a case after reading it.

    pixels:
        SHA-256 over size and values; "" when unreadable. Equal for the same picture in two lossless formats.
    blank:
        Whether all values are the same.
    classes:
        Segmentation: indices of the classes that stand in the mask.
    findings:
        Why it cannot be used; () when it can.
    shape, spacing_mm, unit:
        (C, D, H, W), (D, H, W) in mm or (), and the unit, as ``Image`` has them.
    low, high:
        The 0.5th and 99.5th percentile of the values.
    signature:
        What near-duplicates are found by (``medrail.cases.near.signature``), as text; "" for blank images.
    text:
        Evidence of text burned into the pixels; "" where none was found.
    thumbnail:
        A small picture (WebP), of one slice for a volume, with the outline of the mask.
    defects, evidence:
        Names of ``Image.defects``, and of each what was seen and done.
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
    evidence: tuple[str, ...] = ()

    def to_text(self) -> str:
        """JSON in which ``from_text`` finds everything but the findings."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "findings"}
        return json.dumps({**values, "thumbnail": base64.b64encode(self.thumbnail).decode("ascii")})

    @staticmethod
    def from_text(text: str) -> Facts:
        """The inverse of ``to_text`` for facts without findings."""
        values: dict[str, Any] = json.loads(text)
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return Facts(**{**values, "thumbnail": base64.b64decode(values["thumbnail"])})


def recall(case: Case, config: Config, hashes: FileHashes) -> Facts | str:
    """What was found when the case's files last changed, or the key under which ``keep`` is to put what is found.

    A file that is not there is found here already.
    """
    try:
        key = _key(case, config, hashes)
    except MedrailError as error:
        return Facts(findings=(finding_of("missing_file", case, error),))
    kept = hashes.fact(key)
    return key if kept is None else Facts.from_text(kept)


def keep(key: str, facts: Facts, hashes: FileHashes) -> None:
    """Remember what was found; findings are looked at again each time, since memory or permissions may have changed."""
    if not facts.findings:
        hashes.keep(key, facts.to_text())


def look(case: Case, config: Config) -> Facts:
    """Read a case's image and mask; bad files are findings, and no exception is raised."""
    try:
        return _look(case, config)
    except MemoryError:
        return too_large(case)
    except Exception as error:  # noqa: BLE001  a defect met by one case must not lose the others
        # Not the message: libraries put values out of the file into theirs, which may identify a patient.
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"unexpected {type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
        remedy = "Please report it: this is a defect of medrail. The other cases are not affected."
        return Facts(findings=(Finding("unreadable", place_of(case), what, remedy, "warn"),))


def too_large(case: Case) -> Facts:
    """What is said of a case whose reading the system ended."""
    what = "needs too much memory: the system ended the process that read it, also when it ran alone"
    remedy = "Free memory, crop the image, or use a larger machine; or take the case out of the data."
    return Facts(findings=(Finding("too_much_memory", place_of(case), what, remedy, "warn"),))


def _look(case: Case, config: Config) -> Facts:
    try:
        image = read(case.paths[0], case.item, config.data.read_options)
    except (MedrailError, OSError) as error:
        return Facts(findings=(finding_of("unreadable", case, error),))
    findings = _not_finite(case, image)
    mask = None
    if config.task == "segmentation" and case.target is not None:
        mask = _tried(lambda: read_target_mask(case, image, config.data), case, findings)
    _tried(lambda: read_roi(case, image), case, findings)
    low, high = _low_high(image.voxels, _AIR_HU if image.unit == "HU" else -np.inf)
    blank = bool(image.voxels.min() == image.voxels.max())
    signature = None if blank else signature_of(image)
    return Facts(
        pixels=pixel_hash(image.voxels),
        blank=blank,
        classes=tuple(int(value) for value in np.unique(mask.voxels)) if mask else (),
        findings=tuple(findings),
        shape=tuple(int(extent) for extent in image.voxels.shape),
        spacing_mm=image.geometry.spacing_mm if image.geometry else (),
        unit=image.unit,
        low=low,
        high=high,
        signature=signature.to_text() if signature else "",
        text="" if blank else text_in(image),
        thumbnail=thumbnail(image, mask),
        defects=tuple(defect.name for defect in image.defects),
        evidence=tuple(defect.evidence + (f" ({defect.action})" if defect.action else "") for defect in image.defects),
    )


def _low_high(voxels: Voxels, least: float = -np.inf) -> tuple[float, float]:
    """Percentiles of values on a stride that meets every column of the image; lower than ``least`` is padding."""
    stride = max(1, voxels.size // _SAMPLED)
    while gcd(stride, voxels.shape[-1]) > 1:
        stride += 1
    values = voxels.reshape(-1)[::stride]
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if (values >= least).any():
        values = values[values >= least]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, _LOW_HIGH_PERCENT)
    return float(low), float(high)


def _not_finite(case: Case, image: Image) -> list[Finding]:
    """NaN and infinite values spread through every filter and every layer."""
    count = int((~np.isfinite(image.voxels)).sum()) if image.voxels.dtype.kind == "f" else 0
    if not count:
        return []
    what = f"{counted(count, 'voxel is', 'voxels are')} not a number or infinite"
    remedy = "Export the image again, or take the case out of the data."
    return [Finding("not_finite", place_of(case), what, remedy, "warn")]


def place_of(case: Case) -> str:
    """Where a case lies, as findings and leaks call it: its path, and the item inside."""
    return f"{case.paths[0]}{f' [{case.item}]' if case.item else ''}"


def _tried(action: Callable[[], Image | None], case: Case, findings: list[Finding]) -> Image | None:
    try:
        return action()
    except GeometryError as error:
        findings.append(finding_of("mask_grid", case, error))
    except (ReadError, OSError) as error:
        findings.append(finding_of("unreadable_mask", case, error))
    except MedrailError as error:
        findings.append(finding_of("mask_values", case, error))
    return None


def finding_of(defect: str, case: Case, error: MedrailError | OSError) -> Finding:
    """An error met while reading a case, as a finding about it."""
    place = place_of(case)
    if isinstance(error, OSError):
        return Finding(defect, place, error.strerror or type(error).__name__, "Copy the file again.", "warn")
    what = f"{error.found}; needed: {error.needed}" if error.needed else error.found
    remedy = error.remedy or "Repair it, or take the case out of the data."
    return Finding(defect, error.where or place, what, remedy, "warn")


def _key(case: Case, config: Config, hashes: FileHashes) -> str:
    data = config.data
    meaning: list[Any] = [_VERSION, config.task, list(data.classes), list(data.mask_values), data.foreground_nonzero]
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
