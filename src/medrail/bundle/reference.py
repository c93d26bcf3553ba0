"""Reference: a few inputs and what the network said to them, so that another engine or machine can prove itself.

It lies as ``reference.npz`` beside the network: plain arrays, not packed, nothing pickled. Whoever loads the network
lets the engine answer the inputs before anyone else's image, and compares.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.lib.format as npy
import numpy.typing as npt

from medrail.bundle.backend import LOGITS, Backend, fetch
from medrail.bundle.spec import NetworkSpec
from medrail.errors import BundleError

FloatArray = npt.NDArray[np.float32]

REFERENCE_FILE = "reference.npz"
LARGEST_REFERENCE_BYTES = 256 * 2**20
MOST_INPUTS, MOST_PLACES = 16, 4096
TOLERANCES: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "bf16": 0.05, "int8": 0.1})
"""Precision -> the largest gap (see ``Reference.gap``) of an engine that computes in it, as new bundles say."""
_REMEDY = "The bundle was changed or copied incompletely: export or copy it again."
_OLDEST = (1980, 1, 1, 0, 0, 0)  # of a zip archive, so that the same numbers give the same bytes


@dataclass(frozen=True, eq=False)
class Reference:
    """What was answered to what.

    inputs:
        (N, C, [D,] H, W) float32, prepared.
    exact:
        Logits of the network before any quantisation, in float32: (N, K), or (N, K, P) at P voxels of a segmentation,
        evenly over the flattened grid.
    chosen:
        The same of the network that lies beside it, in the engine and precision that were chosen for it.
    """

    inputs: FloatArray
    exact: FloatArray
    chosen: FloatArray

    @staticmethod
    def of(inputs: FloatArray, exact: Backend, chosen: Backend) -> Reference:
        """Let two backends answer; the inputs are rounded to what the file keeps first."""
        kept = _kept(inputs).astype(np.float32)
        return Reference(kept, _answers(exact, kept), _answers(chosen, kept))

    def chosen_by(self, backend: Backend) -> Reference:
        """The same with another backend's answers as those of the chosen one."""
        return Reference(self.inputs, self.exact, _answers(backend, self.inputs))

    def gap(self, backend: Backend, precision: str) -> float:
        """How far a backend's logits are from what they should be (see ``gap_between``).

        Parameters
        ----------
        precision:
            That it computes in. "int8": compared with the chosen network's answers, since the file is that one; else
            with the exact ones.
        """
        wanted = self.chosen if precision == "int8" else self.exact
        try:
            found = _answers(backend, self.inputs)
        except ValueError:
            return float("inf")
        return gap_between(wanted, found)

    def to_bytes(self) -> bytes:
        """The file's content; the same arrays give the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, array in (("inputs", _kept(self.inputs)), ("exact", self.exact), ("chosen", self.chosen)):
                member = io.BytesIO()
                npy.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _OLDEST), member.getvalue())
        return buffer.getvalue()

    @staticmethod
    def from_bytes(content: bytes, spec: NetworkSpec, where: str = "") -> Reference:
        """The inverse of ``to_bytes``, of a network with such a spec.

        Raises
        ------
        BundleError
            If it is anything else than such a file.
        """
        try:
            arrays = _read(content)
            reference = Reference(*(arrays[name].astype(np.float32) for name in ("inputs", "exact", "chosen")))
            wrong = reference._wrong(spec)
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
            wrong = f"not readable ({type(error).__name__})"
        if wrong:
            raise BundleError(f"the reference answers are {wrong}", where=where, remedy=_REMEDY)
        return reference

    def _wrong(self, spec: NetworkSpec) -> str:
        inputs, answers = self.inputs.shape, self.exact.shape
        size = spec.patch or spec.grid
        if len(inputs) != 2 + spec.dims or inputs[1] != spec.channels or (size and inputs[2:] != size):
            return f"to inputs of shape {inputs}"
        if not 0 < inputs[0] <= MOST_INPUTS or min(inputs) < 1:
            return f"to {inputs[0]} inputs"
        segments = spec.task == "segmentation"
        places_fit = len(answers) == 3 and 0 < answers[2] <= MOST_PLACES if segments else len(answers) == 2
        if not places_fit or answers[:2] != (inputs[0], len(spec.classes)) or self.chosen.shape != answers:
            return f"of shape {answers} and {self.chosen.shape}"
        finite = all(np.isfinite(array).all() for array in (self.inputs, self.exact, self.chosen))
        return "" if finite else "not finite"


def _read(content: bytes) -> dict[str, npt.NDArray[Any]]:
    if len(content) > LARGEST_REFERENCE_BYTES:
        raise ValueError("too large")
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != ["chosen.npy", "exact.npy", "inputs.npy"]:
            raise ValueError("other arrays")
        for entry in entries:
            # What is packed may unpack to any size; this file is never packed.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise ValueError("packed")
            array = npy.read_array(io.BytesIO(archive.read(entry)), allow_pickle=False)
            if array.dtype not in (np.float16, np.float32):
                raise ValueError("other numbers")
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def _kept(inputs: FloatArray) -> npt.NDArray[Any]:
    """float16, where its range is enough: half the size, and the engine is asked about just these numbers."""
    with np.errstate(over="ignore"):
        small = inputs.astype(np.float16)
    return small if np.isfinite(small).all() else np.asarray(inputs, np.float32)


def _answers(backend: Backend, inputs: FloatArray) -> FloatArray:
    """One input at a time, since that is what every engine takes: (N, K), or (N, K, P)."""
    return np.concatenate([thinned(fetch(backend, inputs[n : n + 1], (LOGITS,))[LOGITS]) for n in range(len(inputs))])


def thinned(logits: FloatArray) -> FloatArray:
    """(N, K), or of a segmentation (N, K, P) at ``places`` of its grid."""
    if logits.ndim == 2:
        return logits
    flat = logits.reshape(*logits.shape[:2], -1)
    return flat[:, :, places(flat.shape[2])]


def places(voxels: int) -> Sequence[int]:
    """Which voxels of a flattened grid are kept, evenly over it.

    >>> list(places(3))
    [0, 1, 2]
    >>> len(places(10**6))
    4096
    """
    count = min(voxels, MOST_PLACES)
    return [index * voxels // count for index in range(count)]


def gap_between(wanted: FloatArray, found: FloatArray) -> float:
    """How far logits are from those that are wanted: the root mean square of the difference, in units of that of the
    wanted ones, or of 1 where that is larger. Infinite where they are no such numbers.

    So it bounds what happens to a probability, too, of which a logit changes a quarter at most.
    """
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return _rms(found - wanted) / max(1.0, _rms(wanted))


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
