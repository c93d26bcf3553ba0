"""The project folder: where the case table, prepared data, runs and bundles lie.

::

    DIR/medrail.yaml            the configuration
    DIR/cases.csv               the case table: id, patient, image, item, target, roi, split, centre, fold, defects
    DIR/check.json              the verdict on the data
    DIR/check.html              the same with pictures, for a person
    DIR/prepared/FINGERPRINT/   model-ready arrays, one set a pipeline
    DIR/runs/NAME/              Run: config.yaml passport.json cases.csv images.json metrics.jsonl curves.png
                                checkpoints/ network.onnx calibration.json evaluation/ external/NAME/ slim/
                                slim-looks.json
    DIR/tune/STUDY/             what `medrail tune` found: best.yaml trials.csv study.json *.png, and trial-0000/ ...,
                                each a Run
    DIR/bundles/NAME/VERSION/   what is served
    DIR/exports/NAME/VERSION/   the network for other programs: onnx/ torchscript/ openvino/, each with its facts.json
    DIR/triton/NAME/            the same for Triton: a model repository, with every version
    DIR/comparisons/NAME/       compare.json compare.csv compare.md and pictures
    DIR/predictions/            what `medrail predict` wrote
    DIR/logs/                   the service's logs
    DIR/mlflow.db               the tracker's mirror of the runs
    DIR/hashes.db               content hashes of the source files by size and time; may be deleted

Every stage writes the fingerprint of what it was made from into its own result, so a stage can tell by itself whether
it is up to date; there is no separate record that could disagree with the files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrail.errors import BundleError, ConfigError, RunError

SLIM = "slim"


@dataclass(frozen=True)
class Workspace:
    """A project folder; the properties are its fixed names. Nothing is created until something is written.

    runs_in:
        Where trainings put their runs, below the root: trials of a study have a folder of their own.
    """

    root: Path
    runs_in: str = "runs"

    @staticmethod
    def of_config(config_path: str | Path) -> Workspace:
        """The workspace of a configuration file: the folder it lies in."""
        path = Path(config_path)
        return Workspace((path if path.is_dir() else path.parent).resolve())

    @property
    def config_file(self) -> Path:
        return self.root / "medrail.yaml"

    @property
    def case_table(self) -> Path:
        return self.root / "cases.csv"

    @property
    def check_report(self) -> Path:
        return self.root / "check.json"

    @property
    def check_page(self) -> Path:
        return self.root / "check.html"

    @property
    def prepared(self) -> Path:
        return self.root / "prepared"

    @property
    def runs(self) -> Path:
        return self.root / self.runs_in

    def study(self, name: str) -> Path:
        """The folder of a study of ``medrail tune``."""
        return self.root / "tune" / name

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def exports(self) -> Path:
        """The network in formats for other programs."""
        return self.root / "exports"

    @property
    def triton(self) -> Path:
        """A model repository of Triton Inference Server."""
        return self.root / "triton"

    @property
    def comparisons(self) -> Path:
        return self.root / "comparisons"

    @property
    def predictions(self) -> Path:
        return self.root / "predictions"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def tracking_database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def file_hashes(self) -> Path:
        return self.root / "hashes.db"

    def run(self, name: str) -> Run:
        return Run(self.runs / name)

    def source(self, path: str) -> Path:
        """A path as the configuration or the case table gives it: absolute, or relative to the project folder."""
        return (self.root / path).resolve()

    def newest_run(self) -> Run:
        """The run that was written to last.

        Raises
        ------
        RunError
            If there is none.
        """
        runs = [Run(folder) for folder in self.runs.glob("[!.]*") if (folder / "config.yaml").is_file()]
        if not runs:
            raise RunError("no run yet", where=str(self.runs), remedy="`medrail train` makes one.")
        return max(runs, key=lambda run: run.passport.stat().st_mtime if run.passport.is_file() else 0)


def find_bundle(path: str | Path) -> Path:
    """The folder of a bundle: ``path`` itself, or the newest bundle of the project that ``path`` is.

    Folders below ``path`` whose name begins with "." are passed over: export fills a bundle under such a name.

    Raises
    ------
    ConfigError
        If there is no such path.
    BundleError
        If there is no bundle.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(
            "there is no such file or folder",
            needed="a bundle's folder, or a project folder with bundles",
            where=str(path),
            remedy="Look for a mistyped name; `medrail export` makes bundles.",
        )
    if (path / "bundle.json").is_file():
        return path
    root = path if path.is_dir() else path.parent
    below = [*root.glob("*/bundle.json"), *root.glob("*/*/bundle.json"), *root.glob("bundles/*/*/bundle.json")]
    found = [file for file in below if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not found:
        raise BundleError(
            "no bundle here",
            needed="a bundle's folder (with bundle.json), or a project folder with bundles",
            where=str(path),
            remedy="`medrail export` makes one.",
        )
    return max(found, key=lambda file: file.stat().st_mtime).parent


@dataclass(frozen=True)
class Run:
    """One training run: a folder with fixed names, every one of them a file that a person can open."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def workspace(self) -> Workspace:
        """The project folder this run lies in (``DIR/runs/NAME``, of a trial ``DIR/tune/STUDY/NAME``)."""
        runs = self.folder.resolve().parent
        if runs.name == SLIM and runs.parent.name != "tune":  # a candidate of ``medrail slim``: RUN/slim/NAME
            slimmed = Run(runs.parent)
            below = slimmed.workspace
            return Workspace(below.root, f"{below.runs_in}/{slimmed.name}/{SLIM}")
        if runs.name != "runs" and runs.parent.name == "tune":
            return Workspace(runs.parent.parent, f"tune/{runs.name}")
        return Workspace(runs.parent)

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def passport(self) -> Path:
        return self.folder / "passport.json"

    @property
    def case_table(self) -> Path:
        """The cases with the splits that it was trained with."""
        return self.folder / "cases.csv"

    @property
    def images(self) -> Path:
        """SHA-256 of the image of each case of that table, and of its mask."""
        return self.folder / "images.json"

    @property
    def lock(self) -> Path:
        """There while it is being trained."""
        return self.folder / ".lock"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def curves(self) -> Path:
        """The numbers of metrics.jsonl as a picture."""
        return self.folder / "curves.png"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """The weights that are evaluated and exported; of a slimmed run, with its structure, as safetensors."""
        plain = self.checkpoints / "best.safetensors"
        return plain if plain.is_file() else self.checkpoints / "best.pt"

    @property
    def last(self) -> Path:
        """Everything that is needed to go on after a kill."""
        return self.checkpoints / "last.pt"

    @property
    def calibration(self) -> Path:
        """What was fitted on validation cases and is applied to the network's answers."""
        return self.folder / "calibration.json"

    @property
    def network(self) -> Path:
        """The trained network as ONNX: what evaluation runs, and what the bundle ships."""
        return self.folder / "network.onnx"

    @property
    def evaluation(self) -> Path:
        return self.folder / "evaluation"

    @property
    def slim(self) -> Path:
        """What ``medrail slim`` found, and its candidates, each of them a Run."""
        return self.folder / SLIM


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write a whole file or nothing: a kill in the middle leaves the old content; ``errors`` as of ``str.encode``."""
    write_bytes(path, text.encode("utf-8", errors))


def write_bytes(path: Path, content: bytes) -> None:
    """As ``write_text``, of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        error.filename = str(path)  # of the temporary file nobody has heard
        raise
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder(folder: Path, fill: Callable[[Path], bool | None]) -> Path:
    """Fill a folder under another name and then rename it: what stands at ``folder`` is always whole.

    If that fails, what stood there stands there still. What a killed call left behind is removed.

    Parameters
    ----------
    fill:
        Called with the folder to fill. False: what stands at ``folder`` already is the same, and stays.

    Returns
    -------
    ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    filled = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        wanted = fill(filled)
        filled.chmod(0o755)
        if wanted is not False:
            _put(filled, folder)
    finally:
        shutil.rmtree(filled, ignore_errors=True)
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    return folder


def _put(filled: Path, folder: Path) -> None:
    """``filled`` becomes ``folder``. If that fails, what stood there stands there again."""
    if not folder.exists():
        filled.rename(folder)
        return
    replaced = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.replaced."))
    try:
        folder.rename(replaced / "old")
        try:
            filled.rename(folder)
        except BaseException:
            (replaced / "old").rename(folder)
            raise
    finally:
        if folder.exists():  # else the old one is in there
            shutil.rmtree(replaced, ignore_errors=True)


def keep_text(path: Path, text: str) -> None:
    """As ``write_text``; a file that holds just this stays as it is."""
    try:
        if path.read_bytes() == text.encode():
            return
    except OSError:
        pass
    write_text(path, text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, UTF-8, no NaN), whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON that medrail wrote.

    Raises
    ------
    RunError
        If the file is missing or broken.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("there is no such file", where=str(path)) from None
    except (ValueError, UnicodeDecodeError):
        raise RunError(
            "not readable as JSON", where=str(path), remedy="Delete it and repeat the stage that wrote it."
        ) from None


@functools.cache
def source_sha256() -> str:
    """SHA-256 (hex) of all Python files of medrail, with their names: a change that no version number tells is seen.

    Read once a process, as the modules are.
    """
    folder = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
