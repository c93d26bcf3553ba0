"""DICOM folders: one folder of series a patient, with a table of labels, masks, or neither yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from medrail.cases.listing import Finding, counted
from medrail.config import DataConfig, Task
from medrail.plan.dicom_folders import dicom_folders, names_patients
from medrail.plan.layout import Layout, NewTable, list_entries, stopping, told
from medrail.plan.listing import FolderListing, folder_of, stem
from medrail.plan.pairing import says_mask

LABELS = "labels.csv"


def dicom_layouts(listing: FolderListing) -> list[Layout]:
    """Patients' folders of DICOM series, with the targets that lie beside them."""
    folders = dicom_folders(listing)
    patients = list(folders.patients)
    if not patients:
        return []
    found = [*_with_table(listing, patients), *_with_masks(listing, patients)]
    found = found or _without_targets(listing, patients)
    return [replace(layout, unsure=(*layout.unsure, folders.doubt)) for layout in found] if folders.doubt else found


def _with_table(listing: FolderListing, patients: list[str]) -> list[Layout]:
    layouts: list[Layout] = []
    tasks: tuple[Task, ...] = ("segmentation", "classification")
    for name in listing.tables:
        if not names_patients(listing.root / name, patients):
            continue
        for task in tasks:
            data = DataConfig(kind="dicom_folders", path=str(listing.root), labels=name)
            found = list_entries(task, data)
            if found is not None and found.entries:
                what = "mask" if task == "segmentation" else "label"
                why = f"{_folders(patients)} DICOM series, and {name} gives each patient a {what}"
                unsure = told(stopping(found.findings), listing.root)
                layouts.append(Layout(task, data, found.entries, why, 2 + len(layouts), unsure))
    return layouts


def _with_masks(listing: FolderListing, patients: list[str]) -> list[Layout]:
    """A folder with PATIENT.nii.gz, or a mask inside each patient's folder."""
    for folder in sorted({folder_of(name) for name in listing.volumes} - {""}):
        called = {stem(name) for name in listing.volumes if folder_of(name) == folder}
        if says_mask(folder.rsplit("/", 1)[-1]) and 2 * len(called & set(patients)) >= len(patients):
            data = DataConfig(kind="dicom_folders", path=str(listing.root), mask_path=folder)
            found = list_entries("segmentation", data)
            if found is not None and found.entries:
                why = f"{_folders(patients)} DICOM series, and {folder}/ has a mask of each patient"
                unsure = told(stopping(found.findings), listing.root)
                return [Layout("segmentation", data, found.entries, why, 2, unsure)]
    masks = {patient: _mask_inside(listing, patient) for patient in patients}
    if not any(masks.values()):
        return []
    rows = tuple((patient, str(listing.root / mask)) for patient, mask in masks.items() if mask)
    table = NewTable(LABELS, ("patient", "mask"), rows)
    why = f"{_folders(patients)} DICOM series, and {len(rows)} of them a mask as {Path(rows[0][1]).name}"
    return _with_new_table(listing, "segmentation", table, why, rank=2)


def _mask_inside(listing: FolderListing, patient: str) -> str:
    inside = [name for name in listing.volumes if name.startswith(f"{patient}/")]
    named = [name for name in inside if says_mask(stem(name))]
    chosen = named or inside
    return chosen[0] if len(chosen) == 1 else ""


def _without_targets(listing: FolderListing, patients: list[str]) -> list[Layout]:
    rows = tuple((patient, "") for patient in patients)
    table = NewTable(LABELS, ("patient", "label"), rows, needs_filling=True)
    why = f"{_folders(patients)} DICOM series, one folder a patient"
    return _with_new_table(listing, "classification", table, why, rank=9)


def _with_new_table(listing: FolderListing, task: Task, table: NewTable, why: str, rank: int) -> list[Layout]:
    """The layout as it will be once the table is written: listed with a copy of it that lies elsewhere."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / table.name
        lines = [",".join(table.header), *(",".join(_quoted(cell or "?") for cell in row) for row in table.rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        data = DataConfig(kind="dicom_folders", path=str(listing.root), labels=str(path))
        found = list_entries(task, data)
    if found is None or not found.entries:
        return []
    # It is called as it will be: the copy is gone.
    entries = tuple(replace(entry, where=entry.where.replace(str(path), table.name)) for entry in found.entries)
    unsure = told([_called(finding, str(path), table.name) for finding in stopping(found.findings)], listing.root)
    if table.needs_filling:
        unsure = (
            f"the DICOM folders have neither labels nor masks: fill in the column label of {table.name} beside "
            "medrail.yaml (its column patient names the folders), or add a column mask",
            *unsure,
        )
    data = data.model_copy(update={"labels": table.name})
    return [Layout(task, data, entries, why, rank, unsure, table=table)]


def _called(finding: Finding, path: str, name: str) -> Finding:
    texts = (finding.where, finding.what, finding.remedy)
    where, what, remedy = (text.replace(path, name) for text in texts)
    return replace(finding, where=where, what=what, remedy=remedy)


def _folders(patients: list[str]) -> str:
    return f"{counted(len(patients), 'folder')} {'hold' if len(patients) > 1 else 'holds'}"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'
