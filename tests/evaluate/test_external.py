"""Classes by name, mask values by class, and the interval of a difference of independent samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medrail.config import Config, DataConfig, parse
from medrail.errors import ConfigError
from medrail.evaluate.answers import Answers
from medrail.evaluate.bootstrap import Measured, wilson
from medrail.evaluate.external import class_map, drops, fitting_config, in_words_of, reachable, threshold_carries
from medrail.types import Case

CLASSES = ("background", "cytoplasm", "nucleus")


def config(**data: Any) -> Config:
    given = {"kind": "pairs", "path": "x", "classes": list(CLASSES), **data}
    return parse({"task": "segmentation", "data": given, "model": {"name": "unet", "dims": 2}})


def test_mask_values_go_with_the_names() -> None:
    other = config(classes=["nucleus", "Background", "cytoplasm"], mask_values=[7, 0, 3], path="there")
    run = config(mask_values=[0, 128, 255], on_defect="resample")
    fitted, notes = fitting_config(run, other, CLASSES, named=True)
    assert fitted.data.classes == CLASSES
    assert fitted.data.mask_values == (0, 3, 7)
    assert (fitted.data.path, fitted.data.on_defect) == ("there", "resample")
    assert fitted.model == run.model
    assert notes == ()


def test_made_up_names_are_known_by_their_values() -> None:
    run = config(mask_values=[0, 255, 128])
    other = config(classes=["background", "value_128", "value_255"], mask_values=[0, 128, 255])
    fitted, notes = fitting_config(run, other, CLASSES, named=False)
    assert fitted.data.mask_values == (0, 255, 128)
    assert "0, 255, 128 for background, cytoplasm, nucleus" in notes[0]
    with pytest.raises(ConfigError, match=r"values 0, 1, 2; needed: those of the run's data, 0, 255, 128"):
        fitting_config(run, config(), CLASSES, named=False)


def test_everything_above_0_needs_two_classes() -> None:
    two = {"classes": ["background", "lesion"], "foreground_nonzero": True}
    fitted, _ = fitting_config(config(classes=["background", "lesion"]), config(**two), two["classes"], named=False)
    assert fitted.data.foreground_nonzero
    with pytest.raises(ConfigError, match="those of the run's data"):
        fitting_config(config(), config(**two), CLASSES, named=False)


@pytest.mark.parametrize(
    ("classes", "match"),
    [(["background", "cytoplasm"], "no class 'nucleus'"), (["background", "cytoplasm", "necleus"], "Did you mean")],
)
def test_a_class_without_counterpart_is_an_error(classes: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        fitting_config(config(), config(classes=classes), CLASSES, named=True)


def test_another_task_is_an_error() -> None:
    other = parse(
        {"task": "classification", "data": {"kind": "csv", "path": "x"}, "model": {"name": "tiny_cnn", "dims": 2}}
    )
    with pytest.raises(ConfigError, match="for classification, and the network is for segmentation"):
        fitting_config(config(), other, CLASSES, named=True)


def test_a_subset_of_the_classes_is_enough_for_labels() -> None:
    assert class_map(["NUCLEUS"], CLASSES) == {"NUCLEUS": "nucleus"}


def scores(values: np.ndarray, name: str) -> Answers:
    ids = tuple(f"{name}{number}" for number in range(len(values)))
    return Answers("segmentation", ids, ids, scores={"dice": values})


def test_the_samples_are_resampled_apart() -> None:
    """The same numbers on both sides: the difference is 0, and its interval is that of two samples, not of none."""
    values = np.random.default_rng(0).random(200)
    drop = drops(scores(values, "a"), scores(values, "b"), resamples=2000, seed=0)["dice"].difference
    assert drop.value == 0
    expected = 1.96 * np.sqrt(2 * values.var() / len(values))
    assert (drop.low, drop.high) == (pytest.approx(-expected, rel=0.1), pytest.approx(expected, rel=0.1))


@pytest.mark.slow
def test_the_interval_of_the_difference_covers_it() -> None:
    """2,000 pairs of samples whose means differ by 0.2: 95 % intervals cover that in 93 to 97 of 100."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        internal, external = rng.normal(0.8, 0.1, 80), rng.normal(0.6, 0.2, 50)
        one = drops(scores(internal, "a"), scores(external, "b"), resamples=500, seed=int(rng.integers(1 << 30)))
        inside += one["dice"].difference.low <= -0.2 <= one["dice"].difference.high
    assert 0.93 <= inside / 2000 <= 0.97


def perfect(count: int, name: str, right: float = 1.0) -> tuple[Answers, dict[str, Measured]]:
    """All Dice the same, and the evaluation's interval of it."""
    return scores(np.full(count, right), name), {"dice": Measured(right, *wilson(right, count), count, "Wilson")}


def test_perfect_on_both_sides_is_not_certain() -> None:
    """Eight and ten patients, all right: the drop may still be large in either direction (Newcombe's interval)."""
    ours, before = perfect(8, "a")
    theirs, after = perfect(10, "b")
    drop = drops(ours, theirs, (before, after), resamples=200, seed=0)["dice"].difference
    assert drop.value == 0
    assert (drop.low, drop.high) == (
        pytest.approx(after["dice"].low - 1),
        pytest.approx(1 - before["dice"].low),
    )
    assert "MOVER" in drop.method
    without = drops(ours, theirs, (before, {}), resamples=200, seed=0)["dice"].difference
    assert np.isnan([without.low, without.high]).all()
    assert without.method == "no interval: all resamples alike"


def test_one_perfect_side_keeps_its_doubt() -> None:
    ours, before = perfect(8, "a")
    values = np.random.default_rng(0).normal(0.8, 0.02, 40)
    after = {"dice": Measured(float(values.mean()), 0.79, 0.81, 40, "")}
    drop = drops(ours, scores(values, "b"), (before, after), resamples=200, seed=0)["dice"].difference
    assert drop.high > 0.05 > -0.15 > drop.low - 1
    assert drop.high - drop.low > 1 - before["dice"].low


def test_few_patients_make_an_interval_a_guess() -> None:
    values = np.random.default_rng(0).random(40)
    few = drops(scores(values[:4], "a"), scores(values, "b"), resamples=200, seed=0)["dice"].difference
    assert few.method.endswith("; only 4 patients: the interval is a guess")
    enough = drops(scores(values[:5], "a"), scores(values, "b"), resamples=200, seed=0)["dice"].difference
    assert "guess" not in enough.method


def labelled(*targets: str) -> list[Case]:
    return [Case(f"c{number}", (f"c{number}.png",), "p", target) for number, target in enumerate(targets)]


def test_labels_are_renamed_one_by_one() -> None:
    several = DataConfig(kind="csv", path="x", multi_label=True)
    found, said = in_words_of(labelled("effusion|MASS", "", "Mass"), ("Mass", "Effusion", "Hernia"), several, several)
    assert [case.target for case in found] == ["Mass|Effusion", "", "Mass"]
    assert said == ("no case has Hernia: nothing is said of it here, and means over the labels are of the others",)
    single = DataConfig(kind="csv", path="x")
    found, _ = in_words_of(labelled("no finding", "mass"), ("Mass", "Effusion"), several, single)
    assert [case.target for case in found] == ["", "Mass"]
    with pytest.raises(ConfigError, match="does not know the class 'tumour'"):
        in_words_of(labelled("Mass|tumour"), ("Mass",), several, several)
    with pytest.raises(ConfigError, match="several labels a case"):
        in_words_of(labelled("Mass"), ("Mass", "Effusion"), single, several)


def numbers(area: tuple[float, float, float], balanced: tuple[float, float, float]) -> dict[str, Measured]:
    return {name: Measured(*one, 400, "by a test") for name, one in (("auc", area), ("balanced_accuracy", balanced))}


@pytest.mark.parametrize(
    ("area", "balanced", "said"),
    [
        ((0.91, 0.88, 0.94), (0.50, 0.46, 0.54), True),  # all on one side of the threshold
        ((0.91, 0.88, 0.94), (0.82, 0.78, 0.86), False),  # as good as it can be at this AUC
        ((0.91, 0.88, 0.94), (0.74, 0.69, 0.80), False),  # poor, but it may be chance
        ((0.74, 0.66, 0.81), (0.50, 0.46, 0.54), False),  # the order is not sure either
        ((0.91, np.nan, np.nan), (0.50, 0.46, 0.54), False),
    ],
)
def test_a_threshold_that_does_not_carry_over_is_told(
    area: tuple[float, float, float], balanced: tuple[float, float, float], said: bool
) -> None:
    sentence = threshold_carries(numbers(area, balanced), {"mass": 0.31})
    assert bool(sentence) == said
    if said:
        assert "threshold of mass, 0.31, balanced_accuracy is 0.500 [0.460, 0.540], n = 400" in sentence
        assert "auc 0.910 [0.880, 0.940], n = 400" in sentence
    assert threshold_carries(numbers(area, balanced), {}) == "", "nothing is said of what has no threshold"


def test_what_a_threshold_can_reach_is_that_of_normal_scores() -> None:
    rng = np.random.default_rng(0)
    ill, well = rng.normal(1.8, 1, 200_000), rng.normal(0, 1, 200_000)
    best = max((np.mean(ill >= cut) + np.mean(well < cut)) / 2 for cut in np.linspace(0, 2, 41))
    area = np.mean(ill > rng.permutation(well))
    assert reachable(float(area)) == pytest.approx(best, abs=0.003)
