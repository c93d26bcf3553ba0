"""Bundle + files -> answers as files: a class table, masks on the raw grid, overlays; of DICOM also SEG and SR.

``find_inputs`` says what of files and folders is one image, ``predict_each`` gives one answer after another and keeps
none, ``predict_files`` keeps their small parts. ``inputs`` knows what is one image and by which content, ``files``
writes the files of one, ``table`` the rows, ``journal`` remembers what is done, so that a second call goes on.
"""

from medrail.predict.answer import Answer, unlike_sentence, volumes_ml
from medrail.predict.files import Wanted
from medrail.predict.inputs import Input, find_inputs
from medrail.predict.run import DISCLAIMER, predict_each, predict_files

__all__ = [
    "DISCLAIMER",
    "Answer",
    "Input",
    "Wanted",
    "find_inputs",
    "predict_each",
    "predict_files",
    "unlike_sentence",
    "volumes_ml",
]
