"""run_demo: lay out the raw data and a medrail.yaml, then only what any project does: run all stages, and predict."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from medrail.bundle import load_bundle
from medrail.demo.raw import Example, lay_out_segmentation, lay_out_slices
from medrail.errors import ConfigError
from medrail.predict import find_inputs, predict_files
from medrail.stages import MakeProgress, StageResult, open_project, run_all
from medrail.workspace import write_text


@dataclass(frozen=True)
class DemoTask:
    """One demo: how its raw data is laid out, its configuration, and the metric that tells how well it went."""

    name: str
    lay_out: Callable[[Path], Example]
    config: str
    metric: str


MARKER = ".medrail-demo"
TASKS = {
    "segment": DemoTask("segment", lay_out_segmentation, "segment.yaml", "dice"),
    "classify": DemoTask("classify", lay_out_slices, "classify.yaml", "accuracy"),
}


def run_demo(
    task: DemoTask,
    folder: Path,
    report: Callable[[StageResult], None] = lambda _: None,
    make_progress: MakeProgress = lambda _: None,
) -> StageResult:
    """Raw images -> served-ready bundle and a prediction, in ``folder``.

    Parameters
    ----------
    task:
        One of ``TASKS``.
    folder:
        Made if missing; a second call redoes only what is not up to date.

    Returns
    -------
    A result whose ``values`` are the keys of ``medrail demo --json``, and whose first file is the example to send.
    """
    begin = time.perf_counter()
    _claim(folder, task)
    raw = folder / "raw"
    example = task.lay_out(raw)
    report(
        StageResult(
            "raw data",
            example.summary,
            notes=("one head to train on leaves none to validate on; what the check says of that is expected here",),
            files=(raw,),
            warnings=_write_config(folder, task),
        )
    )
    project = open_project(folder)
    evaluation: dict[str, Any] = {}

    def collect(result: StageResult) -> None:
        if result.stage == "evaluate":
            evaluation.update(result.values)
        report(result)

    run, bundle = run_all(project, collect, make_progress)
    predicted = _predict(bundle, example.image, folder / "predictions", make_progress)
    report(predicted)
    metrics: Mapping[str, Any] = evaluation["metrics"]
    values = {
        "task": task.name,
        task.metric: {key: metrics[task.metric][key] for key in ("value", "low", "high", "n")},
        **({"hd95_mm": metrics["hd95_mm"]["value"]} if "hd95_mm" in metrics else {}),
        "seconds": round(time.perf_counter() - begin, 2),
        "workspace": str(folder),
        "run": str(run.folder),
        "bundle": str(bundle),
    }
    return StageResult("demo", task.name, files=(example.image, *predicted.files), values=values)


def _predict(bundle: Path, image: Path, out: Path, make_progress: MakeProgress) -> StageResult:
    begin = time.perf_counter()
    answers = predict_files(load_bundle(bundle), find_inputs([image]), out, progress=make_progress("Predicting"))
    answer = answers[0]
    return StageResult(
        "predict",
        f"{image.name}: {answer.reason or answer.summary}",
        files=(*answer.files, out / "predictions.csv"),
        seconds=time.perf_counter() - begin,
        failed=bool(answer.reason),
    )


def _claim(folder: Path, task: DemoTask) -> None:
    """Mark the folder as this demo's; a folder with anything else in it is somebody's work.

    Raises
    ------
    ConfigError
        If it is not empty and not this demo's.
    """
    marker = folder / MARKER
    owner = marker.read_text(encoding="utf-8").strip() if marker.is_file() else ""
    if owner == task.name:
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"the folder is the {owner} demo's" if owner else "the folder holds something else",
            needed="an empty or new folder, or one that this demo made",
            where=str(folder),
            remedy="Name another one with --workspace.",
        )
    write_text(marker, f"{task.name}\n")


def _write_config(folder: Path, task: DemoTask) -> tuple[str, ...]:
    """Write medrail.yaml if there is none; one that was edited is kept, and said."""
    path = folder / "medrail.yaml"
    text = files(__package__).joinpath(task.config).read_text(encoding="utf-8")
    if not path.is_file():
        write_text(path, text)
    elif path.read_text(encoding="utf-8") != text:
        return (f"{path} was edited and is used as it is; delete it to have the demo's own again",)
    return ()
