"""Checkpoints: files that torch reads with ``weights_only=True``, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medrail.errors import RunError

FORMAT = 1


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    RunError
        If the file is missing, broken, or holds anything but tensors and plain values.
    """
    remedy = "Delete the run's folder and train again."
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError("there is no such file", where=str(path), remedy="`medrail train` makes it.") from None
    except Exception as error:  # noqa: BLE001 - torch's reader meets rubbish with whatever exception comes
        raise RunError(f"not a checkpoint ({type(error).__name__})", where=str(path), remedy=remedy) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError("not a checkpoint of this medrail", needed=f"format {FORMAT}", where=str(path), remedy=remedy)
    return content


def clear_leftovers(folder: Path) -> None:
    """Remove what a kill in the middle of a write left behind."""
    for path in folder.glob(".*.pt.*"):
        path.unlink(missing_ok=True)
