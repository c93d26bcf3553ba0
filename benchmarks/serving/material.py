"""The same ResNet-18 and the same JPEGs for everybody: a small project, trained, exported and slimmed by medrail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import simplejpeg

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

IMAGES = 64
MARGIN = "0.9"
_PROJECT = """\
name: resnet18
task: classification
data: {kind: csv, path: raw/table.csv, classes: [plain, red]}
split: {val: 0.25, test: 0.25}
prepare:
  steps:
    - {kind: resize, size: [224, 224]}
    - {kind: normalise, method: custom, mean: [123.7, 116.3, 103.5], std: [58.4, 57.1, 57.4]}
model: {name: resnet18, dims: 2, channels: 3}
train: {epochs: 3, batch_size: 8, track: false}
evaluate: {explained_cases: 0}
"""


def make_images(folder: Path) -> Path:
    """JPEGs of 224 to 500 px, smooth with some noise, every second one redder; their table."""
    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    rows = ["path,label,patient"]
    for number in range(IMAGES):
        height, width = rng.integers(224, 501, size=2)
        y, x = np.mgrid[:height, :width]
        field = rng.normal(30, 6, size=(height, width, 3))
        for _ in range(6):
            centre, size = (rng.uniform(0, height), rng.uniform(0, width)), rng.uniform(20, 120)
            spot = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * size**2))
            field += spot[:, :, None] * rng.uniform(20, 90, size=3)
        field[:, :, 0] += 40 * (number % 2)
        pixels = np.clip(field, 0, 255).astype(np.uint8)
        (raw / f"p{number:03}.jpg").write_bytes(simplejpeg.encode_jpeg(pixels, quality=90))
        rows.append(f"p{number:03}.jpg,{('plain', 'red')[number % 2]},p{number:03}")
    (raw / "table.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return raw


def make_bundle(folder: Path) -> Path:
    """The fp32 bundle, by `medrail run`; what is there already stays."""
    config = folder / "medrail.yaml"
    if not config.is_file():
        config.write_text(_PROJECT, encoding="utf-8")
    subprocess.run([record.medrail_command(), "run", folder], check=True, stdout=subprocess.DEVNULL)
    return folder / "bundles" / "resnet18" / "1"


def make_weights(folder: Path) -> Path:
    """The trained network's weights as a plain state_dict, for the apps that run torch."""
    import torch

    run = max((folder / "runs").glob("resnet18-[0-9][0-9][0-9]"))
    checkpoint = torch.load(run / "checkpoints" / "best.pt", weights_only=True, map_location="cpu")
    path = folder / "weights.pt"
    torch.save(checkpoint["weights"], path)
    return path


def make_slimmed(folder: Path) -> tuple[Path, str]:
    """What `medrail slim` chose on this small set: its bundle and name.

    Pruned by 85 %, as a ResNet-18 bore it in benchmarks/slim. The margin lets the quickest win: speed is the subject.
    """
    bundle, note = folder / "bundles" / "resnet18" / "2", folder / "chosen.txt"
    if not (note.is_file() and bundle.is_dir()):
        quickly = ("--set", "slim.timed_rounds=7", "--set", "slim.timed_cases=4")
        told = _medrail("slim", folder, "--ratio", "0.85", "--margin", MARGIN, *quickly)
        if not told.get("accepted"):
            raise SystemExit(f"medrail slim accepted nothing: {told.get('sentence')}; give --slim-bundle.")
        _medrail("export", folder / "runs" / told["result"], "--set", "export.version=2")
        note.write_text(str(told["chosen"]), encoding="utf-8")
    return bundle, note.read_text(encoding="utf-8")


def _medrail(*arguments: str | Path) -> dict:
    command = [record.medrail_command(), *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return dict(json.loads(done.stdout or "{}"))
