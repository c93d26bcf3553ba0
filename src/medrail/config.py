"""medrail.yaml: one frozen model a stage. YAML 1.2 in; every mistake is reported at once, with a suggestion.

``load(path, sets)`` reads the file, applies ``--set a.b=c`` overrides, and returns a ``Config`` or raises one
``ConfigError`` that lists all problems. Configuration is data: no import strings, no expressions.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medrail.errors import ConfigError, Problem
from medrail.types import FourD, OnDefect, ReadOptions, VoiLut

Task = Literal["classification", "segmentation"]
DataKind = Literal["class_folders", "csv", "pairs", "dicom_folders", "medmnist", "slides"]
ModelName = Literal[
    "tiny_cnn",
    "resnet18",
    "resnet50",
    "densenet121",
    "efficientnet_b0",
    "vit",
    "unet",
    "segresnet",
    "dynunet",
    "resenc_unet",
]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]

# Steps after which a resize gives what it would have given before them; a JPEG has no directions for orient to turn.
_PIXEL_BY_PIXEL = ("orient", "grey_to_rgb", "rgb_to_grey")

StepCheck = Callable[[Sequence[Mapping[str, Any]]], list[Problem]]


class _Stage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SlideConfig(_Stage):
    """data.kind: slides. How a whole slide is cut into tiles, each of which is a case."""

    um_per_px: Positive = Field(0.5, description="physical resolution at which tiles are read, micrometres a pixel")
    tile_px: Annotated[int, Field(ge=32, le=4096)] = Field(256, description="side of a tile in pixels at um_per_px")
    overlap_px: Annotated[int, Field(ge=0)] = Field(0, description="shared by neighbouring tiles")
    min_tissue: Annotated[float, Field(ge=0, le=1)] = Field(
        0.25, description="share of a tile that must be tissue; 0 keeps the background too"
    )
    scan_um_per_px: Annotated[float, Field(ge=0, le=20)] = Field(
        0.0, description="um a pixel of the finest level, for slides whose files do not say it; 0: those are refused"
    )

    @model_validator(mode="after")
    def _tiles_advance(self) -> SlideConfig:
        if self.overlap_px >= self.tile_px:
            raise ValueError(f"overlap_px {self.overlap_px} leaves nothing of tiles of {self.tile_px} px to go on by")
        return self


class DataConfig(_Stage):
    """Where the raw images are and how a case is told from them."""

    kind: DataKind = Field(description="how the data is laid out")
    path: str = Field(description="folder or file, absolute or relative to this file")
    pattern: str = Field(
        "", description="glob of the images below path; csv: where images that are only named, without folder, lie"
    )
    mask_path: str = Field("", description="pairs: folder of the masks, relative to path; empty: beside the images")
    mask_suffix: str = Field("", description="pairs: what a mask's name has in addition to its image's, as _mask")
    labels: str = Field("", description="dicom_folders: CSV with the columns patient and label or mask")
    patient_pattern: str = Field(
        "", description="regular expression searched in the path below `path`; its first group is the patient"
    )
    centre_pattern: str = Field(
        "", description="regular expression searched in the path below `path`; its first group is the centre"
    )
    classes: tuple[str, ...] = Field(
        (), description="class names in the order of the network's outputs; segmentation: the first is the background"
    )
    mask_values: tuple[int, ...] = Field(
        (), description="segmentation: the mask's value for each class, in order; empty: 0, 1, 2, ..."
    )
    foreground_nonzero: bool = Field(
        False, description="segmentation with two classes: every value above 0 is the second"
    )
    on_defect: OnDefect = Field(
        "refuse",
        description="DICOM series with missing slices, gantry tilt, ...: refuse; resample onto an even grid; or accept"
        " as they are",
    )
    four_d: FourD = Field("separate", description="time points, echoes, b-values: separate volumes, or channels of one")
    voi_lut: VoiLut = Field("ignore", description="apply: X-ray pictures as their header would have them displayed")
    jpeg: Literal["reduced", "full"] = Field(
        "reduced",
        description="reduced: classification whose first step that looks at pixels is a `resize` with antialias decodes"
        " JPEGs at 1/2, 1/4 or 1/8 of their size, as long as twice the wanted size is left, in the service too; full:"
        " never",
    )
    slide: SlideConfig = SlideConfig()

    @property
    def read_options(self) -> ReadOptions:
        """What ``medrail.read`` is told to look at these data, pictures at their full size.

        What the network sees is read with ``Config.read_options``.
        """
        return ReadOptions(self.on_defect, self.four_d, self.voi_lut)


class SplitConfig(_Stage):
    """How patients are divided. All cases of one patient are always in the same split."""

    by: Literal["patient", "given", "folds", "centre"] = Field(
        "patient",
        description="patient: seeded, grouped; given: as in the data; folds: k-fold by patient, one fold is the test;"
        " centre: one centre is the test",
    )
    folds: Annotated[int, Field(ge=2, le=100)] = Field(5, description="by: folds. How many")
    fold: Annotated[int, Field(ge=0)] = Field(0, description="by: folds. The one that is the test, counted from 0")
    centre: str = Field(
        "", coerce_numbers_to_str=True, description="by: centre. The one that is the test, spelt as in the case table"
    )
    val: Fraction = Field(
        0.15, description="share of the patients for validation; by: folds, centre: of those who are not the test"
    )
    test: Fraction = Field(0.15, description="share of the patients for the test, never seen in training")
    seed: int = Field(0, description="which patients are drawn; the same seed draws the same ones")

    @model_validator(mode="after")
    def _leaves_training_cases(self) -> SplitConfig:
        if self.by == "patient" and self.val + self.test >= 1:
            raise ValueError(f"val + test = {self.val + self.test:g}: nothing is left to train on")
        return self


class PrepareConfig(_Stage):
    """The pipeline from raw image to network input: the same object in training and in the bundle."""

    steps: tuple[dict[str, Any], ...] = Field((), description="each {kind: ..., parameters}, applied in order")
    store: Literal["compact", "npy"] = Field(
        "compact",
        description="compact: the smallest type that loses nothing, pictures of one size in one array; npy: a plain"
        " file a case with the numbers that the network sees, for training code of your own",
    )
    keep_after: str = Field(
        "", description="kind of a step, as resample: keep what it gives, too, so that a change behind it starts there"
    )
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes; 0: as many as cores and memory allow")
    timeout_s: Annotated[float, Field(ge=0)] = Field(
        900, description="seconds after which a case that hangs is given up; 0: never"
    )
    scheduler: str = Field(
        "", description="address of a Dask scheduler, as tcp://10.0.0.5:8786, whose workers do the work; empty: here"
    )

    @model_validator(mode="after")
    def _keeps_after_a_step(self) -> PrepareConfig:
        kinds = [str(step.get("kind")) for step in self.steps]
        if self.keep_after and self.keep_after not in kinds[:-1]:
            near = did_you_mean(self.keep_after, kinds[:-1]) if kinds[:-1] else ""
            raise ValueError(f"keep_after: no step {self.keep_after!r} with another one behind it. {near}".rstrip())
        return self


class ModelConfig(_Stage):
    """The network."""

    name: ModelName = Field(description="see `medrail train --help` for when to choose which")
    dims: Literal[2, 3] = Field(description="2: each slice or picture by itself; 3: volumes")
    channels: Annotated[int, Field(ge=1)] = Field(1, description="input channels")
    width: Annotated[int, Field(ge=4)] = Field(16, description="channels of the first level (segmentation networks)")
    weights: str = Field(
        "",
        description="weights to start from: a local file, hf://OWNER/REPOSITORY/FILE or https://.../FILE#sha256=HEX;"
        " empty: random ones",
    )
    patch: tuple[int, ...] = Field(
        (),
        description="segmentation: size of random patches of the prepared grid, (D, H, W) voxels or for dims: 2 (H, W);"
        " empty: whole images",
    )


class AugmentConfig(_Stage):
    """What is drawn for each training sample; 0 or false switches an item off."""

    flip: tuple[Literal["D", "H", "W"], ...] = Field((), description="array axes that may be mirrored")
    rotate_deg: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest rotation, degrees")
    scale: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="largest relative zoom, as 0.1")
    shift: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="largest shift as a share of the size")
    intensity: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="largest relative contrast/brightness change"
    )
    gamma: Annotated[float, Field(ge=0, lt=3)] = Field(0.0, description="largest |log gamma|")
    noise: Annotated[float, Field(ge=0)] = Field(
        0.0, description="largest SD of added noise, in units of the input's SD"
    )
    blur: Annotated[float, Field(ge=0, le=5)] = Field(0.0, description="largest SD of smoothing, in pixels")
    elastic: Annotated[float, Field(ge=0, le=0.1)] = Field(
        0.0, description="largest displacement of smooth deformation as a share of the size, as 0.03"
    )


class TrainConfig(_Stage):
    """The training loop."""

    epochs: Annotated[int, Field(ge=1)] = Field(30, description="passes over the training cases; see minutes")
    minutes: Annotated[float, Field(ge=0)] = Field(
        0, description="time that training may take: its first steps are measured and epochs chosen to fit; 0: epochs"
    )
    batch_size: Annotated[int, Field(ge=1)] = Field(
        16, description="samples at a time; on a GPU halved by itself where memory runs out"
    )
    accumulate: Annotated[int, Field(ge=1)] = Field(
        1, description="batches a step: as a batch so many times as large, in the memory of one"
    )
    lr: Positive = Field(1e-3, description="peak learning rate of AdamW; one warm-up, then cosine to 0")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="of AdamW")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="decay a step of the averaged weights, which are what is kept; 0: the trained weights are"
    )
    deep_supervision: bool = Field(
        True, description="hold coarser maps against the mask, too, in networks made for it: dynunet, resenc_unet"
    )
    loss: Literal["auto", "cross_entropy", "dice_ce"] = Field("auto", description="auto: by task")
    class_weights: Literal["auto", "none"] = Field(
        "auto", description="auto: inverse frequency, for imbalance (classification)"
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        10, description="epochs without a better validation, counted once anything is found; 0: never stop early"
    )
    samples_per_epoch: Annotated[int, Field(ge=0)] = Field(0, description="0: every sample once; else drawn at random")
    seed: int = Field(0, description="of the first weights, the order of samples and their augmentation")
    device: str = Field(
        "auto", description="auto (the GPU with most free memory, else the CPU), cpu, cuda, cuda:1, mps"
    )
    devices: Annotated[int, Field(ge=1)] = Field(
        1,
        description="processes on this machine that share each batch, one a GPU (or on the CPU); torchrun overrides it",
    )
    nodes: Annotated[int, Field(ge=1)] = Field(1, description="machines, where Slurm or torchrun starts the processes")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="numbers that the network is computed in; auto: by device"
    )
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads; 0: all cores")
    augment: AugmentConfig = AugmentConfig()
    track: bool = Field(True, description="mirror the run to MLflow (SQLite in the workspace, or MLFLOW_TRACKING_URI)")

    @property
    def step_size(self) -> int:
        """Samples a change of the weights."""
        return self.batch_size * self.accumulate


class EvaluateConfig(_Stage):
    """Numbers with intervals."""

    split: Literal["val", "test"] = Field("test", description="the split that is judged")
    resamples: Annotated[int, Field(ge=200)] = Field(2000, description="bootstrap resamples")
    seed: int = Field(0, description="of the bootstrap")


class SlimConfig(_Stage):
    """Pruning and low precision, judged by non-inferiority."""

    margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="largest loss of the metric that counts as no worse"
    )


class ExportConfig(_Stage):
    """The bundle."""

    version: str = Field("1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="folder below bundles/NAME")
    parity_cases: Annotated[int, Field(ge=1)] = Field(4, description="real cases on which torch and ONNX must agree")
    parity_tolerance: Positive = Field(1e-3, description="largest difference allowed in any probability")


class ServeConfig(_Stage):
    """The service."""

    host: str = Field("127.0.0.1", description="address to listen on; the default is this machine only")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0: any free one")
    max_upload_mb: Positive = Field(512, description="larger uploads are refused")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="threads of the inference engine; 0: all cores")


class Config(_Stage):
    """A whole medrail.yaml."""

    medrail: Literal[1] = Field(1, description="version of this file's format")
    name: str = Field("model", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="of the model and its bundle")
    task: Task = Field(description="what the network answers: one class an image, or a class for each pixel or voxel")
    data: DataConfig
    split: SplitConfig = SplitConfig()
    prepare: PrepareConfig = PrepareConfig()
    model: ModelConfig
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    slim: SlimConfig = SlimConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _classes_fit_the_masks(self) -> Config:
        data = self.data
        if self.task == "segmentation" and len(data.classes) < 2:
            raise ValueError("data.classes: segmentation needs at least two names, the background first")
        if data.mask_values and len(data.mask_values) != len(data.classes):
            raise ValueError(f"data.mask_values has {len(data.mask_values)} values for {len(data.classes)} classes")
        if data.foreground_nonzero and len(data.classes) != 2:
            raise ValueError("data.foreground_nonzero needs exactly two classes")
        if self.model.dims == 3 and any(step.get("kind") == "slices" for step in self.prepare.steps):
            raise ValueError("model.dims: 3 takes whole volumes; take the step slices out of prepare.steps")
        if self.model.patch and len(self.model.patch) != self.model.dims:
            raise ValueError(f"model.patch has {len(self.model.patch)} sizes for dims: {self.model.dims}")
        return self

    @property
    def read_options(self) -> ReadOptions:
        """What ``medrail.read`` is told for every image that the network learns from, is judged on, or is asked about.

        The data's own options, and ``jpeg_least_px`` where ``data.jpeg`` allows it: twice the size that pictures are
        resized to, as ``reducing_gap=2.0`` of Pillow's ``Image.thumbnail``. Only for classification (a mask must come
        back to the raw grid, and a region of interest be laid on it).
        """
        steps = self.prepare.steps
        drawn_on = any(step.get("kind") == "crop_roi" for step in steps)
        size = _size_looked_at(steps)
        if self.task != "classification" or self.data.jpeg != "reduced" or drawn_on or size is None:
            return self.data.read_options
        return replace(self.data.read_options, jpeg_least_px=(2 * size[0], 2 * size[1]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values only; ``parse(config.to_dict())`` gives an equal Config."""
        return self.model_dump(mode="json")

    def fingerprint(self, *stages: str) -> str:
        """SHA-256 (hex) over the named stages' values, as ``config.fingerprint("data", "split")``."""
        chosen = {name: self.to_dict()[name] for name in stages}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def _size_looked_at(steps: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """(H, W) of the anti-aliased resize, if no step before it looks at more than one pixel."""
    first = next((step for step in steps if step.get("kind") not in _PIXEL_BY_PIXEL), {})
    match first:
        case {"kind": "resize", "size": [*_, int(height), int(width)]} if min(height, width) > 0:
            return (height, width) if first.get("antialias", True) is True else None
    return None


def load(path: str | Path, sets: Sequence[str] = (), step_check: StepCheck | None = None) -> Config:
    """Read a medrail.yaml.

    Parameters
    ----------
    path:
        The YAML 1.2 file.
    sets:
        Overrides ``a.b=value``; the value is read as YAML, so ``train.lr=1e-3`` is a number.
    step_check:
        Judges ``prepare.steps`` (the steps' own room knows their parameters), so that all findings are in one report.

    Raises
    ------
    ConfigError
        With every problem of the file and the overrides at once.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "medrail.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "there is no such file", where=str(path), remedy="`medrail init DIR --data PATH` writes one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot be read as text ({type(error).__name__})", where=str(path), needed="a YAML file"
        ) from None
    values = _parse_yaml(text, str(path))
    problems = _apply_sets(values, sets)
    return parse(values, where=str(path), step_check=step_check, problems=problems)


def parse(
    values: Mapping[str, Any],
    *,
    where: str = "configuration",
    step_check: StepCheck | None = None,
    problems: Sequence[Problem] = (),
) -> Config:
    """Values (as YAML or JSON gives them) -> Config, or one ConfigError with every problem."""
    found = list(problems)
    config: Config | None = None
    try:
        config = Config.model_validate(values)
    except pydantic.ValidationError as error:
        found += [_problem(detail) for detail in error.errors(include_url=False)]
    steps = values.get("prepare", {}).get("steps", []) if isinstance(values.get("prepare", {}), Mapping) else []
    if step_check and isinstance(steps, Sequence) and all(isinstance(step, Mapping) for step in steps):
        found += step_check(steps)
    if found or config is None:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ConfigError(count, problems=tuple(found), where=where)
    return config


def _parse_yaml(text: str, where: str) -> dict[str, Any]:
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = f"{where}, line {line + 1}" if line is not None else where
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"not YAML: {reason}", where=place, remedy="Check indentation and quotes at that line."
        ) from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"holds {type(values).__name__}", needed="keys and values, as `task: classification`", where=where
        )
    return values


def _apply_sets(values: dict[str, Any], sets: Sequence[str]) -> list[Problem]:
    problems = []
    for entry in sets:
        key, equals, text = entry.partition("=")
        if not equals or not key:
            problems.append(Problem(f"--set {entry}", "no KEY=VALUE", "Write it as --set train.lr=1e-3"))
            continue
        try:
            value = YAML(typ="safe", pure=True).load(text) if text else ""
        except YAMLError:
            problems.append(Problem(f"--set {key}", f"{text!r} is not a YAML value"))
            continue
        problem = _set(values, key.split("."), value)
        if problem:
            problems.append(Problem(f"--set {key}", problem))
    return problems


def _set(values: dict[str, Any], keys: Sequence[str], value: Any) -> str:
    node: Any = values
    for key, following in itertools.pairwise(keys):
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and (key in node or not following.isdigit()):
            node = node.setdefault(key, {})
        else:
            return f"there is nothing below {key!r} to set"
    last = keys[-1]
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        return f"there is no {last!r} to set"
    return ""


def _problem(detail: Any) -> Problem:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    kind, message = detail["type"], str(detail["msg"])
    if kind == "extra_forbidden":
        return Problem(key, "unknown key", did_you_mean(location[-1], _fields_at(location[:-1])))
    if kind == "missing":
        return Problem(key, "missing", "Add it")
    if kind == "literal_error":
        given = str(detail["input"])
        choices = [
            choice.strip("'") for choice in message.removeprefix("Input should be ").replace(" or ", ", ").split(", ")
        ]
        return Problem(
            key, f"{given!r} is not one of {', '.join(choices)}", did_you_mean(given, choices, or_else=False)
        )
    if kind == "value_error":
        return Problem(key, message.removeprefix("Value error, "))
    return Problem(key, f"{message[0].lower()}{message[1:]} (found {detail['input']!r})")


def _fields_at(location: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        field_info = model.model_fields.get(part)
        annotation = field_info.annotation if field_info else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def did_you_mean(given: str, choices: Sequence[str], *, or_else: bool = True) -> str:
    """A suggestion for a mistyped name; without a near one, the list of names (or nothing, with ``or_else=False``)."""
    near = difflib.get_close_matches(given.lower(), choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(choices)}" if or_else and choices else ""
