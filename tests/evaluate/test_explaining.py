"""Maps of evidence put to the test by evaluate(): good ones are trusted, bad ones are not."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from medrail.bundle import InputKind, NetworkSpec, write_network
from medrail.cases import read_roi
from medrail.config import Config, parse
from medrail.errors import InputError
from medrail.evaluate import Evaluation, evaluate
from medrail.evaluate import explaining as room
from medrail.evaluate.bootstrap import Measured
from medrail.evaluate.explaining import drawn, trust
from medrail.evaluate.explanation import Explainer
from medrail.evaluate.page import Shown, page
from medrail.evaluate.scored import Scored
from medrail.read import read
from medrail.types import Case, Evidence, Image
from medrail.workspace import Run, Workspace
from small_bundles import evidence_network

onnx = pytest.importorskip("onnx")
SIZE, SIDE = 32, 10


@dataclass
class Squares:
    run: Run
    config: Config
    cases: list[Case]


@pytest.fixture
def squares(tmp_path: Path) -> Callable[..., Squares]:
    """Pictures with a bright square (which is their roi) and dark ones without; the network adds up brightness."""

    def make(*, exact: bool, patients: int = 8, **settings: Any) -> Squares:
        rng = np.random.default_rng(0)
        cases = []
        for number in range(2 * patients):
            pixels = rng.normal(0, 0.02, (SIZE, SIZE)).clip(0)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            top, left = rng.integers(0, SIZE - SIDE, 2)
            mask[top : top + SIDE, left : left + SIDE] = 255
            lit = number % 2 == 1
            pixels = (60 * pixels + lit * (mask > 0) * 200).clip(0, 255).astype(np.uint8)
            path, roi = tmp_path / f"i{number}.png", tmp_path / f"i{number}_roi.png"
            Picture.fromarray(pixels).save(path)
            Picture.fromarray(mask).save(roi)
            label = ("dark", "lit")[lit]
            cases.append(
                Case(
                    f"i{number}",
                    f"p{number // 2}",
                    (str(path),),
                    target=label,
                    split="test",
                    roi=str(roi) * lit or None,
                )
            )
        run = Workspace(tmp_path).run("squares-001")
        run.folder.mkdir(parents=True)
        network = onnx.load_from_string(evidence_network())
        bias = next(one for one in network.graph.initializer if one.name == "bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0, -5], np.float32), "bias"))
        if not exact:
            del network.graph.output[2]
        run.network.write_bytes(network.SerializeToString())
        write_network(
            run.folder, NetworkSpec("classification", ("dark", "lit"), 2, 1, (), InputKind(True, 1, "uint8")), {}
        )
        config = parse(
            {
                "task": "classification",
                "data": {"kind": "class_folders", "path": str(tmp_path), "classes": ["dark", "lit"]},
                "model": {"name": "tiny_cnn", "dims": 2},
                "evaluate": {"resamples": 200, **settings},
                "serve": {"threads": 1},
            }
        )
        return Squares(run, config, cases)

    return make


def shows(map_of: Callable[[np.ndarray], np.ndarray]) -> Explainer:
    def explain(image: Image, class_name: str, roi: Image | None) -> Evidence:
        values = map_of(image.voxels.astype(np.float32))
        return Evidence(class_name or "lit", Image(values.astype(np.float32)), exact=False, method="made up")

    return explain


def judged(given: Squares, explainer: Explainer | None = None) -> Evaluation:
    return evaluate(given.run, given.config, given.cases, explainer=explainer)


def page_of(given: Squares) -> str:
    return (given.run.evaluation / "index.html").read_text(encoding="utf-8")


def test_exact_evidence_is_tested_without_any_explainer(squares: Callable[..., Squares]) -> None:
    given = squares(exact=True)
    found = judged(given)
    assert set(found.explanation) == {
        "pointing_hit_rate", "pointing_by_chance", "deletion_area", "deletion_area_elsewhere", "deletion_gain",
    }  # fmt: skip
    assert found.explanation["pointing_hit_rate"].value == 1
    assert found.explanation["pointing_hit_rate"].n == 8, "only the cases with a region"
    assert found.explanation["pointing_by_chance"].value == pytest.approx((SIDE / SIZE) ** 2)
    assert found.explanation["deletion_gain"].n == 16
    assert all(one.method.endswith("exact evidence") for one in found.explanation.values())
    assert Evaluation.load(given.run).explanation == found.explanation
    assert "Are the maps to be trusted?" in page_of(given)
    assert "Grad-CAM" not in page_of(given)
    assert found.seconds["explain"] >= 0


def test_a_good_approximate_map_is_trusted_and_marked_as_approximate(squares: Callable[..., Squares]) -> None:
    given = squares(exact=False)
    found = judged(given, shows(lambda voxels: voxels))
    assert found.explanation["deletion_gain"].low > 0
    sentence = trust(found.explanation, found.patients)
    assert sentence
    assert "may be trusted" in sentence[0]
    text = page_of(given)
    assert sentence[1] in text
    assert text.count("approximate (Grad-CAM)</span>") == 5, "under each of the worst five"
    assert text.count("近似（Grad-CAM）</span>") == 5
    plain = given.run.evaluation / "overlays" / "i0.png"
    with Picture.open(plain) as sheet:
        with_map = sheet.size
    judged(given)
    with Picture.open(plain) as sheet:
        assert sheet.size != with_map, "without an explainer there is no second panel"


def test_a_wrong_map_is_not_trusted(squares: Callable[..., Squares]) -> None:
    given = squares(exact=False)
    inverted = judged(given, shows(lambda voxels: -voxels))
    assert inverted.explanation["pointing_hit_rate"].value == 0
    assert "may be trusted" not in str(trust(inverted.explanation, inverted.patients))
    rng = np.random.default_rng(1)
    noise = judged(given, shows(lambda voxels: rng.normal(size=voxels.shape)))
    assert "may be trusted" not in str(trust(noise.explanation, noise.patients))


def test_too_few_patients_give_no_verdict(squares: Callable[..., Squares]) -> None:
    given = squares(exact=False, patients=2)
    found = judged(given, shows(lambda voxels: voxels))
    assert "too few patients" in str(trust(found.explanation, found.patients))


def test_nothing_is_tested_where_nothing_is_asked_for_or_can_be_shown(squares: Callable[..., Squares]) -> None:
    given = squares(exact=True, explained_cases=0)
    assert judged(given).explanation == {}
    assert "Are the maps to be trusted?" not in page_of(given)
    assert trust({}, 9) is None


def test_a_map_that_cannot_be_drawn_sinks_nothing(squares: Callable[..., Squares]) -> None:
    def explain(image: Image, class_name: str, roi: Image | None) -> Evidence:
        raise InputError("no map today")

    found = judged(squares(exact=False), explain)
    assert found.n == 16
    assert found.explanation == {}
    assert any("no map today" in text for text in found.warnings)


def test_of_a_slow_network_fewer_cases_are_tested_and_it_is_said(
    squares: Callable[..., Squares], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_affordable", lambda scored: 3)
    found = judged(squares(exact=True))
    assert found.explanation["deletion_gain"].n == 3
    assert any("3 of 16 cases" in text for text in found.warnings)


def test_tests_that_take_too_long_in_fact_are_broken_off_and_it_is_said(
    squares: Callable[..., Squares], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = squares(exact=True)
    monkeypatch.setattr(room, "BUDGET_S", 0.0)
    monkeypatch.setattr(room, "_affordable", lambda scored: 16)
    found = judged(given)
    assert found.explanation == {}
    assert any("0 of 16 cases" in text for text in found.warnings)


def test_what_is_affordable_follows_from_the_time_of_judging() -> None:
    case = Case("a", "p", ("a.png",), target="lit", split="test")
    scored = [Scored(case, 0.0, {"prepare": 5.0, "model": 90.0, "post": 5.0})]
    assert room._affordable(scored) == int(room.BUDGET_S / (91 * 0.1))


def test_cases_are_drawn_by_the_seed_from_as_many_patients_as_there_are() -> None:
    scored = [Scored(Case(f"c{n}", f"p{n // 10}", ("a.png",), target="x", split="test"), 0.0, {}) for n in range(60)]
    for seed in range(5):
        assert len({one.case.patient for one in drawn(scored, 6, seed)}) == 6
    assert drawn(scored, 9, 1) == drawn(scored, 9, 1)
    assert drawn(scored, 9, 1) != drawn(scored, 9, 2)
    assert len({one.case.id for one in drawn(scored, 60, 0)}) == 60


def test_a_network_that_is_given_the_region_is_not_praised_for_pointing_at_it(squares: Callable[..., Squares]) -> None:
    given = squares(exact=True)
    kind = InputKind(True, 1, "uint8")
    spec = NetworkSpec("classification", ("dark", "lit"), 2, 1, ({"kind": "crop_roi"},), kind)
    write_network(given.run.folder, spec, {})
    lit = [case for case in given.cases if case.roi]
    assert all(read_roi(case, read(case.paths[0])) for case in lit)
    found = evaluate(given.run, given.config, lit).explanation
    assert "deletion_gain" in found
    assert "pointing_hit_rate" not in found


def test_exact_evidence_of_a_label_is_not_said_to_be_against_the_others(squares: Callable[..., Squares]) -> None:
    given = squares(exact=True)
    found = judged(given)
    picture = given.run.evaluation / "overlays" / "i0.png"
    for multi_label in (False, True):
        shown = Shown("run", ("dark", "lit"), worst=[("i0", "", picture)], has_evidence=True, multi_label=multi_label)
        text = html.unescape(page(found, shown))
        assert ("the mean of the others'" in text) is not multi_label
        assert ("is the label's logit" in text) is multi_label


def test_a_gain_without_an_interval_is_told_without_one() -> None:
    gain = Measured(0.029, float("nan"), float("nan"), 20, "of one patient")
    english, chinese = trust({"deletion_gain": gain}, 1) or ("", "")
    assert "without an interval" in english
    assert "nan" not in english + chinese
