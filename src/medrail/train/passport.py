"""The run passport: what a result depends on, so that it can be repeated, and a difference be named.

Nothing in it tells who or which machine by name: no user, host or absolute path of ours. The diff is the project's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from medrail import __version__
from medrail.config import Config, ModelConfig
from medrail.prepare import Store
from medrail.train.device import Machine
from medrail.types import Case
from medrail.workspace import Workspace, source_sha256

FORMAT = 2
PACKAGES = (
    "numpy",
    "torch",
    "monai",
    "lightning-fabric",
    "nibabel",
    "pydicom",
    "opencv-python-headless",
    "scipy",
    "onnx",
    "onnxruntime",
    "onnxscript",
)
LARGEST_DIFF_BYTES = 200_000
NOT_DECISIVE = ("device", "devices", "nodes", "threads", "track")
"""Settings of ``train`` that change no more than the last bits of a result (but for batch normalisation on several
CPUs)."""


def fingerprint(
    config: Config, store: Store, classes: Sequence[str], cases: Sequence[Case], weights: Path | None
) -> str:
    """SHA-256 (hex) of what determines the trained weights: task, steps, network, training settings, and the
    content, class and split of the cases. Versions of packages and the machine are recorded beside it, not in it: a
    finished run stays valid when they change.

    Raises
    ------
    RunError
        If a case is not prepared.
    """
    train = config.train.model_dump(mode="json", exclude=set(NOT_DECISIVE))
    determined_by = {
        "format": FORMAT,
        "task": config.task,
        "classes": list(classes),
        "masks": [list(config.data.mask_values), config.data.foreground_nonzero],
        "pipeline": store.pipeline.fingerprint,
        "model": _decisive(config.model),
        "weights": sha256_of(weights) if weights else "",
        "train": train,
        "data": store.fingerprint(case.id for case in cases),
        "split": sorted([case.id, case.split] for case in cases),
        **({"multi_label": True} if config.data.multi_label else {}),
        "targets": sorted([case.id, case.target] for case in cases) if config.task == "classification" else [],
    }
    return hashlib.sha256(json.dumps(determined_by, sort_keys=True).encode()).hexdigest()


def _decisive(model: ModelConfig) -> dict[str, Any]:
    """What came to the settings later counts only where it is used: runs of before stay what they are."""
    later = {"norm"} if model.norm == "instance" else set()
    return model.model_dump(mode="json", exclude={"weights", *later})


def begin(
    config: Config,
    workspace: Workspace,
    store: Store,
    cases: Sequence[Case],
    machine: Machine,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Everything but the fingerprint and the result, as JSON values."""
    return {
        "format": FORMAT,
        "finished": False,
        "created": now(),
        "seed": config.train.seed,
        "data": {
            **made_from(store, cases, weights),
            **{f"{split}_cases": sum(case.split == split for case in cases) for split in ("train", "val")},
            **{f"{split}_patients": _patients(cases, split) for split in ("train", "val")},
        },
        "weights": {"name": config.model.weights, "sha256": sha256_of(weights)} if weights else None,
        **circumstances(workspace, machine),
    }


def made_from(store: Store, cases: Sequence[Case], weights: Path | None) -> dict[str, str]:
    """SHA-256 of the sources, the steps, the prepared numbers, and the weights to start from ("" for random ones)."""
    trained = [case.id for case in cases if case.split in ("train", "val")]
    return {
        "fingerprint": store.fingerprint(trained),
        "pipeline": store.pipeline.fingerprint,
        "numbers": store.numbers_fingerprint(trained),
        "start_weights": sha256_of(weights) if weights else "",
    }


def circumstances(workspace: Workspace, machine: Machine) -> dict[str, Any]:
    """What a training happens in: the project's and medrail's code, the packages and the machine."""
    return {
        "project": project_code(workspace.root),
        "medrail": {"version": __version__, "source_sha256": source_sha256()},
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": {
            "python": platform.python_version(),
            "system": platform.system(),
            "release": platform.release(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "threads": machine.threads,
            "device": machine.device,
            "device_name": machine.device_names,
            "device_numbers": list(machine.numbers),
            "device_chosen": machine.note,
            "precision": machine.precision,
            "processes": machine.processes,
        },
    }


def now() -> str:
    """UTC, to the second, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def project_code(folder: Path) -> dict[str, Any] | None:
    """Commit, and what the project folder changed since, where it lies in a git repository; else None."""
    git = shutil.which("git")
    if git is None or not folder.is_dir():
        return None

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(folder), "--no-optional-locks", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, timeout=30, check=True)  # noqa: S603 - fixed words
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.decode("utf-8", errors="replace")

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = ask("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color", "--relative", "--", ".") or ""
    whole = len(diff.encode()) <= LARGEST_DIFF_BYTES
    return {
        "commit": commit.strip(),
        "diff": diff if whole else diff.encode()[:LARGEST_DIFF_BYTES].decode(errors="ignore"),
        "diff_whole": whole,
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest(),
    }


def resume(first: Mapping[str, Any], now_begun: Mapping[str, Any]) -> dict[str, Any]:
    """The first passport of a run that is taken up again, with one more of its ``sessions``.

    A session is when it began, and of the code, the packages and the machine what differs from the session before.
    """
    sessions = list(first.get("sessions", ()))
    before = dict(first)
    for session in sessions:
        before |= session
    changed = {key: now_begun[key] for key in _OF_A_SESSION if now_begun[key] != before.get(key)}
    session = {"when": now_begun["created"], **changed}
    resumed = int(first.get("resumed", 0)) + 1
    return {**first, "finished": False, "resumed": resumed, "sessions": [*sessions, session]}


_OF_A_SESSION = ("project", "medrail", "packages", "machine")


def finish(passport: Mapping[str, Any], **result: Any) -> dict[str, Any]:
    """The same passport with the result."""
    return {**passport, "finished": True, "completed": now(), "result": result}


def sha256_of(path: Path) -> str:
    """Of a file's bytes, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _patients(cases: Sequence[Case], split: str) -> int:
    return len({case.patient for case in cases if case.split == split})


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
