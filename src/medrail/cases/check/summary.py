"""What the cases are like as a whole: sizes, spacings, intensities, scanners, centres, images a patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medrail.cases.listing import Entry, short_name
from medrail.cases.look.examine import Facts, place_of
from medrail.types import Case

# Tukey's outer fences (Exploratory Data Analysis, 1977, chapter 2): so many quartile distances beyond the quartiles.
_FENCE = 3.0
_RARE = 0.05
# Of the middle number: what differs by less is rounded, not far.
_EQUAL = 1e-3
_FEWEST = 8  # below, quartiles say little
_MOST_SLIDES = 20  # lines for a person
_SIZE_AXES = ("depth", "height", "width")
_SPACING_AXES = ("depth_mm", "height_mm", "width_mm")


@dataclass(frozen=True)
class Spread:
    """Of one number a case: the smallest, the middle, the largest, and the cases that lie far from the others."""

    min: float
    median: float
    max: float
    outliers: tuple[tuple[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        outliers = [{"where": where, "value": _short(value)} for where, value in self.outliers]
        return {"min": _short(self.min), "median": _short(self.median), "max": _short(self.max), "outliers": outliers}


@dataclass(frozen=True)
class Summary:
    """The usable cases in numbers.

    sizes:
        "depth", "height", "width" in voxels, and "channels".
    spacings:
        "depth_mm", "height_mm", "width_mm" of the cases that have a physical space.
    intensities:
        Unit -> the low and the high end of the values (0.5th and 99.5th percentile).
    scanners, centres, modalities:
        Cases of each, where the data or the DICOM headers say.
    images_per_patient:
        Of each patient the number of cases.
    tiles:
        Segmentation of whole slides: slide -> the number of its tiles, and of those with foreground.
    """

    sizes: Mapping[str, Spread]
    spacings: Mapping[str, Spread]
    without_spacing: int
    intensities: Mapping[str, tuple[int, Spread, Spread]]
    scanners: Mapping[str, int]
    centres: Mapping[str, int]
    modalities: Mapping[str, int]
    images_per_patient: Spread | None
    tiles: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "sizes": {axis: spread.to_json() for axis, spread in self.sizes.items()},
            "spacings": {
                **{axis: spread.to_json() for axis, spread in self.spacings.items()},
                "unknown": self.without_spacing,
            },
            "intensities": {
                unit: {"cases": count, "low": low.to_json(), "high": high.to_json()}
                for unit, (count, low, high) in self.intensities.items()
            },
            "scanners": dict(self.scanners),
            "centres": dict(self.centres),
            "modalities": dict(self.modalities),
            "images_per_patient": self.images_per_patient.to_json() if self.images_per_patient else None,
            "tiles": [
                {"slide": slide, "tiles": count, "with_foreground": filled}
                for slide, (count, filled) in self.tiles.items()
            ],
        }

    def spreads(self) -> tuple[tuple[str, Spread], ...]:
        """(what, spread) of every number."""
        intensities = [
            (f"{unit}, {end} end", one)
            for unit, (_, low, high) in self.intensities.items()
            for end, one in (("low", low), ("high", high))
        ]
        return (*self.sizes.items(), *self.spacings.items(), *intensities)

    def lines(self) -> tuple[tuple[str, str], ...]:
        """(what, value) rows for the terminal."""
        rows = [("size", " x ".join(_range(self.sizes[axis]) for axis in _SIZE_AXES if axis in self.sizes))]
        if self.spacings:
            unknown = f" ({self.without_spacing} without)" if self.without_spacing else ""
            rows.append(("spacing", " x ".join(map(_range, self.spacings.values())) + f" mm{unknown}"))
        for unit, (_, low, high) in self.intensities.items():
            rows.append((unit, f"from {_range(low)} to {_range(high)}"))
        if self.images_per_patient and self.images_per_patient.max > 1:
            rows.append(("a patient", f"{_range(self.images_per_patient)} images"))
        for name, counts in (("scanners", self.scanners), ("centres", self.centres), ("modalities", self.modalities)):
            if counts:
                rows.append((name, ", ".join(f"{key} {count}" for key, count in list(counts.items())[:6])))
        slides = [f"{short_name(slide)}: {filled} of {count}" for slide, (count, filled) in self.tiles.items()]
        rows += [("tiles", f"{text} tiles have foreground") for text in slides[:_MOST_SLIDES]]
        if len(slides) > _MOST_SLIDES:
            rows.append(("tiles", f"and {len(slides) - _MOST_SLIDES} more slides (--json lists all)"))
        return tuple(row for row in rows if row[1])


def summarise(cases: Sequence[Case], facts: Mapping[str, Facts], entries: Mapping[str, Entry]) -> Summary:
    """The numbers of the cases that could be read; patients and centres are counted over all cases."""
    read = [(place_of(case), facts[case.id]) for case in cases if facts[case.id].shape]
    sizes = {
        axis: spread([(where, one.shape[place]) for where, one in read])
        for place, axis in ((1, "depth"), (2, "height"), (3, "width"), (0, "channels"))
        if read
    }
    placed = [(where, one) for where, one in read if one.spacing_mm]
    spacings = {
        axis: spread([(where, one.spacing_mm[place]) for where, one in placed])
        for place, axis in enumerate(_SPACING_AXES)
        if placed
    }
    patients = Counter(case.patient for case in cases)
    known = [entries[case.id] for case in cases if case.id in entries]
    return Summary(
        sizes=sizes,
        spacings=spacings,
        without_spacing=len(read) - len(placed),
        intensities=_intensities(read),
        scanners=_counted(entry.scanner for entry in known),
        centres=_counted(case.centre for case in cases),
        modalities=_counted(entry.modality for entry in known),
        images_per_patient=spread([("", count) for count in patients.values()], outliers=False) if patients else None,
        tiles=tiles_of_slides(cases, facts),
    )


def tiles_of_slides(cases: Sequence[Case], facts: Mapping[str, Facts]) -> dict[str, tuple[int, int]]:
    """Slide -> its tiles whose mask could be read, and those of them with foreground; in the order of the slides."""
    found: dict[str, tuple[int, int]] = {}
    for case in cases:
        classes = facts[case.id].classes
        if classes and is_tile(case):
            count, filled = found.get(case.paths[0], (0, 0))
            found[case.paths[0]] = count + 1, filled + (classes != (0,))
    return found


def is_tile(case: Case) -> bool:
    """Whether a case is a part of a whole slide."""
    return case.item.startswith("x=")


def spread(values: Sequence[tuple[str, float]], *, outliers: bool = True) -> Spread:
    """(where, value) of at least one case -> their spread."""
    numbers = np.array([value for _, value in values], dtype=np.float64)
    far: tuple[tuple[str, float], ...] = ()
    if outliers and len(numbers) >= _FEWEST:
        lower, upper = np.percentile(numbers, (25, 75))
        reach = _FENCE * (upper - lower)
        reach = max(reach, _EQUAL * float(np.median(np.abs(numbers))))
        outside = (numbers < lower - reach) | (numbers > upper + reach)
        # Where most values are the same, every other one would be far: what is not rare is a mixture, no outlier.
        if outside.sum() <= max(1, _RARE * len(numbers)):
            far = tuple((values[place][0], float(numbers[place])) for place in np.flatnonzero(outside).tolist())
    return Spread(float(numbers.min()), float(np.median(numbers)), float(numbers.max()), far)


def _intensities(read: Sequence[tuple[str, Facts]]) -> dict[str, tuple[int, Spread, Spread]]:
    by_unit: dict[str, list[tuple[str, Facts]]] = defaultdict(list)
    for where, one in read:
        by_unit[one.unit].append((where, one))
    return {
        unit: (
            len(group),
            spread([(where, one.low) for where, one in group]),
            spread([(where, one.high) for where, one in group]),
        )
        for unit, group in sorted(by_unit.items())
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, the most frequent first; what is unnamed counts only beside named ones."""
    counts = Counter(names)
    if set(counts) <= {""}:
        return {}
    unnamed = counts.pop("", 0)
    ranked = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return {**ranked, "not said": unnamed} if unnamed else ranked


def _range(numbers: Spread) -> str:
    """ "512", or "120..320" where the cases differ."""
    low, high = f"{numbers.min:.4g}", f"{numbers.max:.4g}"
    return low if low == high else f"{low}..{high}"


def _short(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")
