"""Which fold each patient is in: k folds of equal size, each with its share of every class."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from medrail.cases.splits.draw import Classes, rank

Stratum = tuple[str, ...]
# Swaps end by themselves, since each makes the cases more even; this many make them even enough.
_MOST_SWAPS = 1000


@dataclass
class _Fold:
    """What a fold holds so far; ``held`` are the patients of the stratum that is dealt now."""

    number: int
    patients: int = 0
    cases: int = 0
    patients_of: Counter[str] = field(default_factory=Counter)
    held: list[str] = field(default_factory=list)


def assign_folds(classes: Mapping[str, Classes], sizes: Mapping[str, int], folds: int, seed: int) -> dict[str, int]:
    """Patient -> fold, from 0; every patient is in exactly one.

    Patients with the same classes are dealt together, ``folds`` at a time and one to each fold, those with most cases
    first. So no two folds differ by more than one patient, neither in all nor in those with the same classes. Then
    patients with the same classes are swapped while that makes the folds' numbers of cases more even. Neither the order
    of the patients nor the machine matters: ties are broken by a hash of the seed.

    Parameters
    ----------
    classes:
        Patient -> the classes of its cases.
    sizes:
        Patient -> how many cases it has.
    """
    strata: dict[Stratum, list[str]] = defaultdict(list)
    for patient, names in classes.items():
        strata[tuple(sorted(names))].append(patient)
    made = [_Fold(number) for number in range(folds)]
    assigned: dict[str, int] = {}
    for stratum in sorted(strata, key=lambda key: (-len(strata[key]), key)):
        patients = sorted(strata[stratum], key=lambda patient: (-sizes[patient], rank(seed, patient)))
        for first in range(0, len(patients), folds):
            dealt = patients[first : first + folds]
            takers = _next(made, stratum, len(dealt), f"{seed} {first}")
            for patient, fold in zip(dealt, takers, strict=True):
                fold.patients += 1
                fold.cases += sizes[patient]
                fold.patients_of.update(stratum)
                fold.held.append(patient)
        _even_out(made, sizes)
        for fold in made:
            assigned.update(dict.fromkeys(fold.held, fold.number))
            fold.held = []
    return assigned


def _next(folds: Sequence[_Fold], stratum: Stratum, count: int, seed: str) -> list[_Fold]:
    """The folds that take the next ``count`` patients of a stratum, the one with the fewest cases first."""
    tie = {fold.number: rank(0, f"{seed} {fold.number} {stratum}") for fold in folds}

    def need(fold: _Fold) -> tuple[int, int, int, bytes]:
        return fold.patients, sum(fold.patients_of[name] for name in stratum), fold.cases, tie[fold.number]

    return sorted(sorted(folds, key=need)[:count], key=lambda fold: (fold.cases, tie[fold.number]))


def _even_out(folds: Sequence[_Fold], sizes: Mapping[str, int]) -> None:
    """Swap patients of one stratum between the folds with most and with fewest cases of it."""
    held = {fold.number: sum(sizes[patient] for patient in fold.held) for fold in folds}
    for _ in range(_MOST_SWAPS):
        # Among equals the one whose total is on the same side, so that the strata make up for each other.
        heavy = max(folds, key=lambda fold: (held[fold.number], fold.cases, -fold.number))
        light = min(folds, key=lambda fold: (held[fold.number], fold.cases, -fold.number))
        gap = held[heavy.number] - held[light.number]
        first_of_heavy = {sizes[patient]: place for place, patient in reversed(list(enumerate(heavy.held)))}
        first_of_light = {sizes[patient]: place for place, patient in reversed(list(enumerate(light.held)))}
        swaps = [(large, small) for large, small in product(first_of_heavy, first_of_light) if 0 < large - small < gap]
        if not swaps:
            return
        large, small = min(swaps, key=lambda swap: (abs(gap - 2 * (swap[0] - swap[1])), swap))
        one, other = first_of_heavy[large], first_of_light[small]
        heavy.held[one], light.held[other] = light.held[other], heavy.held[one]
        for fold, change in ((heavy, small - large), (light, large - small)):
            held[fold.number] += change
            fold.cases += change
