"""The answer as a DICOM object of the image's own study: a segmentation, or of a class a structured report."""

from __future__ import annotations

from medrail import dicom_out
from medrail.errors import MedrailError
from medrail.read import sources_of
from medrail.serve.decode import Decoded
from medrail.serve.problems import Refusal, refusal_of
from medrail.types import Prediction, ReadOptions

_LOST = ("truncated_pixel_data", "undecodable_pixel_data")
_OTHERS = "Ask for application/json, or of a mask for application/x-nifti."


def must_be_dicom(decoded: Decoded, options: ReadOptions) -> None:
    """Refuse what no DICOM object can be made for, before the network works.

    Raises
    ------
    Refusal
        "not-acceptable": the image is no DICOM, lost slices, or the service lacks the package.
    """
    if not dicom_out.installed():
        raise Refusal("not-acceptable", "This service writes no DICOM: it lacks the extra `dicom-out`.", _OTHERS)
    lost = next((defect.name for defect in decoded.image.defects if defect.name in _LOST), "")
    if lost:
        raise Refusal("not-acceptable", f"Slices of the image could not be read ({lost}).", _OTHERS)
    try:
        sources = sources_of(decoded.place, "", options)
    except MedrailError as error:
        raise _because(error, decoded) from None
    if sources is None:
        raise Refusal("not-acceptable", "A DICOM answer refers to the DICOM that was sent, and this is none.", _OTHERS)


def as_dicom(prediction: Prediction, decoded: Decoded, options: ReadOptions) -> tuple[bytes, str]:
    """The object's file and what to call it: a segmentation of a mask, a structured report of a class.

    Raises
    ------
    Refusal
        "not-acceptable" where the source lacks what such an object repeats of it.
    """
    try:
        sources = sources_of(decoded.place, "", options)
        assert sources is not None  # noqa: S101 - ``must_be_dicom`` looked
        made = dicom_out.objects(prediction, sources)
    except MedrailError as error:
        raise _because(error, decoded) from None
    if made.segmentation is not None:
        return made.segmentation, "segmentation.dcm"
    return made.report, "report.dcm"


def _because(error: MedrailError, decoded: Decoded) -> Refusal:
    detail = refusal_of(error, decoded.place.parent).detail
    return Refusal("not-acceptable", detail or "No DICOM object can be made of this source.", _OTHERS)
