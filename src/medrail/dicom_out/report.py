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

_IMAGING = Code("363679005", SNOMED, "Imaging procedure")  # PS3.16, CID 100
_VOLUME = Code("118565006", SNOMED, "Volume")
_MILLILITRE = Code("mL", "UCUM", "milliliter")
_NO_UNIT = Code("1", "UCUM", "no units")
_YES, _NO = Code("373066001", SNOMED, "Yes"), Code("373067005", SNOMED, "No")
_PROBABILITY = private_code("Probability")
_DECIDED = private_code("Decided for")
_POSSIBLE = private_code("Cannot be ruled out")
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
    groups = [*_classes(prediction, codes), _whole(prediction, images)]
    if made is not None:
        groups = [*_regions(prediction, images, made, codes), *groups]
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


def _classes(prediction: Prediction, codes: Mapping[str, ClassCodes]) -> Iterator[Any]:
    """A group a class (TID 1501): its probability, whether it was decided for, whether it can be ruled out."""
    import highdicom as hd

    decided = (prediction.class_name,) if prediction.findings is None else prediction.findings
    for name, value in prediction.probabilities.items():
        of_class = codes_of(name, codes)
        said = [(_DECIDED, name in decided)]
        if prediction.conformal_set is not None:
            said.append((_POSSIBLE, name in prediction.conformal_set))
        yield hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), name),
            finding_type=concept(of_class.type),
            finding_category=concept(of_class.category),
            algorithm_id=_algorithm(prediction),
            measurements=[_number(_PROBABILITY, value, _NO_UNIT)],
            qualitative_evaluations=[_answered(question, yes) for question, yes in said],
        )


def _whole(prediction: Prediction, images: Images) -> Any:
    """A group of the image itself: what it was made of, and how like the training data it is."""
    import highdicom as hd

    source, score, unlike = hd.sr.SourceImageForMeasurementGroup, prediction.ood_score, prediction.unlike_training
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID(), "image"),
        algorithm_id=_algorithm(prediction),
        measurements=None if score is None else [_number(_DISTANCE, score, _NO_UNIT)],
        qualitative_evaluations=None if unlike is None else [_answered(_UNLIKE, unlike)],
        source_images=[source(one.SOPClassUID, one.SOPInstanceUID, images.frames) for one in images.datasets],
    )


def _answered(question: Code, yes: bool) -> Any:
    import highdicom as hd

    return hd.sr.QualitativeEvaluation(concept(question), concept(_YES if yes else _NO))


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
