"""Evaluated runs without a training: folders with the files that `medrail compare` reads."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from medrail.evaluate import Evaluation
from medrail.evaluate.answers import read_answers
from medrail.evaluate.bootstrap import Measured, point, wilson
from medrail.evaluate.evaluation import CASE_FILE
from medrail.workspace import Run

CONFIG = {
    "medrail": 1,
    "task": "classification",
    "data": {"kind": "class_folders", "path": "../data"},
    "model": {"name": "tiny_cnn", "dims": 2},
    "train": {"lr": 0.001, "seed": 0},
}


def write_cases(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path = folder / "evaluation" / CASE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def classified_rows(
    n: int = 60, *, skill: float = 1.0, seed: int = 0, patients: int = 60, classes: str = "ab"
) -> list[dict[str, Any]]:
    """The truth is the same whatever the seed; the answers are not."""
    truth = np.random.default_rng(99).integers(0, len(classes), n)
    logits = np.random.default_rng(seed).normal(size=(n, len(classes))) + skill * np.eye(len(classes))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = []
    for index in range(n):
        best = int(probabilities[index].argmax())
        row = {"id": f"case{index:03}", "patient": f"p{index % patients}"}
        row |= {"truth": classes[truth[index]], "predicted": classes[best], "correct": int(best == truth[index])}
        row |= {f"p/{name}": f"{probabilities[index, place]:.6f}" for place, name in enumerate(classes)}
        rows.append({**row, "centre": "", "defects": ""})
    return rows


def labelled_rows(n: int = 40, *, skill: float = 1.0, seed: int = 0, most: int = 3) -> list[dict[str, Any]]:
    """Cases with none up to ``most`` of the labels a, b and c; findings from a probability of 0.5 on."""
    rng = np.random.default_rng(99)
    truth = np.array([rng.permutation([1] * count + [0] * (3 - count)) for count in rng.integers(0, most + 1, n)])
    logits = np.random.default_rng(seed).normal(size=(n, 3)) + skill * (2 * truth - 1)
    rows = []
    for index, (has, probabilities) in enumerate(zip(truth, 1 / (1 + np.exp(-logits)), strict=True)):
        told = [
            "|".join(name for name, there in zip("abc", one, strict=True) if there) for one in (has, logits[index] > 0)
        ]
        row = {"id": f"case{index:03}", "patient": f"p{index}", "truth": told[0], "predicted": told[1]}
        row |= {"correct": int(told[0] == told[1])}
        row |= {f"p/{name}": f"{p:.6f}" for name, p in zip("abc", probabilities, strict=True)}
        rows.append(row)
    return rows


def segmented_rows(n: int = 20, *, shift: float = 0.0, seed: int = 0) -> list[dict[str, Any]]:
    hardness = np.random.default_rng(99).beta(8, 2, n)
    noise = np.random.default_rng(seed).normal(0, 0.02, n)
    return [
        {
            "id": f"case{index:03}",
            "patient": f"p{index}",
            "dice": f"{min(1.0, hardness[index] + shift + noise[index]):.6f}",
            "hd95_mm": "" if index == 3 else f"{10 * (1 - hardness[index] - shift):.6f}",
            "centre": "",
            "defects": "",
        }
        for index in range(n)
    ]


def fake_run(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    config: Mapping[str, Any] = CONFIG,
    seed: int = 0,
    images: Mapping[str, str] | None = None,
    schedule: Mapping[str, float] | None = None,
    **evaluation: Any,
) -> Run:
    """A run's folder with config.yaml, passport.json, images.json and evaluation/."""
    write_cases(folder, rows)
    run = Run(folder)
    with run.config_file.open("w", encoding="utf-8") as file:
        YAML().dump({**config, "train": {**config["train"], "seed": seed}}, file)
    passport = {
        "finished": True,
        "seed": seed,
        "data": {"fingerprint": "f" * 64, "train_cases": 200, "train_patients": 200},
        "medrail": {"version": "0.1.0", "source_sha256": "a" * 64},
        "packages": {"numpy": "2.4.6"},
        "machine": {"device": "cpu", "threads": 1},
        **({"schedule": dict(schedule)} if schedule else {}),
        "result": {"epochs": 3, "train_seconds": 12.5 + seed},
    }
    run.passport.write_text(json.dumps(passport), encoding="utf-8")
    ids = [str(row["id"]) for row in rows]
    digests = {one: hashlib.sha256(one.encode()).hexdigest() for one in ids}
    records = {"format": 1, "sha256": {**digests, **(images or {})}, "masks": digests}
    run.images.write_text(json.dumps(records), encoding="utf-8")
    run.network.write_bytes(b"0" * 2_000_000)
    metrics = _measured(folder, rows, multi_label=evaluation.get("multi_label", False))
    Evaluation(
        **{
            "split": "test",
            "n": len(rows),
            "patients": len({row["patient"] for row in rows}),
            "metrics": metrics,
            "timings_ms": {"prepare": 1.5, "model": 7.25, "post": 0.1},
            **evaluation,
        }
    ).save(run)
    return run


def _measured(folder: Path, rows: Sequence[Mapping[str, Any]], *, multi_label: bool) -> dict[str, Measured]:
    answers = read_answers(folder / "evaluation" / CASE_FILE, ("dice", "hd95_mm"), multi_label=multi_label)
    measured = {}
    for name, statistic in answers.statistics().items():
        value = point(statistic, len(rows))
        low, high = wilson(value, len(rows)) if 0 <= value <= 1 else (value - 1, value + 1)
        measured[name] = Measured(value, low, high, len(rows), "by hand")
    return measured


def fake_group(folder: Path, names: Sequence[str], kind: str = "seeds") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "group.json").write_text(json.dumps({"format": 1, "kind": kind, "runs": list(names)}), encoding="utf-8")
    return folder
