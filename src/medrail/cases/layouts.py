"""The ways data can lie on a disk: LAYOUTS names them, each is a function (config, workspace) -> Listing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medrail.cases.class_folders import list_class_folders
from medrail.cases.csv_list import list_csv
from medrail.cases.dicom_folders import list_dicom_folders
from medrail.cases.listing import Listing
from medrail.cases.medmnist import list_medmnist
from medrail.cases.pairs import list_pairs
from medrail.config import Config, DataKind
from medrail.workspace import Workspace

Layout = Callable[[Config, Workspace], Listing]

LAYOUTS: Mapping[DataKind, Layout] = {
    "class_folders": list_class_folders,
    "csv": list_csv,
    "pairs": list_pairs,
    "dicom_folders": list_dicom_folders,
    "medmnist": list_medmnist,
}
