"""The record of a run: the case table it was trained with, and the SHA-256 of each case's image.

It lies in the run's folder as cases.csv and images.json. Splits drawn anew from data that have grown are others than
those of the training, so whoever judges a run asks its record, not the data, who was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medrail.cases.fingerprint import FileHashes, image_fingerprint
from medrail.cases.table import read_table, write_table
from medrail.errors import DataError, LeakError, RunError
from medrail.read import read
from medrail.types import Case, SplitName
from medrail.workspace import Run, read_json, write_json

FORMAT = 1
SEEN_BEFORE: dict[SplitName, tuple[SplitName, ...]] = {"train": (), "val": ("train",), "test": ("train", "val")}
"""For each split that a network can be judged on: those that must share no patient and no image with it."""
_NAMED = 5


@dataclass(frozen=True)
class Record:
    """Which cases a run knows.

    cases:
        Id -> the case with the split and the patient it had.
    images:
        Id -> SHA-256 of its image; none for an image that could not be read.
    """

    run: Run
    cases: Mapping[str, Case]
    images: Mapping[str, str]

    def known(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Those of the cases that are in the record, with the record's split and patient."""
        recorded = ((case, self.cases[case.id]) for case in cases if case.id in self.cases)
        return tuple(replace(case, split=then.split, patient=then.patient) for case, then in recorded)

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

    def refuse_leaks(self, cases: Sequence[Case], split: SplitName) -> None:
        """Stop before a case of ``split`` is judged whose patient, or image under another name, the network has seen.

        Parameters
        ----------
        cases:
            All cases as the data lie there now; a patient counts by what the record and the data say.

        Raises
        ------
        LeakError
            With the cases it is so for.
        """
        learned = {case.id for case in self.cases.values() if case.split in SEEN_BEFORE[split]}
        now = {case.id: case.patient for case in cases}
        patients = {self.cases[one].patient for one in learned} | {now[one] for one in learned if one in now}
        images = {self.images[one]: one for one in sorted(learned) if one in self.images}
        judged = [case for case in cases if case.id in self.cases and self.cases[case.id].split == split]
        leaks = []
        with FileHashes.of(self.run.workspace) as hashes:
            for case in judged:
                if case.patient in patients or self.cases[case.id].patient in patients:
                    leaks.append(f"{case.id} (its patient)")
                elif (same := images.get(_image(case, hashes))) and not _blank(case):
                    leaks.append(f"{case.id} (its image is that of {same})")
        if leaks:
            more = f" and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else ""
            raise LeakError(
                f"{len(leaks)} of {len(judged)} cases to be judged were there in training: "
                f"{', '.join(leaks[:_NAMED])}{more}",
                needed=f"patients and images that are in none of {', '.join(SEEN_BEFORE[split])}",
                where=str(self.run.folder),
                remedy="Correct the data, and train anew with `medrail run`.",
            )


def write_record(run: Run, cases: Sequence[Case]) -> None:
    """Write down whom a run is trained on; a record that says so already is left as it is."""
    with FileHashes.of(run.workspace) as hashes:
        images = {case.id: digest for case in cases if (digest := _image(case, hashes))}
    try:
        known = read_record(run)
        if known.images == images and tuple(known.cases.values()) == tuple(cases):
            return
    except (RunError, DataError):
        pass
    write_json(run.images, {"format": FORMAT, "sha256": images})
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
        images = {str(key): str(value) for key, value in read_json(run.images)["sha256"].items()}
        cases = {case.id: case for case in read_table(run.case_table)}
    except (KeyError, TypeError, AttributeError, DataError):
        raise RunError(
            "the record of the cases it was trained on is broken", where=str(run.folder), remedy="Train it anew."
        ) from None
    return Record(run, cases, images)


def _image(case: Case, hashes: FileHashes) -> str:
    try:
        return image_fingerprint(case, hashes)
    except DataError:
        return ""


def _blank(case: Case) -> bool:
    """Blank images are all alike and tell nothing about a patient."""
    try:
        voxels = read(case.paths[0], case.item).voxels
    except DataError:
        return False
    return bool(np.min(voxels) == np.max(voxels))
