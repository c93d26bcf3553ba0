"""Raw file -> Image.

Comes in: a file of any kind in ``READERS``, told by its content, or a folder with a DICOM series. Goes out: an
``Image`` (C, D, H, W) with geometry in RAS+ mm and unit, or a named error with evidence and remedy, never another one.
The one function: ``read``. ``read_mask`` is the same for masks, ``on_grid`` puts a mask on its image's grid,
``files_of`` names the files that an image is made of, and ``write_nifti`` is the way back.
"""

from medrail.read.alignment import on_grid
from medrail.read.companions import files_of
from medrail.read.dicom import Series, series_in
from medrail.read.formats import READERS, read, read_mask
from medrail.read.nifti import write_nifti
from medrail.read.sniff import sniff

__all__ = ["READERS", "Series", "files_of", "on_grid", "read", "read_mask", "series_in", "sniff", "write_nifti"]
