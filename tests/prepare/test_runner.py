"""prepare: every case that can be prepared is, what cannot is named, and nothing is done twice."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.data import get_testdata_file

from faults import good_series, write_files
from medrail.cases import FileHashes, source_fingerprint
from medrail.cases.look.examine import look, recall
from medrail.config import Config, parse
from medrail.crew import Loss
from medrail.errors import ConfigError
from medrail.prepare import Pipeline, Store, outdated, prepare, store_of
from medrail.read import read, read_mask
from medrail.types import Case
from medrail.workspace import Workspace

STEPS = [
    {"kind": "orient"},
    {"kind": "resample", "spacing_mm": [4, 1.4, 1.4]},
    {"kind": "crop_pad", "size": [8, 8]},
    {"kind": "normalise"},
]


def config(task: str = "segmentation", workers: int = 1, steps: list | None = None, **data) -> Config:
    segmentation = task == "segmentation"
    return parse(
        {
            "task": task,
            "data": {
                "kind": "pairs",
                "path": "raw",
                "classes": ["background", "organ"] if segmentation else [],
                **data,
            },
            "model": {"name": "unet" if segmentation else "resnet18", "dims": 2},
            "prepare": {"steps": STEPS if steps is None else steps, "workers": workers},
        }
    )


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> str:
    """Write (D, H, W) as NIfTI; ``affine`` has its columns in the order D, H, W."""
    nibabel.save(nibabel.Nifti1Image(voxels.T, affine[:, [2, 1, 0, 3]]), path)
    return str(path)


@pytest.fixture
def cases(tmp_path, oblique) -> list[Case]:
    raw = tmp_path / "raw"
    raw.mkdir()
    made = []
    for n in range(4):
        voxels = np.random.default_rng(n).normal(40, 20, (5, 7, 11)).astype(np.float32)
        mask = (voxels > 40).astype(np.uint8)
        image = save(raw / f"p{n}.nii.gz", voxels, oblique.affine_ras_mm)
        target = save(raw / f"p{n}_mask.nii.gz", mask, oblique.affine_ras_mm)
        made.append(Case(f"p{n}", f"p{n}", (image,), target))
    return made


def table(store: Store) -> list[list[str]]:
    with store.failures_file.open(newline="") as file:
        return list(csv.reader(file))


def test_first_call_makes_all_and_second_skips_all(tmp_path, cases):
    workspace = Workspace(tmp_path)
    seen: list[tuple[int, int]] = []
    report = prepare(config(), workspace, cases, lambda done, total, note="": seen.append((done, total)))
    assert (report.cases, report.succeeded, report.failed, report.skipped) == (4, 4, (), 0)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    store = Store(workspace, Pipeline.from_dict(STEPS))
    assert report.folder == store.folder
    assert store.ids() == ("p0", "p1", "p2", "p3")
    assert table(store) == [["case", "reason", "made_from", "lost"]]
    image, mask = store.load("p2")
    assert image.grid == mask.grid == (6, 8, 8)
    assert image.voxels.mean() == pytest.approx(0, abs=1e-4)
    assert set(np.unique(mask.voxels)) == {0, 1}
    fingerprint, first = store.fingerprint(store.ids()), store.manifest_file.stat().st_mtime_ns
    again = prepare(config(), workspace, cases)
    assert (again.succeeded, again.skipped) == (0, 4)
    assert store.fingerprint(store.ids()) == fingerprint
    assert store.manifest_file.stat().st_mtime_ns == first


def test_report_as_json(tmp_path, cases):
    found = prepare(config(), Workspace(tmp_path), [*cases[:1], Case("x", "x", (str(tmp_path / "no.nii"),), "m")])
    keys = ["cases", "succeeded", "failed", "skipped", "seconds", "input_mb_per_s", "peak_rss_mb", "success_rate"]
    keys += ["cases_per_s", "output_mb", "workers", "seconds_by_step", "notes"]
    values = found.to_json()
    assert list(values) == keys
    assert json.loads(json.dumps(values))["failed"][0]["case"] == "x"
    assert values["input_mb_per_s"] > 0


def test_result_is_what_the_pipeline_makes_of_the_file(tmp_path, cases):
    prepare(config(), Workspace(tmp_path), cases)
    pipeline = Pipeline.from_dict(STEPS)
    image, mask = Store(Workspace(tmp_path), pipeline).load("p1")
    expected = pipeline(read(cases[1].paths[0]))
    assert np.array_equal(image.voxels, expected.voxels)
    assert np.array_equal(mask.voxels, pipeline.replay(read_mask(cases[1].target), expected.history).voxels)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_cases_are_named_and_the_others_go_on(tmp_path, cases, oblique, workers):
    raw = tmp_path / "raw"
    bad = np.full((5, 7, 11), np.nan, np.float32)
    nan = save(raw / "nan.nii.gz", bad, oblique.affine_ras_mm)
    (raw / "broken.nii.gz").write_bytes(b"not an image at all")
    small = save(raw / "small_mask.nii.gz", np.zeros((5, 7, 10), np.uint8), oblique.affine_ras_mm)
    wrong = [
        Case("nan", "a", (nan,), cases[0].target),
        Case("gone", "b", (str(raw / "gone.nii.gz"),), cases[0].target),
        Case("broken", "c", (str(raw / "broken.nii.gz"),), cases[0].target),
        Case("small", "d", cases[0].paths, small),
    ]
    mixed = [wrong[0], cases[0], wrong[1], cases[1], wrong[2], cases[2], wrong[3], cases[3]]
    report = prepare(config(workers=workers), Workspace(tmp_path), mixed)
    assert (report.cases, report.succeeded, report.skipped) == (8, 4, 0)
    reasons = dict(report.failed)
    assert list(reasons) == ["nan", "gone", "broken", "small"]
    assert "385 voxels are NaN" in reasons["nan"]
    assert "gone.nii.gz" in reasons["gone"]
    assert "broken.nii.gz" in reasons["broken"]
    assert "small_mask.nii.gz" in reasons["small"]
    store = Store(Workspace(tmp_path), Pipeline.from_dict(STEPS))
    assert store.ids() == ("p0", "p1", "p2", "p3")
    assert [row[:2] for row in table(store)] == [["case", "reason"], *map(list, report.failed)]
    again = prepare(config(workers=workers), Workspace(tmp_path), mixed)
    assert (again.succeeded, again.skipped, again.failed) == (0, 4, report.failed)


def test_only_what_changed_is_made_again(tmp_path, cases, oblique):
    workspace = Workspace(tmp_path)
    prepare(config(), workspace, cases)
    save(Path(cases[1].paths[0]), np.random.default_rng(9).normal(40, 20, (5, 7, 11)), oblique.affine_ras_mm)
    save(Path(str(cases[2].target)), np.zeros((5, 7, 11), np.uint8), oblique.affine_ras_mm)
    store = Store(workspace, Pipeline.from_dict(STEPS))
    (store.cases / "p3.image.npy").unlink()
    report = prepare(config(), workspace, cases)
    assert (report.succeeded, report.skipped) == (3, 1)
    assert store.load("p2")[1].voxels.max() == 0
    store.load("p3")


def test_another_meaning_of_the_mask_makes_it_again(tmp_path, cases):
    workspace = Workspace(tmp_path)
    prepare(config(), workspace, cases)
    report = prepare(config(mask_values=[1, 0]), workspace, cases)
    assert report.succeeded == 4
    assert prepare(config(mask_values=[1, 0]), workspace, cases).skipped == 4


def test_another_pipeline_has_its_own_folder(tmp_path, cases):
    workspace = Workspace(tmp_path)
    first = prepare(config(), workspace, cases)
    second = prepare(config(steps=STEPS[:-1]), workspace, cases)
    assert second.succeeded == 4
    assert first.folder != second.folder
    assert prepare(config(), workspace, cases).skipped == 4


def test_a_case_that_fails_now_leaves_no_old_result(tmp_path, cases):
    workspace = Workspace(tmp_path)
    prepare(config(), workspace, cases)
    Path(cases[0].paths[0]).write_bytes(b"overwritten")
    report = prepare(config(), workspace, cases)
    assert [case for case, _ in report.failed] == ["p0"]
    assert report.skipped == 3
    assert "p0" not in Store(workspace, Pipeline.from_dict(STEPS)).ids()


def test_classification_has_no_masks(tmp_path, cases):
    labelled = [Case(case.id, case.patient, case.paths, "organ") for case in cases]
    assert prepare(config("classification"), Workspace(tmp_path), labelled).succeeded == 4
    assert Store(Workspace(tmp_path), Pipeline.from_dict(STEPS)).load("p0")[1] is None


def test_crop_roi_takes_the_mask_of_the_case(tmp_path, cases):
    steps = [{"kind": "crop_roi"}]
    with_roi = [Case(c.id, c.patient, c.paths, c.target, roi=c.target) for c in cases[:1]]
    report = prepare(config(steps=steps), Workspace(tmp_path), [*with_roi, cases[1]])
    assert report.succeeded == 1
    assert "no region-of-interest mask" in dict(report.failed)["p1"]


def test_changed_voxels_beside_a_header_are_prepared_anew(tmp_path):
    """The header of a .mhd stays the same when its .raw changes."""
    raw = tmp_path / "raw"
    raw.mkdir()
    header = "NDims = 3\nDimSize = 11 7 5\nElementType = MET_FLOAT\nElementDataFile = {}.raw\n"
    voxels = np.arange(385, dtype="<f4")
    (raw / "a.mhd").write_text(header.format("a"))
    (raw / "a.raw").write_bytes(voxels.tobytes())
    workspace, case = Workspace(tmp_path), Case("a", "a", (str(raw / "a.mhd"),), "organ")
    steps = [{"kind": "orient"}]
    report = prepare(config("classification", steps=steps), workspace, [case])
    assert report.succeeded == 1
    assert report.input_mb_per_s * report.seconds * 1e6 == pytest.approx(385 * 4 + len(header.format("a")))
    assert prepare(config("classification", steps=steps), workspace, [case]).skipped == 1
    (raw / "a.raw").write_bytes(voxels[::-1].tobytes())
    assert prepare(config("classification", steps=steps), workspace, [case]).succeeded == 1
    image, _ = Store(workspace, Pipeline.from_dict(steps)).load("a")
    assert sorted(image.voxels.ravel()) == sorted(voxels)
    assert np.array_equal(image.voxels, Pipeline.from_dict(steps)(read(raw / "a.mhd")).voxels)


def test_mistakes_in_the_steps_stop_it(tmp_path, cases):
    with pytest.raises(ConfigError, match="resampel"):
        prepare(config(steps=[{"kind": "resampel"}]), Workspace(tmp_path), cases)


def test_unexpected_errors_do_not_repeat_what_the_file_says(tmp_path, cases, monkeypatch):
    def defect(*arguments, **more):
        raise ValueError("PatientName=Doe^Jane")

    monkeypatch.setattr(sys.modules["medrail.prepare.making"], "open_image", defect)
    report = prepare(config(), Workspace(tmp_path), cases)
    assert len(report.failed) == 4
    assert "unexpected ValueError in test_runner.py" in report.failed[0][1]
    assert "Doe" not in report.failed[0][1]


KILLER = """
import os, sys
from pathlib import Path
from medrail.config import parse
from medrail.prepare import prepare
from medrail.types import Case
from medrail.workspace import Workspace

making = sys.modules["medrail.prepare.making"]
open_image = making.open_image

def deadly(path, item="", *options):
    if "p1" in path:
        os.kill(os.getpid(), 9)
    return open_image(path, item, *options)

making.open_image = deadly  # spawned workers import this file, so it holds there too

if __name__ == "__main__":
    root = Path(sys.argv[1])
    config = parse({
        "task": "classification", "data": {"kind": "csv", "path": "x"}, "model": {"name": "resnet18", "dims": 3},
        "prepare": {"workers": 2, "steps": [{"kind": "orient"}]},
    })
    cases = [Case(f"p{n}", f"p{n}", (str(root / "raw" / f"p{n}.nii.gz"),), "a") for n in range(4)]
    report = prepare(config, Workspace(root), cases)
    print(report.succeeded, [case for case, _ in report.failed], report.failed[0][1])
"""


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_case_only(tmp_path, cases):
    script = tmp_path / "killer.py"
    script.write_text(KILLER)
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ['p1'] the system ended its worker process")
    assert Store(Workspace(tmp_path), Pipeline.from_dict([{"kind": "orient"}])).ids() == ("p0", "p2", "p3")


@pytest.mark.parametrize("on_defect", ["refuse", "resample"])
def test_a_link_that_leads_nowhere_is_judged_alike_by_check_and_prepare(tmp_path, on_defect):
    """It may be a slice that was lost: refused, or left out, as data.on_defect says; in both stages the same."""
    folder = tmp_path / "raw" / "p1"
    folder.mkdir(parents=True)
    for number in range(4):
        dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{dataset.SOPInstanceUID}.{number}"
        dataset.ImagePositionPatient = [0, 0, 5.0 * number]
        dataset.save_as(folder / f"{number}.dcm")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    case = Case("p1", "p1", (str(folder),), target="ill", split="train")
    settings = config("classification", on_defect=on_defect, classes=["ill", "well"])
    facts = look(case, settings)
    result = prepare(settings, Workspace(tmp_path / "project"), [case])
    with FileHashes.of(Workspace(tmp_path / "project")) as hashes:
        assert isinstance(recall(case, settings, hashes), str), "it is not missing"
    assert bool(facts.findings) == (len(result.failed) == 1) == (on_defect == "refuse")
    if on_defect == "refuse":
        assert "unreadable header" in facts.findings[0].what
        assert "unreadable header" in result.failed[0][1]


def changed(steps, last):
    return [*steps[:-1], last]


CT = [{"kind": "orient"}, {"kind": "resample", "spacing_mm": [4, 1.4, 1.4]}, {"kind": "normalise"}]


def reading_is_forbidden(monkeypatch):
    def never(*arguments, **more):
        pytest.fail("read a file again")

    monkeypatch.setattr(sys.modules["medrail.prepare.making"], "open_image", never)


def settle(monkeypatch):
    """Files count as old enough that their time stamps are believed."""
    module = sys.modules["medrail.cases.fingerprint"]
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 60)


def the_same(one: Store, other: Store):
    assert one.ids() == other.ids()
    for case in one.ids():
        (image, mask), (wanted, wanted_mask) = one.load(case), other.load(case)
        assert np.array_equal(image.voxels, wanted.voxels)
        assert (mask is None) == (wanted_mask is None)
        assert mask is None or np.array_equal(mask.voxels, wanted_mask.voxels)
        assert [(step.step, dict(step.params)) for step in image.history] == [
            (step.step, dict(step.params)) for step in wanted.history
        ]
        assert image.unit == wanted.unit
        assert one.source_fingerprint(case) == other.source_fingerprint(case)


CHEAP = [{"kind": "window", "preset": "bone"}, {"kind": "resize", "size": [4, 5]}]


@pytest.mark.parametrize(
    "then",
    [CHEAP, [*CHEAP, {"kind": "normalise", "method": "custom", "mean": 0.5, "std": 0.25}]],
)
def test_what_was_rounded_is_no_first_step_of_others(tmp_path, cases, monkeypatch, then):
    settle(monkeypatch)
    prepare(config(steps=[*CHEAP, {"kind": "round", "to": "uint8"}]), Workspace(tmp_path / "one"), cases)
    for place in ("one", "other"):
        prepare(config(steps=then), Workspace(tmp_path / place), cases)
    pipeline = Pipeline.from_dict(then)
    the_same(Store(Workspace(tmp_path / "one"), pipeline), Store(Workspace(tmp_path / "other"), pipeline))


def test_a_broken_base_is_done_without(tmp_path, cases, monkeypatch):
    settle(monkeypatch)
    workspace = Workspace(tmp_path)
    prepare(config(steps=CT), workspace, cases)
    path = Store(workspace, Pipeline.from_dict(CT)).cases / "p1.image.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    report = prepare(config(steps=[*CT, {"kind": "round"}]), workspace, cases)
    assert report.succeeded == 4


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (CT, [*CT, {"kind": "crop_pad", "size": [4, 4]}, {"kind": "round"}]),
        (CT[:2], [*CT[:2], {"kind": "window", "preset": "brain"}]),
        (CT[:2], [*CT[:2], {"kind": "crop_pad", "size": [4, 9]}, {"kind": "normalise"}]),
    ],
)
def test_what_another_pipeline_did_first_is_not_done_again(tmp_path, cases, monkeypatch, first, then):
    settle(monkeypatch)
    prepare(config(steps=first), Workspace(tmp_path / "one"), cases)
    prepare(config(steps=then), Workspace(tmp_path / "other"), cases)
    reading_is_forbidden(monkeypatch)
    report = prepare(config(steps=then), Workspace(tmp_path / "one"), cases)
    assert report.succeeded == 4
    pipeline = Pipeline.from_dict(then)
    the_same(Store(Workspace(tmp_path / "one"), pipeline), Store(Workspace(tmp_path / "other"), pipeline))


def test_another_normalise_of_pictures_begins_with_the_whole_numbers(tmp_path, monkeypatch):
    settle(monkeypatch)
    (tmp_path / "raw").mkdir()
    made = []
    for n in range(3):
        path = tmp_path / "raw" / f"p{n}.png"
        Pillow.fromarray(np.random.default_rng(n).integers(0, 255, (30, 20, 3), np.uint8)).save(path)
        made.append(Case(f"p{n}", f"p{n}", (str(path),), "organ"))
    first = [{"kind": "resize", "size": [12, 12]}, {"kind": "normalise"}]
    then = changed(first, {"kind": "normalise", "method": "imagenet"})
    prepare(config("classification", steps=first), Workspace(tmp_path / "one"), made)
    prepare(config("classification", steps=then), Workspace(tmp_path / "other"), made)
    reading_is_forbidden(monkeypatch)
    assert prepare(config("classification", steps=then), Workspace(tmp_path / "one"), made).succeeded == 3
    pipeline = Pipeline.from_dict(then)
    the_same(Store(Workspace(tmp_path / "one"), pipeline), Store(Workspace(tmp_path / "other"), pipeline))


def test_keep_after_lets_a_change_begin_there(tmp_path, cases, monkeypatch):
    settle(monkeypatch)

    def keeping(steps):
        settings = config(steps=steps)
        return settings.model_copy(update={"prepare": settings.prepare.model_copy(update={"keep_after": "resample"})})

    window = [*CT[:2], {"kind": "window", "preset": "brain"}, {"kind": "round"}]
    other = [*CT[:2], {"kind": "window", "preset": "bone"}, {"kind": "round", "to": "uint8"}]
    prepare(keeping(window), Workspace(tmp_path / "one"), cases)
    prepare(config(steps=other), Workspace(tmp_path / "other"), cases)
    reading_is_forbidden(monkeypatch)
    assert prepare(keeping(other), Workspace(tmp_path / "one"), cases).succeeded == 4
    pipeline = Pipeline.from_dict(other)
    the_same(Store(Workspace(tmp_path / "one"), pipeline), Store(Workspace(tmp_path / "other"), pipeline))


def test_a_changed_file_does_not_begin_with_what_was_made_of_the_old_one(tmp_path, cases, monkeypatch, oblique):
    settle(monkeypatch)
    workspace, then = Workspace(tmp_path), [*CT, {"kind": "round"}]
    prepare(config(steps=CT), workspace, cases)
    save(Path(cases[1].paths[0]), np.random.default_rng(9).normal(40, 20, (5, 7, 11)), oblique.affine_ras_mm)
    prepare(config(steps=then), workspace, cases)
    image, _ = Store(workspace, Pipeline.from_dict(then)).load("p1")
    assert np.array_equal(image.voxels, Pipeline.from_dict(then)(read(cases[1].paths[0])).voxels)


@pytest.mark.parametrize("keep_after", ["window", "normalise"])
def test_keep_after_names_a_step_with_another_one_behind_it(keep_after):
    with pytest.raises(ConfigError, match="keep_after"):
        parse(
            {
                "task": "classification",
                "data": {"kind": "csv", "path": "x"},
                "model": {"name": "resnet18", "dims": 3},
                "prepare": {"steps": CT, "keep_after": keep_after},
            }
        )


def test_prepared_from_a_series_a_slice_at_a_time(tmp_path):
    """The whole way: DICOM folders, one pass, compact; as the pipeline makes it of the image read at once."""
    rng = np.random.default_rng(5)
    folder = write_files(good_series(rng), tmp_path / "raw" / "p1", rng)
    steps = [{"kind": "orient"}, {"kind": "window", "preset": "bone"}, {"kind": "resize", "size": [4, 4, 4]}]
    steps.append({"kind": "round"})
    case = Case("p1", "p1", (str(folder),), target="organ")
    workspace = Workspace(tmp_path)
    report = prepare(config("classification", steps=steps), workspace, [case])
    assert report.failed == ()
    store = Store(workspace, Pipeline.from_dict(steps))
    prepared, _ = store.stored("p1")
    assert prepared.image.voxels.dtype == np.float16
    image = Pipeline.from_dict(steps)(read(folder))
    assert np.array_equal(store.load("p1")[0].voxels, image.voxels)
    assert store.source_fingerprint("p1") == source_fingerprint(case)


def test_a_file_that_changes_while_it_is_read_is_no_result(tmp_path, cases, monkeypatch, oblique):
    """Data that are still being copied: the arrays would be of the old file, and pass for those of the new one."""
    making = sys.modules["medrail.prepare.making"]
    opened = making.open_image

    def slowly(path, *more):
        image = opened(path, *more)
        if "p2" in path:
            save(Path(path), np.zeros((5, 7, 11), np.float32), oblique.affine_ras_mm)
        return image

    monkeypatch.setattr(making, "open_image", slowly)
    report = prepare(config(), Workspace(tmp_path), cases)
    assert [case for case, _ in report.failed] == ["p2"]
    assert "changed while they were read" in report.failed[0][1]
    monkeypatch.undo()
    assert outdated(config(), Workspace(tmp_path), cases) == ()
    save(Path(cases[2].paths[0]), np.random.default_rng(2).normal(40, 20, (5, 7, 11)), oblique.affine_ras_mm)
    assert outdated(config(), Workspace(tmp_path), cases) == ("p2",)
    assert prepare(config(), Workspace(tmp_path), cases).succeeded == 1


def test_files_that_are_not_there_for_a_moment_cost_nothing(tmp_path, cases):
    workspace = Workspace(tmp_path)
    prepare(config(), workspace, cases)
    (tmp_path / "raw").rename(tmp_path / "away")
    report = prepare(config(), workspace, cases)
    assert len(report.failed) == 4
    store = Store(workspace, Pipeline.from_dict(STEPS))
    assert store.ids() == ("p0", "p1", "p2", "p3")
    (tmp_path / "away").rename(tmp_path / "raw")
    assert prepare(config(), workspace, cases).skipped == 4
    assert table(store) == [["case", "reason", "made_from", "lost"]]


def test_cases_that_were_taken_out_of_the_data_go(tmp_path, cases):
    workspace, store = Workspace(tmp_path), Store(Workspace(tmp_path), Pipeline.from_dict(STEPS))
    prepare(config(), workspace, cases)
    prepare(config(), workspace, cases[:3])
    assert len(store.ids()) == 4, "a part of the cases was asked for"
    report = prepare(config(), workspace, cases[:3], complete=True)
    assert (report.skipped, store.ids()) == (3, ("p0", "p1", "p2"))
    assert not list(store.cases.glob("p3*"))


def test_a_part_of_the_cases_keeps_what_is_known_of_the_others(tmp_path, cases):
    workspace, store = Workspace(tmp_path), Store(Workspace(tmp_path), Pipeline.from_dict(STEPS))
    Path(cases[1].paths[0]).write_bytes(b"broken")
    prepare(config(), workspace, cases)
    prepare(config(), workspace, cases[2:3])
    assert [row[0] for row in table(store)] == ["case", "p1"]
    assert outdated(config(), workspace, cases) == ()


def test_after_a_death_the_work_is_done_by_processes(tmp_path, cases, monkeypatch):
    """So that a file that crashes a library costs its own case only, the second time."""
    workspace, store = Workspace(tmp_path), Store(Workspace(tmp_path), Pipeline.from_dict(STEPS))
    store.folder.mkdir(parents=True)
    (store.folder / ".lock").write_text("{}")
    crews = []
    module = sys.modules["medrail.prepare.work"]
    monkeypatch.setattr(module, "work_through", lambda work, jobs, crew, *more: crews.append(crew))
    prepare(config(), workspace, cases)
    prepare(config(), workspace, cases)
    assert [crew.here for crew in crews] == [False, False, True, True]


def test_what_was_lost_once_is_never_done_in_this_process(tmp_path, cases, monkeypatch):
    """Else a case that was killed in a worker, and failed, would take the whole command with it the next time."""
    module = sys.modules["medrail.prepare.work"]
    genuine, crews = module.work_through, []

    def losing(work, jobs, crew, finished, lost, *more):
        crews.append(crew)
        for job in jobs:
            finished(lost(job, Loss("killed", alone=True)))

    monkeypatch.setattr(module, "work_through", losing)
    prepare(config(), Workspace(tmp_path), cases[:1])
    prepare(config(), Workspace(tmp_path), cases[:1])
    assert [crew.here for crew in crews] == [True, True, False, False]
    prepare(config(), Workspace(tmp_path), cases[1:2])
    assert crews[-1].here, "nothing is known of this one"
    monkeypatch.setattr(module, "work_through", genuine)
    assert prepare(config(), Workspace(tmp_path), cases[:1]).succeeded == 1


def test_a_single_case_that_may_not_fit_into_memory_gets_a_process(tmp_path, cases, monkeypatch):
    module, crews = sys.modules["medrail.prepare.work"], []
    monkeypatch.setattr(module, "work_through", lambda work, jobs, crew, *more: crews.append(crew))
    monkeypatch.setattr(module, "sizes_of", lambda cases: {case.id: 100_000_000 for case in cases})
    for free_bytes in (64_000_000_000, 4_000_000_000, None):
        monkeypatch.setattr(module, "free_memory_bytes", lambda free_bytes=free_bytes: free_bytes)
        prepare(config(), Workspace(tmp_path), cases[:1])
    assert [crew.here for crew in crews[::2]] == [True, False, False]


def test_plain_files_are_written_from_the_compact_ones(tmp_path, cases, monkeypatch):
    settle(monkeypatch)
    workspace = Workspace(tmp_path)
    prepare(config(), workspace, cases)
    reading_is_forbidden(monkeypatch)
    settings = config()
    plain = settings.model_copy(update={"prepare": settings.prepare.model_copy(update={"store": "npy"})})
    assert prepare(plain, workspace, cases).succeeded == 4
    for case in cases:
        array = np.load(store_of(plain, workspace).cases / f"{case.id}.image.npy")
        assert np.array_equal(array, store_of(settings, workspace).load(case.id)[0].voxels)


def test_keep_after_reports_both_passes(tmp_path, cases):
    settings = config()
    keeping = settings.model_copy(update={"prepare": settings.prepare.model_copy(update={"keep_after": "resample"})})
    Path(cases[1].paths[0]).write_bytes(b"broken")
    report = prepare(keeping, Workspace(tmp_path), cases)
    assert (report.succeeded, [case for case, _ in report.failed]) == (3, ["p1"])
    assert {"orient", "resample", "normalise", "write"} <= {
        part for step in report.seconds_by_step for part in step.split("+")
    }


@pytest.mark.parametrize("pictures", [False, True])
def test_the_recipe_of_the_how_to_gives_what_the_network_sees(tmp_path, cases, pictures):
    """The code of docs/how-to/prepare.md, as it stands there."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "prepare.md"
    recipe = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    settings, workspace = config(), Workspace(tmp_path)
    if pictures:
        settings = config("classification", steps=[{"kind": "resize", "size": [6, 7]}, {"kind": "normalise"}])
        cases = []
        for n in range(20):
            path = tmp_path / "raw" / f"c{n}.png"
            Pillow.fromarray(np.random.default_rng(n).integers(0, 255, (12, 9, 3), np.uint8)).save(path)
            cases.append(Case(f"c{n}", f"c{n}", (str(path),), "organ"))
    prepare(settings, workspace, cases)
    prepare(settings, workspace, cases[1:], complete=True)
    store = store_of(settings, workspace)
    found: dict = {"print": lambda *words: None}
    exec(recipe.replace("my-project/prepared/ece160274cb0", store.folder.as_posix()), found)
    assert sorted(found["cases"]) == sorted(store.ids()) == sorted(case.id for case in cases[1:])
    for case, line in found["cases"].items():
        expected = store.load(case)[0].voxels
        assert np.array_equal(found["load"](line), expected[:, 0] if pictures else expected)
