"""Files that mean harm, or are just broken: makers, each with the answers that are right for it.

``CORPUS`` has one entry a file; nothing lies on disk, all of it is made in memory when it is asked for.
"""

from hostile import archives, dicoms, disguises, jpegs, metaimages, niftis, nrrds, pngs, shared, tiffs
from hostile.forms import FORMS, Form
from hostile.shared import CORPUS, Hostile

__all__ = ["CORPUS", "FORMS", "Form", "Hostile"]

PARTS = (archives, dicoms, disguises, jpegs, metaimages, niftis, nrrds, pngs, shared, tiffs)
