"""The files of one answer: mask, overlays, and of DICOM what a PACS takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medrail import dicom_out
from medrail.bundle import Predictor, overlay_png
from medrail.dicom_out import ClassCodes
from medrail.errors import BundleError, GeometryError, MedrailError
from medrail.predict.answer import Answer, said, volumes_ml
from medrail.predict.inputs import Input
from medrail.predict_slide import predict_slide
from medrail.read import Sources, is_slide, read, read_mask, sources_of, write_nifti
from medrail.types import Image, Prediction, Progress, ReadOptions
from medrail.wording import PREDICT, in_words

_LOST = ("truncated_pixel_data", "undecodable_pixel_data")


@dataclass(frozen=True)
class Wanted:
    """What is asked for besides the answer itself.

    roi:
        A region of interest, for models that crop to one.
    overlays:
        Pictures for a person.
    dicom:
        Of DICOM inputs, DICOM-SEG and a structured report.
    codes:
        What classes are called in these; those without a code have a private one.
    """

    roi: Path | None = None
    overlays: bool = True
    dicom: bool = True
    codes: Mapping[str, ClassCodes] = field(default_factory=dict)


def write_answer(
    predictor: Predictor, one: Input, name: str, out: Path, wanted: Wanted, progress: Progress | None = None
) -> Answer:
    """Predict one input and write its files into ``out``; of the answer no voxels are kept.

    Raises
    ------
    MedrailError
        If it cannot be read, is of another kind than the network takes, or the answer is no number.
    """
    if predictor.spec.slide and not one.item and is_slide(one.path):
        slide = predict_slide(predictor, one.path, out, name, overlays=wanted.overlays, progress=progress)
        return Answer(one, name, slide.prediction, slide.files, areas_mm2=slide.areas_mm2)
    image = read(one.path, one.item, predictor.spec.read_options)
    region = read_mask(wanted.roi) if wanted.roi else None
    prediction = predictor(image, region, evidence=wanted.overlays)
    numbers = (*prediction.probabilities.values(), prediction.ood_score or 0.0)
    if not all(map(math.isfinite, numbers)):
        raise BundleError(
            "the network's answer has values that are not finite", remedy="The model is broken: export it again."
        )
    files: list[Path] = []
    if prediction.mask is not None:
        files.append(out / f"{name}_mask.nii.gz")
        write_nifti(prediction.mask, files[-1])
    if wanted.overlays:
        files += _overlays(image, prediction, out / name)
    notes: list[str] = []
    if wanted.dicom:
        origin = _Origin(one, image, predictor.spec.read_options)
        _write_dicom(origin, prediction, out / name, wanted.codes, files, notes)
    volumes = volumes_ml(prediction) if prediction.mask is not None else {}
    small = replace(prediction, mask=None, evidence=None)
    return Answer(one, name, small, tuple(files), notes=tuple(notes), volumes_ml=volumes)


def _overlays(image: Image, prediction: Prediction, stem: Path) -> list[Path]:
    """``NAME.png``; where a classifier has exact maps also ``NAME_evidence.png``, for the class decided for."""
    files = [stem.with_name(f"{stem.name}.png")]
    caption = "" if prediction.mask is not None else said(prediction)
    files[-1].write_bytes(overlay_png(image, prediction.mask, caption=caption))
    if prediction.evidence:
        files.append(stem.with_name(f"{stem.name}_evidence.png"))
        caption = f"evidence (exact): orange for {prediction.evidence.class_name}, blue against it"
        files[-1].write_bytes(overlay_png(image, heat=prediction.evidence.values, caption=caption))
    return files


@dataclass(frozen=True)
class _Origin:
    """An image that was read, and where from."""

    input: Input
    image: Image
    options: ReadOptions

    def sources(self) -> Sources | None:
        """``sources_of``; errors as there, and if slices were lost while decoding: others stand in their place then."""
        sources = sources_of(self.input.path, self.input.item, self.options)
        lost = [defect for defect in self.image.defects if defect.name in _LOST]
        if sources is not None and lost:
            raise GeometryError(f"{lost[0].name}: {lost[0].evidence}", needed="all slices")
        return sources


def _write_dicom(
    origin: _Origin,
    prediction: Prediction,
    stem: Path,
    codes: Mapping[str, ClassCodes],
    files: list[Path],
    notes: list[str],
) -> None:
    """``NAME_seg.dcm`` and ``NAME_sr.dcm``; why not, where they cannot be: the answer itself does not depend on it."""
    try:
        sources = origin.sources()
        if sources is None:
            return
        made = dicom_out.objects(prediction, sources, codes)
    except MedrailError as error:
        where = f"{error.where}: "
        text = in_words(str(error), PREDICT)
        notes.append(f"no DICOM-SEG or report: {text.removeprefix(where)}")
        return
    for ending, content in made.files():
        files.append(stem.with_name(f"{stem.name}_{ending}.dcm"))
        files[-1].write_bytes(content)
