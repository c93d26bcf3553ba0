"""evaluate(): numbers that can be told by hand, files a person can open, and no case that stops the others."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.bundle import load_network, write_network
from medrail.cases import Leak, Leaked
from medrail.errors import BundleError, CaseError, RunError
from medrail.evaluate import Evaluation, evaluate
from medrail.evaluate import evaluation as evaluation_room
from medrail.read import read, read_mask
from medrail.types import Case
from medrail.workspace import Run


def table(run: Run) -> list[dict[str, str]]:
    with (run.evaluation / "cases.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_segmentation_numbers_and_files(segmentation: Any) -> None:
    seen = []
    evaluation = evaluate(
        segmentation.run,
        segmentation.config,
        segmentation.cases,
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert (evaluation.split, evaluation.n, evaluation.patients, evaluation.failed) == ("test", 4, 3, ())
    # Six columns wide and shifted by 0, 1, 2, 3: Dice (6 - shift) / 6, surfaces shift * 0.9 mm apart.
    by_case = [1, 5 / 6, 4 / 6, 3 / 6]
    assert evaluation.metrics["dice"].value == pytest.approx(np.mean([np.mean(by_case[:2]), by_case[2], by_case[3]]))
    assert evaluation.metrics["dice"].low == pytest.approx(0.5)
    assert "over 3 patients" in evaluation.metrics["dice"].method
    assert "both masks empty: 1, one empty: 0" in evaluation.metrics["dice"].method
    assert evaluation.metrics["nsd"].method.endswith("tolerance 2 mm")
    assert evaluation.metrics["volume_error_ml"].value == 0
    assert set(evaluation.metrics) == {"dice", "iou", "hd95_mm", "nsd", "volume_error_ml"}
    rows = table(segmentation.run)
    assert [row["id"] for row in rows] == ["c3", "c2", "c1", "c0"]
    assert [float(row["dice"]) for row in rows] == pytest.approx(by_case[::-1], abs=1e-6)
    assert float(rows[0]["hd95_mm"]) == pytest.approx(2.7, abs=1e-4)
    for case in segmentation.cases:
        mask = read_mask(segmentation.run.evaluation / "predictions" / f"{case.id}.nii.gz")
        raw = read(case.paths[0])
        np.testing.assert_array_equal(mask.voxels, raw.voxels > 0.5)
        assert mask.geometry is not None
        assert raw.geometry is not None
        assert mask.geometry.is_close(raw.geometry)
        with Picture.open(segmentation.run.evaluation / "overlays" / f"{case.id}.png") as overlay:
            assert overlay.size[0] > 100


def test_classification_numbers_and_files(classification: Any) -> None:
    evaluation = evaluate(classification.run, classification.config, classification.cases)
    assert (evaluation.n, evaluation.patients) == (12, 6)
    assert evaluation.metrics["accuracy"].value == pytest.approx(11 / 12)
    assert evaluation.metrics["sensitivity/dark"].value == pytest.approx(5 / 6)
    assert evaluation.metrics["sensitivity/bright"].value == 1
    assert evaluation.metrics["balanced_accuracy"].value == pytest.approx(11 / 12)
    assert evaluation.confusion == ((5, 1), (0, 6))
    rows = table(classification.run)
    assert rows[0]["id"] == "image4"
    assert (rows[0]["truth"], rows[0]["predicted"], rows[0]["correct"]) == ("dark", "bright", "0")
    assert sorted(path.stem for path in (classification.run.evaluation / "overlays").iterdir()) >= ["image0"]
    assert not (classification.run.evaluation / "predictions").exists()


def test_what_is_evaluated_is_what_is_served(project: Any) -> None:
    evaluate(project.run, project.config, project.cases)
    predictor = load_network(project.run.folder, threads=1)
    rows = {row["id"]: row for row in table(project.run)}
    for case in project.cases:
        prediction = predictor(read(case.paths[0], case.item))
        if prediction.mask is None:
            assert rows[case.id]["predicted"] == prediction.class_name
            for name, value in prediction.probabilities.items():
                assert float(rows[case.id][f"p/{name}"]) == pytest.approx(value, abs=1e-6)
        else:
            saved = read_mask(project.run.evaluation / "predictions" / f"{case.id}.nii.gz")
            np.testing.assert_array_equal(saved.voxels, prediction.mask.voxels)


def test_it_reads_back_and_repeats(project: Any) -> None:
    first = evaluate(project.run, project.config, project.cases)
    loaded = Evaluation.load(project.run)
    assert loaded.to_json() == first.to_json()
    json.dumps(first.to_json(), allow_nan=False)
    untimed: dict[str, Any] = {"timings_ms": {}, "seconds": {}}
    again = evaluate(project.run, project.config, list(reversed(project.cases)))
    assert {**again.to_json(), **untimed} == {**first.to_json(), **untimed}


def test_a_broken_case_does_not_stop_the_others(project: Any, break_file: Any) -> None:
    break_file(project.cases[1])
    unlabelled = replace(project.cases[2], target=None)
    cases = [*project.cases[:2], unlabelled, *project.cases[3:]]
    evaluation = evaluate(project.run, project.config, cases)
    assert evaluation.n == len(cases) - 2
    assert {entry["case"] for entry in evaluation.failed} == {project.cases[1].id, project.cases[2].id}
    assert all(entry["reason"] for entry in evaluation.failed)
    assert str(Path(project.cases[1].paths[0]).parent) not in json.dumps(evaluation.to_json())
    assert project.cases[1].id not in {row["id"] for row in table(project.run)}


def test_a_wrong_kind_and_a_wrong_label_are_recorded(project: Any, tmp_path: Path) -> None:
    wrong = replace(project.cases[0], id="wrong", target="no such thing")
    absent = replace(project.cases[0], id="absent", paths=(str(tmp_path / "absent.png"),))
    evaluation = evaluate(project.run, project.config, [*project.cases, wrong, absent])
    assert {entry["case"] for entry in evaluation.failed} == {"wrong", "absent"}


def test_nothing_to_evaluate_is_said(project: Any, break_file: Any) -> None:
    with pytest.raises(CaseError, match="val split"):
        evaluate(project.run, project.config, project.cases, split="val")
    for case in project.cases:
        break_file(case)
    with pytest.raises(CaseError, match="none of the"):
        evaluate(project.run, project.config, project.cases)
    with pytest.raises(RunError, match="medrail evaluate"):
        Evaluation.load(project.run)


def test_a_run_without_network_is_said(project: Any) -> None:
    project.run.network.unlink()
    with pytest.raises(BundleError, match="medrail export"):
        evaluate(project.run, project.config, project.cases)


def test_current_until_something_changes(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config, cases = project.run, project.config, project.cases

    def current(cases: list[Case] = cases, config: Any = config, split: str | None = None) -> bool:
        return Evaluation.is_current(run, config, cases, split)

    assert not current()
    evaluate(run, config, cases)
    assert current()
    assert current(cases=list(reversed(cases)))
    assert not current(split="val")
    assert not current(cases=cases[:-1])
    assert not current(cases=[replace(cases[0], patient="another"), *cases[1:]])
    assert not current(config=config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"seed": 1})}))
    assert current(config=config.model_copy(update={"name": "renamed"}))

    content = run.network.read_bytes()
    run.network.write_bytes(content + b"\n")
    assert not current()
    run.network.write_bytes(content)
    assert current()

    with monkeypatch.context() as another:
        another.setattr(evaluation_room, "source_sha256", lambda: "0" * 64)
        assert not current(), "another source of medrail may compute its metrics differently"
    assert current()

    image = Path(cases[0].paths[0])
    original = image.read_bytes()
    image.write_bytes(Path(cases[1].paths[0]).read_bytes() + b" ")
    assert not current()
    image.write_bytes(original)

    (run.evaluation / "evaluation.json").write_text("{}", encoding="utf-8")
    assert not current()


def test_a_broken_off_evaluation_is_never_taken_for_a_whole_one(project: Any) -> None:
    evaluate(project.run, project.config, project.cases)

    def stop(done: int, total: int, note: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(project.run, project.config, project.cases, progress=stop)
    assert not Evaluation.is_current(project.run, project.config, project.cases)


def test_one_volume_says_how_its_interval_was_found(segmentation: Any) -> None:
    evaluation = evaluate(segmentation.run, segmentation.config, segmentation.cases[1:2])
    dice = evaluation.metrics["dice"]
    assert dice.method == "one volume; no interval: all bootstrap resamples are alike", "its slices are all the same"
    assert dice.value == pytest.approx(5 / 6)
    assert evaluation.metrics["hd95_mm"].to_json()["low"] is None


@pytest.mark.shared
def test_a_real_head(shared_data: Path, segmentation: Any) -> None:
    """MNI152 against its own brain mask, with a plain threshold for a network: a poor Dice, in all its files."""
    folder = shared_data / "brain" / "mni152"
    case = Case(
        "mni152",
        "mni152",
        (str(folder / "MNI152_T1_2mm.nii.gz"),),
        target=str(folder / "MNI152_T1_2mm_brain_mask.nii.gz"),
        split="test",
    )
    spec = load_network(segmentation.run.folder).spec
    write_network(
        segmentation.run.folder, replace(spec, pipeline=({"kind": "normalise", "method": "minmax"},)), {"cases": 1}
    )
    evaluation = evaluate(segmentation.run, segmentation.config, [case])
    assert not evaluation.failed
    dice, distance = evaluation.metrics["dice"], evaluation.metrics["hd95_mm"]
    assert dice.low < dice.value < dice.high
    assert 0.6 < dice.value < 0.97
    assert 2 < distance.value < 100
    truth = read_mask(case.target or "").voxels > 0
    mask = read_mask(segmentation.run.evaluation / "predictions" / "mni152.nii.gz").voxels > 0
    assert dice.value == pytest.approx(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))
    voxel_ml = 8 / 1000
    volume = evaluation.metrics["volume_error_ml"].value
    assert volume == pytest.approx(abs(int(truth.sum()) - int(mask.sum())) * voxel_ml)


def test_a_region_that_no_step_uses_cannot_fail_a_case(segmentation: Any) -> None:
    """Preparation does not look at it either, so evaluation and preparation agree on what is usable."""
    cases = [replace(case, roi=str(Path(case.paths[0]).with_name("no-such-roi.nii.gz"))) for case in segmentation.cases]
    evaluation = evaluate(segmentation.run, segmentation.config, cases)
    assert evaluation.failed == ()
    assert evaluation.n == sum(case.split == "test" for case in cases)


def test_parts_of_the_cases_have_metrics_of_their_own(project: Any) -> None:
    """Two centres, and defects in some; each part is what an evaluation of it alone would say."""
    cases = [
        replace(case, centre="NS"[index % 2], defects=("missing_slices",) if index < 3 else ())
        for index, case in enumerate(project.cases)
    ]
    evaluation = evaluate(project.run, project.config, cases)
    assert {name: list(values) for name, values in evaluation.strata.items()} == {
        "defects": ["with", "without"],
        "centre": ["N", "S"],
    }
    assert Evaluation.load(project.run).to_json() == evaluation.to_json()
    rows = {row["id"]: row for row in table(project.run)}
    assert all(rows[case.id]["centre"] == case.centre for case in cases)
    assert all(rows[case.id]["defects"] == " ".join(case.defects) for case in cases)
    assert "leaked" not in rows[cases[0].id]
    for value, chosen in (("N", cases[::2]), ("S", cases[1::2])):
        alone = evaluate(project.run, project.config, chosen)
        assert {name: one.to_json() for name, one in evaluation.strata["centre"][value].items()} == {
            name: one.to_json() for name, one in alone.metrics.items()
        }


def test_parts_that_are_all_alike_or_all_different_are_left_out(classification: Any) -> None:
    cases = [replace(case, centre="here", defects=("missing_slices",)) for case in classification.cases]
    assert evaluate(classification.run, classification.config, cases).strata == {}
    one = [replace(case, centre="here" if index else "") for index, case in enumerate(classification.cases)]
    strata = evaluate(classification.run, classification.config, one).strata
    assert {name: list(values) for name, values in strata.items()} == {"centre": ["here"]}


def test_what_is_said_of_the_cases_makes_an_evaluation_stale(classification: Any) -> None:
    run, config, cases = classification.run, classification.config, classification.cases
    evaluate(run, config, cases)
    assert Evaluation.is_current(run, config, cases)
    assert not Evaluation.is_current(run, config, [replace(cases[0], centre="N"), *cases[1:]])
    assert not Evaluation.is_current(run, config, [replace(cases[0], defects=("x",)), *cases[1:]])
    leaked = Leaked(12, (Leak("exact", ("/a", "/b"), ("train", "test")),), {cases[0].id: {"exact": "words"}})
    assert not Evaluation.is_current(run, config, cases, leaked=leaked)
    evaluate(run, config, cases, leaked=leaked)
    assert Evaluation.is_current(run, config, cases, leaked=leaked)
    assert not Evaluation.is_current(run, config, cases), "without the flag the marked numbers are not current"
