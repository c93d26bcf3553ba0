"""writer: a Config -> a commented medrail.yaml that `medrail.config.load` reads back as the same Config."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from medrail.config import Config
from medrail.plan.proposal import Plan

_WIDTH = 116
_COMMENT_COLUMN = 32
_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*")

# One or two lines over each section: what it is for, and what else could stand there.
_SECTIONS = {
    "data": "Where the images are, and how a case is told from them. Nothing is ever written there.",
    "split": (
        "How patients are divided. All images of one patient are always in the same split. For cross-validation: "
        "by: folds, with folds: 5 and fold: 0 to 4, a run each. To test on another hospital: by: centre, with centre: "
        "its name in a column of the table (or data.centre_pattern)."
    ),
    "prepare": "From raw image to network input, step by step; the very same steps run in training and in the service.",
    "model": (
        "The network. Classification: tiny_cnn (first trial), resnet18, resnet50, densenet121, efficientnet_b0, "
        "vit. Segmentation: unet, segresnet, dynunet, resenc_unet."
    ),
    "train": "The training loop. `medrail train` goes on where it was stopped.",
    "evaluate": "Numbers with intervals, on patients that training never saw.",
    "slim": "How much worse a smaller, faster network may be.",
    "export": "The bundle that is served, bundles/NAME/VERSION; refused if it does not answer as the network does.",
    "serve": "The service: `medrail serve`. 127.0.0.1 is this machine only.",
}
# Behind a value: what it means here, or what else could stand there.
_BEHIND = {
    "task": "classification or segmentation",
    "name": "of the model and its bundle",
    "data.kind": "class_folders, csv, pairs, dicom_folders, medmnist or slides",
    "data.path": "relative to this file, or absolute",
    "data.pattern": "glob below path: which images are meant",
    "data.mask_path": "folder of the masks",
    "data.mask_suffix": "what a mask's name has more than its image's",
    "data.labels": "CSV with the columns patient and label (or mask)",
    "data.patient_pattern": "regular expression; its first group is the patient",
    "data.classes": "in the order of the network's outputs",
    "data.multi_label": "none, one or several of the classes an image",
    "data.label_columns": "columns of 0 and 1; what is named as none_label is no class",
    "data.none_label": "stands for none of the labels",
    "data.uncertain": "what -1 counts as: negative, positive, leave_out or refuse",
    "data.blank": "what an empty cell counts as: negative, leave_out or refuse",
    "data.ordered": "grades in this order: adds the weighted kappa",
    "data.mask_values": "the mask's value for each class",
    "data.foreground_nonzero": "every value above 0 is the second class",
    "data.slide.um_per_px": "micrometres a pixel of a tile",
    "data.slide.tile_px": "side of a tile, pixels",
    "data.slide.overlap_px": "shared by neighbouring tiles",
    "data.slide.min_tissue": "share of a tile that must be tissue",
    "data.slide.scan_um_per_px": "for slides that do not say it; 0: refused",
    "split.by": "patient: drawn by the seed; given: as the data say; folds; centre",
    "split.centre": "the one that is the test",
    "split.folds": "how many",
    "split.fold": "the one that is the test, from 0",
    "split.val": "share of the patients",
    "split.test": "share of the patients, never seen in training",
    "model.dims": "2: pictures and slices; 3: volumes",
    "model.channels": "1 grey, 3 colour",
    "model.width": "channels of the first level (segmentation)",
    "model.patch": "of a training sample: (D, H, W) voxels, or (H, W) pixels",
    "train.epochs": "more is slower and often better",
    "train.minutes": "that training may take; it chooses the epochs",
    "train.batch_size": "samples at a time",
    "train.lr": "peak learning rate",
    "train.class_weights": "auto: rare classes count more; none",
    "train.patience": "stop after so many epochs without progress",
    "train.samples_per_epoch": "drawn at random from all",
    "train.device": "auto, cpu, cuda or mps",
    "train.augment.flip": "array axes that may be mirrored: D, H, W",
    "train.augment.rotate_deg": "largest, in degrees",
    "evaluate.resamples": "bootstrap, by patient",
    "slim.margin": "of the metric",
}
_STEP_COMMENTS: Mapping[str, str] = {
    "orient": "left, posterior, superior: every volume the same way up",
    "resample": "mm along D, H, W",
    "window": "CT values to 0..1; or preset: lung, bone, brain, soft_tissue, mediastinum",
    "clip_percentile": "outliers of the image's own values",
    "resize": "pixels, H and W (or D, H, W)",
    "slices": "a volume as pictures for a 2-D network",
    "normalise": "zscore, minmax, imagenet or custom with mean and std",
    "round": "in training and service alike: half the room",
    "grey_to_rgb": "three channels",
    "rgb_to_grey": "one channel",
}
_ALWAYS = {
    ("split", "by"), ("split", "val"), ("split", "test"), ("split", "seed"),
    ("model", "name"), ("model", "dims"), ("model", "channels"),
    ("train", "epochs"), ("train", "batch_size"), ("train", "lr"), ("train", "patience"), ("train", "seed"),
    ("train", "device"), ("evaluate", "split"), ("evaluate", "resamples"), ("slim", "margin"),
    ("export", "version"), ("serve", "host"), ("serve", "port"),
}  # fmt: skip


def config_text(config: Config, plan: Plan) -> str:
    """The file's text.

    ``config`` is the plan's, with paths as they are to be written.
    """
    lines = _head(plan)
    lines += [f"medrail: {config.medrail}", *_value("name", config.name, ""), *_value("task", config.task, "")]
    for section in _SECTIONS:
        lines += ["", *_wrapped(_SECTIONS[section]), *_measured(section, plan), f"{section}:"]
        lines += _section(section, getattr(config, section), config)
    return "\n".join(lines) + "\n"


def _head(plan: Plan) -> list[str]:
    lines = [
        "# Written by `medrail init`. Change what you like: `medrail run` redoes only what depends on it.",
        "# Every key is explained in docs/reference/configuration.md.",
    ]
    for title, notes in (("inferred", plan.inferred), ("unsure: check this", plan.unsure)):
        if notes:
            lines += ["#", f"# {title}"]
            for note in notes:
                lines += _wrapped(note, "#   - ", "#     ")
    return [*lines, ""]


def _measured(section: str, plan: Plan) -> list[str]:
    """The facts that a section's values follow from."""
    wanted = {
        "data": ("Images", "Classes", "Labels", "Masks", "Splits given"),
        "prepare": ("Kind", "Size", "Spacing", "Values"),
        "train": ("Machine", "Training"),
    }
    facts = dict(plan.facts)
    found = [f"{name}: {facts[name]}" for name in wanted.get(section, ()) if name in facts]
    return [line for fact in found for line in _wrapped(fact)]


def _section(name: str, model: BaseModel, config: Config) -> list[str]:
    if name == "prepare":
        return _steps(config)
    lines: list[str] = []
    for key, value in model:
        field = type(model).model_fields[key]
        changed = value != field.get_default(call_default_factory=True)
        segments = config.task == "segmentation" and name == "model" and key == "width"
        weights = config.task == "classification" and name == "train" and key == "class_weights"
        given = name == "split" and key in ("val", "test", "seed") and config.split.by == "given"
        if key == "augment":
            lines += ["  augment:", *_section_lines(value, f"{name}.{key}", "    ")]
        elif key == "slide":
            if config.data.kind == "slides":
                lines += ["  slide:", *_section_lines(value, f"{name}.{key}", "    ")]
        elif given:
            lines += _with_comment(f"  {key}: {scalar(value)}", "counts with by: patient only")
        elif changed or segments or weights or (name, key) in _ALWAYS:
            lines += _value(key, value, name)
    return lines


def _section_lines(model: BaseModel, at: str, indent: str) -> list[str]:
    lines = []
    for key, value in model:
        lines += _value(key, value, at, indent)
    return lines


def _steps(config: Config) -> list[str]:
    lines = ["  steps:" if config.prepare.steps else "  steps: []"]
    for step in config.prepare.steps:
        pairs = ", ".join(f"{scalar(key)}: {scalar(value)}" for key, value in step.items())
        lines += _with_comment(f"    - {{{pairs}}}", _STEP_COMMENTS.get(str(step.get("kind")), ""))
    if config.prepare.workers:
        lines.append(f"  workers: {config.prepare.workers}")
    return lines


def _value(key: str, value: Any, section: str, indent: str | None = None) -> list[str]:
    at = f"{section}.{key}" if section else key
    indent = indent if indent is not None else "  " if section else ""
    return _with_comment(f"{indent}{key}: {scalar(value)}", _BEHIND.get(at, ""))


def _with_comment(line: str, comment: str) -> list[str]:
    """The comment behind the line, or above it where the line would get too long."""
    if not comment:
        return [line]
    gap = max(2, _COMMENT_COLUMN - len(line))
    joined = f"{line}{' ' * gap}# {comment}"
    if len(joined) <= _WIDTH:
        return [joined]
    indent = " " * (len(line) - len(line.lstrip()))
    return [f"{indent}# {comment}", line]


def scalar(value: Any) -> str:
    """A JSON value in YAML 1.2 flow form, so that it is read back as exactly that value."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(str(key))}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(scalar(item) for item in value) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value)


def _number(value: float) -> str:
    """YAML 1.2's core schema reads 1e-05 as a number, ruamel only with a point: written 1.0e-05."""
    text = repr(value)
    mantissa, exponent, power = text.partition("e")
    if exponent and "." not in mantissa:
        text = f"{mantissa}.0e{power}"
    return text


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and _reads_as(value, value):
        return value
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _reads_as(text: str, value: str) -> bool:
    try:
        return bool(YAML(typ="safe", pure=True).load(f"[{text}]") == [value])
    except YAMLError:
        return False


def _wrapped(text: str, first: str = "# ", rest: str = "# ") -> list[str]:
    """Comment lines; what could end a comment or is invisible becomes a space."""
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    lines, line = [], first
    for word in clean.split():
        if len(line) + len(word) > _WIDTH and line.strip() not in ("#", "#   -"):
            lines.append(line.rstrip())
            line = rest
        line += f"{word} "
    return [*lines, line.rstrip()]
