"""What the headers of single DICOM files say of their entries; series in folders bring it along themselves."""

from __future__ import annotations

from dataclasses import replace

from medrail.cases.layouts.series import is_dicom
from medrail.cases.listing import Entry, Listing
from medrail.read.dicom.cache import HeaderCache
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import look_at
from medrail.workspace import Workspace


def with_headers(listing: Listing, workspace: Workspace) -> Listing:
    """The listing with patient key, modality, scanner and burned-in mark of each entry that is one DICOM file.

    Headers are remembered in the workspace, so that only new files are opened. What cannot be read stays as it is:
    reading the image says why.
    """
    files = [entry.path for entry in listing.entries if _alone(entry)]
    if not files:
        return listing
    with HeaderCache.of(workspace) as cache:
        headers = {header.path: header for header in look_at(files, cache) if isinstance(header, Header)}
    return replace(listing, entries=tuple(_filled(entry, headers.get(entry.path)) for entry in listing.entries))


def _alone(entry: Entry) -> bool:
    return not entry.item and not entry.patient_key and entry.path.is_file() and is_dicom(entry.path)


def _filled(entry: Entry, header: Header | None) -> Entry:
    if header is None or not _alone(entry):
        return entry
    return replace(
        entry,
        modality=entry.modality or header.modality,
        scanner=entry.scanner or header.scanner,
        burned_in=entry.burned_in or header.burned_in,
        patient_key=header.patient_key,
    )
