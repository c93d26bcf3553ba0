"""A mask -> Segmentation Storage (PS3.3, A.51): a binary frame for each class and slice, on the source's own frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medrail import __version__
from medrail.bundle.overlay import COLOURS
from medrail.dicom_out.codes import (
    PRIVATE,
    ClassCodes,
    codes_of,
    concept,
    meaning,
)
from medrail.dicom_out.origin import Images
from medrail.types import Prediction

MAKER = "medrail"
DISCLAIMER = "Not a medical device: for research and education only."
_UTF8 = "ISO_IR 192"  # PS3.3, C.12.1.1.2: classes may have names in any script


def segmentation(prediction: Prediction, images: Images, codes: Mapping[str, ClassCodes]) -> Any:
    """The data set: a segment a class but the background, in the order of the classes; empty frames are left out.

    Where there is no class at all, all frames are there and empty. Segment numbers are the mask's class numbers.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes as known

    assert prediction.mask is not None  # noqa: S101 - who calls looks first
    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER,
        family=known.DCM.ArtificialIntelligence,
        version=version_of(prediction.bundle_id),
        source=MAKER,
        parameters={"bundle_id": prediction.bundle_id},
    )
    segments = []
    for number, name in enumerate(prediction.classes[1:], 1):
        of_class = codes_of(name, codes)
        segments.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=meaning(name),
                segmented_property_category=concept(of_class.category),
                segmented_property_type=concept(of_class.type),
                algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=algorithm,
                tracking_uid=hd.UID(),
                tracking_id=meaning(name),
                display_color=hd.color.CIELabColor.from_rgb(*COLOURS[(number - 1) % len(COLOURS)]),
            )
        )
    made = hd.seg.Segmentation(
        source_images=images.datasets,
        pixel_array=prediction.mask.voxels[0],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        **common(images, prediction.bundle_id, 1),
        device_serial_number=version_of(prediction.bundle_id),
        content_label="MEDRAIL",
        content_description=DISCLAIMER,
        content_creator_name=MAKER,
    )
    if images.frames is not None:
        _number_frames(made, images.frames)
    for group in made.SharedFunctionalGroupsSequence:
        if "PixelMeasuresSequence" in group and not group.PixelMeasuresSequence:
            del group.PixelMeasuresSequence
    return made


def common(images: Images, bundle_id: str, which: int) -> dict[str, Any]:
    """What both objects say of themselves: the ``which``-th new series of the study, made by medrail."""
    import highdicom as hd
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return {
        "series_instance_uid": hd.UID(),
        "series_number": images.series_number(which),
        "series_description": meaning(f"{MAKER} {bundle_id}"),
        "sop_instance_uid": hd.UID(),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": MAKER,
        "software_versions": __version__,
        "specific_character_set": _UTF8,
        "coding_schemes": [CodingSchemeIdentificationItem(PRIVATE, "names of a network's classes", __version__)],
    }


def version_of(bundle_id: str) -> str:
    """A bundle's id in at most 64 characters (LO): of a longer one the end, which tells one model from another."""
    return bundle_id[-64:]


def _number_frames(made: Any, frames: list[int]) -> None:
    """highdicom was given some frames of a file, and counted these; frames of several segments share their items."""
    named: set[int] = set()
    for group in made.PerFrameFunctionalGroupsSequence:
        for derivation in group.DerivationImageSequence:
            for source in derivation.SourceImageSequence:
                if id(source) not in named:
                    named.add(id(source))
                    source.ReferencedFrameNumber = frames[int(source.get("ReferencedFrameNumber") or 1) - 1]
