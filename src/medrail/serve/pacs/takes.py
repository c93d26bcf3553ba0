"""Whether a model can take a series, by what the PACS says of it; its headers decide when it is read."""

from __future__ import annotations

from medrail.bundle import NetworkSpec, unit_fits

# PS3.3, C.7.3.1.1.1: what holds no image that is read as one.
_NO_IMAGES = frozenset(
    [
        *("SEG", "SR", "PR", "KO", "REG", "FID", "DOC", "AU", "ECG", "EEG", "EMG", "EOG", "EPS", "HD", "RESP", "STAIN"),
        *("RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "RTRAD", "PLAN", "RWV", "SMR", "ANN", "TEXTUREMAP", "M3D"),
        *("MODEL", "ASMT", "IOL", "KER", "LEN", "SRF", "VA", "OSS", "POS"),
    ]
)
_SLIDES = frozenset(["SM"])
_UNITS = {"CT": ("HU",), "PT": ("SUV",)}
_OTHER_UNITS = ("arbitrary", "uint8", "uint16")
# A file without units may be CT, and is taken for such a model; here it is known what it is.
_ONLY = {"HU": "CT", "SUV": "PT", "Bq/ml": "PT"}
_OF_UNIT = {
    "HU": "CT in Hounsfield units",
    "SUV": "PET in standardised uptake values",
    "arbitrary": "neither CT nor PET",
}


def why_not(spec: NetworkSpec, modality: str) -> str:
    """A sentence, or "" where the model may take series of this modality."""
    if modality in _NO_IMAGES:
        return f"{modality} holds no image."
    if spec.slide is not None or modality in _SLIDES:
        return "Whole slides are not answered here."
    if spec.needs_roi:
        return "The model needs a region of interest with each image."
    unit = spec.input_kind.unit
    fits = any(unit_fits(spec, one) for one in _UNITS.get(modality, _OTHER_UNITS))
    if not fits or modality != _ONLY.get(unit, modality):
        return f"The model was trained on {_OF_UNIT.get(unit, f'{unit} pictures')}."
    return ""


def why_not_so_many(spec: NetworkSpec, images: int | None, frames: int | None, most: int) -> str:
    """As ``why_not``, by the number of a series' objects, and of the frames of its only one (None: not said)."""
    if images is None:
        return ""
    if images == 0:
        return "The series is empty."
    if images > most:
        return f"It has {images:,} objects; at most {most:,} are pulled."
    if images == 1 and (frames or 1) == 1 and spec.input_kind.picture is False:
        return "The model was trained on volumes; this is one picture."
    if (images > 1 or (frames or 1) > 1) and spec.input_kind.picture is True:
        return "The model was trained on single pictures; this series has several."
    return ""
