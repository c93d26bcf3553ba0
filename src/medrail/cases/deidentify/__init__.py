"""Patients' images -> the same images without who they are of.

Comes in: a file or a folder of originals, and what is to be kept (``Options``). Goes out: a new folder of copies
under new names, a report without any value, and on request a linkage file kept apart. The one function:
``deidentify``. The rules are those of DICOM PS3.15 Annex E; every copy is searched for the original's identifiers
before it is written.
"""

from medrail.cases.deidentify.folder import deidentify
from medrail.cases.deidentify.options import KEEP, Options, Rectangle, read_options
from medrail.cases.deidentify.report import Report

__all__ = ["KEEP", "Options", "Rectangle", "Report", "deidentify", "read_options"]
