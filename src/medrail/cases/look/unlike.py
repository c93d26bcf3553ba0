"""Images unlike the rest of their set: another modality, another kind of picture, inverted, or nearly blank.

Only warnings, each with its evidence: an image may be unlike the others and right. Below ten images nothing is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medrail.cases.listing import Finding, shown
from medrail.cases.near.signature import Signature
from medrail.cases.near.spectrum import symmetries

Floats = npt.NDArray[np.float64]

_ENOUGH = 10
# A kind that fewer than this share of the images have, beside one that nearly all the others have, is odd.
_RARE, _USUAL = 0.1, 0.8
# Times the others' spread (1.4826 times the median absolute deviation of the logarithm) and at least this factor apart.
_FAR, _FACTOR = 6.0, 4.0
# The least spread that logarithms are given credit for: images of one size have none.
_LEAST_SPREAD = 0.1
# Correlation with the set's typical picture: where the others have the first at least, one below the second is a
# negative.
_ALIKE, _NEGATIVE = 0.3, -0.3
# Where nearly all are so alike, one that is below the second in every orientation shows something else.
_VERY_ALIKE, _UNRELATED = 0.5, 0.2
_NEARLY_ALL = 0.95
# Per cent of a picture's area.
_COLOURED_PERCENT = 10
# More images than this with the same oddity are said in one line: another source, rather than mishaps.
_ONE_BY_ONE = 5
_REMEDY = "Look at it; take the case out if it does not belong here."


class Known(Protocol):
    """What is used of ``Facts``."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def spacing_mm(self) -> tuple[float, ...]: ...
    @property
    def unit(self) -> str: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def blank(self) -> bool: ...
    @property
    def signature(self) -> str: ...


@dataclass(frozen=True)
class _Image:
    name: str
    facts: Known
    modality: str


_Oddities = list[tuple[_Image, str]]


def unlike_the_rest(
    facts: Mapping[str, Known], places: Mapping[str, str] | None = None, modalities: Mapping[str, str] | None = None
) -> list[Finding]:
    """What stands out of a set, a finding an image and kind; ``unlike_the_rest`` or ``nearly_blank``.

    Parameters
    ----------
    facts:
        Case id -> what was found when it was read; those without shape (unreadable) and blank ones are passed over.
    places:
        Case id -> how the findings call it; the id where there is none.
    modalities:
        Case id -> DICOM modality, where there is one.
    """
    known = modalities or {}
    images = [
        _Image((places or {}).get(key, key), one, known.get(key, ""))
        for key, one in facts.items()
        if one.shape and not one.blank
    ]
    findings = _nearly_blank(images)
    blank = {finding.where for finding in findings}
    images = [image for image in images if image.name not in blank]
    if len(images) < _ENOUGH:
        return findings
    found: dict[str, list[str]] = {}
    for what in (*_odd_kinds(images), *_far_numbers(images), *_other_pictures(images)):
        if len(what) > _ONE_BY_ONE:
            (first, text), others = what[0], [image.name for image, _ in what[1:]]
            found.setdefault(first.name, []).append(f"{text}; so it is with {shown(others, 3)}")
            continue
        for image, text in what:
            found.setdefault(image.name, []).append(text)
    return findings + [
        Finding("unlike_the_rest", name, "; ".join(what), _REMEDY, "warn") for name, what in found.items()
    ]


def _kinds() -> dict[str, Callable[[_Image], str]]:
    return {
        "modality": lambda image: image.modality,
        "unit": lambda image: image.facts.unit,
        "kind": lambda image: _colour_of(image.facts),
        "dimensions": lambda image: "a picture" if image.facts.shape[1] == 1 else "a volume",
    }


def _colour_of(facts: Known) -> str:
    if not facts.signature or facts.shape[1] > 1 or facts.shape[0] not in (1, 3):
        return ""
    return "a colour picture" if Signature.from_text(facts.signature).colour > _COLOURED_PERCENT else "a grey picture"


def _odd_kinds(images: list[_Image]) -> list[_Oddities]:
    """A property that nearly all have alike, and a few have otherwise; a list a property."""
    odd = []
    for name, kind in _kinds().items():
        counts = Counter(kind(image) for image in images if kind(image))
        total = sum(counts.values())
        if total < _ENOUGH:
            continue
        usual, number = counts.most_common(1)[0]
        rare = {own for own, count in counts.items() if count <= _RARE * total and number >= _USUAL * total}
        text = "its {} is {}, {} of {} have {}"
        odd.append([(one, text.format(name, kind(one), number, total, usual)) for one in images if kind(one) in rare])
    return [oddities for oddities in odd if oddities]


def _far_numbers(images: list[_Image]) -> list[_Oddities]:
    """Sizes, spacings, ranges of values far beyond the others'; each unit among its own kind."""
    far: list[_Oddities] = []
    for unit in sorted({image.facts.unit for image in images}):
        alike = [image for image in images if image.facts.unit == unit]
        far.append(_outliers(alike, lambda one: max(one.shape[2:]), "its larger side is {:.0f} px", "px"))
        far.append(_outliers(alike, lambda one: max(one.spacing_mm, default=0.0), "its spacing is {:.2f} mm", "mm"))
        if unit != "uint8":  # a dark photograph is not another modality
            far.append(_outliers(alike, lambda one: one.high - one.low, "its values span {:.4g}", ""))
    return [oddities for oddities in far if oddities]


def _outliers(images: list[_Image], number: Callable[[Known], float], text: str, unit: str) -> _Oddities:
    """Images whose number is far from the median: robustly, on a logarithmic scale, since these numbers are factors."""
    values = np.array([number(image.facts) for image in images], dtype=np.float64)
    usable = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(usable) < _ENOUGH:
        return []
    logs = np.log(values[usable])
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), _LEAST_SPREAD)
    away = np.abs(logs - middle)
    usual = f"{np.exp(middle):.4g} {unit}".strip()
    return [
        (images[index], f"{text.format(values[index])}, and the others' median {usual}")
        for index in usable[(away > _FAR * spread) & (away > np.log(_FACTOR))]
    ]


def _nearly_blank(images: list[_Image]) -> list[Finding]:
    """Pictures whose values vary next to nothing, but for a few."""
    findings = []
    for image in images:
        if image.facts.signature and Signature.from_text(image.facts.signature).nearly_blank:
            what = "95 % of the picture has one grey value"
            findings.append(Finding("nearly_blank", image.name, what, _REMEDY, "warn"))
    return findings


def _thumbnail(image: _Image) -> Floats | None:
    return Signature.from_text(image.facts.signature).thumbnail.astype(np.float64) if image.facts.signature else None


def _other_pictures(images: list[_Image]) -> list[_Oddities]:
    """Negatives of the set's typical picture (MONOCHROME1 shown as MONOCHROME2), and pictures of something else.

    Only in sets whose pictures are alike as they lie (X-rays of one body part); cells in any orientation have no
    typical picture. The typical one is the mean, without those that are against it.
    """
    pictures = [(image, _thumbnail(image)) for image in images]
    flat = [(image, _standard(one)) for image, one in pictures if one is not None and one.ndim == 2]
    if len(flat) < _ENOUGH:
        return []
    stack = np.stack([one for _, one in flat])
    typical = _standard(stack.mean(axis=0))
    for _ in range(2):
        typical = _standard(stack[stack @ typical > 0].mean(axis=0))
    correlations = stack @ typical
    if np.mean(correlations >= _ALIKE) < _USUAL:
        return []
    negatives: _Oddities = []
    others: _Oddities = []
    median = float(np.median(correlations))
    usual = f"the median of {len(correlations)} is {median:.2f}"
    very_alike = np.mean(correlations >= _VERY_ALIKE) >= _NEARLY_ALL
    for index in np.flatnonzero(correlations < _UNRELATED):
        image, own, turned = flat[index][0], float(correlations[index]), _turned(stack[index], typical)
        if own < _NEGATIVE and turned < -own:
            what = f"looks like the negative of the others: correlation with their mean picture {own:.2f}, {usual}"
            negatives.append((image, what))
        elif very_alike and turned < _UNRELATED:
            likeness = f"correlation with the others' mean picture {turned:.2f} in any orientation"
            others.append((image, f"shows something else: {likeness}, {usual}"))
    return [oddities for oddities in (negatives, others) if oddities]


def _standard(picture: Floats) -> Floats:
    flat = picture.ravel() - picture.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-9))


def _turned(picture: Floats, typical: Floats) -> float:
    """The best correlation in any orientation: a picture that lies otherwise is no negative."""
    side = round(len(picture) ** 0.5)
    ways = (turn.of_pixels(picture.reshape(1, side, side)).ravel() for turn in symmetries(2))
    return max(float(typical @ one) for one in ways)
