"""What the routes of the PACS take and answer, as pydantic models: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medrail.serve.pacs.attributes import LONGEST_UID, UID
from medrail.serve.schemas import DISCLAIMER, Fraction

UidText = Annotated[str, Field(pattern=rf"^{UID}$", max_length=LONGEST_UID, examples=["1.2.840.113619.2.1"])]
Date = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
# LO and SH without what QIDO-RS takes for a wildcard or a list: it finds one patient, or none.
_Exactly = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^*?\\,\x00-\x1f\x7f]+$")]


class PacsStatus(BaseModel):
    """Whether the PACS answers now."""

    answers: bool
    problem: str | None = Field(description="a kind of problem, as pacs-denied; null while it answers")
    detail: str | None


class PacsStudy(BaseModel):
    """One study, without whose it is."""

    study_uid: str
    date: Date | None = Field(description="of the study")
    modalities: list[str]
    series: int | None
    images: int | None
    takes: bool = Field(description="whether one of its modalities is one that the model may take")


class PacsStudyList(BaseModel):
    """Studies in the order in which the PACS gives them."""

    studies: list[PacsStudy]
    offset: int
    more: bool = Field(description="whether there may be more: ask again with a larger offset")
    disclaimer: str = DISCLAIMER


class PacsSeries(BaseModel):
    """One series, without whose it is."""

    series_uid: str
    number: int | None
    modality: str
    body_part: str | None
    images: int | None = Field(description="objects of the series")
    description: str | None = Field(description="null unless serve.pacs.descriptions: it may hold a patient's name")
    takes: bool = Field(description="whether the model may take it; its headers decide when it is read")
    why_not: str | None


class PacsSeriesList(BaseModel):
    """The series of one study."""

    study_uid: str
    series: list[PacsSeries]
    more: bool = Field(description="whether there are more than are listed")
    disclaimer: str = DISCLAIMER


class PacsSearch(BaseModel):
    """Whose study it is. In the body, so that it gets into no address, and so into no log of a proxy."""

    model_config = ConfigDict(extra="forbid")

    accession_number: _Exactly | None = None
    patient_id: _Exactly | None = None
    modality: Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$", examples=["CT"])] | None = None


class PacsRequest(BaseModel):
    """One series to be answered."""

    model_config = ConfigDict(extra="forbid")

    study_uid: UidText
    series_uid: UidText
    model: Annotated[str, Field(max_length=200)] = Field("", description="NAME or NAME/VERSION; empty: the default")
    item: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        "", description="which image of the series, where it holds several: a name that the refusal says"
    )
    store: bool = Field(True, description="store the answer in the study; false: only answer")


class StoredObject(BaseModel):
    """One object that was made, and whether the PACS has it."""

    kind: Literal["seg", "sr"] = Field(description="a segmentation, or a structured report")
    sop_instance_uid: str
    series_uid: str
    stored: bool
    reason: str | None = Field(description="why not, as far as the PACS says")
    file: str = Field(description="where it can be had while the job is kept")


class PacsAnswer(BaseModel):
    """What the model answers about a series, and what became of it. The mask itself is in the segmentation."""

    model_config = ConfigDict(protected_namespaces=())

    study_uid: str
    series_uid: str
    images: int = Field(description="objects that were pulled")
    input_sha256: str = Field(description="over the SHA-256 of the objects, in the order of these")
    model_name: str
    model_version: str
    bundle_id: str
    task: Literal["classification", "segmentation"]
    class_name: str | None
    confidence: Fraction | None
    probabilities: dict[str, Fraction] = Field(description="class name -> probability; {} of a segmentation")
    findings: list[str] | None
    conformal_set: list[str] | None
    abstain: bool
    unlike_training: bool | None
    ood_score: float | None
    volumes_ml: dict[str, float] = Field(description="class name -> millilitres; {} of a classification")
    timings_ms: dict[str, float]
    objects: list[StoredObject]
    stored: bool = Field(description="whether the PACS has the objects")
    note: str | None = Field(description="why the answer is not, or not all, in the PACS; null where it is")
    disclaimer: str = DISCLAIMER
