"""Raw file -> Image.

Comes in: a file of any kind in ``READERS``, told by its content, or a folder with a DICOM series. Goes out: an
``Image`` (C, D, H, W) with geometry in RAS+ mm and unit, or a named error with evidence and remedy, never another one.
The one function: ``read``. ``open_image`` leaves unread what can be read a slice at a time. ``read_mask`` is the same
for masks, ``on_grid`` puts a mask on its image's grid, ``files_of`` names the files that an image is made of, and
``write_nifti`` is the way back. Of whole slides ``read`` gives the part that a ``Place`` names; ``slide_facts`` says
what there is, ``find_tissue`` where to look. ``sources_of`` names the DICOM frames that an image's slices come from.
"""

from medrail.read.alignment import on_grid
from medrail.read.companions import files_of
from medrail.read.contents import series_in
from medrail.read.dicom import Series
from medrail.read.digests import Digests
from medrail.read.formats import READERS, open_image, read, read_mask
from medrail.read.label_picture import LabelPicture, open_label_picture
from medrail.read.nifti import write_nifti
from medrail.read.place import Place
from medrail.read.slide import SlideFacts, slide_facts
from medrail.read.slide_kind import SLIDE_SUFFIXES, is_slide
from medrail.read.sniff import sniff
from medrail.read.sources import Sources, is_dicom, sources_of
from medrail.read.tissue import Tissue, find_tissue
from medrail.read.unread import Slice, UnreadImage

__all__ = [
    "READERS",
    "SLIDE_SUFFIXES",
    "Digests",
    "LabelPicture",
    "Place",
    "Series",
    "Slice",
    "SlideFacts",
    "Sources",
    "Tissue",
    "UnreadImage",
    "files_of",
    "find_tissue",
    "is_dicom",
    "is_slide",
    "on_grid",
    "open_image",
    "open_label_picture",
    "read",
    "read_mask",
    "series_in",
    "slide_facts",
    "sniff",
    "sources_of",
    "write_nifti",
]
