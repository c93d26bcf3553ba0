"""The command line: quick, explains itself, and bad input ends in one clear message and the right exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from medrail import cli
from medrail.errors import ConfigError, LeakError, MedrailError


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in answer.stdout.split()}


def test_the_parser_loads_nothing_heavy():
    loaded = modules_after("from medrail.arguments import build_parser; build_parser().format_help()")
    assert not loaded & {"numpy", "torch", "rich", "pydantic", "pydicom", "onnxruntime", "fastapi"}


@pytest.mark.parametrize("verb", ["predict", "serve", "check"])
def test_verbs_of_the_served_side_never_load_torch(verb, tmp_path):
    arguments = {
        "predict": [verb, str(tmp_path), str(tmp_path)],
        "serve": [verb, str(tmp_path)],
        "check": [verb, "none"],
    }
    loaded = modules_after(f"from medrail.cli import main\nmain({arguments[verb]!r})")
    assert "medrail" in loaded
    assert not loaded & {"torch", "monai", "lightning_fabric", "mlflow"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert f"\n  medrail {verb}" in text


def test_the_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"\n    {verb}\s", text) for verb in cli.VERBS)
    assert "Not a medical device" in text


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["train", "--lr", "1"],
        ["init", "x"],
        ["demo", "--task", "x"],
        ["serve", "x", "--port", "99999"],
        ["serve", "x", "--threads", "-1"],
        ["serve", "x", "--max-upload-mb", "0"],
        ["serve", "x", "--max-upload-mb", "nan"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "usage: medrail" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["train", "nowhere"], 2, "medrail init"),
        (["check", "nowhere"], 2, "medrail init"),
        (["evaluate", "nowhere"], 2, "no such folder"),
        (["predict", "nowhere", "x.png"], 2, "no such file or folder"),
        (["serve", "nowhere"], 2, "no such file or folder"),
        (["evaluate", "."], 1, "medrail train"),
        (["export", "."], 1, "medrail train"),
        (["predict", ".", "x.png"], 1, "medrail export"),
        (["serve", "."], 1, "medrail export"),
        (["init", "p", "--data", "nowhere"], 2, "nowhere"),
    ],
)
def test_bad_paths_end_in_a_message_with_a_remedy(arguments, code, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == code
    text = capsys.readouterr().err
    assert text.startswith("error:")
    assert expected in text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (ConfigError("2 mistakes"), 2, "2 mistakes"),
        (LeakError("one patient twice"), 1, "one patient twice"),
        (MedrailError("[bold] is no markup here"), 1, "[bold] is no markup here"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ModuleNotFoundError("No module named 'fastapi'", name="fastapi"), 1, "medrail[serve]"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "medrail[train,serve]"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "/root/x: Permission denied"),
        (ZeroDivisionError("patient Smith"), 1, "a fault in medrail itself (ZeroDivisionError)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_has_its_exit_code_and_no_traceback(error, code, expected, monkeypatch, capsys):
    def fail(arguments, console):
        raise error

    monkeypatch.setitem(cli.VERBS, "train", fail)
    monkeypatch.delenv("MEDRAIL_DEBUG", raising=False)
    assert cli.main(["train", "x"]) == code
    text = capsys.readouterr().err
    assert expected in text
    assert "Traceback" not in text
    assert "Smith" not in text


def test_json_is_one_object_and_nothing_else(tmp_path, capsys):
    from PIL import Image as Picture

    for number in range(6):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.new("L", (40, 30 + number), 10 * number).save(path)
    assert cli.main(["init", str(tmp_path / "p"), "--data", str(tmp_path / "data"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert Path(written["config"]).is_file()
    code = cli.main(["check", str(tmp_path / "p"), "--json"])
    checked = json.loads(capsys.readouterr().out)
    promised = {"cases", "patients", "splits", "classes", "defects", "leaks", "verdict"}
    added = {"findings", "sizes", "spacings", "intensities", "scanners", "centres", "modalities", "by_split"}
    assert set(checked) == promised | added | {"images_per_patient", "patient_pattern", "tiles", "unusable"}
    assert checked["cases"] == 6
    assert (code == 0) == (checked["verdict"] != "stop")
    assert not any((tmp_path / "data").glob("*.json")), "nothing is written beside the user's data"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_stream_that_knows_few_letters_gets_the_result_all_the_same(encoding, tmp_path):
    import os

    from PIL import Image as Picture

    for number in range(8):
        path = tmp_path / "扫描" / "ab"[number % 2] / f"ü{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.new("L", (40, 30), 10 * number).save(path)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "medrail.cli", "check", str(tmp_path / "扫描")]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert b"8 cases of 8 patients" in done.stdout, done.stderr
    assert b"fault in medrail" not in done.stderr
