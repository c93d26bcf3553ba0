"""Prediction + the DICOM it was made of -> objects that a PACS takes: a segmentation, a structured report.

In: a ``Prediction`` on the raw grid and ``read.sources_of`` the same image. Out: ``Objects``, as bytes of files. They
are new series of the same study and hold who the patient is, as the standard wants; nothing else here says it.
Needs highdicom (``installed``), which is loaded by the first call. The one function: ``objects``.
"""

from medrail.dicom_out.codes import ClassCodes, Code, read_codes
from medrail.dicom_out.make import Objects, installed, objects

__all__ = ["ClassCodes", "Code", "Objects", "installed", "objects", "read_codes"]
