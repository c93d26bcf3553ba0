"""Both objects of one answer, or a sentence that says why there are none."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any

from medrail.dicom_out.codes import ClassCodes
from medrail.dicom_out.origin import images_of
from medrail.errors import DataError, MedrailError
from medrail.read import Sources
from medrail.read.guard import quiet
from medrail.types import Prediction

_INSTALL = "pip install 'medrail[dicom-out]'"


@dataclass(frozen=True, eq=False)
class Objects:
    """The content of DICOM files.

    segmentation:
        Segmentation Storage; None for a classification.
    report:
        Comprehensive SR Storage, template TID 1500.
    """

    report: bytes
    segmentation: bytes | None = None

    def files(self) -> Iterator[tuple[str, bytes]]:
        """("seg", content) where there is one, and ("sr", content)."""
        if self.segmentation is not None:
            yield "seg", self.segmentation
        yield "sr", self.report


def installed() -> bool:
    """Whether highdicom is there."""
    return importlib.util.find_spec("highdicom") is not None


def objects(prediction: Prediction, sources: Sources, codes: Mapping[str, ClassCodes] | None = None) -> Objects:
    """The segmentation (where there is a mask) and the report of one answer.

    Parameters
    ----------
    prediction:
        With its mask, (1, D, H, W) on the raw grid.
    sources:
        Of the same image.
    codes:
        What classes are called; those without one get a private code.

    Raises
    ------
    DataError
        If highdicom is missing, the mask has not the sources' slices, or these lack what must be repeated.
    """
    if not installed():
        raise DataError("the package highdicom is not installed", remedy=f"Install it: {_INSTALL}")
    from medrail.dicom_out.report import report
    from medrail.dicom_out.segmentation import segmentation

    with _Named():
        images = images_of(sources, prediction.mask)
        made = None if prediction.mask is None else segmentation(prediction, images, codes or {})
        told = report(prediction, images, made, codes or {})
        return Objects(_file(told), None if made is None else _file(made))


def _file(dataset: Any) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


class _Named:
    """Lets nothing out but a ``MedrailError``: what highdicom raises, warns or logs may quote values of the header."""

    def __enter__(self) -> None:
        logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)
        self._quiet = quiet()
        self._quiet.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._quiet.__exit__(None, None, None)
        if isinstance(error, Exception) and not isinstance(error, (MedrailError, MemoryError)):
            if os.environ.get("MEDRAIL_DEBUG"):
                return
            raise DataError(
                f"highdicom does not take such a source ({type(error).__name__})",
                needed="a DICOM object whose header says what its kind must say",
                remedy="The other files hold the same answer.",
            ) from None
