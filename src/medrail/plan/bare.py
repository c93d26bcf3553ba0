"""A folder without configuration, as the check judges it: what `medrail init` would write, but with the data's splits.

`init` draws splits anew where the given ones divide a patient; somebody who asks whether the given splits are clean
wants these judged. Images without labels and layouts that `init` does not know are judged too, as far as that goes.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from medrail.cases import CheckReport
from medrail.cases.check.judge import quoted
from medrail.cases.layouts.series import series_entries
from medrail.cases.listing import Finding, counted, shown
from medrail.errors import MedrailError, UnknownLayout
from medrail.plan.layout import NewTable
from medrail.plan.listing import FolderListing, folder_of, list_files
from medrail.plan.project import init, table_text
from medrail.plan.proposal import Plan
from medrail.workspace import write_text

_TABLE = "images.csv"
_KINDS = ("pictures", "volumes", "dicoms", "slides", "arrays")
_CALLED = {"pictures": "picture", "volumes": "volume", "dicoms": "DICOM file", "slides": "whole slide", "arrays": "npz"}
_FOLDERS = 8


@dataclass(frozen=True)
class Bare:
    """What was inferred for data without configuration.

    root:
        The folder or file as it was given.
    sets:
        What the check sets otherwise than `init`, as ``--set`` takes it.
    assumed:
        Sentences for a person: what is taken for the splits and the patients, and what `init` would do.
    """

    root: Path
    sets: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    listing: FolderListing | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path | None:
        """Where nothing may be written."""
        return self.root if self.root.is_dir() else None


def write_bare(folder: Path, data_path: Path, sets: Sequence[str] = ()) -> Bare:
    """Write a configuration of the data into a folder that is thrown away; ``sets`` are those of the user.

    Raises
    ------
    DataError
        If there is nothing to look at.
    """
    listing = list_files(data_path.resolve()) if data_path.is_dir() else None
    try:
        made, _ = init(folder, data_path)
    except UnknownLayout:
        table = _without_labels(listing) if listing else None
        if table is None or not table.rows:
            raise
        write_text(folder / table.name, table_text(table, folder))
        text = f"task: classification\ndata: {{kind: csv, path: {_TABLE}}}\nmodel: {{name: tiny_cnn, dims: 2}}\n"
        write_text(folder / "medrail.yaml", text)
        said = "neither labels nor masks could be told, so only the images are judged; `medrail init` names the layouts"
        return Bare(data_path, assumed=(said,), listing=listing)
    chosen = {one.partition("=")[0].strip() for one in sets}
    given, assumed = ((), ()) if "split.by" in chosen else _as_given(made)
    patients = () if "data.patient_pattern" in chosen else _patients(made)
    return Bare(data_path, given, (*assumed, *patients), listing)


def told_without(report: CheckReport, bare: Bare, folder: Path) -> CheckReport:
    """The report with what was not taken, and without the paths of the folder that is thrown away."""
    left = not_taken(bare.listing, report) if bare.listing else None
    findings = [*report.findings, *([left] if left else [])]
    return replace(report, findings=tuple(_nowhere(finding, folder) for finding in findings))


def without_folder(error: MedrailError, folder: Path) -> MedrailError:
    """The error without the paths of the folder that is thrown away."""
    for name in ("found", "needed", "where", "remedy"):
        setattr(error, name, _plain(getattr(error, name), folder))
    return error


def not_taken(listing: FolderListing, report: CheckReport) -> Finding | None:
    """Images below the folder that are in no case and in no finding, counted by folder and kind."""
    places = {str(path) for path in _named(report)}
    left: dict[str, Counter[str]] = defaultdict(Counter)
    for kind in _KINDS:
        for name in getattr(listing, kind):
            if not _among(places, listing.root, name):
                top = name.partition("/")[0] if "/" in name else "."
                left[top][kind] += 1
    if not left:
        return None
    count = sum(sum(kinds.values()) for kinds in left.values())
    parts = [
        f"{'the folder itself' if top == '.' else top}: "
        + ", ".join(counted(kinds[kind], _CALLED[kind]) for kind in _KINDS if kinds[kind])
        for top, kinds in sorted(left.items())
    ]
    what = f"{counted(count, 'file')} below it {'is' if count == 1 else 'are'} in no case: {shown(parts, _FOLDERS)}"
    remedy = "If they belong to another data set, check its folder by itself; else give a CSV that names all images."
    return Finding("not_taken", str(listing.root), what, remedy, "warn")


def _as_given(made: Plan) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The data's own splits, where each case has one."""
    splits = {name: count for name, count in made.splits.items() if count}
    if len(splits) < 2 or sum(splits.values()) < made.cases:
        return (), ()
    evaluated = next((name for name in ("test", "val") if name in splits), "")
    given = ", ".join(f"{count:,} {name}" for name, count in splits.items())
    said = f"the splits that the data give are judged ({given})"
    if made.config.split.by != "given":
        said += "; `medrail init` would not keep them but draw new ones by patient (split.by: patient)"
    sets = ["split.by=given", *([f"evaluate.split={evaluated}"] if evaluated not in ("", "test") else [])]
    return tuple(sets), (said,)


def _patients(made: Plan) -> Iterator[str]:
    if pattern := made.config.data.patient_pattern:
        yield (
            f"patients are told by the file names, data.patient_pattern: {quoted(pattern)}; if that is not who they "
            "are, give another with --set, or --set data.patient_pattern='(.+)': each image another patient"
        )


def _without_labels(listing: FolderListing) -> NewTable:
    """Every picture and volume, and every DICOM series, in a table whose labels are empty."""
    rows = [(str(listing.root / name), "", "") for name in (*listing.pictures, *listing.volumes)]
    for folder in sorted({folder_of(name) for name in listing.dicoms}):
        found = series_entries(listing.root / folder, folder or ".")
        rows += [(str(entry.path), entry.item, "") for entry in found.entries]
    return NewTable(_TABLE, ("path", "item", "label"), tuple(dict.fromkeys(rows)))


def _named(report: CheckReport) -> Iterator[Path]:
    """Every file and folder that a case is made of or a finding is about."""
    examined = report.examined
    for case in examined.cases:
        yield from (Path(text) for text in (*case.paths, case.roi or "") if text)
        if case.target and Path(case.target).is_absolute():
            yield Path(case.target)
    for finding in report.findings:
        for text in (finding.where, *finding.others):
            yield Path(text.partition(" [")[0] if text.endswith("]") else text)


def _among(places: set[str], root: Path, name: str) -> bool:
    """Whether a file, or a folder that it lies in, is one of the places; the root holds only what is directly in it."""
    path = PurePosixPath(name)
    folders = (path, *path.parents) if len(path.parts) == 1 else (path, *path.parents[:-1])
    return any(str(root / part) in places for part in folders)


def _nowhere(finding: Finding, folder: Path) -> Finding:
    where, what, remedy = (_plain(text, folder) for text in (finding.where, finding.what, finding.remedy))
    return replace(finding, where=where, what=what, remedy=remedy)


def _plain(text: str, folder: Path) -> str:
    """ "/tmp/x/labels.csv, line 2" -> "labels.csv (as `medrail init` would write it), line 2"."""
    for name in ("labels.csv", _TABLE, "medrail.yaml"):
        text = text.replace(f"{folder}{os.sep}{name}", f"{name} (as `medrail init` would write it)")
    return text.replace(f"{folder}{os.sep}", "").replace(str(folder), "the project")
