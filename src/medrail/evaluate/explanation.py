"""Is a map of evidence to be trusted? Two tests: does it point at what a person marked, and does the answer hang on it?

Neither looks into the network: a map is judged by where it is highest, and by what the answer becomes without that part
of the image. Both are compared with what a map without any knowledge would reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medrail.errors import GeometryError
from medrail.evaluate.bootstrap import Measured, Statistic, percentile_bootstrap, point, wilson
from medrail.types import Evidence, Image

Answer = Callable[[Image], Mapping[str, float]]
"""Raw image -> class name -> probability, as ``lambda image: predictor(image).probabilities``."""

Explainer = Callable[[Image, str, Image | None], Evidence]
"""(raw image, class name or "" for the one decided for, region of interest) -> evidence on the raw grid."""

STEPS, LARGEST_SHARE, ELSEWHERE = 10, 0.5, 8
ANSWERS = 1 + STEPS * (1 + ELSEWHERE)
"""That ``delete`` asks for, of one image."""


@dataclass(frozen=True)
class Pointed:
    """The pointing game for one image (Zhang et al., ECCV 2016, section 4.1).

    hit:
        Whether the place where the map is highest lies in the mask, or as near to it as is tolerated.
    chance:
        The share of the image for which that is true: how often a place drawn blindly would hit.
    """

    hit: bool
    chance: float


@dataclass(frozen=True)
class Deletion:
    """What the probability of a class becomes as the most evident part of an image is replaced.

    After Petsiuk, Das and Saenko (RISE, BMVC 2018, section 4.2), but only up to half of the image, and compared with
    the same map moved to random places: single pixels at random, as often taken, hide nothing from a network.

    shares:
        Of the image that are replaced, from 0 on.
    probabilities, elsewhere:
        Of the class at each share: by the map, and on average by the map moved elsewhere.
    """

    shares: tuple[float, ...]
    probabilities: tuple[float, ...]
    elsewhere: tuple[float, ...]

    @property
    def area(self) -> float:
        """Mean probability over the shares (area under the curve over its width): low if the map found what matters."""
        return _mean_height(self.shares, self.probabilities)

    @property
    def area_elsewhere(self) -> float:
        return _mean_height(self.shares, self.elsewhere)

    @property
    def gain(self) -> float:
        """How much lower the map's curve lies than the moved maps': above 0 if the answer hangs on what it shows."""
        return self.area_elsewhere - self.area


def point_at(evidence: Evidence, mask: Image, tolerance_px: int = 0) -> Pointed:
    """Play the pointing game: where several places are equally high, at least half of them must hit.

    Parameters
    ----------
    mask:
        Above 0 what should be pointed at, on the raw image's grid.
    tolerance_px:
        So many voxels beside the mask along each axis still hit (the paper: 15 pixels). A map cannot point more finely
        than to half a cell of the network's last map, which is 8 to 16 pixels of what the network sees.

    Raises
    ------
    GeometryError
        If the mask (above 0: what should be pointed at) lies on another grid, or marks nothing.
    """
    marked = mask.voxels[0] > 0
    values = evidence.values.voxels[0]
    if marked.shape != values.shape or not marked.any():
        raise GeometryError(
            f"a mask of {mask.grid} voxels, {int(marked.sum())} of them marked",
            needed=f"{evidence.values.grid}, with something marked",
        )
    if tolerance_px:
        from scipy.ndimage import maximum_filter

        marked = np.asarray(maximum_filter(marked, size=2 * tolerance_px + 1))
    highest = values == values.max()
    return Pointed(bool(marked[highest].mean() >= 0.5), float(marked.mean()))


def delete(answer: Answer, image: Image, evidence: Evidence, seed: int = 0) -> Deletion:
    """Replace more and more of an image, the most evident places first, and ask for the class's probability each time.

    Replaced places get the image's median, channel by channel. 10 steps up to half of the image, once by the map and 8
    times by the map moved round the image's edges to a random place: 91 answers.

    Parameters
    ----------
    answer:
        What to ask; of the same network that the evidence is of.
    image:
        The raw image.
    evidence:
        On its grid; ``evidence.class_name`` is the class asked for.
    seed:
        Of the random places.
    """
    values = evidence.values.voxels[0]
    generator = np.random.default_rng(seed)
    medians = np.median(image.voxels.reshape(image.channels, -1), axis=1).astype(image.voxels.dtype)
    whole = float(answer(image)[evidence.class_name])

    def curve(order: npt.NDArray[np.intp]) -> list[float]:
        found = [whole]
        for step in range(1, STEPS + 1):
            voxels = image.voxels.reshape(image.channels, -1).copy()
            voxels[:, order[: round(len(order) * LARGEST_SHARE * step / STEPS)]] = medians[:, np.newaxis]
            replaced = image.with_voxels(voxels.reshape(image.voxels.shape))
            found.append(float(answer(replaced)[evidence.class_name]))
        return found

    moved = [
        np.roll(values, [int(generator.integers(length)) for length in values.shape], axis=(0, 1, 2))
        for _ in range(ELSEWHERE)
    ]
    elsewhere = np.mean([curve(_most_first(one, generator)) for one in moved], axis=0)
    return Deletion(
        shares=tuple(LARGEST_SHARE * step / STEPS for step in range(STEPS + 1)),
        probabilities=tuple(curve(_most_first(values, generator))),
        elsewhere=tuple(float(value) for value in elsewhere),
    )


def measure_explanations(
    patients: Sequence[str],
    pointed: Sequence[Pointed | None],
    deletions: Sequence[Deletion | None],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Measured]:
    """Both tests over many cases, with 95 % intervals by patient.

    ``pointing_hit_rate`` beside ``pointing_by_chance``; ``deletion_area``, ``deletion_area_elsewhere`` and
    ``deletion_gain``, their difference: an interval above 0 says that answers hang on what the maps show. A case
    without a mask (None) is in no number of pointing, one without a deletion in none of deletion.

    Raises
    ------
    ValueError
        If the sequences differ in length.
    """
    columns = {
        "pointing_hit_rate": [None if one is None else float(one.hit) for one in pointed],
        "pointing_by_chance": [None if one is None else one.chance for one in pointed],
        "deletion_area": [None if one is None else one.area for one in deletions],
        "deletion_area_elsewhere": [None if one is None else one.area_elsewhere for one in deletions],
        "deletion_gain": [None if one is None else one.gain for one in deletions],
    }
    measured = {}
    for name, column in columns.items():
        rows = [(patient, value) for patient, value in zip(patients, column, strict=True) if value is not None]
        if rows:
            measured[name] = _measured([value for _, value in rows], [patient for patient, _ in rows], resamples, seed)
    return measured


def _measured(values: Sequence[float], patients: Sequence[str], resamples: int, seed: int) -> Measured:
    numbers = np.asarray(values)

    def mean(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(weights @ numbers / weights.sum(axis=1))

    statistics: dict[str, Statistic] = {"mean": mean}
    low, high = percentile_bootstrap(statistics, patients, resamples=resamples, seed=seed)["mean"]
    units = len(set(patients))
    method = f"mean over cases; 95% percentile bootstrap by patient, {units} patients, {resamples} resamples"
    if low == high and set(values) <= {0.0, 1.0}:
        low, high = wilson(float(numbers.mean()), units)
        method = f"mean over cases; 95% Wilson interval for {units} patients, because all cases are alike"
    return Measured(point(mean, len(numbers)), low, high, n=len(numbers), method=method)


def _most_first(values: npt.NDArray[np.float32], generator: np.random.Generator) -> npt.NDArray[np.intp]:
    """Places from the highest value to the lowest; equal ones in random order."""
    flat = values.ravel()
    shuffled = generator.permutation(len(flat))
    return np.asarray(shuffled[np.argsort(-flat[shuffled], kind="stable")])


def _mean_height(shares: Sequence[float], heights: Sequence[float]) -> float:
    width = shares[-1] - shares[0]
    return float(np.trapezoid(heights, shares) / width) if width > 0 else math.nan
