"""medrail compare: exit codes, one JSON object, files where it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fake_runs import classified_rows, fake_run
from medrail import cli


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "runs"
    fake_run(folder / "model-001", classified_rows(40, patients=40))
    fake_run(folder / "model-002", classified_rows(40, skill=2.0, seed=1, patients=40))
    fake_run(folder / "other-001", classified_rows(30, patients=30))
    return folder


def test_two_runs_as_tables_and_files(runs, capsys) -> None:
    assert cli.main(["compare", str(runs / "model-001"), str(runs / "model-002"), "--metric", "accuracy"]) == 0
    told = capsys.readouterr().out
    assert "odds ratio" in told
    folder = runs.parent / "comparisons" / "model-001-vs-model-002"
    assert {path.name for path in folder.iterdir()} >= {"compare.md", "compare.csv", "compare.json", "differences.png"}


def test_json_is_one_object(runs, capsys, tmp_path) -> None:
    arguments = [str(runs / "model-001"), str(runs / "model-002"), "--json", "-o", str(tmp_path / "out")]
    assert cli.main(["compare", *arguments, "--reference", "model-002", "--metric", "accuracy", "--metric", "auc"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads((tmp_path / "out" / "compare.json").read_text(encoding="utf-8"))
    assert values["reference"] == "model-002"
    assert [(one["metric"], one["a"], one["b"]) for one in values["tests"]] == [
        ("accuracy", "model-002", "model-001"),
        ("auc", "model-002", "model-001"),
    ]
    assert set(values["runs"][0]) >= {"run", "split", "n", "patients", "metrics", "cost"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["{runs}/model-001"], 2, "one run alone"),
        (["{runs}/model-001", "{runs}/gone"], 2, "no such folder"),
        (["{runs}/model-001", "{runs}/model-001"], 2, "the same run twice"),
        (["{runs}/model-001", "{runs}/model-002", "--metric", "acuracy"], 2, "Did you mean 'accuracy'?"),
        (["{runs}/model-001", "{runs}/model-002", "--reference", "x"], 2, "none of the runs"),
        (["{runs}/model-001", "--published", "auc"], 2, "METRIC=VALUE"),
        (["{runs}/model-001", "{runs}/other-001"], 1, "--common"),
    ],
)
def test_errors_say_what_to_do(runs, capsys, arguments, code, said) -> None:
    assert cli.main(["compare", *(word.format(runs=runs) for word in arguments)]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert not (runs.parent / "comparisons").exists()


def test_common_and_published_go_through(runs, capsys) -> None:
    both = [str(runs / "model-001"), str(runs / "other-001")]
    assert cli.main(["compare", *both, "--common", "--metric", "accuracy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == {"model-001": 10, "other-001": 0}
    assert cli.main(["compare", both[0], "--published", "auc=0.944,n=624", "--metric", "accuracy", "--json"]) == 0
    (test,) = json.loads(capsys.readouterr().out)["tests"]
    assert (test["a"], test["b"]) == ("published auc 0.944 (n = 624)", "model-001")


def test_published_numbers_leave_former_comparisons_as_they_are(runs) -> None:
    """Whatever is compared with other published numbers, or with none, has a folder of its own."""
    both = [str(runs / "model-001"), str(runs / "model-002")]
    long = [word for n in range(600, 606) for word in ("--published", f"auc=0.9{n},n={n},positives=300")]
    asked = [
        both,
        [*both, "--published", "auc=0.944,n=624"],
        [*both, "--published", "auc=0.844,n=624"],
        [both[0], "--published", "auc=0.944,n=624"],
        [both[0], "--published", "auc=0.944,n=600"],
        [*both, *long],
        [*both, *long[:-2]],
    ]
    place = runs.parent / "comparisons"
    for number, words in enumerate(asked, start=1):
        assert cli.main(["compare", *words, "--metric", "auc"]) == 0
        assert len(list(place.iterdir())) == number
    assert (place / "model-001-vs-published-auc-0.944-n-624").is_dir()
    assert cli.main(["compare", *asked[1], "--metric", "auc"]) == 0
    assert len(list(place.iterdir())) == len(asked), "the same again is the same folder"


def test_comparing_never_loads_torch(runs) -> None:
    arguments = ["compare", str(runs / "model-001"), str(runs / "model-002"), "--metric", "auc"]
    code = f"import sys\nfrom medrail.cli import main\nassert main({arguments!r}) == 0\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "scipy" in loaded
    assert not loaded & {"torch", "monai", "lightning_fabric", "mlflow", "onnxruntime"}
