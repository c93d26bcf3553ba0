"""What the default configuration reaches on real, public data: accuracy with intervals, five seeds, and the time.

Usage: bench.py [FOLDER] [NAME ...]. FOLDER has the sets of ``SETS``; default: the shared data beside the checkout. Each
set goes the way a user goes: init, check, prepare, train, evaluate. Where the check says stop (patients or images stand
in training and in the test) its corrected table is used, as `medrail check --fix` writes it. Nothing but the names of
the classes is set by hand. Timed is the first seed of each set, from prepare to evaluate; the machine must do nothing
else until that is done and the minutes are printed. The other seeds follow. Results: ``accuracy-NAME.json``,
one of each set.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SEEDS = 5


@dataclass(frozen=True)
class Set:
    """One data set: where it lies below FOLDER, what its classes are called, and what is wanted of it.

    external:
        Another set of the same kind that the first seed's network is judged on, too.
    """

    path: str
    classes: str
    metric: str
    least: float | None
    most_minutes: float | None
    source: str
    external: str = ""
    shown: tuple[str, ...] = field(default=())


SETS = {
    "pneumonia28": Set(
        "pneumonia28/pneumonia28.npz",
        "[normal, pneumonia]",
        "auc",
        0.96,
        3,
        "Kermany et al. via MedMNIST, a balanced re-split (not comparable with the published table)",
        shown=("accuracy",),
    ),
    "chestxray": Set(
        "chestxray", "[NORMAL, PNEUMONIA]", "auc", None, None, "Kermany et al., 360 pictures", shown=("accuracy",)
    ),
    "wbc": Set(
        "wbc/dataset1",
        "[background, cytoplasm, nucleus]",
        "dice",
        0.90,
        None,
        "Zheng et al. 2018, dataset 1; external: dataset 2, of another laboratory and stain",
        "wbc/dataset2",
        shown=("dice/cytoplasm", "dice/nucleus"),
    ),
    "nuclei": Set("nuclei", "[background, nucleus]", "dice", 0.88, 15, "DSB 2018, 220 pictures", shown=("iou",)),
}


def medrail(*arguments: str | Path, allowed: tuple[int, ...] = (0,), timed: bool = True) -> tuple[int, dict[str, Any]]:
    """Run one command with --json; its exit code and its object.

    Where nothing is ``timed``, threads that wait for each other sleep, so that other work can go on beside it.
    """
    command = [record.medrail_command(), *map(str, arguments), "--json"]
    environment = os.environ if timed else {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode not in allowed:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def init(project: Path, data: Path, classes: str) -> Path:
    """A project as `medrail init` makes it, with the classes' names written into it as a person would."""
    medrail("init", project, "--data", data)
    file = project / "medrail.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(?m)^  classes: \[[^]]*\]", f"  classes: {classes}", text), encoding="utf-8")
    return project


def project_of(one: Set, data: Path, folder: Path) -> tuple[Path, str]:
    """A project that the check lets through, and whether its table was corrected."""
    project = init(folder / "project", data / one.path, one.classes)
    code, _ = medrail("check", project, allowed=(0, 1))
    if code == 0:
        return project, ""
    medrail("check", project, "--fix", "-o", folder / "fixed")
    project = init(folder / "fixed-project", folder / "fixed" / "cases-fixed.csv", one.classes)
    medrail("check", project)
    return project, "; the check found leaks, the corrected table is used"


@dataclass(frozen=True)
class First:
    """What the first seed of a set gave, and where the project lies."""

    project: Path
    run: str
    corrected: str
    answer: dict[str, Any]
    minutes: float


def first_seed(one: Set, data: Path, folder: Path) -> First:
    """The way of a user from the raw files to the evaluation, by the clock."""
    project, corrected = project_of(one, data, folder)
    began = time.perf_counter()
    medrail("prepare", project)
    _, trained = medrail("train", project)
    _, answer = medrail("evaluate", trained["run"])
    return First(project, trained["run"], corrected, answer, (time.perf_counter() - began) / 60)


def measures_of(name: str, one: Set, data: Path, folder: Path, first: First) -> tuple[list[record.Measure], str]:
    """All measures of a set: of its first seed, of all its seeds together, and on the external set."""
    _, group = medrail("train", first.project, "--seeds", str(SEEDS), timed=False)
    _, seeds = medrail("evaluate", group["group"])
    prefix, wanted = f"accuracy/{name}", one.least
    aim = f"at least {wanted} is the aim" if wanted else "no aim"
    minutes = round(first.minutes, 2)
    of_time = f"at most {one.most_minutes} is the aim" if one.most_minutes else "no aim"
    measures = [record.Measure(f"{prefix}/minutes", minutes, minutes, minutes, "min", 1, of_time)]
    for metric in (one.metric, *one.shown):
        held = aim if metric == one.metric else "no aim"
        measures.append(interval(f"{prefix}/{metric}/first_seed", first.answer["metrics"][metric], metric, held))
        spread = seeds["metrics"][metric]
        measures.append(
            record.Measure(
                f"{prefix}/{metric}/seeds", round(spread["value"], 4), round(spread["low"], 4),
                round(spread["high"], 4), metric, SEEDS, f"SD over the seeds {spread['sd']:.4f}; {held}",
            )
        )  # fmt: skip
    if one.external:
        others = init(folder / "external", data / one.external, one.classes)
        # Cases that cannot be read (a stray value in a mask) are named and left out, and the exit code is 1.
        _, outside = medrail("evaluate", first.run, "--data", others, allowed=(0, 1), timed=False)
        measures += external(prefix, one, outside)
    answer = first.answer
    return (
        measures,
        f"{name}: {one.source}; {answer['n']} test cases of {answer['patients']} patients{first.corrected}.",
    )


def interval(name: str, measured: dict[str, Any], unit: str, baseline: str) -> record.Measure:
    """A metric of one run with its interval over patients."""
    low, high = (measured[key] if measured[key] is not None else float("nan") for key in ("low", "high"))
    return record.Measure(
        name, round(measured["value"], 4), round(low, 4), round(high, 4), unit, measured["n"], baseline
    )


def external(prefix: str, one: Set, outside: dict[str, Any]) -> list[record.Measure]:
    """The metric on the other set, and how far it is from the one on the set's own test split."""
    metric, there = one.metric, outside["external"]["metrics"]
    drop = outside["drops"][metric]["difference"]
    return [
        interval(f"{prefix}/external/{metric}", there[metric], metric, one.external),
        interval(f"{prefix}/external/drop", drop, metric, "external minus internal"),
    ]


def main() -> None:
    given = sys.argv[1:]
    data = Path(given.pop(0)) if given and Path(given[0]).is_dir() else SHARED
    if not data.is_dir():
        raise SystemExit(f"{data} is not there: give the folder of the sets ({', '.join(SETS)}).")
    names = given or list(SETS)
    if unknown := set(names) - SETS.keys():
        raise SystemExit(f"no set is called {', '.join(sorted(unknown))}: {', '.join(SETS)}.")
    with tempfile.TemporaryDirectory(prefix="medrail-accuracy-") as name:
        folders = {one: Path(name) / one for one in names}
        firsts = {one: first_seed(SETS[one], data, folders[one]) for one in names}
        print(json.dumps({one: round(first.minutes, 2) for one, first in firsts.items()}), flush=True)
        for one, first in firsts.items():
            measures, said = measures_of(one, SETS[one], data, folders[one], first)
            record.write(f"accuracy-{one}", measures, [said], f"python benchmarks/accuracy/bench.py {one}")


if __name__ == "__main__":
    main()
