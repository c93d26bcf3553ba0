"""Fingerprint: what a small sample of the images says about all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from medrail.cases.layouts.annotation import is_outlines
from medrail.cases.listing import Entry
from medrail.errors import MedrailError
from medrail.plan.mask_facts import MaskFacts, MaskSample, mask_facts, sample_mask
from medrail.read import read, sniff
from medrail.read.dicom.pixels import parse
from medrail.read.guard import Guard
from medrail.types import Image, Progress

MOST_IMAGES_READ = 24
_CT_AIR_HU = -500  # values so far below water occur in CT only
_MOST_VALUES = 200_000

Modality = Literal["CT", "MR", "PET", "X-ray", "volume", "grey picture", "colour picture"]
Grid = tuple[int, int, int]
Spacing = tuple[float, float, float]

_DICOM_MODALITIES: dict[str, Modality] = {
    **dict.fromkeys(("CR", "DX", "DR", "MG", "XA", "RF", "RG", "IO", "PX"), "X-ray"),
    "CT": "CT",
    "MR": "MR",
    "PT": "PET",
}


@dataclass(frozen=True)
class ImageFacts:
    """What one image told.

    grid, spacing_mm:
        In the order Superior-Inferior, Anterior-Posterior, Right-Left where there is a geometry; else as stored.
    values:
        The 0.5th, 50th and 99.5th percentile.
    lung_share:
        CT in HU: voxels between -950 and -600 HU as a share of those above -950.
    declared:
        Modality (0008,0060) of a DICOM file; "" for others.
    reaches_air:
        Whether values lie as far below 0 as air does in HU.
    """

    modality: Modality
    unit: str
    channels: int
    grid: Grid
    spacing_mm: Spacing | None
    values: tuple[float, float, float]
    grey_in_colour: bool = False
    lung_share: float = 0.0
    declared: str = ""
    reaches_air: bool = False

    @property
    def in_hu(self) -> bool:
        """CT whose values are HU, as the file says or as they look."""
        return self.modality == "CT" and (self.unit == "HU" or self.reaches_air)


@dataclass(frozen=True)
class Fingerprint:
    """Counts over all images, and facts of the sample.

    cases, patients:
        Of the whole data set (patients as the configuration will group them).
    splits:
        Cases of each split that the data give.
    leaking_patients:
        Patients in more than one of those splits.
    classes:
        Classification: cases of each class, in the order of the network's outputs.
    failed:
        (file, reason) of sampled images that could not be read.
    """

    cases: int
    patients: int
    splits: tuple[tuple[str, int], ...]
    leaking_patients: int
    classes: tuple[tuple[str, int], ...]
    images: tuple[ImageFacts, ...]
    masks: MaskFacts | None = None
    failed: tuple[tuple[str, str], ...] = ()

    @property
    def modality(self) -> Modality:
        """What most sampled images are."""
        return Counter(image.modality for image in self.images).most_common(1)[0][0]

    @property
    def is_volume(self) -> bool:
        """Whether most images have more than one slice."""
        return 2 * sum(image.grid[0] > 1 for image in self.images) > len(self.images)

    @property
    def grids(self) -> tuple[Grid, ...]:
        return tuple(image.grid for image in self.images)

    @property
    def median_grid(self) -> Grid:
        d, h, w = np.median(np.array(self.grids), axis=0)
        return round(float(d)), round(float(h)), round(float(w))

    @property
    def has_geometry(self) -> bool:
        """Whether every sampled image lies in physical space."""
        return all(image.spacing_mm is not None for image in self.images)

    @property
    def median_spacing_mm(self) -> Spacing | None:
        """Median along S-I, A-P, R-L, rounded to 0.01 mm; None where an image has no physical space."""
        spacings = [image.spacing_mm for image in self.images if image.spacing_mm is not None]
        if not self.has_geometry:
            return None
        d, h, w = np.median(np.array(spacings), axis=0)
        return max(0.01, round(float(d), 2)), max(0.01, round(float(h), 2)), max(0.01, round(float(w), 2))

    @property
    def extents_mm(self) -> tuple[Spacing, ...]:
        """Size in mm of each sampled image along S-I, A-P, R-L."""
        return tuple(
            (
                image.grid[0] * image.spacing_mm[0],
                image.grid[1] * image.spacing_mm[1],
                image.grid[2] * image.spacing_mm[2],
            )
            for image in self.images
            if image.spacing_mm is not None
        )

    @property
    def channels(self) -> tuple[int, ...]:
        """The numbers of channels found, ascending."""
        return tuple(sorted({image.channels for image in self.images}))

    @property
    def has_colour(self) -> bool:
        """Whether the images are pictures and at least one of them has colours."""
        return not self.is_volume and any(image.channels == 3 and not image.grey_in_colour for image in self.images)

    @property
    def all_grey(self) -> bool:
        """Whether every image is grey, even where it is stored as three equal colours."""
        return all(image.channels == 1 or image.grey_in_colour for image in self.images)


def sample(entries: Sequence[Entry], most: int = MOST_IMAGES_READ) -> tuple[Entry, ...]:
    """Entries spread evenly over all of them, with every class and split among them where there is room."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        label = entry.target if entry.target and not Path(entry.target).is_absolute() else ""
        groups.setdefault((label, entry.split or ""), []).append(entry)
    if len(groups) > most:
        return tuple(members[0] for members in list(groups.values())[:most])
    share = {key: max(1, most * len(members) // len(entries)) for key, members in groups.items()}
    while sum(share.values()) > most:
        share[max(share, key=lambda key: share[key])] -= 1
    chosen = []
    for key, members in groups.items():
        count = min(share[key], len(members))
        chosen += [members[index * len(members) // count] for index in range(count)]
    return tuple(chosen)


def look_at_images(
    entries: Sequence[Entry], *, with_masks: bool, progress: Progress | None = None
) -> tuple[tuple[ImageFacts, ...], MaskFacts | None, tuple[tuple[str, str], ...]]:
    """Read a sample: facts of images, of masks, and what could not be read (file, reason)."""
    images: list[ImageFacts] = []
    masks: list[MaskSample] = []
    failed: list[tuple[str, str]] = []
    chosen = sample(entries)
    for done, entry in enumerate(chosen, start=1):
        try:
            image = read(entry.path, entry.item)
            images.append(image_facts(image, entry))
            if with_masks and entry.target and not is_outlines(Path(entry.target)):
                masks.append(sample_mask(entry.target, image, entry.item))
        except (MedrailError, OSError) as error:
            reason = error.found if isinstance(error, MedrailError) else str(error.strerror)
            failed.append((entry.name, reason))
        if progress:
            progress(done, len(chosen), entry.name)
    return tuple(images), mask_facts(masks), tuple(failed)


def image_facts(image: Image, entry: Entry) -> ImageFacts:
    """What one image tells; values from at most 200,000 evenly taken voxels."""
    values = image.voxels.reshape(-1)
    values = values[:: max(1, values.size // _MOST_VALUES)].astype(np.float64)
    values = values[np.isfinite(values)] if not np.isfinite(values).all() else values
    low, middle, high = (float(v) for v in np.percentile(values, [0.5, 50, 99.5])) if values.size else (0.0, 0.0, 0.0)
    grid, spacing_mm = _anatomical(image)
    declared = _dicom_modality(entry.path)
    reaches_air = bool(values.size) and float(values.min()) <= _CT_AIR_HU
    modality = _modality(image, declared, reaches_air)
    body = values[values > -950] if modality == "CT" and (image.unit == "HU" or reaches_air) else values[:0]
    return ImageFacts(
        modality=modality,
        unit=image.unit,
        channels=image.channels,
        grid=grid,
        spacing_mm=spacing_mm,
        values=(low, middle, high),
        grey_in_colour=_is_grey(image),
        lung_share=float((body < -600).mean()) if body.size else 0.0,
        declared=declared,
        reaches_air=reaches_air,
    )


def _is_grey(image: Image) -> bool:
    """Whether three channels hold one grey picture."""
    return image.channels == 3 and bool((image.voxels == image.voxels[:1]).all())


def _anatomical(image: Image) -> tuple[Grid, Spacing | None]:
    if image.geometry is None:
        return image.grid, None
    codes, spacing_mm = image.geometry.axis_codes, image.geometry.spacing_mm
    s, a, r = (next(axis for axis, code in enumerate(codes) if code in pair) for pair in ("SI", "AP", "RL"))
    grid = image.grid
    return (grid[s], grid[a], grid[r]), (spacing_mm[s], spacing_mm[a], spacing_mm[r])


def _modality(image: Image, declared: str, reaches_air: bool) -> Modality:
    """The unit first, then what the file says of itself, then how the values look."""
    if image.unit == "HU":
        return "CT"
    if image.unit == "SUV":
        return "PET"
    known = _DICOM_MODALITIES.get(declared)
    if known:
        return known
    if image.grid[0] > 1 or image.geometry is not None:
        return "CT" if image.unit == "arbitrary" and reaches_air else "volume"
    return "grey picture" if image.channels == 1 or _is_grey(image) else "colour picture"


def _dicom_modality(path: Path) -> str:
    """Modality (0008,0060) of a DICOM file, or of the first one of a series' folder; "" for other files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files[:8]:
        try:
            with Guard(file, "DICOM"):
                if sniff(file) == "dicom":
                    return str(parse(file, ["Modality"]).get("Modality", ""))
        except (MedrailError, OSError):
            continue
    return ""
