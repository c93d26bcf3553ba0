"""DICOM folders: one folder of series a patient, with a table of labels, masks, or neither yet."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from medrail.cases.layouts.rows import read_sheet
from medrail.cases.listing import Entry, counted
from medrail.config import DataConfig, Task
from medrail.errors import CaseError, ReadError
from medrail.plan.layout import Layout, NewTable, list_entries, stopping, told
from medrail.plan.listing import FolderListing, folder_of, stem
from medrail.plan.pairing import says_mask
from medrail.read import series_in

LABELS = "labels.csv"
_LOOKED_AT = 6


def dicom_layouts(listing: FolderListing) -> list[Layout]:
    """Patients' folders of DICOM series, with the targets that lie beside them."""
    patients = patients_of(listing)
    if not patients:
        return []
    found = [*_with_table(listing, patients), *_with_masks(listing, patients)]
    return found or _without_targets(listing, patients)


def patients_of(listing: FolderListing) -> list[str]:
    """The patients' folders, where the DICOM files of a folder lie in such; else none."""
    patients = _dicom_folders(listing)
    return [] if _are_classes(listing, patients) else patients


def _dicom_folders(listing: FolderListing) -> list[str]:
    """First-level folders that hold DICOM files, where most images are such."""
    if 2 * len(listing.dicoms) < len(listing.images):
        return []
    return sorted({name.partition("/")[0] for name in listing.dicoms if "/" in name})


def _are_classes(listing: FolderListing, folders: list[str]) -> bool:
    """Whether the folders are classes: they hold many single pictures, or many patients' folders."""
    if _has_table(listing, folders):
        return False
    leaves = sorted({folder_of(name) for name in listing.dicoms if "/" in name})
    deeper = [leaf for leaf in leaves if "/" in leaf]
    if 2 <= len(folders) <= 10 and len(deeper) >= 5 * len(folders):
        return True
    step = max(1, len(leaves) // _LOOKED_AT)
    single = several = 0
    for leaf in leaves[::step][:_LOOKED_AT]:
        try:
            series = series_in(listing.root / leaf)
        except ReadError:
            continue
        pictures = [one for one in series if len(one.files) == 1]
        single += len(series) > 1 and len(pictures) == len(series)
        several += len(pictures) < len(series)
    return single > several


def _has_table(listing: FolderListing, folders: list[str]) -> bool:
    return any(_names_patients(listing.root / name, folders) for name in listing.tables)


def _names_patients(path: Path, folders: list[str]) -> bool:
    try:
        sheet = read_sheet(path)
    except CaseError:
        return False
    column = sheet.column("patient")
    cells = {sheet.cell(row, column) for row in sheet.rows}
    return bool(column) and 2 * len(cells & set(folders)) >= len(folders)


def _with_table(listing: FolderListing, patients: list[str]) -> list[Layout]:
    layouts: list[Layout] = []
    tasks: tuple[Task, ...] = ("segmentation", "classification")
    for name in listing.tables:
        if not _names_patients(listing.root / name, patients):
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
    entries: tuple[Entry, ...] = found.entries
    unsure = told(stopping(found.findings), listing.root)
    if table.needs_filling:
        unsure = (
            f"the DICOM folders have neither labels nor masks: fill in the column label of {table.name} beside "
            "medrail.yaml (its column patient names the folders), or add a column mask",
            *unsure,
        )
    data = data.model_copy(update={"labels": table.name})
    return [Layout(task, data, entries, why, rank, unsure, table=table)]


def _folders(patients: list[str]) -> str:
    return f"{counted(len(patients), 'folder')} {'hold' if len(patients) > 1 else 'holds'}"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'
