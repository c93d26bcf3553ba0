"""How often the 95 % intervals that medrail reports hold the true number: 2,000 made studies of each kind.

A true number is that of a study of 300,000 patients. A study that leaves a number undefined, or without an interval, is
not counted for it; how many there were stands beside it.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import record
from samples import Setting, draw
from studies import METHODS, intervals, true_values

from medrail.evaluate.bootstrap import wilson

REPEATS = 2000
RESAMPLES = 1000
POPULATION = 300_000
SETTINGS = (
    Setting("20", 20),
    Setting("50", 50),
    Setting("50x5", 50, most_images=5),
    Setting("100x5", 100, most_images=5),
    Setting("200rare", 200, shares=(0.8, 0.2), apart=3.0),
    Setting("100x5of3", 100, most_images=5, shares=(0.6, 0.3, 0.1)),
)
ROUNDING = 0.003
"""What a true calibration error may be above 0 for a low end of 0, and above all that a big study still shows."""


@dataclass
class Tally:
    """How often an interval of one number held the truth."""

    held: int = 0
    below: int = 0
    above: int = 0
    without: int = 0
    width: float = 0.0

    def add(self, low: float, high: float, truth: float, slack: float) -> None:
        if math.isnan(low):
            self.without += 1
            return
        self.below += truth > high + slack
        self.above += truth < low - slack
        self.held += low - slack <= truth <= high + slack
        self.width += high - low

    @property
    def counted(self) -> int:
        return self.held + self.below + self.above


def coverage(
    setting: Setting, repeats: int, resamples: int, seed: int = 0
) -> tuple[dict[str, Tally], dict[str, float]]:
    """Number -> its tally over the studies, and its true value."""
    truth = true_values(draw(setting, np.random.default_rng(10_000 + seed), POPULATION))
    generator, tallies = np.random.default_rng(seed), {name: Tally() for name in METHODS if name in truth}
    for number in range(repeats):
        found = intervals(draw(setting, generator), resamples=resamples, seed=number)
        for name, tally in tallies.items():
            tally.add(found[name].low, found[name].high, truth[name], ROUNDING if name == "ece" else 0.0)
    return tallies, truth


def measures_of(setting: Setting, repeats: int, resamples: int) -> list[record.Measure]:
    tallies, truth = coverage(setting, repeats, resamples)
    return [_measure(setting, name, tally, truth[name]) for name, tally in tallies.items()]


def _measure(setting: Setting, name: str, tally: Tally, truth: float) -> record.Measure:
    share = tally.held / tally.counted
    low, high = wilson(share, tally.counted)
    percent = [round(100 * value, 1) for value in (share, low, high)]
    said = (
        f"{METHODS[name]}; true {truth:.3f}, mean width {tally.width / tally.counted:.3f}; truth above the interval "
        f"{tally.below / tally.counted:.1%}, below {tally.above / tally.counted:.1%}; without interval {tally.without}"
    )
    return record.Measure(f"intervals/{setting.name}/{name}", *percent, "%", tally.counted, said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    measures = []
    for setting in SETTINGS:
        print(f"-- {setting.described()}", flush=True)
        measures += measures_of(setting, repeats, RESAMPLES)
    notes = [f"`{setting.name}`: {setting.described()}." for setting in SETTINGS]
    notes.append(f"Coverage with its own 95 % interval, from {repeats} made studies; {RESAMPLES} resamples each.")
    record.write("intervals", measures, notes)


if __name__ == "__main__":
    main()
