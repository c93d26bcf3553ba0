"""The simulation of the intervals in small: they hold the truth as often as they say, and a wrong one is caught."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "intervals"
REPEATS = 300


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    before = sys.path[:]
    sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]
    try:
        import bench as found
    finally:
        sys.path[:] = before
        for name in ("bench", "record", "samples", "studies"):
            sys.modules.pop(name, None)
    return found


@pytest.mark.slow
def test_intervals_hold_the_truth(bench: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 studies of 50 patients with several images: 95 % within four standard deviations of such a share (1.3 %)."""
    monkeypatch.setattr(bench, "POPULATION", 60_000)
    tallies, _ = bench.coverage(bench.Setting("50x3", 50, most_images=3), REPEATS, 400)
    shares = {name: tally.held / tally.counted for name, tally in tallies.items()}
    assert len(shares) == 16
    wrong = {name: share for name, share in shares.items() if not 0.90 <= share <= 0.995}
    assert not wrong


def test_a_wrong_interval_is_caught(bench: ModuleType) -> None:
    """Cases taken for patients: five copies of each image make the interval far too narrow, and the tally shows it."""
    from medrail.evaluate.bca import bca_bootstrap
    from medrail.evaluate.scoring import mean_of

    generator, tally = np.random.default_rng(0), bench.Tally()
    for seed in range(REPEATS):
        values = np.repeat(generator.normal(size=40), 5)
        low, high = bca_bootstrap({"m": mean_of(values)}, range(200), resamples=200, seed=seed)["m"]
        tally.add(low, high, 0.0, 0.0)
    assert tally.counted == REPEATS
    assert tally.held / REPEATS < 0.75


def test_the_tally_counts_both_sides(bench: ModuleType) -> None:
    tally = bench.Tally()
    for low, high in ((0.1, 0.2), (0.4, 0.6), (0.8, 0.9), (float("nan"), float("nan"))):
        tally.add(low, high, 0.5, 0.0)
    assert (tally.below, tally.held, tally.above, tally.without) == (1, 1, 1, 1)


def test_the_made_models_are_calibrated_and_equally_good(bench: ModuleType) -> None:
    sample = bench.draw(bench.SETTINGS[2], np.random.default_rng(0), 40_000)
    positive = sample.truth == 1
    for given in (sample.probabilities, sample.second):
        sure = given[:, 1]
        for low in (0.1, 0.5, 0.8):
            near = (sure > low) & (sure < low + 0.1)
            assert positive[near].mean() == pytest.approx(sure[near].mean(), abs=0.03)
    assert sample.probabilities[positive, 1].mean() == pytest.approx(sample.second[positive, 1].mean(), abs=0.02)
