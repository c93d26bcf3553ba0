"""Which files are a whole image by themselves, as their first bytes say: nothing that lies beside them can matter.

What ``companions.files_of`` finds out by opening a file is so told while its content is digested anyway, and can be
remembered with the digest. In doubt the answer is no: then ``files_of`` has to look.
"""

from __future__ import annotations

import re
import zlib

HEAD_BYTES = 4096
"""How much of the beginning is needed."""

_DATA_FILE = b"ElementDataFile"  # of MetaImage
_LOCAL = re.compile(rb"^ElementDataFile[ \t]*=[ \t]*LOCAL[ \t\r]*\n", re.MULTILINE)
_EMPTY_LINE = re.compile(rb"\n\r?\n")  # behind a header of NRRD
_NIFTI_BYTES = 352
# DICOM PS3.6, table A-1: what the identifiers of slides begin with.
_SLIDE_SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.77.1.6"


def stands_alone(head: bytes | bytearray | memoryview, name: str) -> bool:
    """Whether ``files_of`` is the file itself, whatever else there is.

    Parameters
    ----------
    head:
        The first ``HEAD_BYTES`` of the file, or all of it.
    name:
        Its name or path.
    """
    head = bytes(head[:HEAD_BYTES])
    if name.lower().endswith(".mrxs"):  # a slide with a folder beside it
        return False
    if head[128:132] == b"DICM":  # one file of a slide has the others beside it
        return _SLIDE_SOP_CLASS not in head
    if head.startswith(b"NRRD0"):
        return _nrrd(head)
    if _DATA_FILE in head:
        return head.count(_DATA_FILE) == 1 and _LOCAL.search(head) is not None
    return _nifti(head)


def _nrrd(head: bytes) -> bool:
    end = _EMPTY_LINE.search(head)
    return end is not None and b"data" not in head[: end.start()].lower()


def _nifti(head: bytes) -> bool:
    """No header of a pair, nor one of MetaImage that goes on behind the head."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, _NIFTI_BYTES)
        except zlib.error:
            return False
        if len(head) < _NIFTI_BYTES:
            return False
    return head[344:347] != b"ni1" and head[4:7] != b"ni2" and b"NDims" not in head and b"DimSize" not in head
