"""The record of a run: the case table it was trained with, and the SHA-256 of each case's image and mask.

It lies in the run's folder as cases.csv and images.json. Splits drawn anew from data that have grown are others than
those of the training, so whoever judges a run asks its record, not the data, who was trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from medrail.cases.fingerprint import FileHashes, drawn_fingerprint, image_fingerprint
from medrail.cases.leaked import Leaked
from medrail.cases.leaks import Leak
from medrail.cases.look.examine import place_of
from medrail.cases.table import read_table, write_table
from medrail.errors import DataError, RunError
from medrail.read import read
from medrail.types import SPLITS, Case, SplitName
from medrail.workspace import Run, read_json, write_json

FORMAT = 1
SEEN_BEFORE: dict[SplitName, tuple[SplitName, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""For each split that a network can be judged on: those that must share no patient and no image with it."""


@dataclass(frozen=True)
class Record:
    """Which cases a run knows.

    cases:
        Id -> the case with the split and the patient it had.
    images:
        Id -> SHA-256 of its image; none for an image that could not be read.
    masks:
        Id -> SHA-256 of its mask and region of interest, for cases that have one.
    """

    run: Run
    cases: Mapping[str, Case]
    images: Mapping[str, str]
    masks: Mapping[str, str] = field(default_factory=dict)

    def known(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Those of the cases that are in the record, with the record's split, fold and patient."""
        recorded = ((case, self.cases[case.id]) for case in cases if case.id in self.cases)
        return tuple(replace(case, split=then.split, patient=then.patient, fold=then.fold) for case, then in recorded)

    def differences(self, cases: Sequence[Case], split: SplitName) -> tuple[str, ...]:
        """A sentence for cases that were added since, and for those of ``split`` that are gone."""
        now = {case.id for case in cases}
        added = len(now - self.cases.keys())
        gone = sum(case.split == split and case.id not in now for case in self.cases.values())
        sentences = []
        if added:
            text = "1 case was" if added == 1 else f"{added} cases were"
            sentences.append(f"{text} added since this run was trained, and left out; `medrail run` trains with all")
        if gone:
            sentences.append(f"{gone} of the run's {split} cases {'is' if gone == 1 else 'are'} no longer in the data")
        return tuple(sentences)

    def leaked(self, cases: Sequence[Case], split: SplitName, found: Sequence[Leak] = ()) -> Leaked:
        """The cases of ``split`` whose patient, or image, the network has seen.

        Parameters
        ----------
        cases:
            All cases as the data lie there now; a patient counts by what the record and the data say.
        found:
            Leaks between the splits of the record by what the images show (``medrail.cases.find_leaks_of``). Without
            them only patients, and images that are equal to the byte with what they were in training, are told.
        """
        learned = {case.id: case for case in self.cases.values() if case.split in SEEN_BEFORE[split]}
        judged = [case for case in cases if case.id in self.cases and self.cases[case.id].split == split]
        reasons: dict[str, dict[str, str]] = {}
        groups = _groups_found(found, [*learned.values(), *judged], {case.id for case in judged})
        for leak, members in groups:
            other = next(case.id for case in members if case.id in learned)
            words = _WORDS[leak.kind].format(other=other)
            for case in members:
                if case.id not in learned:
                    reasons.setdefault(case.id, {}).setdefault(leak.kind, words)
        own = self._by_patient_and_file(judged, {case.id: case.patient for case in cases}, learned)
        leaks = [leak for leak, _ in groups]
        for case, other_case, kind in own:
            if kind not in reasons.get(case.id, {}):
                reasons.setdefault(case.id, {})[kind] = _WORDS[kind].format(other=other_case.id)
                sides = {split, other_case.split}
                leaks.append(
                    Leak(kind, (place_of(case), place_of(other_case)), tuple(one for one in SPLITS if one in sides))
                )
        return Leaked(len(judged), tuple(leaks), {one: reasons[one] for one in sorted(reasons)})

    def _by_patient_and_file(
        self, judged: Sequence[Case], now: Mapping[str, str], learned: Mapping[str, Case]
    ) -> list[tuple[Case, Case, Literal["exact", "patient"]]]:
        """(judged case, one that was learned, kind); ``now`` is case -> patient as the data say now."""
        patients = {case.patient: case for case in learned.values()}
        patients |= {now[one]: case for one, case in learned.items() if one in now}
        images = {self.images[one]: learned[one] for one in sorted(learned) if one in self.images}
        found: list[tuple[Case, Case, Literal["exact", "patient"]]] = []
        with FileHashes.of(self.run.workspace) as hashes:
            for case in judged:
                seen = patients.get(case.patient) or patients.get(self.cases[case.id].patient)
                if seen:
                    found.append((case, seen, "patient"))
                same = images.get(_image(case, hashes))
                if same and not _blank(case):
                    found.append((case, same, "exact"))
        return found

    def refuse_leaks(self, cases: Sequence[Case], split: SplitName, found: Sequence[Leak] = ()) -> None:
        """Stop before a case of ``split`` is judged that the network has seen: see ``leaked``.

        Raises
        ------
        LeakError
            With the cases it is so for.
        """
        leaked = self.leaked(cases, split, found)
        if leaked:
            raise leaked.error(str(self.run.folder), SEEN_BEFORE[split])


_WORDS = {
    "patient": "its patient",
    "exact": "its image is that of {other}",
    "near": "its image is nearly that of {other}",
}


def _groups_found(
    found: Sequence[Leak], cases: Sequence[Case], judged: Container[str]
) -> list[tuple[Leak, tuple[Case, ...]]]:
    """Those leaks beyond doubt that have cases on both sides, cut down to the given cases."""
    by_place = {place_of(case): case for case in cases}
    groups = []
    for leak in found:
        members = tuple(by_place[place] for place in leak.group if place in by_place)
        sides = {case.id in judged for case in members}
        if leak.sure and len(sides) == 2:
            groups.append((leak, members))
    return groups


def write_digests(run: Run, cases: Sequence[Case], path: Path) -> None:
    """Write what the cases' images and masks are, as the run's images.json does of its own."""
    _write_digests(path, *_digests(run, cases))


def _write_digests(path: Path, images: Mapping[str, str], masks: Mapping[str, str]) -> None:
    write_json(path, {"format": FORMAT, "sha256": dict(images), "masks": dict(masks)})


def _digests(run: Run, cases: Sequence[Case]) -> tuple[dict[str, str], dict[str, str]]:
    with FileHashes.of(run.workspace) as hashes:
        images = {case.id: digest for case in cases if (digest := _image(case, hashes))}
        masks = {case.id: digest for case in cases if (digest := _or_nothing(drawn_fingerprint, case, hashes))}
    return images, masks


def write_record(run: Run, cases: Sequence[Case]) -> None:
    """Write down whom a run is trained on; a record that says so already is left as it is."""
    images, masks = _digests(run, cases)
    try:
        known = read_record(run)
        if (known.images, known.masks) == (images, masks) and tuple(known.cases.values()) == tuple(cases):
            return
    except (RunError, DataError):
        pass
    _write_digests(run.images, images, masks)
    write_table(cases, run.case_table, run.workspace.root)


def read_record(run: Run) -> Record:
    """The record of a run.

    Raises
    ------
    RunError
        If the run has none, or it is broken.
    """
    if not (run.images.is_file() and run.case_table.is_file()):
        raise RunError(
            "the run does not record which cases it was trained on",
            needed=f"{run.case_table.name} and {run.images.name}",
            where=str(run.folder),
            remedy="Train it anew: `medrail train` makes a run that does.",
        )
    try:
        digests = read_json(run.images)
        images = {str(key): str(value) for key, value in digests["sha256"].items()}
        masks = {str(key): str(value) for key, value in digests.get("masks", {}).items()}
        cases = {case.id: case for case in read_table(run.case_table)}
    except (KeyError, TypeError, AttributeError, DataError):
        raise RunError(
            "the record of the cases it was trained on is broken", where=str(run.folder), remedy="Train it anew."
        ) from None
    return Record(run, cases, images, masks)


def _image(case: Case, hashes: FileHashes) -> str:
    return _or_nothing(image_fingerprint, case, hashes)


def _or_nothing(fingerprint: Callable[[Case, FileHashes], str], case: Case, hashes: FileHashes) -> str:
    try:
        return fingerprint(case, hashes)
    except DataError:
        return ""


def _blank(case: Case) -> bool:
    """Blank images are all alike and tell nothing about a patient."""
    try:
        voxels = read(case.paths[0], case.item).voxels
    except DataError:
        return False
    return bool(np.min(voxels) == np.max(voxels))
