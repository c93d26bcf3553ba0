"""Patients with several labels each, divided so that every label gets its share of every split.

Strata of whole combinations, as ``draw`` has them, fall apart where labels combine: most combinations have one patient.
Iterative stratification (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011, algorithm 1) deals one label at a time, the
rarest first, to the split that lacks it most.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from medrail.cases.splits.draw import Classes, rank, split_sizes
from medrail.types import SplitName

# In which order splits are served where they lack the same, and which of them must have a case first.
_FIRST: tuple[SplitName, ...] = ("train", "test", "val")


def spread(labels: Mapping[str, Classes], val: float, test: float, seed: int) -> dict[str, SplitName]:
    """Patient -> split; ``labels`` are those that each patient has, ``val`` and ``test`` the shares of the patients.

    The splits have the same numbers of patients as ``draw`` gives them. A label of at least as many patients as there
    are splits is in each of them where their sizes allow; of fewer, train has one first, then test. The order of the
    patients does not matter: ties are broken by a hash of the seed.
    """
    ranked = sorted(labels, key=lambda patient: rank(seed, patient))
    n_test, n_val = split_sizes(len(ranked), val, test)
    room: dict[SplitName, int] = {"train": len(ranked) - n_test - n_val, "test": n_test, "val": n_val}
    open_splits = [name for name in _FIRST if room[name]]
    waiting: dict[str, list[str]] = defaultdict(list)
    for patient in ranked:
        for label in labels[patient]:
            waiting[label].append(patient)
    wanted = {label: _wanted(len(patients), room, open_splits) for label, patients in waiting.items()}
    assignment: dict[str, SplitName] = {}
    left = {label: len(patients) for label, patients in waiting.items()}
    while left:
        rarest = min(left, key=lambda label: (left[label], label))
        for patient in waiting[rarest]:
            if patient not in assignment:
                _give(patient, _neediest(rarest, wanted, room, open_splits), assignment, room)
                for label in labels[patient]:
                    wanted[label][assignment[patient]] -= 1
                    if label in left:
                        left[label] -= 1
        del left[rarest]
    for patient in ranked:  # those without any label
        if patient not in assignment:
            _give(patient, max(open_splits, key=lambda name: room[name]), assignment, room)
    return assignment


def _wanted(patients: int, room: Mapping[SplitName, int], splits: list[SplitName]) -> dict[SplitName, float]:
    """How many patients of a label each split should get: its share, and one at least while there are some."""
    total = sum(room.values())
    shares: dict[SplitName, float] = {name: patients * room[name] / total for name in splits}
    served = splits[:patients]
    for name in served:
        shares[name] = max(shares[name], 1.0)
    over = sum(shares.values()) - patients
    largest = max(splits, key=lambda name: shares[name])
    shares[largest] = max(1.0, shares[largest] - over)
    return shares


def _neediest(
    label: str,
    wanted: Mapping[str, Mapping[SplitName, float]],
    room: Mapping[SplitName, int],
    splits: list[SplitName],
) -> SplitName:
    free = [name for name in splits if room[name] > 0]
    return max(free, key=lambda name: (round(wanted[label][name], 6), room[name], -splits.index(name)))


def _give(patient: str, split: SplitName, assignment: dict[str, SplitName], room: dict[SplitName, int]) -> None:
    assignment[patient] = split
    room[split] -= 1
