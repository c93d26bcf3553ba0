"""Which patients are drawn for which split: seeded, stratified by class, independent of the order of the rows.

Each patient's rank is a hash of the seed and the patient, so neither the order of the files nor the machine changes the
outcome. Classes are spread by the largest-remainder method (Hamilton's apportionment): every class gets its share of
each split to within one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from medrail.types import SplitName

Classes = frozenset[str]


def draw(classes: Mapping[str, Classes], val: float, test: float, seed: int) -> dict[str, SplitName]:
    """Patient -> split; ``classes`` are those that each patient has, ``val`` and ``test`` the shares of the patients.

    Every requested split gets at least one patient where there are enough of them (train first, then test, then val),
    and a class that has two patients keeps one in train unless the other splits would be left empty.
    """
    ranked = sorted(classes, key=lambda patient: rank(seed, patient))
    n_test, n_val = split_sizes(len(ranked), val, test)
    kept = _kept_in_train(ranked, classes, n_test, n_val)
    free = len(ranked) - len(kept)
    n_test, n_val = _shrink(n_test, n_val, free)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient in ranked:
        strata[tuple(sorted(classes[patient]))].append(patient)
    sizes = {key: len(patients) for key, patients in strata.items()}
    left = {key: [patient for patient in patients if patient not in kept] for key, patients in strata.items()}
    assignment: dict[str, SplitName] = dict.fromkeys(ranked, "train")
    drawn: tuple[tuple[SplitName, int], ...] = (("test", n_test), ("val", n_val))
    for name, total in drawn:
        shares = _apportion(total, sizes, {key: len(patients) for key, patients in left.items()}, seed)
        for key, share in shares.items():
            assignment.update(dict.fromkeys(left[key][:share], name))
            left[key] = left[key][share:]
    return assignment


def rank(seed: int, text: str) -> bytes:
    """What things are ordered by: the same everywhere, and another order for each seed."""
    return hashlib.sha256(f"{seed}\0{text}".encode("utf-8", "surrogateescape")).digest()


def split_sizes(n: int, val: float, test: float) -> tuple[int, int]:
    """Patients for test and val: their shares, but one at least and never the last one of train; test before val."""
    n_test = min(max(1, round(test * n)), max(0, n - 1)) if test else 0
    n_val = min(max(1, round(val * n)), max(0, n - 1 - n_test)) if val else 0
    if val and not n_val and n_test > 1:
        n_test, n_val = n_test - 1, 1
    return n_test, n_val


def _kept_in_train(ranked: Sequence[str], classes: Mapping[str, Classes], n_test: int, n_val: int) -> set[str]:
    """Few patients that have every class between them, the rarest class first.

    Classes of two and more patients may cost test and val all but one of theirs; a class of a single patient costs
    them nothing.
    """
    patients_of: dict[str, list[str]] = defaultdict(list)
    for patient in ranked:
        for name in classes[patient]:
            patients_of[name].append(patient)
    kept: set[str] = set()
    covered: set[str] = set()
    others = (n_test > 0) + (n_val > 0)
    by_rarity = sorted(patients_of, key=lambda name: (len(patients_of[name]) == 1, len(patients_of[name]), name))
    for name in by_rarity:
        room = len(ranked) - (others if len(patients_of[name]) > 1 else n_test + n_val)
        if name not in covered and len(kept) < room:
            chosen = patients_of[name][0]
            kept.add(chosen)
            covered |= classes[chosen]
    if not kept and ranked:
        kept.add(ranked[0])
    return kept


def _shrink(n_test: int, n_val: int, free: int) -> tuple[int, int]:
    """The larger one gives way until both fit, val on a tie; ``free`` has at least one for each of them."""
    while n_test + n_val > free:
        n_test, n_val = (n_test - 1, n_val) if n_test > n_val else (n_test, n_val - 1)
    return n_test, n_val


def _apportion(
    total: int, sizes: Mapping[tuple[str, ...], int], room: Mapping[tuple[str, ...], int], seed: int
) -> dict[tuple[str, ...], int]:
    """``total`` divided in proportion to ``sizes`` by largest remainder, nobody above its ``room``."""
    n = sum(sizes.values())
    quota = {key: total * size / n for key, size in sizes.items()} if n else {}
    shares = {key: min(int(quota[key]), room[key]) for key in quota}
    tie = {key: rank(seed, "\0".join(key)) for key in quota}
    rest = total - sum(shares.values())
    while rest > 0:
        open_keys = [key for key in shares if shares[key] < room[key]]
        open_keys.sort(key=lambda key: (shares[key] - quota[key], tie[key]))
        for key in open_keys[:rest]:
            shares[key] += 1
        rest -= min(rest, len(open_keys))
    return shares
