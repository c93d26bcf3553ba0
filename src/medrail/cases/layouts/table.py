"""The ways data can lie on a disk: LAYOUTS names them, each is a function (config, workspace) -> Listing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from medrail.cases.layouts.class_folders import list_class_folders
from medrail.cases.layouts.csv_list import list_csv
from medrail.cases.layouts.dicom_folders import list_dicom_folders
from medrail.cases.layouts.medmnist import list_medmnist
from medrail.cases.layouts.pairs import list_pairs
from medrail.cases.layouts.slides import list_slides
from medrail.cases.listing import Listing
from medrail.config import Config, DataKind
from medrail.workspace import Workspace

Layout = Callable[[Config, Workspace], Listing]

LAYOUTS: Mapping[DataKind, Layout] = {
    "class_folders": list_class_folders,
    "csv": list_csv,
    "pairs": list_pairs,
    "dicom_folders": list_dicom_folders,
    "medmnist": list_medmnist,
    "slides": list_slides,
}
