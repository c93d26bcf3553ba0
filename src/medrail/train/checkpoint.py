"""Checkpoints: files that are read without running code from them, written whole or not at all.

``NAME.pt`` is what torch reads with ``weights_only=True``; ``NAME.safetensors`` is the form for weights that go on
without their training, as a pruned network's: a plain block of numbers after a header of JSON.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from medrail.errors import RunError

FORMAT = 1
PLAIN = ".safetensors"
_WEIGHTS, _ABOUT, _SAME = "weights", "medrail", "same"
_NO_SAFETENSORS = "pip install 'medrail[slim]' brings the package safetensors."


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; a kill at any moment leaves the old file or the new one.

    To a ``.safetensors`` goes ``content["weights"]``, name -> tensor; everything else must be JSON.
    """
    content = {"format": FORMAT, **content}
    if path.suffix == PLAIN:
        data = _plain_bytes(content)
        _write(path, lambda file: file.write(data))
    else:
        _write(path, lambda file: torch.save(content, file))


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    RunError
        If the file is missing, broken, or holds anything but tensors and plain values.
    """
    remedy = "Delete the run's folder and make it again."
    try:
        content = _read_plain(path) if path.suffix == PLAIN else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError("there is no such file", where=str(path), remedy="`medrail train` makes it.") from None
    except ModuleNotFoundError as error:
        raise RunError(f"{error.name} is not installed", where=str(path), remedy=_NO_SAFETENSORS) from None
    except Exception as error:  # noqa: BLE001 - both readers meet rubbish with whatever exception comes
        raise RunError(f"not a checkpoint ({type(error).__name__})", where=str(path), remedy=remedy) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError("not a checkpoint of this medrail", needed=f"format {FORMAT}", where=str(path), remedy=remedy)
    return content


def clear_leftovers(folder: Path) -> None:
    """Remove what a kill in the middle of a write left behind."""
    for path in (*folder.glob(".*.pt.*"), *folder.glob(f".*{PLAIN}.*")):
        path.unlink(missing_ok=True)


def _write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _plain_bytes(content: Mapping[str, Any]) -> bytes:
    """One key of metadata, so that the same content gives the same bytes. Weights that a network has under two names
    are written once.
    """
    from safetensors.torch import save as as_bytes

    tensors: dict[str, torch.Tensor] = {}
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for name, tensor in content[_WEIGHTS].items():
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and first.setdefault(place, name) != name:
            same[name] = first[place]
        else:
            tensors[name] = tensor.detach().cpu().contiguous()
    about = {key: value for key, value in content.items() if key != _WEIGHTS} | {_SAME: same}
    data: bytes = as_bytes(tensors, metadata={_ABOUT: json.dumps(about, sort_keys=True, allow_nan=False)})
    return data


def _read_plain(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    if not path.is_file():
        raise FileNotFoundError(path)
    with safe_open(path, framework="pt", device="cpu") as file:
        about = json.loads((file.metadata() or {})[_ABOUT])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    for name, first in about.pop(_SAME, {}).items():
        weights[name] = weights[first]
    return {**about, _WEIGHTS: weights}
