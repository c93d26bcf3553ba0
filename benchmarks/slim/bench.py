"""How much faster ``medrail slim`` makes a ResNet-18 and a U-Net on this machine, and what that costs in accuracy.

Usage: bench.py [FOLDER] [--only NAME] [--keep DIR] [--side PX] [--epochs N]. FOLDER has the sets; default: the shared
data beside the checkout. Each goes the way of a user: prepare, train, slim. ``--keep`` works in a folder that stays, so
that what was done is not done again. The machine must do nothing else while candidates are timed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
AIMS = {
    "prune_network/vs_same_engine": 2.5,
    "network/vs_eager_fp32": 20,
    "end_to_end/vs_eager_fp32": 10,
    "fp32_end_to_end/vs_eager_fp32": 5,
    "file/vs_eager_fp32": 8,
}
NOTES = (
    "end_to_end: from the file to the answer, one at a time, all with the same reading and preparing, which the eager "
    "row gets for nothing. network: the model alone. prune_network: pruned and fine-tuned against the same network "
    "unpruned, both by ONNX Runtime in fp32. Of the candidates that are non-inferior on the validation cases the "
    "fastest counts; values are ratios with their 95 % interval over the rounds.",
    "The splits are drawn anew, by patient, with 25 or 30 % for validation and as many for the test: a margin of 0.01 "
    "takes patients.",
    "nuclei is the U-Net that `medrail init` plans, which is small and quick as it is. nuclei_plain is the one that "
    "most people train (32 channels at the full size, batch normalisation), on the same pictures.",
)


@dataclass(frozen=True)
class Setting:
    """One task: how its project is made from FOLDER."""

    name: str
    metric: str
    make: Callable[[Path, Path, argparse.Namespace], None]
    sets: Sequence[str] = ()
    slim: Sequence[str] = ()


def medrail(*arguments: str | Path, allowed: tuple[int, ...] = (0,)) -> dict[str, Any]:
    """Run one command with --json; its object."""
    command = [record.medrail_command(), *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}")
    return dict(json.loads(done.stdout))


def pneumonia(data: Path, project: Path, arguments: argparse.Namespace) -> None:
    """pneumonia28 upsampled, a PNG each, for a ResNet-18."""
    raw = project / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    rows = [("path", "label", "patient")]
    with np.load(data / "pneumonia28" / "pneumonia28.npz", allow_pickle=False) as arrays:
        for split in ("train", "val", "test"):
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"][:, 0]
            for number, (image, label) in enumerate(zip(images, labels, strict=True)):
                name = f"{split}{number:04}.png"
                side = (arguments.side, arguments.side)
                if not (raw / name).is_file():
                    cv2.imwrite(str(raw / name), cv2.resize(image, side, interpolation=cv2.INTER_CUBIC))
                rows.append((name, ("normal", "pneumonia")[label], f"{split}{number:04}"))
    with (raw / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    write_config(
        project,
        f"""\
name: pneumonia
task: classification
data: {{kind: csv, path: raw/table.csv, classes: [normal, pneumonia]}}
split: {{val: 0.25, test: 0.25}}
prepare: {{steps: [{{kind: normalise, method: zscore}}]}}
model: {{name: resnet18, dims: 2, channels: 1}}
train: {{epochs: {arguments.epochs}, batch_size: 32, track: false, augment: {{flip: [W], rotate_deg: 10, shift: 0.05}}}}
evaluate: {{explained_cases: 0}}
slim: {{epochs: {arguments.epochs}}}
""",
    )


def nuclei(data: Path, project: Path, arguments: argparse.Namespace) -> None:
    """DSB 2018's nuclei, 220 pictures, for a U-Net, as `medrail init` proposes it."""
    if not (project / "medrail.yaml").is_file():
        medrail("init", project, "--data", data / "nuclei")


def nuclei_plain(data: Path, project: Path, arguments: argparse.Namespace) -> None:
    """The same pictures for the U-Net that most people train: 32 channels at the full size, batch normalisation."""
    nuclei(data, project, arguments)


def write_config(project: Path, text: str) -> None:
    file = project / "medrail.yaml"
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.write_text(text, encoding="utf-8")


_NUCLEI = ("split.val=0.3", "split.test=0.3", "evaluate.explained_cases=0")
SETTINGS = (
    Setting("pneumonia28", "auc", pneumonia),
    Setting("nuclei", "dice", nuclei, _NUCLEI),
    Setting(
        "nuclei_plain",
        "dice",
        nuclei_plain,
        (*_NUCLEI, "model.name=dynunet", "model.width=32", "model.norm=batch", "train.epochs=14"),
        ("slim.epochs=6", "slim.ratios=[0, 0.85, 0.93]"),
    ),
)


def slimmed(setting: Setting, data: Path, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """slim.json of one task, from the raw files."""
    project = folder / setting.name
    project.mkdir(parents=True, exist_ok=True)
    setting.make(data, project, arguments)
    sets = [word for entry in setting.sets for word in ("--set", entry)]
    medrail("prepare", project, *sets)
    trained = medrail("train", project, *sets)
    asked = [f"--set={entry}" for entry in setting.slim]
    asked += [f"--set=slim.ratios=[{arguments.ratios}]"] if arguments.ratios else []
    return medrail("slim", trained["run"], "--metric", setting.metric, *asked, allowed=(0, 1))


def measures(name: str, found: Mapping[str, Any]) -> Iterator[record.Measure]:
    """The ratios of one task, and each candidate's time and difference."""
    eager = next(row for row in found["beside"] if row["kind"] == "eager")
    fit = [row for row in found["candidates"] if row["accepted"]]
    plain = [row for row in fit if row["precision"] == "fp32"]
    same = [row for row in plain if row["ratio"] and row["engine"] == "onnxruntime"]
    if same:
        best = max(same, key=lambda row: row["timed"]["faster_network"]["value"])
        yield _ratio(name, "prune_network/vs_same_engine", best["timed"]["faster_network"], best)
    if fit:
        best = next((row for row in fit if row["name"] == found["chosen"]), max(fit, key=_end_to_end))
        yield _against(name, "network/vs_eager_fp32", "faster_network", best, eager)
        yield _against(name, "end_to_end/vs_eager_fp32", "faster", best, eager)
        times = round(eager["file_mb"] / best["file_mb"], 2)
        yield _ratio(name, "file/vs_eager_fp32", {"value": times, "low": times, "high": times}, best)
    if plain:
        best = max(plain, key=_end_to_end)
        yield _against(name, "fp32_end_to_end/vs_eager_fp32", "faster", best, eager)
    confirmed = found["confirmed"]
    if confirmed:
        told = f"{found['chosen']} less the base on {confirmed['patients']} test patients, 90 % interval; margin 0.01; "
        told += "non-inferior" if confirmed["passed"] else "NOT confirmed"
        numbers = (round(confirmed[key], 5) for key in ("difference", "low", "high"))
        yield record.Measure(f"slim/{name}/difference", *numbers, found["metric"], confirmed["n"], told)
    for row in (*found["beside"], *found["candidates"]):
        rounds = row["timed"]["rounds_ms"]
        verdict = "accepted" if row["accepted"] else row["why_not"] or row["kind"]
        yield record.Measure.of(f"slim/{name}/{row['name']}/latency_ms", rounds, "ms", f"{row['told']}; {verdict}")
        if row["low"] is not None:
            numbers = (round(row[key], 5) for key in ("difference", "low", "high"))
            told = f"less the base on {found['patients']} validation patients, 90 % interval"
            yield record.Measure(f"slim/{name}/{row['name']}/difference", *numbers, found["metric"], found["n"], told)


def _end_to_end(row: Mapping[str, Any]) -> float:
    return float(row["timed"]["faster"]["value"])


def _against(name: str, what: str, key: str, row: Mapping[str, Any], eager: Mapping[str, Any]) -> record.Measure:
    """How many times as fast as eager: both ratios are to the base, in the same rounds; their doubts are added."""
    mine, theirs = row["timed"][key], eager["timed"][key]
    value = mine["value"] / theirs["value"]
    doubt = math.hypot(*(math.log(one["high"] / one["low"]) / 2 for one in (mine, theirs)))
    numbers = {"value": value, "low": value * math.exp(-doubt), "high": value * math.exp(doubt)}
    return _ratio(name, what, numbers, row)


def _ratio(name: str, what: str, numbers: Mapping[str, float], row: Mapping[str, Any]) -> record.Measure:
    values = (round(numbers[key], 2) for key in ("value", "low", "high"))
    told = f"{row['told']}; at least {AIMS[what]} is the aim"
    return record.Measure(f"slim/{name}/{what}", *values, "times", len(row["timed"]["rounds_ms"]), told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=SHARED)
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--ratios", default="", help="as 0,0.5; default: those of medrail slim")
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is not there: give the folder of the sets.")
    found: list[record.Measure] = []
    notes: list[str] = list(NOTES)
    with tempfile.TemporaryDirectory(prefix="medrail-slim-") as temporary:
        folder = arguments.keep or Path(temporary)
        for setting in SETTINGS:
            if arguments.only in (None, setting.name):
                result = slimmed(setting, arguments.data, folder, arguments)
                found += measures(setting.name, result)
                notes += _said(setting.name, result)
    record.write("slim", found, notes)


def _said(name: str, result: Mapping[str, Any]) -> Sequence[str]:
    return (f"{name}: {result['sentence']}.", *(f"{name}: {note}." for note in result["notes"]))


if __name__ == "__main__":
    main()
