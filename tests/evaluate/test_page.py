"""The page of an evaluation: whole, alone, safe whatever names are, and with every number that was found."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from hospitals import hospital
from medrail.cases import Leak, Leaked
from medrail.evaluate import Evaluation, evaluate, fit_calibration, pictures
from medrail.evaluate.glossary import MEANINGS, meaning_of
from medrail.evaluate.page import Shown, page
from medrail.evaluate.pictures import forest
from medrail.evaluate.words import WORDS

onnx = pytest.importorskip("onnx")
VOID = {"meta", "input", "img", "br"}


class Reader(HTMLParser):
    """Every element, its attributes, the text, and whether all that is opened is closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Evaluation, str]:
    given = hospital(tmp_path_factory.mktemp("hospital"), classes=("none", "mild <b>", "severe & more"))
    fit_calibration(given.run, given.config, given.workspace, given.cases)
    evaluation = evaluate(given.run, given.config, given.cases)
    return given, evaluation, (given.run.evaluation / "index.html").read_text(encoding="utf-8")


def test_it_stands_alone(judged: Any) -> None:
    _, _, text = judged
    reader = read_page(text)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "form")
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http:" not in re.sub(r"data:[^\"]*", "", text)
    assert "default-src 'none'" in text
    assert len(text) < 5_000_000


def test_all_that_was_found_is_there(judged: Any) -> None:
    given, evaluation, text = judged
    reader = read_page(text)
    for measured in evaluation.metrics.values():
        assert f"{measured.value:.3f}" in reader.text
        assert f"[{measured.low:.3f}, {measured.high:.3f}]" in reader.text
        assert measured.method in reader.text
    titles = (
        "Confusion",
        "ROC",
        "Operating points",
        "conformal",
        "Unlike the training data?",
        "Parts",
        "The worst cases",
    )
    assert all(title in reader.text for title in titles)
    assert "Not a medical device" in reader.text
    assert evaluation.patients_needed["sentence"] in reader.text
    assert all(sentence in reader.text for sentence in evaluation.calibration["said"])
    drawn = {path.stem for path in (given.run.evaluation / "pictures").glob("*.png")}
    assert drawn == {"roc", "precision_recall", "reliability", "abstention", "ood", "subgroups"}
    images = [attributes for tag, attributes in reader.elements if tag == "img"]
    assert len(images) == len(drawn) + 5
    assert all(image.get("alt") for image in images)


def test_names_are_text_and_nothing_else(judged: Any) -> None:
    _, _, text = judged
    assert "mild <b>" not in text
    assert "mild &lt;b&gt;" in text
    assert "Acme <One>" not in text
    assert "mild <b>" in read_page(text).text


def test_both_languages_say_everything(judged: Any) -> None:
    _, _, text = judged
    assert text.count('lang="en"') - 1 == text.count('lang="zh-CN"')
    for word, (english, chinese) in WORDS.items():
        assert english or word == "english"
        assert re.search(r"[\u4e00-\u9fff]", chinese) or word in ("n", "language"), word
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese)), word


def test_leaks_come_first(judged: Any) -> None:
    _, evaluation, _ = judged
    leaked = Leaked(90, (Leak("patient", ("a", "b"), ("train", "test")),), {"a": {"patient": "its patient"}})
    reader = read_page(page(replace(evaluation, accepted_leaks=leaked.to_json()), Shown("run", ("a", "b", "c"))))
    assert "LEAK ACCEPTED" in reader.text
    assert reader.text.index("LEAK ACCEPTED") < reader.text.index("what it says")


def test_every_metric_is_explained(judged: Any, segmentation: Any) -> None:
    _, evaluation, _ = judged
    other = evaluate(segmentation.run, segmentation.config, segmentation.cases)
    points = [name for rates in evaluation.operating_points.values() for name in rates]
    for name in (
        *evaluation.metrics,
        *other.metrics,
        *evaluation.conformal,
        *evaluation.ood,
        *evaluation.explanation,
        *points,
    ):
        assert meaning_of(name), name
    for name, meaning in MEANINGS.items():
        assert meaning.better in ("high", "low"), name
        for texts in (meaning.title, meaning.says):
            assert all(texts), name


def test_a_segmentation_has_its_page_too(segmentation: Any) -> None:
    evaluation = evaluate(segmentation.run, segmentation.config, segmentation.cases)
    reader = read_page((segmentation.run.evaluation / "index.html").read_text(encoding="utf-8"))
    assert "Surface Dice" in reader.text
    assert "Confusion" not in reader.text
    assert (segmentation.run.evaluation / "pictures" / "per_case_dice.png").is_file()
    assert evaluation.operating_points == {}


def test_what_is_too_small_is_grey(judged: Any) -> None:
    _, evaluation, text = judged
    assert evaluation.too_small["scanner"] == {"Old & rare": "3 patients, fewer than 10"}
    assert text.count('<tr class="muted">') == 0
    assert text.count("<tr class=muted>") == sum(map(len, evaluation.too_small.values())) == 2
    rows = {row.label: row for row in forest(evaluation)}
    assert rows["scanner: Old & rare"].muted
    assert not rows["sex: female"].muted
    assert rows["all"].value == evaluation.metrics["auc"].value


def test_every_number_of_the_head_and_the_operating_points_has_its_n(judged: Any) -> None:
    _, evaluation, text = judged
    told = read_page(text).text
    first = next(iter(evaluation.metrics.values()))
    assert f"{first.value:.3f} [{first.low:.3f}, {first.high:.3f}], n = {first.n}" in told
    for rates in evaluation.operating_points.values():
        for one in rates.values():
            assert f"{one.value:.3f}[{one.low:.3f}, {one.high:.3f}]n = {one.n}" in told
    assert "given the lowest probability" in told, "by what the cases are ranked"
    assert len(re.findall("<table", text)) == len(re.findall('<div class="scroll" tabindex="0"><table', text))


def test_of_two_classes_nothing_is_said_twice(judged: Any) -> None:
    _, evaluation, _ = judged
    one = evaluation.metrics["sensitivity/mild <b>"]
    names = ("auc", "sensitivity", "specificity", "sensitivity/ill", "sensitivity/well")
    two = replace(evaluation, metrics=dict.fromkeys(names, one), confusion=(), strata={})
    told = read_page(page(two, Shown("run", ("well", "ill")))).text
    assert "Sensitivity: ill" not in told
    assert "Sensitivity and positive predictive value are of ill" in told
    three = read_page(page(evaluation, Shown("run", ("none", "mild <b>", "severe & more")))).text
    assert "Sensitivity: mild <b>" in three


def test_what_cases_are_worth_is_explained_where_it_is_said(judged: Any) -> None:
    _, evaluation, _ = judged
    first = next(iter(evaluation.metrics))
    for method, said in (("9 patients, whose 12 cases are worth 10 independent ones", True), ("9 patients", False)):
        one = replace(evaluation, metrics={first: replace(evaluation.metrics[first], method=method)}, strata={})
        told = read_page(page(one, Shown("run", ("a", "b", "c")))).text
        assert ("images of one patient are alike" in told) == said


def test_curves_and_points_say_how_many_cases_they_are_of(judged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given, evaluation, _ = judged
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(pictures, "draw_panels", lambda path, panels: drawn.setdefault(path.stem, panels[0]))
    pictures.draw_pictures(given.run.folder, replace(evaluation, strata={}))
    for label in evaluation.curves["roc"]:
        n = evaluation.metrics[f"sensitivity/{label}"].n
        assert any(label in name and f"{n} cases of it" in name for name in drawn["roc"].curves)
    alone = {"roc": {"ill": [(0.0, 0.0), (1.0, 1.0)]}}
    area = evaluation.metrics["auc"]
    drawn.pop("roc")
    pictures.draw_pictures(given.run.folder, replace(evaluation, curves=alone, strata={}))
    assert list(drawn["roc"].curves) == [f"ill: AUC {area.value:.3f} [{area.low:.3f}, {area.high:.3f}], n = {area.n}"]
    counts = [int(note.removeprefix("n=")) for note in drawn["reliability"].notes["cases"]]
    assert len(counts) == len(evaluation.curves["reliability"]["cases"])
    assert sum(counts) == evaluation.n, "every case is behind a point"
