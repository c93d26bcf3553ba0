"""A second call does what is missing or has changed, nothing else; a kill leaves nothing half; one image at a time."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from conftest import anisotropic_geometry
from medrail import cli
from medrail.bundle import InputKind, NetworkSpec, Predictor, load_bundle
from medrail.errors import ConfigError
from medrail.lock import locked
from medrail.predict import files as files_module
from medrail.predict import find_inputs, predict_each, predict_files
from medrail.predict.table import safe
from medrail.read import read_mask, write_nifti
from medrail.types import Image
from small_bundles import classifier_network, segmenter_network, write_bundle


def spec() -> NetworkSpec:
    kind = InputKind(picture=False, channels=1, unit="arbitrary")
    return NetworkSpec("segmentation", ("background", "organ"), 3, 1, ({"kind": "orient", "axes": "RAS"},), kind)


@pytest.fixture
def segmenter(tmp_path: Path) -> Predictor:
    """Everything brighter than 2 is the organ."""
    return load_bundle(write_bundle(tmp_path / "bundles", "organ", segmenter_network(3, (2.0,)), spec()))


def write_scan(path: Path, seed: int) -> None:
    voxels = np.random.default_rng(seed).uniform(0, 4, (1, 5, 7, 11)).astype(np.float32)
    write_nifti(Image(voxels, anisotropic_geometry()), path)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(4):
        write_scan(folder / f"s{number}.nii.gz", number)
    return folder


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that were really read, as they are."""
    names: list[str] = []
    read = files_module.read

    def counted(path: Path, *rest: Any) -> Image:
        names.append(Path(path).name)
        return read(path, *rest)

    monkeypatch.setattr(files_module, "read", counted)
    return names


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the journal, which has the times that it took."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "predictions.jsonl"}


def test_a_second_call_does_nothing_and_answers_the_same(
    tmp_path: Path, segmenter: Predictor, scans: Path, predicted: list[str]
) -> None:
    out = tmp_path / "out"
    first = predict_files(segmenter, find_inputs([scans]), out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("s*")}
    table = (out / "predictions.csv").read_bytes()
    assert len(predicted) == 4
    second = predict_files(segmenter, find_inputs([scans]), out)
    assert len(predicted) == 4
    assert [answer.kept for answer in (*first, *second)] == [False] * 4 + [True] * 4
    assert [answer.summary for answer in second] == [answer.summary for answer in first]
    assert [answer.files for answer in second] == [answer.files for answer in first]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("s*")} == before
    assert (out / "predictions.csv").read_bytes() == table
    moved = tmp_path / "elsewhere"
    shutil.copytree(scans, moved)
    predict_files(segmenter, find_inputs([moved]), out)
    assert len(predicted) == 4, "the content counts, not the place"


def test_whatever_happened_in_between_a_second_call_ends_where_a_fresh_one_does(
    tmp_path: Path, segmenter: Predictor, scans: Path, predicted: list[str]
) -> None:
    rng = np.random.default_rng(11)
    out = tmp_path / "out"
    predict_files(segmenter, find_inputs([scans]), out)
    for round_ in range(6):
        touched = set()
        for number in range(4):
            mask, scan = out / f"s{number}_mask.nii.gz", scans / f"s{number}.nii.gz"
            happened = rng.choice(["nothing", "nothing", "deleted", "cut", "changed"])
            if happened == "deleted":
                (out / f"s{number}.png").unlink()
            elif happened == "cut":
                mask.write_bytes(mask.read_bytes()[:-5])
            elif happened == "changed":  # also within the clock's step, with the same size and time
                time_ns = scan.stat().st_mtime_ns
                write_scan(scan, 100 + 10 * round_ + number)
                os.utime(scan, ns=(time_ns, time_ns))
            if happened != "nothing":
                touched.add(scan.name)
        if rng.random() < 0.3:  # what a kill leaves
            journal = out / "predictions.jsonl"
            lines = journal.read_text().splitlines(keepends=True)
            touched.add(f"{json.loads(lines[-1])['name']}.nii.gz")
            journal.write_text("".join(lines)[:-20])
            (out / ".unfinished").mkdir()
            (out / ".unfinished" / "s0_mask.nii.gz").write_bytes(b"half")
        predicted.clear()
        predict_files(segmenter, find_inputs([scans]), out)
        assert set(predicted) == touched
        fresh = tmp_path / f"fresh{round_}"
        predict_files(segmenter, find_inputs([scans]), fresh)
        assert contents(out) == contents(fresh)


def test_another_bundle_or_other_wishes_are_another_question(
    tmp_path: Path, segmenter: Predictor, scans: Path, predicted: list[str]
) -> None:
    out = tmp_path / "out"
    predict_files(segmenter, find_inputs([scans]), out)
    other = load_bundle(write_bundle(tmp_path / "bundles", "organ", segmenter_network(3, (3.0,)), spec(), "2"))
    predict_files(other, find_inputs([scans]), out)
    assert len(predicted) == 8
    assert {row["bundle_id"] for row in rows(out)} == {other.bundle_id}
    predict_files(other, find_inputs([scans]), out, overlays=False)
    assert len(predicted) == 12
    assert not list(out.glob("s*.png")), "nobody takes a picture of another call for one of this"
    predict_files(other, find_inputs([scans]), out, overlays=False, dicom=False)
    assert len(predicted) == 12, "of no DICOM it is the same question"


def test_an_image_that_broke_loses_its_answer(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    out = tmp_path / "out"
    predict_files(segmenter, find_inputs([scans]), out)
    content = (scans / "s1.nii.gz").read_bytes()
    (scans / "s1.nii.gz").write_bytes(content[:60])
    answers = predict_files(segmenter, find_inputs([scans]), out)
    assert [bool(answer.reason) for answer in answers] == [False, True, False, False]
    assert not list(out.glob("s1*"))
    assert [row["organ_ml"] == "" for row in rows(out)] == [False, True, False, False]
    (scans / "s1.nii.gz").write_bytes(content)
    assert not any(answer.reason for answer in predict_files(segmenter, find_inputs([scans]), out))


KILLED = """
import os, signal, sys
from pathlib import Path
from medrail.bundle import load_bundle
from medrail.predict import files, find_inputs, predict_files

write = files.write_nifti
def killed(mask, path):
    write(mask, path)
    if path.name.startswith("s2"):
        path.write_bytes(path.read_bytes()[:30])
        os.kill(os.getpid(), signal.SIGKILL)
files.write_nifti = killed
predict_files(load_bundle(sys.argv[1]), find_inputs([sys.argv[2]]), Path(sys.argv[3]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a system without SIGKILL")
def test_a_kill_leaves_no_half_file_and_the_next_call_goes_on(
    tmp_path: Path, segmenter: Predictor, scans: Path, predicted: list[str]
) -> None:
    out = tmp_path / "out"
    bundle = tmp_path / "bundles" / "organ" / "1"
    done = subprocess.run([sys.executable, "-c", KILLED, bundle, scans, out], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [row["name"] for row in rows(out)] == ["s0", "s1"]
    assert all(read_mask(path).grid == (5, 7, 11) for path in out.glob("*_mask.nii.gz"))
    assert not list(out.glob("s2*"))
    answers = predict_files(segmenter, find_inputs([scans]), out)
    assert predicted == ["s2.nii.gz", "s3.nii.gz"]
    assert [answer.kept for answer in answers] == [True, True, False, False]
    assert not list(out.glob(".*"))


def test_two_calls_do_not_write_into_one_folder(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".lock"), pytest.raises(ConfigError, match="another `medrail predict`"):
        predict_files(segmenter, find_inputs([scans]), tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_named_before_any_work(
    tmp_path: Path, segmenter: Predictor, scans: Path, predicted: list[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"nothing can be written there .*Name another one: -o OUT"):
            predict_files(segmenter, find_inputs([scans]), out)
    assert not predicted
    assert (tmp_path / "file").read_text() == "mine"


def test_one_image_is_in_memory_and_a_row_stands_as_soon_as_it_is_known(
    tmp_path: Path, segmenter: Predictor, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[Any]] = []
    read, write = files_module.read, files_module.write_nifti

    def watched(*arguments: Any) -> Image:
        assert all(one() is None for one in seen), "the one before is still there"
        image = read(*arguments)
        seen.append(weakref.ref(image.voxels))
        return image

    def watched_mask(mask: Image, path: Path) -> None:
        seen.append(weakref.ref(mask.voxels))
        write(mask, path)

    monkeypatch.setattr(files_module, "read", watched)
    monkeypatch.setattr(files_module, "write_nifti", watched_mask)
    for number, answer in enumerate(predict_each(segmenter, find_inputs([scans]), tmp_path / "out"), 1):
        assert [row["name"] for row in rows(tmp_path / "out")] == [f"s{index}" for index in range(number)]
        assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == number
        assert all(path.is_file() for path in answer.files)
    assert len(seen) == 8


def test_the_answers_are_no_inputs(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    out = scans / "answers"
    for _ in range(2):
        inputs = find_inputs([scans], out=out)
        assert [one.name for one in inputs] == ["s0", "s1", "s2", "s3"]
        predict_files(segmenter, inputs, out)
    with pytest.raises(ConfigError, match="among the images"):
        find_inputs([scans], out=scans)
    assert len(find_inputs([scans], out=tmp_path)) > 4, "a folder above them holds the images, not the answers"


def test_a_folder_without_images_beside_others_is_named(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    (tmp_path / "empty").mkdir()
    inputs = find_inputs([tmp_path / "empty", scans / "s0.nii.gz"])
    answers = predict_files(segmenter, inputs, tmp_path / "out")
    assert "holds no image" in answers[0].reason
    assert not answers[1].reason


def test_no_file_of_one_image_is_called_like_one_of_another(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    for name in ("s0_mask.nii.gz", "S1.nii.gz"):
        shutil.copy(scans / "s2.nii.gz", tmp_path / name)
    inputs = [*find_inputs([scans]), *find_inputs([tmp_path / "s0_mask.nii.gz", tmp_path / "S1.nii.gz"])]
    answers = predict_files(segmenter, inputs, tmp_path / "out")
    files = [file.name.lower() for answer in answers for file in answer.files]
    assert len(set(files)) == len(files) == 12


@pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "plain"])
def test_a_table_is_no_program(tmp_path: Path, name: str) -> None:
    kind = InputKind(picture=True, channels=3, unit="uint8")
    network = NetworkSpec("classification", ("=HYPERLINK(1)", "-b"), 2, 3, (), kind)
    predictor = load_bundle(write_bundle(tmp_path / "bundles", "ab", classifier_network(2), network))
    folder = tmp_path / "in"
    folder.mkdir()
    file = folder / f"{name.replace('/', '_')}.png"
    Picture.new("RGB", (8, 8)).save(file)
    (folder / "broken.png").write_bytes(file.read_bytes()[:30])
    predict_files(predictor, find_inputs([folder]), tmp_path / "out", overlays=False)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8", newline="") as text:
        cells = [cell for row in csv.reader(text) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert safe(file.stem) in cells
    assert (safe(file.stem) == file.stem) == (name == "plain")


@pytest.mark.parametrize("number", ["-0.500000", "+1", "-12"])
def test_numbers_stay_numbers(number: str) -> None:
    assert safe(number) == number


def test_a_name_that_is_no_text_is_no_fault(tmp_path: Path, segmenter: Predictor, scans: Path) -> None:
    odd = os.fsdecode(b"s\xff.nii.gz")
    try:
        shutil.copy(scans / "s0.nii.gz", scans / odd)
    except OSError:
        pytest.skip("a file system that takes text only")
    answers = predict_files(segmenter, find_inputs([scans]), tmp_path / "out")
    assert not any(answer.reason for answer in answers)
    again = predict_files(segmenter, find_inputs([scans]), tmp_path / "out")
    assert all(answer.kept for answer in again)


def test_the_verb_says_what_it_did_and_what_it_did_not(
    tmp_path: Path, segmenter: Predictor, scans: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "broken.nii.gz").write_bytes(b"\x1f\x8b and no more")
    command = ["predict", str(tmp_path / "bundles"), str(scans), "-o", str(tmp_path / "out"), "--json"]
    for kept in (0, 4):
        assert cli.main(command) == 1
        told = capsys.readouterr()
        values = json.loads(told.out)
        assert (values["succeeded"], values["kept"], values["notes"]) == (4, kept, [])
        assert [failed["input"] for failed in values["failed"]] == [str(scans / "broken.nii.gz")]
        assert "Traceback" not in told.err
    assert "4 of 5 predicted" in told.err
    assert "4 of them by an earlier call" in told.err
    (tmp_path / "codes.csv").write_text(
        "class,category,category_meaning,type,type_meaning\nliver,123037004,A,10200004,L\n"
    )
    assert cli.main([*command, "--codes", str(tmp_path / "codes.csv")]) == 2
    assert "codes of 'liver'" in capsys.readouterr().err
