"""How fast a ResNet-18 is trained end to end: prepared pictures, variation, steps, validation, checkpoint.

The same network (first layer of stride 2), pictures, batch and number of threads (one) for a loop as one writes it
oneself, MONAI's recipe for the CPU, Lightning's Trainer, and ``medrail.train``. Preparing is not counted for anyone:
all find pictures of the network's size. What is counted is an epoch after the first step (medrail, Lightning: after the
first epoch), with its validation and its checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import PIL.Image
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import contenders
import record

from medrail.cases import build_cases
from medrail.config import Config, ModelConfig, parse
from medrail.models import build_model
from medrail.prepare import prepare
from medrail.train import train
from medrail.types import Case
from medrail.workspace import Workspace

ROUNDS = 5
_TEST = 2  # pictures that nobody looks at; a project without a test is refused


@dataclass(frozen=True)
class Setting:
    """One kind of picture, so many to train on and to validate on, so many together."""

    name: str
    side: int
    train: int
    val: int
    batch: int


SETTINGS = (
    Setting("64", 64, 384, 48, 32),
    Setting("64_batch64", 64, 384, 48, 64),
    Setting("224", 224, 64, 8, 16),
)
PEERS = {
    "plain_loop": "DataLoader, a PNG and its variation at a time, float32",
    "monai": "CacheDataset, dictionary transforms, ThreadDataLoader, float32",
    "lightning": "Trainer on the plain data set, float32",
    "plain_loop_tuned": "the plain loop with bfloat16, channels last and fused AdamW",
}
NOTES = (
    "One torch thread, no worker processes, one core for each contender in turn (the process is bound to it). Made "
    "grey pictures, PNG, 64 px in batches of 32 and of 64, 224 px in batches of 16; ResNet-18 (first stride 2).",
    "Counted: one epoch after warming up, with validation and checkpoint. Variation: mirrored, turned, zoomed, shifted "
    "(one linear interpolation), intensity and noise, by the same largest amounts, each picture each time.",
    "medrail is `train` as a user calls it, with default precision (bfloat16 where the processor computes in it), "
    "averaged weights and without MLflow. `plain_loop_tuned` shows how much of the gain is the arithmetic's.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    measures: list[record.Measure] = []
    for setting in SETTINGS:
        if arguments.only in (None, setting.name):
            with tempfile.TemporaryDirectory(prefix="medrail-bench-") as name:
                measures += _measures(setting, Path(name), arguments.rounds)
    record.write("train", measures, NOTES)


def _measures(setting: Setting, root: Path, rounds: int) -> list[record.Measure]:
    measured = record.rounds_in_turn(_contenders(setting, root), rounds)
    where = f"train/resnet18_{setting.name}"
    ratios = []
    for peer, told in PEERS.items():
        ratio = [ours / theirs for ours, theirs in zip(measured["medrail"], measured[peer], strict=True)]
        ratios.append(record.Measure.of(f"{where}/vs_{peer}", ratio, "times as many", told))
    rates = [
        record.Measure.of(f"{where}/{name}/images_per_s", values, "images/s", PEERS.get(name, "medrail.train"))
        for name, values in measured.items()
    ]
    return ratios + rates


def _contenders(setting: Setting, root: Path) -> dict[str, Callable[[], float]]:
    """Each trains a new network and gives images a second."""
    pictures = make(setting, root)
    config, workspace, cases = _project(setting, root)
    cached = contenders.monai_cached(pictures)
    names = (f"round-{number}" for number in itertools.count())
    return {
        "plain_loop": lambda: contenders.plain(pictures, _network(setting)),
        "monai": lambda: contenders.monai(pictures, _network(setting), cached),
        "lightning": lambda: contenders.lightning(pictures, _network(setting), root),
        "plain_loop_tuned": lambda: contenders.plain(pictures, _network(setting), tuned=True),
        "medrail": partial(_medrail, config, workspace, cases, names),
    }


def _network(setting: Setting) -> torch.nn.Module:
    torch.manual_seed(0)
    model = ModelConfig(name="resnet18", dims=2)
    return build_model(model, "classification", 2, (setting.side, setting.side))


def _medrail(config: Config, workspace: Workspace, cases: Sequence[Case], names: itertools.count[str]) -> float:
    """The last of two epochs, from the end of the first one, checkpoints written, to its own."""
    ends: list[float] = []

    def note(done: int, total: int, text: str = "") -> None:
        if done in (total // 2, total):
            ends.append(time.perf_counter())

    train(config, workspace, cases, run_name=next(names), progress=note)
    return sum(case.split == "train" for case in cases) / (ends[-1] - ends[-2])


def make(setting: Setting, root: Path) -> contenders.Pictures:
    """Smooth made pictures of two classes as PNG files, and the table that medrail reads them by."""
    rng, rows, items = np.random.default_rng(0), ["path,label,patient,split"], []
    cells = setting.side // 16
    for number in range(setting.train + setting.val + _TEST):
        coarse = rng.integers(0, 256, (cells, cells)).repeat(16, axis=0).repeat(16, axis=1)
        pixels = np.clip(coarse + rng.normal(0, 10, coarse.shape) + 40 * (number % 2), 0, 255).astype(np.uint8)
        path = root / f"{number:05}.png"
        PIL.Image.fromarray(pixels).save(path)
        items.append((path, number % 2))
        split = "train" if number < setting.train else "val" if number < setting.train + setting.val else "test"
        rows.append(f"{path.name},{'ab'[number % 2]},p{number},{split}")
    (root / "table.csv").write_text("\n".join(rows) + "\n")
    train_items, val_items = items[: setting.train], items[setting.train : setting.train + setting.val]
    return contenders.Pictures(train_items, val_items, setting.side, setting.batch)


def _project(setting: Setting, root: Path) -> tuple[Config, Workspace, tuple[Case, ...]]:
    largest = {
        "rotate_deg": contenders.ROTATE_DEG,
        "scale": contenders.SCALE,
        "shift": contenders.SHIFT,
        "intensity": contenders.INTENSITY,
        "noise": contenders.NOISE,
    }
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "csv", "path": "table.csv", "classes": ["a", "b"]},
            "split": {"by": "given"},
            "prepare": {"steps": [{"kind": "normalise", "method": "zscore"}], "workers": 1},
            "model": {"name": "resnet18", "dims": 2},
            "train": {
                "epochs": 2,
                "batch_size": setting.batch,
                "device": "cpu",
                "threads": 1,
                "track": False,
                "augment": {"flip": ["H", "W"], **largest},
            },
        }
    )
    workspace = Workspace(root)
    cases = build_cases(config, workspace)
    prepare(config, workspace, cases)
    return config, workspace, cases


if __name__ == "__main__":
    main()
