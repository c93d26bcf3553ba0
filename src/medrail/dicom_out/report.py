"""An answer -> Comprehensive SR (PS3.3, A.35.3) by template TID 1500 (PS3.16): what was found, as codes and numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from medrail import __version__
from medrail.dicom_out.codes import SNOMED, ClassCodes, Code, codes_of, concept, private_code
from medrail.dicom_out.origin import Images
from medrail.dicom_out.segmentation import MAKER, common, version_of
from medrail.types import Prediction

_IMAGING = Code("363679005", SNOMED, "Imaging")
_FINDING = Code("121071", "DCM", "Finding")
_VOLUME = Code("118565006", SNOMED, "Volume")
_MILLILITRE = Code("mL", "UCUM", "milliliter")
_NO_UNIT = Code("1", "UCUM", "no units")
_YES, _NO = Code("373066001", SNOMED, "Yes"), Code("373067005", SNOMED, "No")
_POSSIBLE = private_code("Cannot be ruled out")
_NOTHING = private_code("No finding")
_UNLIKE = private_code("Unlike the training data")
_DISTANCE = private_code("Distance from the training data")


def report(prediction: Prediction, images: Images, made: Any, codes: Mapping[str, ClassCodes]) -> Any:
    """The data set: not verified, and never meant to be final.

    made:
        The segmentation of the same answer, which its volumes refer to; None for a classification.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes as known

    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=_uid(prediction.bundle_id),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=version_of(prediction.bundle_id),
        serial_number=version_of(prediction.bundle_id),
    )
    observer = hd.sr.ObserverContext(known.DCM.Device, device)
    groups = list(_regions(prediction, images, made, codes)) if made is not None else []
    groups.append(_whole(prediction, images, codes))
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=concept(_IMAGING),
        imaging_measurements=groups,
    )
    return hd.sr.ComprehensiveSR(
        evidence=[*images.datasets, *([made] if made is not None else [])],
        content=content,
        is_complete=True,
        is_final=False,
        is_verified=False,
        **common(images, prediction.bundle_id, 2),
    )


def _regions(prediction: Prediction, images: Images, made: Any, codes: Mapping[str, ClassCodes]) -> Iterator[Any]:
    """A group of measurements a segment (TID 1411), with its volume where the space is known."""
    import highdicom as hd

    assert prediction.mask is not None  # noqa: S101 - there is a segmentation
    counts = np.bincount(prediction.mask.voxels.ravel(), minlength=len(prediction.classes))
    series = hd.sr.SourceSeriesForSegmentation(images.first.SeriesInstanceUID)
    voxel_ml = None
    if images.geometry is not None:
        voxel_ml = abs(float(np.linalg.det(images.geometry.affine_ras_mm[:3, :3]))) / 1000
    for number, name in enumerate(prediction.classes[1:], 1):
        of_class = codes_of(name, codes)
        volume = None if voxel_ml is None else _number(_VOLUME, int(counts[number]) * voxel_ml, _MILLILITRE)
        yield hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(made.SegmentSequence[number - 1].TrackingUID, name),
            referenced_segment=hd.sr.ReferencedSegment(
                made.SOPClassUID, made.SOPInstanceUID, number, source_series=series
            ),
            finding_type=concept(of_class.type),
            finding_category=concept(of_class.category),
            algorithm_id=_algorithm(prediction),
            measurements=None if volume is None else [volume],
        )


def _whole(prediction: Prediction, images: Images, codes: Mapping[str, ClassCodes]) -> Any:
    """One group (TID 1501) of what is said of the whole image."""
    import highdicom as hd

    numbers = [
        _number(private_code(f"Probability of {name}"), value, _NO_UNIT)
        for name, value in prediction.probabilities.items()
    ]
    if prediction.ood_score is not None:
        numbers.append(_number(_DISTANCE, prediction.ood_score, _NO_UNIT))
    said = [
        hd.sr.QualitativeEvaluation(concept(name), concept(value)) for name, value in _evaluations(prediction, codes)
    ]
    source = hd.sr.SourceImageForMeasurementGroup
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "image"),
        algorithm_id=_algorithm(prediction),
        measurements=numbers or None,
        qualitative_evaluations=said or None,
        source_images=[source(one.SOPClassUID, one.SOPInstanceUID, images.frames) for one in images.datasets],
    )


def _evaluations(prediction: Prediction, codes: Mapping[str, ClassCodes]) -> Iterator[tuple[Code, Code]]:
    """Questions and answers: the class or the findings, what cannot be ruled out, whether it may be relied on."""
    if prediction.findings is not None:
        for name in prediction.findings:
            yield _FINDING, codes_of(name, codes).type
        if not prediction.findings:
            yield _FINDING, _NOTHING
    elif prediction.class_name:
        yield _FINDING, codes_of(prediction.class_name, codes).type
    for name in prediction.conformal_set or ():
        yield _POSSIBLE, codes_of(name, codes).type
    if prediction.unlike_training is not None:
        yield _UNLIKE, _YES if prediction.unlike_training else _NO


def _number(name: Code, value: float, unit: Code) -> Any:
    import highdicom as hd

    return hd.sr.Measurement(concept(name), float(f"{value:.6g}"), concept(unit))


def _algorithm(prediction: Prediction) -> Any:
    import highdicom as hd

    return hd.sr.AlgorithmIdentification(
        name=MAKER, version=prediction.bundle_id, parameters=[f"{MAKER} {__version__}"], manufacturer=MAKER
    )


def _uid(text: str) -> str:
    """A UID made of a text, the same every time (PS3.5, B.2: a UUID as a whole number)."""
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    version = (digest & ~(0xF << 76) & ~(0x3 << 62)) | (8 << 76) | (2 << 62)  # a UUID of version 8, RFC 9562
    return f"2.25.{version}"
