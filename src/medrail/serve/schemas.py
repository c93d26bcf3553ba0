"""What the service answers, as pydantic models: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DISCLAIMER = "Not a medical device. For research and teaching only; not for diagnosis or treatment."
Fraction = Annotated[float, Field(ge=0, le=1)]


class Timings(BaseModel):
    """Where the time of one request went, in milliseconds."""

    upload: float = Field(description="receiving the request, ms")
    queue: float = Field(description="waiting for a worker and for the engine, ms")
    decode: float = Field(description="from the file's bytes to voxels, ms")
    prepare: float = Field(description="preprocessing, ms")
    model: float = Field(description="the network, ms")
    post: float = Field(description="from the network's output to this answer, ms")
    preview: float = Field(description="drawing the preview where it was asked for, ms")


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: str
    bundle_id: str = Field(description="name, version and the first digits of the network's SHA-256")
    inference_time_ms: float = Field(description="decode + prepare + model + post, ms; not upload, queue, preview")
    timings_ms: Timings
    unlike_training: bool | None = Field(
        None, description="whether the image is too far from those the model learned from; null: it does not know"
    )
    ood_score: float | None = Field(None, description="how far: about 1 for images like those; null as above")
    preview_png: str | None = Field(None, description="with `preview=true`: a PNG to look at, base64")
    request_id: str
    disclaimer: str = DISCLAIMER


class ClassificationAnswer(_Answer):
    """The class decided for, or of several labels those that were found; and the probability of every class."""

    task: Literal["classification"]
    class_name: str | None = Field(
        description="by the model's threshold where it has one, else the most probable class; null where an image may"
        " have several of the classes: see findings"
    )
    confidence: Fraction | None = Field(description="the probability of class_name")
    probabilities: dict[str, Fraction] = Field(
        description="class name -> probability; they sum to 1, except where an image may have several of the classes"
    )
    conformal_set: list[str] | None = Field(
        None, description="the classes that cannot be ruled out, maybe none; null where the model has no such sets"
    )
    abstain: bool = Field(
        False, description="whether to leave it to a person: class_name is not all of conformal_set, or unlike training"
    )
    findings: list[str] | None = Field(
        None, description="the classes at or above their thresholds, perhaps none; null where an image has one class"
    )
    thresholds: dict[str, Fraction] | None = Field(
        None, description="class name -> the probability from which it is a finding; null where an image has one class"
    )


class MaskClass(BaseModel):
    """One class of a mask."""

    index: int = Field(description="its value in the mask")
    name: str
    colour: str | None = Field(description="its colour in the preview, as #rrggbb; null for the background")
    voxels: int
    volume_ml: float | None = Field(description="null where the image has no physical space")


class MaskAnswer(BaseModel):
    """A mask on the grid of the file that was sent."""

    shape: tuple[int, int, int]
    axes: tuple[Literal["D"], Literal["H"], Literal["W"]] = ("D", "H", "W")
    spacing_mm: tuple[float, float, float] | None = Field(description="along the axes; null without physical space")
    classes: list[MaskClass]
    encoding: Literal["nifti.gz;base64", "png;base64"]
    data: str = Field(description="a gzipped NIfTI file, or a PNG whose values are the class indices; base64")


class SegmentationAnswer(_Answer):
    """A class for every voxel."""

    task: Literal["segmentation"]
    mask: MaskAnswer


class ModelCard(BaseModel):
    """What is known of one served model."""

    name: str
    version: str
    bundle_id: str
    default: bool = Field(description="whether requests that name no model are answered by it")
    task: Literal["classification", "segmentation"]
    classes: list[str]
    multi_label: bool = Field(description="whether an image may have none, one or several of the classes")
    dims: Literal[2, 3]
    input: str = Field(description="what the training images were, in words")
    needs_roi: bool = Field(description="whether a mask of the region of interest must come with each image")
    engine: str = Field(description="what runs it here, and in which precision: as `openvino bf16`")
    metrics: dict[str, dict[str, Any]] = Field(description="metric -> value, interval, n and method on the test split")


class RefusedBundle(BaseModel):
    """A bundle in the models folder that is not served."""

    name: str
    version: str
    reason: str


class ModelList(BaseModel):
    """The served models, and what a request may be."""

    models: list[ModelCard]
    refused: list[RefusedBundle] = Field([], description="bundles in the models folder that are not served, and why")
    formats: list[str] = Field(description="the kinds of file that are read, told by their content")
    max_upload_bytes: int
    disclaimer: str = DISCLAIMER


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "ready"]


class ProblemDocument(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str = Field(description="a URN that names the kind of problem")
    title: str
    status: int
    detail: str = Field(description="what was found, and what was needed")
    remedy: str = Field(description="what the sender can do")
    request_id: str = Field(description="quote it to whoever runs the service")
