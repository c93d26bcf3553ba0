"""Both demos from nothing, as a user runs them; and the law that what is served is what was evaluated."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import nibabel as nib
import numpy as np
import pytest

from medrail.read import read_mask
from medrail.stages import open_run
from medrail.types import Case
from only_extra import hidden_modules, run_with_only

pytestmark = pytest.mark.slow

MEDRAIL = str(Path(sys.executable).with_name("medrail"))
AIM = {"segment": ("dice", 0.93), "classify": ("accuracy", 0.97)}


@pytest.fixture(scope="module", params=AIM)
def demo(request, tmp_path_factory):
    """The task's name, its workspace, what --json printed, and what was told on the way."""
    workspace = tmp_path_factory.mktemp(request.param)
    arguments = ["demo", "--task", request.param, "--no-serve", "--json", "--workspace", str(workspace)]
    assert {"pytest", "SimpleITK", "sklearn"} <= hidden_modules("train"), "the demo needs no more than that extra"
    answer = run_with_only("train", arguments, tmp_path_factory.mktemp("elsewhere"))
    assert answer.returncode == 0, answer.stderr
    return request.param, workspace, json.loads(answer.stdout), answer.stderr


def test_the_demo_reaches_its_aim_and_says_so(demo):
    task, workspace, values, told = demo
    metric, aim = AIM[task]
    assert values["task"] == task
    assert values[metric]["value"] >= aim
    assert values[metric]["low"] <= values[metric]["value"] <= values[metric]["high"]
    assert values[metric]["n"] >= 1
    assert Path(values["run"], "passport.json").is_file()
    assert Path(values["bundle"], "bundle.json").is_file()
    assert ("hd95_mm" in values) == (task == "segment")
    for stage in ("check", "prepare", "train", "evaluate", "export", "predict"):
        assert stage in told
    assert list((workspace / "predictions").glob("*.png")), "no picture of the prediction"


def test_a_second_call_redoes_nothing(demo):
    _, workspace, values, _ = demo
    stamps = {file: file.stat().st_mtime_ns for file in Path(values["run"]).rglob("*") if file.is_file()}
    command = [MEDRAIL, "run", str(workspace), "--json"]
    again = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    done = {stage: entry["up_to_date"] for stage, entry in again["stages"].items() if stage != "check"}
    assert done == dict.fromkeys(done, True)
    assert again["run"] == values["run"]
    assert stamps == {file: file.stat().st_mtime_ns for file in Path(values["run"]).rglob("*") if file.is_file()}


def test_a_changed_evaluation_redoes_only_what_depends_on_it(demo):
    _, workspace, values, _ = demo
    command = [MEDRAIL, "run", str(workspace), "--json", "--set", "evaluate.seed=1"]
    again = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    stages = {stage: entry["up_to_date"] for stage, entry in again["stages"].items() if stage != "check"}
    assert stages == {"prepare": True, "train": True, "evaluate": False, "export": False}
    assert again["run"] == values["run"]


def test_served_answers_are_the_evaluated_answers(demo):
    task, _, values, _ = demo
    project, run = open_run(values["run"])
    cases = [case for case in project.cases if case.split == "test"]
    assert cases
    compare = served_masks_are_identical if task == "segment" else served_probabilities_are_equal
    command = [MEDRAIL, "serve", values["bundle"], "--port", "0", "--engine", "onnxruntime"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            page = next(found[1] for line in server.stdout if (found := re.search(r"page\s+(http://\S+)", line)))
            with httpx.Client(base_url=page, timeout=120) as client:
                compare(client, cases, run.evaluation)
        finally:
            server.terminate()


def served_masks_are_identical(client: httpx.Client, cases: list[Case], evaluation: Path) -> None:
    for case in cases:
        answer = post(client, case)
        served = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(answer["mask"]["data"])))
        evaluated = read_mask(evaluation / "predictions" / f"{case.id}.nii.gz")
        assert np.array_equal(np.asarray(served.dataobj).transpose(2, 1, 0), evaluated.voxels[0])
        assert evaluated.voxels.any()


def served_probabilities_are_equal(client: httpx.Client, cases: list[Case], evaluation: Path) -> None:
    with (evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert set(rows) == {case.id for case in cases}
    for case in cases:
        answer = post(client, case)
        row = rows[case.id]
        assert answer["class_name"] == row["predicted"]
        for name, probability in answer["probabilities"].items():
            assert probability == pytest.approx(float(row[f"p/{name}"]), abs=1e-4)


def post(client: httpx.Client, case: Case) -> dict:
    with Path(case.paths[0]).open("rb") as file:
        response = client.post("v1/predict/image", files={"file": ("x", file)})
    assert response.status_code == 200, response.text
    return response.json()
