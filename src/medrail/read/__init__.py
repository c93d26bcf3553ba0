"""Raw file -> Image.

Comes in: a file of any kind in ``READERS``, told by its content, or a folder with a DICOM series. Goes out: an
``Image`` (C, D, H, W) with geometry in RAS+ mm and unit, or a named error with evidence and remedy, never another one.
The one function: ``read``. ``read_mask`` is the same for masks, ``write_nifti`` the way back.
"""

from medrail.read.dicom import Series, series_in
from medrail.read.formats import READERS, read, read_mask
from medrail.read.nifti import write_nifti
from medrail.read.sniff import sniff

__all__ = ["READERS", "Series", "read", "read_mask", "series_in", "sniff", "write_nifti"]
