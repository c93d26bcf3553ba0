"""DICOM -> Image: one file, or one series of a folder.

Comes in: a file with or without extension, or a folder tree. Goes out: (C, D, H, W) in real values, geometry in RAS+.
``header`` says where each frame lies, ``stack`` orders frames and refuses what is no volume, ``pixels`` decodes,
``series`` finds what belongs together. The functions: ``read_dicom`` for a file, ``read_series`` for a folder,
``open_series`` for one whose slices are read one at a time (``stream``).
"""

from medrail.read.dicom.series import Series, open_series, read_dicom, read_series, refused_in, series_in

__all__ = ["Series", "open_series", "read_dicom", "read_series", "refused_in", "series_in"]
