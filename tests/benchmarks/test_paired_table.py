"""The table of false alarms says what was measured, and what was measured keeps the promise."""

import json
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = json.loads((ROOT / "benchmarks" / "results" / "paired.json").read_text(encoding="utf-8"))
RATES = {one["name"].removeprefix("paired/false_alarms/"): one for one in RESULTS["measures"]}
NAIVE = "/ignoring_patients"


def test_the_table_is_of_the_results() -> None:
    code = runpy.run_path(str(ROOT / "benchmarks" / "paired" / "table.py"))
    text = code["PAGE"].read_text(encoding="utf-8")
    assert text == code["with_table"](text)


def test_no_test_of_ours_raises_more_false_alarms_than_it_says() -> None:
    """Above 6 %: only what is shown as a warning."""
    loud = {name for name, one in RATES.items() if one["value"] > 6.0}
    assert loud == {name for name in loud if name.endswith((NAIVE, "signed_ranks/40/skewed", "uncorrected"))}
    assert {name for name in RATES if name.endswith(NAIVE)} <= loud
    assert all(one["n"] >= 2000 for one in RATES.values())
