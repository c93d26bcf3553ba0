"""Comes in: a configuration whose data are a folder, a CSV, pairs, DICOM folders or an npz.
Goes out: the table of cases (image, target, patient, split), the verdict on it, and each case's mask and fingerprint.

The one function is ``build_cases(config, workspace)``; ``check_data`` reports where that raises. The layouts are the
table ``LAYOUTS``. A patient is never divided between splits.
"""

from medrail.cases.check.report import CheckReport
from medrail.cases.check.verdict import check_cases, check_data, find_leaks_of
from medrail.cases.fingerprint import (
    FileHashes,
    FoundOnTheWay,
    Hashes,
    Unknown,
    drawn_fingerprint,
    image_fingerprint,
    source_fingerprint,
)
from medrail.cases.index import build_cases
from medrail.cases.labels import class_names, labels_of, target_index, targets_of
from medrail.cases.layouts.table import LAYOUTS
from medrail.cases.leaked import Leaked, leak_sentence
from medrail.cases.leaks import Leak
from medrail.cases.listing import Finding
from medrail.cases.masks import read_roi, read_target_mask
from medrail.cases.record import Record, read_record, write_record
from medrail.cases.splits.split import assign_splits
from medrail.cases.table import read_table, write_table

__all__ = [
    "LAYOUTS",
    "CheckReport",
    "FileHashes",
    "Finding",
    "FoundOnTheWay",
    "Hashes",
    "Leak",
    "Leaked",
    "Record",
    "Unknown",
    "assign_splits",
    "build_cases",
    "check_cases",
    "check_data",
    "class_names",
    "drawn_fingerprint",
    "find_leaks_of",
    "image_fingerprint",
    "labels_of",
    "leak_sentence",
    "read_record",
    "read_roi",
    "read_table",
    "read_target_mask",
    "source_fingerprint",
    "target_index",
    "targets_of",
    "write_record",
    "write_table",
]
