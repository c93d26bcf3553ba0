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


class _Plain(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class _Answer(_Plain):
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


class FloatMap(BaseModel):
    """Numbers on a grid."""

    shape: tuple[int, int, int]
    axes: tuple[Literal["D"], Literal["H"], Literal["W"]] = ("D", "H", "W")
    encoding: Literal["float32-le;zlib;base64"] = Field(
        "float32-le;zlib;base64", description="little-endian float32 in C order, deflated by zlib, base64"
    )
    data: str


class EvidenceAnswer(_Plain):
    """Where the network sees what speaks for the class that was decided for; or why nothing can be said of that."""

    exact: bool = Field(
        description="true: the answer itself, taken apart by place; false: the network has no such evidence, and no"
        " approximation is given in its stead"
    )
    reason: str | None = Field(None, description="why there is none; null where there is")
    class_name: str | None = Field(
        None, description="the class that is spoken for; of several labels the most probable one"
    )
    method: str | None = Field(None, description="how it was made, in words")
    overlay_png: str | None = Field(
        None, description="with `evidence=true`: a PNG, orange where it speaks for the class, blue against it; base64"
    )
    map: FloatMap | None = Field(None, description="with `evidence_map=true`: in logits, on the grid of the file")


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
    evidence: EvidenceAnswer | None = Field(None, description="null where it was not asked for")


class MaskClass(BaseModel):
    """One class of a mask."""

    index: int = Field(description="its value in the mask")
    name: str
    colour: str | None = Field(description="its colour in the preview, as #rrggbb; null for the background")
    voxels: int
    volume_ml: float | None = Field(description="null where the image has no physical space")


class RunLengths(BaseModel):
    """A mask as runs of equal values. In Python: `numpy.repeat(values, lengths).reshape(shape)`."""

    shape: tuple[int, int, int]
    axes: tuple[Literal["D"], Literal["H"], Literal["W"]] = ("D", "H", "W")
    order: Literal["C"] = Field("C", description="the last axis runs fastest")
    values: list[int] = Field(description="the class of each run")
    lengths: list[int] = Field(description="how many voxels each run has; they sum to the product of shape")


class MaskAnswer(BaseModel):
    """A mask on the grid of the file that was sent."""

    shape: tuple[int, int, int]
    axes: tuple[Literal["D"], Literal["H"], Literal["W"]] = ("D", "H", "W")
    spacing_mm: tuple[float, float, float] | None = Field(description="along the axes; null without physical space")
    classes: list[MaskClass]
    encoding: Literal["nifti.gz;base64", "png;base64"] | None = Field(description="of data; null without it")
    data: str | None = Field(
        description="a gzipped NIfTI file, or a PNG whose values are the class indices; base64; null with `mask=rle`"
        " and `mask=none`"
    )
    rle: RunLengths | None = Field(
        None,
        description="the same mask as run lengths; null with `mask=file` and `mask=none`, and where there are more than"
        " a million runs and `mask=rle` did not ask for them",
    )


class SegmentationAnswer(_Answer):
    """A class for every voxel."""

    task: Literal["segmentation"]
    mask: MaskAnswer


class ClassificationDifference(BaseModel):
    """What the second answer says otherwise than the first."""

    kind: Literal["classification"] = "classification"
    same_decision: bool = Field(description="whether both decide for the same class, or for the same findings")
    probabilities: dict[str, float] = Field(description="class name -> the second's probability minus the first's")
    largest: Fraction = Field(description="the largest of these differences, without its sign")


class MaskClassDifference(BaseModel):
    """One class in both masks."""

    name: str
    voxels: tuple[int, int] = Field(description="of the first mask and of the second")
    volume_ml: tuple[float, float] | None = Field(description="likewise; null without physical space")
    volume_difference_ml: float | None = Field(description="the second minus the first")
    dice: Fraction | None = Field(description="overlap, 2 |A and B| / (|A| + |B|); null where neither has the class")


class MaskDifference(BaseModel):
    """Where both masks differ."""

    kind: Literal["segmentation"] = "segmentation"
    voxels: int = Field(description="in which they differ")
    volume_ml: float | None = Field(description="of these voxels; null without physical space")
    share: Fraction = Field(description="of all voxels")
    classes: list[MaskClassDifference]
    map: MaskAnswer = Field(
        description="a mask of the differences: 0 same, 1 only the first has a class there, 2 only the second,"
        " 3 both have one, not the same"
    )


class CompareAnswer(_Plain):
    """Two models' answers to one input, and what differs."""

    first: ClassificationAnswer | SegmentationAnswer
    second: ClassificationAnswer | SegmentationAnswer
    difference: ClassificationDifference | MaskDifference
    inference_time_ms: float = Field(description="of both")
    timings_ms: Timings = Field(description="of both together; what is done once for both counts once")
    request_id: str
    disclaimer: str = DISCLAIMER


class ProblemDocument(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    type: str = Field(description="a URN that names the kind of problem")
    title: str
    status: int
    detail: str = Field(description="what was found, and what was needed")
    remedy: str = Field(description="what the sender can do")
    request_id: str = Field(description="quote it to whoever runs the service")


class BatchItem(BaseModel):
    """What became of one file of several: an answer or a problem."""

    index: int = Field(ge=0, description="its place in the form, from 0")
    status: int = Field(description="the HTTP status that it would have had alone")
    answer: ClassificationAnswer | SegmentationAnswer | None = None
    problem: ProblemDocument | None = None


class BatchAnswer(BaseModel):
    """One item a file, in the order of the form."""

    items: list[BatchItem]
    answered: int
    refused: int
    request_id: str
    disclaimer: str = DISCLAIMER


class JobLinks(BaseModel):
    """Where to go on."""

    self: str = Field(description="GET: how far it is; DELETE: cancel it, or drop its result")
    result: str = Field(description="GET: the answer, in the form that was asked for")


class JobAnswer(_Plain):
    """Work that goes on after the answer."""

    job_id: str
    status: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: Fraction
    model_name: str
    model_version: str
    created: str = Field(description="when it was accepted, UTC, ISO 8601")
    links: JobLinks
    problem: ProblemDocument | None = Field(None, description="of a failed job: why")
    request_id: str = Field(description="of the request that it was made by")


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
    has_evidence: bool = Field(description="whether `evidence=true` is answered with an exact map")
    engine: str = Field(description="what runs it here, and in which precision: as `openvino bf16`")
    metrics: dict[str, dict[str, Any]] = Field(description="metric -> value, interval, n and method on the test split")


class ModelList(BaseModel):
    """The served models, and what a request may be."""

    models: list[ModelCard]
    formats: list[str] = Field(description="the kinds of file that are read, told by their content")
    max_upload_bytes: int
    disclaimer: str = DISCLAIMER


class ModelVersions(BaseModel):
    """All served versions of one model; the first is the one that answers where none is named."""

    name: str
    versions: list[ModelCard]
    disclaimer: str = DISCLAIMER


class Health(BaseModel):
    """Whether the service lives, or is ready."""

    status: Literal["ok", "ready"]
