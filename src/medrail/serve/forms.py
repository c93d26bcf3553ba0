"""The forms in which an answer can be had, and which of them a request asks for (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from medrail.serve.problems import Refusal

Form = Literal["application/json", "application/gzip", "image/png", "application/dicom"]
MaskParts = Literal["both", "file", "rle", "none"]

FORMS: Mapping[str, Form] = {
    "application/json": "application/json",
    "application/x-nifti": "application/gzip",
    "application/gzip": "application/gzip",
    "image/png": "image/png",
    "application/dicom": "application/dicom",
}
OF_CLASSIFICATION = ("application/json", "application/dicom")
_ANY = ("*/*", "application/*", "application/problem+json")


@dataclass(frozen=True)
class Wishes:
    """What a request wants besides the answer itself.

    media_type:
        A key of ``FORMS``; the answer's content type.
    preview:
        A PNG of the image with the mask.
    evidence, evidence_map:
        Where the network sees what it decided by: as a PNG, as numbers.
    mask:
        What of a mask stands in JSON: the file, the run lengths, both, or only its volumes.
    """

    media_type: str = "application/json"
    preview: bool = False
    evidence: bool = False
    evidence_map: bool = False
    mask: MaskParts = "both"

    @property
    def form(self) -> Form:
        return FORMS[self.media_type]


def negotiate(accept: str, task: str) -> str:
    """The media type to answer with: the one of the highest weight that exists for the task.

    Raises
    ------
    Refusal
        "not-acceptable".
    """
    available = list(FORMS) if task == "segmentation" else list(OF_CLASSIFICATION)
    asked = [entry for part in accept.lower().split(",") if (entry := _weighted(part))]
    for weight, media_type in sorted(asked or [(1.0, "*/*")], key=lambda entry: -entry[0]):
        if weight <= 0:
            break
        if media_type in available:
            return media_type
        if media_type in _ANY:
            return "application/json"
        if media_type == "image/*" and "image/png" in available:
            return "image/png"
    raise Refusal("not-acceptable", f"This model answers with {', '.join(available)}.")


def only_json(accept: str) -> None:
    """Raises Refusal ("not-acceptable") where a request does not take JSON."""
    if negotiate(accept, "classification") != "application/json":
        raise Refusal("not-acceptable", "This route answers with application/json alone.")


def _weighted(part: str) -> tuple[float, str] | None:
    media_type, *parameters = (piece.strip() for piece in part.split(";"))
    weight = next((entry[2:] for entry in parameters if entry.startswith("q=")), "1")
    try:
        return (float(weight), media_type) if media_type else None
    except ValueError:
        return 1.0, media_type
