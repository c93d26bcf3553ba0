"""medrail.yaml: one frozen model a stage. YAML 1.2 in; every mistake is reported at once, with a suggestion.

``load(path, sets)`` reads the file, applies ``--set a.b=c`` overrides, and returns a ``Config`` or raises one
``ConfigError`` that lists all problems. Configuration is data: no import strings, no expressions.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medrail.errors import ConfigError, Problem
from medrail.errors import did_you_mean as did_you_mean
from medrail.search_space import read_space
from medrail.types import FourD, OnDefect, ReadOptions, VoiLut

Task = Literal["classification", "segmentation"]
DataKind = Literal["class_folders", "csv", "pairs", "dicom_folders", "medmnist", "slides"]
EngineName = Literal["auto", "onnxruntime", "onnxruntime-cuda", "openvino"]
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

LABEL_MARKS = ("|", ";")
"""What stands between the labels of an image in one cell of a table."""

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
    multi_label: bool = Field(
        False,
        description="classification: an image may have none, one or several of the classes, each told by itself (kind:"
        " csv or medmnist)",
    )
    label_columns: tuple[str, ...] = Field(
        (),
        description="csv with multi_label: the columns of 0 and 1, one a label; empty: one column that names them, as"
        " Effusion|Mass",
    )
    none_label: str = Field(
        "No Finding", description="multi_label: what stands for none of the labels, whatever its case; it is no class"
    )
    uncertain: Literal["refuse", "negative", "positive", "leave_out"] = Field(
        "refuse", description="label_columns: what a cell of -1 (uncertain) counts as; leave_out: its image is not used"
    )
    blank: Literal["refuse", "negative", "leave_out"] = Field(
        "refuse", description="label_columns: what an empty cell (not mentioned) counts as"
    )
    ordered: bool = Field(
        False,
        description="classification: the classes are grades in the order of `classes`, so that evaluation adds the"
        " quadratic weighted kappa",
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

    @model_validator(mode="after")
    def _labels_can_be_told(self) -> DataConfig:
        if self.ordered and not self.multi_label and len(self.classes) < 2:
            raise ValueError("ordered needs the grades in their order, in classes")
        if not self.multi_label:
            if self.label_columns:
                raise ValueError("label_columns is for multi_label: true")
            return self
        if self.kind not in ("csv", "medmnist"):
            raise ValueError(f"multi_label is for kind: csv or medmnist, not {self.kind}: list the images in a CSV")
        if self.label_columns and self.kind != "csv":
            raise ValueError("label_columns is for kind: csv")
        if self.ordered:
            raise ValueError("ordered classes exclude each other, and multi_label says that they do not")
        for name in (*self.classes, *self.label_columns):
            if not name.strip() or name != name.strip() or any(mark in name for mark in LABEL_MARKS):
                raise ValueError(f"with multi_label a label cannot be called {name!r}: | and ; stand between labels")
        return self

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
    norm: Literal["instance", "batch"] = Field(
        "instance",
        description="unet and dynunet: what normalises their maps. batch: folded into the convolutions when it is"
        " exported, so that it costs no time and bears int8; on another scanner's images it can be far off",
    )
    weights: str = Field(
        "",
        description="weights to start from: a local file, hf://OWNER/REPOSITORY/FILE (@REVISION pins it) or"
        " https://.../FILE#sha256=HEX; empty: random ones",
    )
    patch: tuple[int, ...] = Field(
        (),
        description="segmentation: size of random patches of the prepared grid, (D, H, W) voxels or for dims: 2 (H, W);"
        " empty: whole images",
    )

    @field_validator("weights")
    @classmethod
    def _weights_without_secret(cls, weights: str) -> str:
        if problem := address_problem(weights):
            raise ValueError(problem)
        return weights


def address_problem(name: str) -> str:
    """What is wrong with an address of weights, without showing it: a user name and password may stand in it."""
    scheme, separator, rest = name.partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = place.partition(":")[2]
    if separator and ("@" in place or (port and not port.isdigit())):  # an unquoted "/" in a password hides nothing
        return (
            f"the {scheme[:8]} address holds a user name or password, which every run's config.yaml and passport would"
            " copy. Fetch the file yourself, and give its path"
        )
    return ""


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
        "auto",
        description="auto: inverse frequency, for imbalance (classification); of several labels at most 20 times",
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


class TuneConfig(_Stage):
    """`medrail tune`: trainings with other settings, judged on the validation split. The test split is not looked at.

    `space` maps keys of `model` and `train` to a list of choices, or to a range `{low: ..., high: ...}` with
    `log: true` or `step: ...`. Empty: learning rate, weight decay, augmentation, the width of segmentation networks.
    """

    trials: Annotated[int, Field(ge=1)] = Field(30, description="trainings of the study in all, whoever does them")
    minutes: Annotated[float, Field(ge=0)] = Field(
        0, description="no training is begun that would go on for longer, by those before it; 0: no limit"
    )
    study: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
        description="name, and folder below tune/; empty: the model's name and a hash of what makes results comparable",
    )
    storage: str = Field(
        "",
        description="postgresql://USER@HOST/DATABASE, for several machines, without a password; empty: SQLite in the"
        " study's folder, for several processes of one machine. MEDRAIL_TUNE_STORAGE overrides it",
    )
    metric: str = Field(
        "",
        pattern=r"^(val_[a-z0-9_]+)?$",
        description="of metrics.jsonl, as val_loss; empty: the one that trainings choose their epoch by",
    )
    second: Literal["none", "latency_ms", "memory_mb", "parameters"] = Field(
        "none", description="a cost to be small as well: the answer is the trials that nothing beats in both"
    )
    sampler: Literal["tpe", "random", "gp", "nsga2"] = Field(
        "tpe", description="how values are chosen: tpe suits nearly all; gp for few, long trials; nsga2 for hundreds"
    )
    pruner: Literal["median", "halving", "none"] = Field(
        "median",
        description="which trials are ended early: worse than the median at the same epoch; all but the best third at a"
        " time; none. With `second` none is",
    )
    keep: Literal["best", "all"] = Field("best", description="whose weights are kept; the figures of all are")
    seed: int = Field(0, description="of the sampler; trainings have train.seed, all the same")
    space: dict[str, Any] = Field({}, description="what is tried")

    @field_validator("storage")
    @classmethod
    def _storage_without_secret(cls, storage: str) -> str:
        if problem := storage_problem(storage, may_hold_password=False):
            raise ValueError(problem)
        return storage

    @field_validator("study")
    @classmethod
    def _study_is_no_runs(cls, study: str) -> str:
        if study == "runs":
            raise ValueError("'runs' is the folder of other trainings; choose another name")
        return study


def storage_problem(url: str, *, may_hold_password: bool) -> str:
    """What is wrong with the URL of a study's database, without showing it: it may hold a password."""
    if not url:
        return ""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres") or not rest:
        return "not a URL of PostgreSQL, as postgresql://USER@HOST/DATABASE (empty: SQLite in the study's folder)"
    user, _, place = rest.rpartition("@")  # of the whole: an unquoted "?" or "/" in a password hides nothing
    if not may_hold_password and (":" in user or "password" in place.lower().partition("?")[2]):
        return (
            "holds a password, which every run's config.yaml would copy. Give the whole URL in MEDRAIL_TUNE_STORAGE, or"
            " the password in PGPASSWORD or ~/.pgpass"
        )
    return ""


class EvaluateConfig(_Stage):
    """Numbers with intervals."""

    split: Literal["val", "test"] = Field("test", description="the split that is judged")
    operating_point: str = Field(
        "youden",
        pattern=r"^(youden|sensitivity=(0?\.\d+|1(\.0+)?))$",
        description="how the thresholds are chosen on the validation cases (classification): youden (the largest"
        " sensitivity + specificity), or as sensitivity=0.95 (the highest threshold that finds that share)",
    )
    conformal_alpha: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.1, description="share of the cases whose conformal set may miss the true class"
    )
    ood_alpha: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.05, description="share of images like those of the training that may be called unlike them"
    )
    surface_tolerance_mm: Positive = Field(
        2.0, description="segmentation: surfaces this close agree (mm; pixels where pictures have no size)"
    )
    subgroups: tuple[str, ...] = Field(
        (),
        description="further columns of the table (data.kind: csv, data.labels) that divide the cases; sex, age,"
        " scanner, centre and defects always do",
    )
    subgroup_patients: Annotated[int, Field(ge=2)] = Field(
        10, description="patients below which a subgroup is called too small to read"
    )
    resamples: Annotated[int, Field(ge=200)] = Field(2000, description="bootstrap resamples")
    explained_cases: Annotated[int, Field(ge=0)] = Field(
        20,
        description="classification: cases, drawn by the seed, on which the maps of evidence are tested; fewer where"
        " the network is slow; 0: none",
    )
    seed: int = Field(0, description="of the bootstrap, and of the cases whose maps are tested")


class SlimConfig(_Stage):
    """Pruning and low precision, judged by non-inferiority."""

    margin: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.01, description="largest loss of the metric that counts as no worse"
    )
    metric: str = Field(
        "", pattern=r"^[A-Za-z0-9_./ +()-]*$", description="what is judged, as accuracy; empty: auc, or dice"
    )
    ratios: tuple[Fraction, ...] = Field(
        (0, 0.5, 0.7, 0.85, 0.93), description="shares that are pruned (see by); 0: the network whole"
    )
    precisions: tuple[Literal["fp32", "bf16", "int8"], ...] = Field(
        (), description="numbers that are computed in; empty: those that this CPU computes in"
    )
    engines: tuple[Literal["onnxruntime", "openvino"], ...] = Field((), description="empty: those that are installed")
    target_latency_ms: Annotated[float, Field(ge=0)] = Field(
        0, description="of a whole answer: of the candidates below it the best one is chosen; 0: the fastest one is"
    )
    timed_cases: Annotated[int, Field(ge=1)] = Field(8, description="validation cases that everyone is timed on")
    timed_rounds: Annotated[int, Field(ge=5)] = Field(15, description="how often, in turns")
    by: Literal["channels", "macs", "latency"] = Field(
        "macs",
        description="what a pruning ratio is a share of: channels; multiplications (macs); the time of one answer by"
        " ONNX Runtime on one thread of this machine",
    )
    importance: Literal["auto", "l1", "l2", "taylor", "lamp", "random"] = Field(
        "auto",
        description="which channels stay: the largest weights (l1, l2; lamp: beside those of their layer), those that"
        " change the loss most (taylor), or any (random, to compare with); auto: taylor for classification, lamp for"
        " segmentation",
    )
    round_to: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="layers keep a multiple of so many channels, which a CPU computes together; 1: any number"
    )
    rounds: Annotated[int, Field(ge=1, le=20)] = Field(
        1, description="prune in so many rounds, each fine-tuned before the next"
    )
    epochs: Annotated[int, Field(ge=0)] = Field(10, description="of fine-tuning after each round; 0: none")
    patience: Annotated[int, Field(ge=0)] = Field(5, description="as train.patience, of fine-tuning")
    lr: Annotated[float, Field(ge=0)] = Field(0, description="peak learning rate of fine-tuning; 0: half of train.lr")
    distil: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="how much the unpruned network's answers count in fine-tuning beside the targets"
    )
    temperature: Positive = Field(2.0, description="softens both networks' answers where they are compared")


class ExportConfig(_Stage):
    """The bundle."""

    version: str = Field("1", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="folder below bundles/NAME")
    parity_cases: Annotated[int, Field(ge=1)] = Field(4, description="real cases on which torch and ONNX must agree")
    parity_tolerance: Positive = Field(1e-3, description="largest difference allowed in any probability")
    openvino_fp16: bool = Field(False, description="--to openvino: store weights as float16, half the size")
    benchmark_cases: Annotated[int, Field(ge=1)] = Field(
        50, description="--benchmark: validation cases, taken evenly, on which every engine answers"
    )
    benchmark_rounds: Annotated[int, Field(ge=6)] = Field(
        10, description="--benchmark: rounds in which all are timed in turn; with fewer than 6 there is no interval"
    )

    @field_validator("version", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        """YAML takes 2 for a number; 1.10 it takes for 1.1, so that needs quotes."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class PacsConfig(_Stage):
    """The PACS that the service lists, pulls from and stores into, by DICOMweb. Passwords do not stand here: see
    credentials_file.
    """

    url: str = Field("", description="its DICOMweb root, as https://pacs.example.org/dicom-web; empty: none")
    credentials_file: str = Field(
        "",
        description="file of one line, USER:PASSWORD or `Bearer TOKEN`; empty: the variables MEDRAIL_PACS_USER and"
        " MEDRAIL_PACS_PASSWORD, or MEDRAIL_PACS_TOKEN",
    )
    ca_file: str = Field(
        "", description="PEM file of the authorities that its certificate is from; empty: the system's"
    )
    client_certificate: str = Field("", description="PEM file with certificate and key, where it asks for one")
    plain_http: bool = Field(
        False, description="http:// to another machine, too: images and passwords can be read on the way"
    )
    timeout_s: Positive = Field(20, description="longest wait for a connection, and for the next part of an answer")
    list_s: Positive = Field(60, description="longest time that a listing, or storing an answer, may take")
    pull_s: Positive = Field(600, description="longest time that a series may take to arrive, all tries together")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="how often it is asked again after a broken connection or a 429, 502, 503 or 504"
    )
    max_series_mb: Positive = Field(2048, description="largest series, MiB")
    max_series_files: Annotated[int, Field(ge=1)] = Field(5000, description="most files of a series")
    max_listed: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="most studies, or series, in one listing")
    listings: Annotated[int, Field(ge=1)] = Field(
        4, description="listings at a time; the next one is told to come back"
    )
    descriptions: bool = Field(
        False, description="list the series' descriptions, too: free text, which may hold a patient's name"
    )


class ServeConfig(_Stage):
    """The service."""

    host: str = Field("127.0.0.1", description="address to listen on; the default is this machine only")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(8000, description="0: any free one")
    max_upload_mb: Positive = Field(512, description="larger uploads are refused")
    threads: Annotated[int, Field(ge=0)] = Field(
        0, description="threads of one inference; 0: as measured at the start, one or all cores"
    )
    engine: EngineName = Field(
        "auto",
        description="what runs the network. auto: what `medrail slim` chose, if this machine can do it and it answers"
        " as the reference in the bundle, else the quickest of the installed ones that does",
    )
    job_wait_s: Annotated[float, Field(ge=0)] = Field(
        10, description="how long a request for a volume waits for its answer before it gets a job instead"
    )
    job_keep_s: Positive = Field(900, description="how long an ended job and its result are kept")
    jobs: Annotated[int, Field(ge=1)] = Field(16, description="jobs in work or waiting; the next one is told 429")
    job_workers: Annotated[int, Field(ge=0)] = Field(0, description="jobs in work at a time; 0: one for two cores")
    max_batch_files: Annotated[int, Field(ge=1)] = Field(64, description="most files of one request for several")
    processes: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="processes that answer; more pay off only where HTTP itself is what takes the time"
    )
    batching: Literal["auto", "on", "off"] = Field(
        "auto", description="compute what waits together: where it is measured to be quicker, wherever it works, never"
    )
    keep_versions: Annotated[int, Field(ge=1)] = Field(
        3, description="of a models folder: newest versions of each model that are kept loaded"
    )
    default_model: str = Field("", description="of a models folder: the model that answers unnamed requests")
    largest_batch: Annotated[int, Field(ge=1, le=256)] = Field(16, description="images that are computed together")
    watch_s: Positive = Field(1, description="pause between two looks at a models folder and at its state")
    state_dir: str = Field(
        "", description="folder of serving.json (pins, canaries); empty: the models folder, else the log's"
    )
    wait_s: Positive = Field(60, description="longest time that a request waits for the network, then 503")
    queue: Annotated[int, Field(ge=0)] = Field(32, description="requests that may wait; the next one is told 429")
    workers: Annotated[int, Field(ge=0)] = Field(
        0, description="requests decoded and answered at a time; 0: one a core"
    )
    drain_s: Positive = Field(30, description="how long requests in work may go on after the service was told to stop")
    jobs_kept: Annotated[int, Field(ge=1)] = Field(
        64, description="ended jobs that are kept; the oldest one goes first"
    )

    temp_dir: str = Field(
        "", description="folder below which uploads and jobs lie while they are answered; empty: the system's"
    )
    max_megavoxels: Positive = Field(
        512, description="largest image as its header declares it, millions of values; looked at before decoding"
    )
    max_json_mb: Positive = Field(32, description="largest JSON part of a request of /v2 or of its answer, MiB")
    max_archive_mb: Positive = Field(2048, description="largest zip of DICOM, unpacked, MiB")
    max_archive_files: Annotated[int, Field(ge=1)] = Field(10_000, description="most files of a zip of DICOM")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least that service.jsonl and standard error tell; the audit log is always whole"
    )
    log_file_mb: Positive = Field(10, description="size at which service.jsonl is rotated, MiB")
    log_files: Annotated[int, Field(ge=1)] = Field(10, description="files of service.jsonl that are kept")
    audit_file_mb: Positive = Field(50, description="size at which audit.jsonl is rotated, MiB")
    audit_files: Annotated[int, Field(ge=1)] = Field(40, description="files of audit.jsonl that are kept")
    metrics: bool = Field(True, description="whether there is /metrics")
    drift_window: Annotated[int, Field(ge=10)] = Field(
        1000, description="the last answers of each process that drift is measured over"
    )
    drift_least: Annotated[int, Field(ge=10)] = Field(100, description="answers below which no drift is told")

    open: bool | None = Field(
        None, description="whether no key is needed; nothing: only where host is this machine's own address"
    )
    key_file: str = Field("", description="keys of `medrail key add`; empty: this user's own file")
    rate_per_s: Annotated[float, Field(ge=0)] = Field(
        100, description="requests a second of one key, or of one other address without keys; 0: any number"
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(200, description="of them at once")
    max_requests_per_key: Annotated[int, Field(ge=0)] = Field(
        64, description="requests of one key in work or waiting; 0: any number"
    )
    max_jobs_per_key: Annotated[int, Field(ge=0)] = Field(
        8, description="jobs of one key that have not ended; 0: any number"
    )
    request_timeout_s: Positive = Field(900, description="longest time until an answer begins, upload included")
    cors_origins: tuple[Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.\-]+(:\d{1,5})?$")], ...] = Field(
        (), description="web sites whose pages may call, as https://pacs.example.org; empty: none"
    )
    allowed_hosts: tuple[str, ...] = Field(
        (),
        description="host names by which it may be called, besides this machine's own (localhost, 127.0.0.1, ::1);"
        " empty: while it listens there and needs no key, those alone; else any",
    )
    upload_timeout_s: Positive = Field(300, description="longest time that one upload may take")
    upload_idle_s: Positive = Field(30, description="longest pause within an upload")
    header_timeout_s: Positive = Field(10, description="longest time that the head of a request may take")
    stall_timeout_s: Positive = Field(60, description="longest time that a client may not take its answer")
    max_header_kb: Positive = Field(32, description="largest head of a request, KiB")
    max_connections: Annotated[int, Field(ge=1)] = Field(2000, description="connections of one process")
    max_connections_per_address: Annotated[int, Field(ge=0)] = Field(
        256, description="of one other address; 0: any number"
    )
    tls_cert: str = Field("", description="certificate chain, PEM: HTTPS instead of HTTP")
    tls_key: str = Field("", description="its private key, PEM, without a password")
    pacs: PacsConfig = PacsConfig()


# Keys of ``serve`` that are paths: in a medrail.yaml relative to it.
SERVE_FILES = ("key_file", "tls_cert", "tls_key", "temp_dir", "state_dir")


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
    tune: TuneConfig = TuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    slim: SlimConfig = SlimConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _classes_fit_the_masks(self) -> Config:
        data = self.data
        if self.task == "segmentation" and (data.multi_label or data.ordered):
            raise ValueError("data.multi_label and data.ordered are for task: classification")
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
    try:
        return parse(values, where=str(path), step_check=step_check, problems=problems)
    except ConfigError as error:
        if all(_is_set(problem, sets) for problem in error.problems):  # the file is as it should be
            error.where = "the command line"
        raise


def _is_set(problem: Problem, sets: Sequence[str]) -> bool:
    """Whether a problem lies in what was overridden."""
    keys = [entry.partition("=")[0] for entry in sets]
    return problem.key.startswith("--set ") or any(f"{problem.key}.".startswith(f"{key}.") for key in keys)


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
    tune = values.get("tune", {})
    found += read_space(tune.get("space", {}), Config)[1] if isinstance(tune, Mapping) else []
    if found or config is None:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ConfigError(count, problems=tuple(found), where=where)
    return config


def serve_settings(configured: ServeConfig, sets: Sequence[str]) -> ServeConfig:
    """The service's settings with ``KEY=VALUE`` overrides of ``serve.*``; a bundle alone has no file to change.

    Raises
    ------
    ConfigError
        With every problem at once; another key has no effect on what is served.
    """
    values: dict[str, Any] = {"serve": configured.model_dump(mode="json")}
    known = [f"serve.{name}" for name in ServeConfig.model_fields]
    keys = {entry: entry.partition("=")[0] for entry in sets}
    others = [entry for entry in sets if "=" in entry and not entry.startswith("serve.")]
    found = [
        Problem(f"--set {keys[entry]}", "no key of the service", did_you_mean(keys[entry], known)) for entry in others
    ]
    found += _apply_sets(values, [entry for entry in sets if entry not in others])
    settings = configured
    try:
        settings = ServeConfig.model_validate(values["serve"])
    except pydantic.ValidationError as error:
        found += [_problem({**detail, "loc": ("serve", *detail["loc"])}) for detail in error.errors(include_url=False)]
    if found:
        count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
        raise ConfigError(count, problems=tuple(found), where="medrail serve")
    return settings


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
