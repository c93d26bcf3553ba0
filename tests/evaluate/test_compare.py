"""compare(): the same cases or a refusal, numbers that belong together, groups of seeds, published numbers."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from fake_answers import classified
from fake_runs import CONFIG, classified_rows, fake_group, fake_run, labelled_rows, read_csv, segmented_rows
from medrail.errors import ConfigError, RunError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import Measured, point, wilson
from medrail.evaluate.compare import Asked, compare, remeasured
from medrail.evaluate.comparison import Comparison
from medrail.evaluate.comparison_page import as_csv, as_markdown, write_comparison
from medrail.evaluate.delong import delong_interval
from medrail.evaluate.entrants import read_entrants
from medrail.evaluate.over_seeds import group_test
from medrail.evaluate.paired import Drawing, PairedTest
from medrail.evaluate.published import Published, against_published, hanley_mcneil, parse_published
from medrail.evaluate.same_cases import joined_patients
from medrail.evaluate.verdict import verdict

QUICK = Drawing(resamples=200, permutations=199)


def compared(*paths: Path, **asked: Any) -> Comparison:
    return compare(read_entrants(paths), Asked(drawing=QUICK, **asked))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "project" / "runs"


@pytest.fixture
def two(runs: Path) -> tuple[Path, Path]:
    fake_run(runs / "a", classified_rows(80, patients=80))
    other = {**CONFIG, "model": {"name": "resnet18", "dims": 2}}
    fake_run(runs / "b", classified_rows(80, skill=2.5, seed=1, patients=80), config=other, seed=1)
    return runs / "a", runs / "b"


def test_differences_corrected_over_all_of_them(two) -> None:
    found = compared(*two)
    assert [one.test.metric for one in found.tests] == ["auc", "accuracy", "balanced_accuracy", "f1"]
    assert found.corrected_over == 4
    assert all((one.a, one.b) == ("a", "b") for one in found.tests)
    for one in found.tests:
        before, after = (run.metrics[one.test.metric].value for run in found.runs)
        assert one.test.difference == pytest.approx(after - before)
        assert one.test.low < one.test.difference < one.test.high
        assert one.test.p <= one.p_corrected <= min(1, 4 * one.test.p + 1e-12)
        assert one.verdict == "better"


def test_a_metric_chosen_before_is_not_corrected_for_others(two) -> None:
    found = compared(*two, metrics=("auc",))
    assert found.corrected_over == 1
    assert found.tests[0].p_corrected == found.tests[0].test.p
    per_class = compared(*two, metrics=("sensitivity/b",))
    assert per_class.tests[0].test.n < 80


def test_what_differs_and_what_it_costs(two) -> None:
    found = compared(*two)
    assert {(one.what, one.name) for one in found.differs} == {("configuration", "model.name"), ("seed", "train.seed")}
    assert dict(found.differs[0].values) == {"a": "tiny_cnn", "b": "resnet18"}
    cost = found.runs[1].cost
    assert (cost.train_seconds, cost.file_mb, cost.model_ms) == (13.5, 2.0, 7.25)


def test_with_a_time_budget_the_epochs_are_those_that_were_planned(runs) -> None:
    planned = {"epochs": 7, "samples_per_epoch": 20, "patience": 5, "minutes": 1.0}
    fake_run(runs / "a", classified_rows(), schedule=planned)
    fake_run(runs / "b", classified_rows(), schedule={**planned, "minutes": 0.0})
    found = {one.name: dict(one.values) for one in compared(runs / "a", runs / "b").differs}
    assert found["train.epochs"]["a"] == "7"
    assert found["train.epochs"]["b"] != "7", "without a budget the configuration tells"


def test_single_trainings_are_not_taken_for_methods(two, runs) -> None:
    assert "trainings, not methods" in compared(*two).caution


def test_a_run_against_its_copy(runs) -> None:
    for name in ("a", "b"):
        fake_run(runs / name, classified_rows())
    found = compared(runs / "a", runs / "b")
    assert {one.verdict for one in found.tests} == {"the same answers on every case"}
    assert {(one.test.p, one.test.difference) for one in found.tests} == {(1.0, 0.0)}
    assert found.differs == ()


def test_segmentation_has_dice_and_distances(runs) -> None:
    fake_run(runs / "a", segmented_rows())
    fake_run(runs / "b", segmented_rows(shift=0.05, seed=1))
    found = compared(runs / "a", runs / "b")
    assert [(one.test.metric, one.verdict) for one in found.tests] == [("dice", "better"), ("hd95_mm", "better")]
    assert found.tests[1].test.difference < 0, "a smaller distance is the better one"
    assert found.tests[1].test.n == 19
    files = write_comparison(found, runs.parent / "out")
    assert {path.name for path in files} >= {"compare.md", "differences.png", "differences-hd95_mm.png", "metrics.png"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-2], "2 cases only of a \\(case058, case059\\)"),
        (lambda rows: [*rows, {**rows[0], "id": "new"}], "1 case only of b"),
        (lambda rows: [{**rows[0], "truth": "a" if rows[0]["truth"] == "b" else "b"}, *rows[1:]], "another class"),
    ],
)
def test_other_cases_are_refused(runs, change, said) -> None:
    fake_run(runs / "a", classified_rows())
    fake_run(runs / "b", change(classified_rows(seed=1)))
    with pytest.raises(RunError, match=said) as error:
        compared(runs / "a", runs / "b")
    assert "--common" in error.value.remedy


@pytest.mark.parametrize("which", ["sha256", "masks"])
def test_other_content_under_the_same_id_is_refused(runs, which) -> None:
    rows = segmented_rows()
    fake_run(runs / "a", rows)
    changed = fake_run(runs / "b", rows)
    digests = json.loads(changed.images.read_text())
    digests[which]["case004"] = "0" * 64
    changed.images.write_text(json.dumps(digests))
    with pytest.raises(RunError, match=r"1 case with another (image|mask) under the same id \(case004\)"):
        compared(runs / "a", runs / "b")
    found = compared(runs / "a", runs / "b", common=True)
    assert (found.n, found.left_out) == (19, {"a": 1, "b": 1})


def test_the_common_cases_when_asked(runs) -> None:
    fake_run(runs / "a", classified_rows(80, patients=80))
    fake_run(runs / "b", classified_rows(80, seed=1, patients=80)[20:])
    found = compared(runs / "a", runs / "b", common=True)
    assert (found.n, found.left_out) == (60, {"a": 20, "b": 0})
    assert any("60 common cases only" in warning and "20 of a" in warning for warning in found.warnings)
    accuracy = np.mean([row["correct"] for row in classified_rows(80, patients=80)[20:]])
    assert found.runs[0].metrics["accuracy"].value == pytest.approx(accuracy)
    assert found.runs[0].metrics["accuracy"].method.startswith("recomputed")
    assert found.runs[1].metrics["accuracy"].method == "by hand"


def test_nothing_in_common_is_an_error_even_so(runs) -> None:
    fake_run(runs / "a", classified_rows())
    fake_run(runs / "b", [{**row, "id": f"x{row['id']}"} for row in classified_rows()])
    with pytest.raises(RunError, match="0 cases in common"):
        compared(runs / "a", runs / "b", common=True)


def test_runs_that_do_not_record_their_images_are_compared_by_id_and_said_so(two) -> None:
    (two[1] / "images.json").unlink()
    assert any("taken for the same" in warning for warning in compared(*two).warnings)


def test_other_tasks_and_classes_are_refused(runs) -> None:
    fake_run(runs / "a", classified_rows())
    fake_run(runs / "c", classified_rows(classes="abc"))
    fake_run(runs / "s", segmented_rows())
    with pytest.raises(RunError, match="segmentation"):
        compared(runs / "a", runs / "s")
    with pytest.raises(RunError, match="differ, by c"):
        compared(runs / "a", runs / "c")


def test_classes_in_another_order_are_the_same_classes(runs) -> None:
    rows = classified_rows()
    fake_run(runs / "a", rows)
    columns = ["id", "patient", "truth", "predicted", "correct", "p/b", "p/a", "centre", "defects"]
    fake_run(runs / "b", [{name: row[name] for name in columns} for row in rows])
    assert {one.verdict for one in compared(runs / "a", runs / "b").tests} == {"the same answers on every case"}


def test_patients_that_any_run_knows_are_joined(runs) -> None:
    fake_run(runs / "a", classified_rows(40, patients=40))
    fake_run(runs / "b", classified_rows(40, patients=20, seed=1))
    found = compared(runs / "a", runs / "b")
    assert found.patients == 20
    assert any("who is one patient" in warning for warning in found.warnings)
    groups, disagreed = joined_patients([list("aabc"), list("xyyz")])
    assert disagreed
    assert groups[0] == groups[1] == groups[2] != groups[3]


def test_leaks_failures_and_validation_are_told(runs) -> None:
    leaks = {"exact": 1, "near": 0, "patient": 0, "cases": 1, "judged": 60, "groups": []}
    fake_run(runs / "a", classified_rows(), accepted_leaks=leaks)
    fake_run(runs / "b", classified_rows(seed=1), split="val", failed=({"case": "x", "reason": "broken"},))
    warnings = " ".join(compared(runs / "a", runs / "b").warnings)
    assert "a: LEAK ACCEPTED" in warnings
    assert "1 case could not be evaluated" in warnings
    assert "too good" in warnings


def test_a_table_that_was_changed_is_told(two) -> None:
    path = two[1] / "evaluation" / "cases.csv"
    rows = read_csv(path)
    for row in rows:
        row["predicted"] = row["truth"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert any("accuracy is" in warning and "1.0000" in warning for warning in compared(*two).warnings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a table"),
        ("id,patient,truth,predicted,p/a,p/b\n1,p,a,a,x,0\n", "no number"),
        ("id,patient,truth,predicted,p/a,p/b\n1,p,a,c,1,0\n", "no probability"),
        ("id,patient,truth,predicted,p/a,p/b\n1,p,a|b,a,1,0\n", "no probability"),
        ("id,patient,truth,predicted,p/a,p/b\n1,p,a,a,1,0\n1,p,a,a,1,0\n", "twice"),
        ("id,patient,age\n1,p,3\n", "no column of it is a metric"),
        ("id,patient,dice\n1,p,0.5,extra\n", "not a table"),
    ],
)
def test_broken_tables_are_named(two, text, said) -> None:
    (two[1] / "evaluation" / "cases.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=said) as error:
        compared(*two)
    assert "cases.csv" in error.value.where


def test_a_run_that_is_not_evaluated(two) -> None:
    (two[1] / "evaluation" / "evaluation.json").unlink()
    with pytest.raises(RunError, match="not evaluated yet"):
        compared(*two)


def test_a_project_is_its_newest_run_and_names_are_told_apart(tmp_path) -> None:
    for project in ("one", "two"):
        fake_run(tmp_path / project / "runs" / "model-001", classified_rows())
    found = compared(tmp_path / "one", tmp_path / "two")
    assert [one.name for one in found.runs] == ["one/model-001", "two/model-001"]
    with pytest.raises(ConfigError, match="twice"):
        compared(tmp_path / "one", tmp_path / "one" / "runs" / "model-001")


def seeds_of(runs: Path, name: str, count: int, skill: float, first: int) -> Path:
    for place in range(count):
        rows = classified_rows(120, skill=skill, seed=first + place, patients=120)
        fake_run(runs / f"{name}{place}", rows, seed=place)
    return fake_group(runs / f"{name}-seeds-001", [f"{name}{place}" for place in range(count)])


def test_groups_of_seeds(runs) -> None:
    found = compared(seeds_of(runs, "a", 4, 1.0, 10), seeds_of(runs, "b", 4, 2.5, 20))
    assert "paired by seed" in found.tests[0].test.method
    assert {one.verdict for one in found.tests} == {"better"}
    spread = found.runs[0].spreads["auc"]
    assert len(spread.values) == 4
    measured = found.runs[0].metrics["auc"]
    assert measured.value == pytest.approx(spread.mean)
    assert measured.low < min(spread.values)
    unpaired = compared(runs / "a-seeds-001", seeds_of(runs, "c", 3, 2.5, 30))
    assert "Welch" in unpaired.tests[0].test.method
    assert found.to_json()["runs"][0]["seeds"] == ["0", "1", "2", "3"]


def test_a_group_and_a_single_run_do_not_go_together(runs, two) -> None:
    with pytest.raises(ConfigError, match="group of runs"):
        compared(seeds_of(runs, "s", 2, 1.0, 10), two[0])
    with pytest.raises(ConfigError, match="published"):
        compared(runs / "s-seeds-001", published=(parse_published("auc=0.9"),))


def test_folds_need_an_evaluation_of_their_own(runs, two) -> None:
    group = fake_group(runs / "m-folds-001", ["a", "b"], kind="folds")
    with pytest.raises(RunError, match="different test cases"):
        compared(group, two[0])
    fake_run(group, classified_rows(80, seed=5, patients=80))
    for file in ("config.yaml", "passport.json", "network.onnx"):
        (group / file).unlink()
    found = compared(group, two[0])
    assert found.runs[0].name == "m-folds-001"
    assert found.runs[0].cost.train_seconds == 13.0, "the mean of its runs"
    assert found.differs == (), "what its first run was trained with"


def test_a_group_that_is_not_whole(runs) -> None:
    group = seeds_of(runs, "a", 2, 1.0, 10)
    values = json.loads((group / "group.json").read_text())
    values["members"] = [{"run": "a0"}, {"run": "a1"}, {"run": None}]
    (group / "group.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match="1 of the group's runs"):
        compared(group, seeds_of(runs, "b", 2, 1.0, 20))


def in_folds(rows: list[dict[str, Any]], turned: int = 0) -> list[dict[str, Any]]:
    return [{**row, "fold": str((place + turned) % 4)} for place, row in enumerate(rows)]


def test_groups_of_folds_rank_within_their_folds(runs) -> None:
    """Each fold has a network of its own, and their probabilities have no common scale."""
    rows = in_folds(classified_rows(80, patients=80))
    for row in rows:  # the same order within the fold, another scale
        row["p/b"] = f"{float(row['p/b']) * (1 + int(row['fold'])) / 5:.6f}"
    fake_run(runs / "a", rows)
    fake_run(runs / "b", in_folds(classified_rows(80, skill=2.5, seed=1, patients=80)))
    found = compared(runs / "a", runs / "b", metrics=("auc",))
    areas = []
    for fold in "0123":
        mine = [row for row in rows if row["fold"] == fold]
        up, down = ([float(row["p/b"]) for row in mine if row["truth"] == name] for name in "ba")
        areas.append(scipy.stats.mannwhitneyu(up, down).statistic / (len(up) * len(down)))
    assert found.runs[0].metrics["auc"].value == pytest.approx(np.mean(areas))
    assert "swapped" in found.tests[0].test.method
    assert not found.warnings
    fake_run(runs / "c", in_folds(classified_rows(80, seed=2, patients=80), turned=1))
    with pytest.raises(RunError, match="not in the same folds"):
        compared(runs / "a", runs / "c")


def test_group_tests_false_alarms() -> None:
    """Same procedure, other seeds: by its construction at most 5 %; and the swap negates."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 60)
        groups = [[classified(rng, 60, "ab", 60, 1.0, truth) for _ in range(4)] for _ in range(2)]
        found = group_test(*groups, "accuracy", paired=True)
        alarms += found.p <= 0.05
        back = group_test(*groups[::-1], "accuracy", paired=True)
        assert (back.p, back.difference) == pytest.approx((found.p, -found.difference))
    assert alarms / 200 <= 0.08


# -- published numbers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("auc", "'auc' is no NAME=NUMBER"),
        ("auc=x", "no NAME=NUMBER"),
        ("auc=0.9,accuracy=0.8", "two metrics"),
        ("n=5", "no metric"),
        ("auc=1.2", "from 0 to 1"),
        ("auc=0.9,n=2.5", "whole numbers"),
        ("auc=0.9,n=10,positives=10", "fewer than n"),
        ("auc=0.9,positives=3", "positives without n"),
        ("auc=0.9,low=0.8", "low and high"),
        ("dice=0.9,low=0.95,high=0.99", "low and high"),
        ("dice=0.9,sd=0.1", "sd"),
    ],
)
def test_published_numbers_that_cannot_be(text, said) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_published(text)


def test_hanley_and_mcneils_variance_is_that_of_their_model() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(2000):  # their model: exponential scores
        up, down = rng.exponential(4.0, 40), rng.exponential(1.0, 60)
        areas.append(scipy.stats.mannwhitneyu(up, down).statistic / 2400)
    assert np.var(areas) == pytest.approx(hanley_mcneil(0.8, 40, 60), rel=0.1)


def published_test(text: str, n: int = 200, skill: float = 1.0, patients: int | None = None):
    answers = classified(np.random.default_rng(0), n, "ab", patients or n, skill)
    published = parse_published(text)

    return against_published(answers, remeasured(answers, QUICK)[published.metric], published), answers


def test_an_accuracy_against_a_published_proportion() -> None:
    found, answers = published_test("accuracy=0.854,n=624")
    right = int(np.sum(answers.predicted == answers.truth))
    table = [[right, 200 - right], [round(0.854 * 624), 624 - round(0.854 * 624)]]
    judge = scipy.stats.chi2_contingency(table, correction=False).pvalue
    assert found.p == pytest.approx(judge, rel=0.05)
    assert found.low < found.difference < found.high
    assert "unpaired" in found.method
    exact, _ = published_test("accuracy=0.7")
    assert exact.p == pytest.approx(scipy.stats.binomtest(right, 200, 0.7).pvalue)
    assert "exact binomial" in exact.method
    assert "taken as exact" in exact.method


def test_newcombes_interval_is_what_mover_gives_two_proportions() -> None:
    """Newcombe 1998, table II, method 10, example (a): 56/70 against 48/80 is 0.2 [0.0524, 0.3339]."""

    n, right = 70, 56
    truth = np.zeros(n, dtype=np.int64)
    predicted = np.where(np.arange(n) < right, 0, 1)
    answers = Answers(
        "classification",
        tuple(map(str, range(n))),
        tuple(map(str, range(n))),
        ("a", "b"),
        truth,
        predicted,
        np.eye(2)[predicted],
    )
    own = Measured(right / n, *wilson(right / n, n), n, "")
    found = against_published(answers, own, parse_published("accuracy=0.6,n=80"))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_an_auc_against_a_published_one() -> None:
    known, _ = published_test("auc=0.95,n=624,positives=390")
    assumed, _ = published_test("auc=0.95,n=624")
    assert "390 of 624 positive (as given)" in known.method
    assert "assumed as among this run's cases" in assumed.method
    few, _ = published_test("auc=0.95,n=30,positives=15")
    assert few.p > known.p
    assert few.high - few.low > known.high - known.low
    told, _ = published_test("auc=0.95,low=0.9,high=0.98")
    assert "as published" in told.method


def test_false_alarms_against_published_numbers() -> None:
    """400 pairs of samples of one population, the second one known by its number only; SD of the rate 1.1 %."""
    alarms = dict.fromkeys(("auc", "accuracy"), 0)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        mine, theirs = classified(rng, 100, "ab", 100, 1.0), classified(rng, 150, "ab", 150, 1.0)
        area = delong_interval(mine.truth == 1, mine.probabilities[:, 1], mine.patients)
        share = float(np.mean(mine.predicted == mine.truth))
        own = {"auc": Measured(*area, 100, ""), "accuracy": Measured(share, *wilson(share, 100), 100, "")}
        for metric in alarms:
            value = point(theirs.statistics()[metric], 150)
            told = Published(metric, value, n=150, positives=int(theirs.truth.sum()) if metric == "auc" else 0)
            alarms[metric] += against_published(mine, own[metric], told).p <= 0.05
    assert all(0.02 <= count / 400 <= 0.08 for count in alarms.values()), alarms


def test_other_metrics_need_more_than_n(runs) -> None:
    with pytest.raises(ConfigError, match="does not tell"):
        published_test("f1=0.8,n=100")
    assert math.isfinite(published_test("f1=0.8,low=0.7,high=0.9")[0].p)
    fake_run(runs / "s", segmented_rows())
    found = compared(runs / "s", published=(parse_published("dice=0.99,n=40,sd=0.02"),), metrics=("dice",))
    assert found.tests[0].verdict == "worse"
    assert any("may not be comparable" in warning for warning in found.warnings)


# -- words and files


def test_verdicts_never_claim_equality() -> None:

    def said(difference: float, p: float, corrected: float, metric: str = "auc", smallest: float = 0.0) -> str:
        test = PairedTest(metric, difference, -1, 1, p, "", 10, 10, smallest_p=smallest)
        return verdict(test, corrected)

    assert said(0.1, 0.01, 0.02) == "better"
    assert said(-0.1, 0.01, 0.02) == "worse"
    assert said(-0.1, 0.01, 0.02, "hd95_mm") == "better"
    assert said(0.1, 0.03, 0.12) == "no difference shown after correction"
    assert said(0.0, 0.9, 1.0) == "no difference shown"
    assert said(0.1, 0.125, 0.125, smallest=0.125) == "too few to show a difference"
    assert said(0.1, math.nan, math.nan) == "no test"


def test_the_files_say_what_the_result_says(two, tmp_path) -> None:
    found = compared(*two)
    folder = tmp_path / "out"
    write_comparison(found, folder)
    values = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    assert values == json.loads(json.dumps(found.to_json()))
    assert {"metric", "a", "b", "difference", "low", "high", "p", "p_corrected", "method", "n"} <= set(
        values["tests"][0]
    )
    rows = read_csv(folder / "compare.csv")
    assert [row["metric"] for row in rows] == [one.test.metric for one in found.tests]
    assert float(rows[0]["difference"]) == pytest.approx(found.tests[0].test.difference, rel=1e-5)
    page = as_markdown(found)
    assert "Not a medical device" in page
    assert "does not mean equal" in page
    assert "equal" not in as_csv(found)
    assert "McNemar test with mid-p" in page
    write_comparison(found, tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_a_metric_nobody_has(two) -> None:
    with pytest.raises(ConfigError, match="'dise' cannot be compared"):
        compared(*two, metrics=("dise",))


def test_several_labels_a_case_are_compared_label_by_label(runs) -> None:
    fake_run(runs / "a", labelled_rows(), multi_label=True)
    fake_run(runs / "b", labelled_rows(skill=2.5, seed=1), multi_label=True)
    found = compared(runs / "a", runs / "b")
    assert [one.test.metric for one in found.tests] == ["auc", "auprc", "f1", "subset_accuracy"]
    rows = [read_csv(runs / name / "evaluation" / "cases.csv") for name in "ab"]
    truth = np.array([[name in row["truth"].split("|") for name in "abc"] for row in rows[0]])
    scores = [np.array([[float(row[f"p/{name}"]) for name in "abc"] for row in one]) for one in rows]
    macro = [roc_auc_score(truth, one, average="macro") for one in scores]
    assert found.tests[0].test.difference == pytest.approx(macro[1] - macro[0])
    assert found.tests[0].verdict == "better"
    right = [np.mean([row["truth"] == row["predicted"] for row in one]) for one in rows]
    assert found.tests[3].test.difference == pytest.approx(right[1] - right[0])
    by_label = compared(runs / "a", runs / "b", metrics=("auc/b", "sensitivity/c", "auc_micro")).tests
    single = [roc_auc_score(truth[:, 1], one[:, 1]) for one in scores]
    assert by_label[0].test.difference == pytest.approx(single[1] - single[0])
    assert not found.warnings


def test_a_table_with_one_label_a_case_is_still_one_of_several(runs) -> None:
    """The evaluation says which it is: read as one class, sensitivities and AUC would be others."""
    rows = [
        row for row in labelled_rows(n=120) if row["truth"] in ("a", "b", "c") and row["predicted"] in ("a", "b", "c")
    ]
    for name in "ab":
        fake_run(runs / name, rows, multi_label=True)
    found = compared(runs / "a", runs / "b")
    assert "subset_accuracy" in found.runs[0].metrics
    fake_run(runs / "c", rows)
    with pytest.raises(RunError, match=r"a has several labels a case \(data.multi_label\), c one class"):
        compared(runs / "a", runs / "c")


def test_of_several_labels_a_published_number_needs_its_interval(runs) -> None:
    fake_run(runs / "a", labelled_rows(), multi_label=True)
    with pytest.raises(ConfigError, match="how uncertain a published auc is"):
        compared(runs / "a", published=(parse_published("auc=0.8,n=100"),))
    found = compared(runs / "a", published=(parse_published("auc=0.8,low=0.7,high=0.9"),))
    assert math.isfinite(found.tests[0].test.p)


@pytest.mark.parametrize(
    ("key", "value"), [("operating_point", "sensitivity=0.95"), ("surface_tolerance_mm", 1.0), ("split", "val")]
)
def test_other_settings_of_the_evaluation_are_told(runs, key, value) -> None:
    """They need not stand in the run's config.yaml: `medrail evaluate --set`."""
    usual = {"operating_point": "youden", "surface_tolerance_mm": 2.0, "split": "test", "resamples": 2000}
    fake_run(runs / "a", classified_rows(), settings=usual)
    fake_run(runs / "b", classified_rows(skill=2.0, seed=1), settings=usual | {"resamples": 500})
    fake_run(runs / "c", classified_rows(skill=2.0, seed=1), settings=usual | {key: value})
    assert not any("other settings" in one for one in compared(runs / "a", runs / "b").warnings)
    found = compared(runs / "a", runs / "c")
    assert any(
        f"judged with other settings, so the numbers may not mean the same: evaluate.{key}" in one
        for one in found.warnings
    )
    (row,) = [one for one in found.differs if one.name == f"evaluate.{key}"]
    assert dict(row.values) == {"a": str(usual[key]), "c": str(value)}


def test_two_runs_on_another_hospitals_cases(runs, two) -> None:
    """runs/X/external/NAME is an evaluation as the run's own; images.json proves that the cases are the same."""
    for name, skill, seed in (("a", 1.0, 5), ("b", 2.5, 6)):
        rows = [{**row, "id": f"other{row['id']}"} for row in classified_rows(50, skill=skill, seed=seed)]
        made = fake_run(runs.parent / f"made-{name}", rows)
        shutil.copytree(made.evaluation, runs / name / "external" / "north")
        shutil.copy(made.images, runs / name / "external" / "north")
    folders = [runs / name / "external" / "north" for name in "ab"]
    found = compared(*folders)
    assert [one.name for one in found.runs] == ["a/north", "b/north"]
    assert found.n == 50
    assert {one.name for one in found.differs} >= {"model.name"}
    assert found.runs[0].cost.train_seconds == 12.5
    assert not found.warnings
    with pytest.raises(RunError, match="not judged on the same cases"):
        compared(folders[0], two[1])
    digests = json.loads((folders[1] / "images.json").read_text())
    digests["sha256"]["othercase007"] = "0" * 64
    (folders[1] / "images.json").write_text(json.dumps(digests))
    with pytest.raises(RunError, match="1 case with another image"):
        compared(*folders)
