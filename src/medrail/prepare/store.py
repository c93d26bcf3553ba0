"""Store: where prepared cases lie, one set of arrays a pipeline.

::

    prepared/FP12/pipeline.json           the steps, for a person to read, and their whole fingerprint
    prepared/FP12/manifest.jsonl          a line a case: where its array lies, what it means, what it is from
    prepared/FP12/cases/ID.image.npy      (C, D, H, W) of a volume: uint8, int16, float16, float32, ...
    prepared/FP12/cases/ID.mask.npy       (1, D, H, W) uint8 class indices; segmentation only
    prepared/FP12/pictures.npy            (N, C, H, W): pictures of one size and type, a row a case; those of a second
                                          size lie in pictures-2.npy, and so on
    prepared/FP12/pictures.mask.npy       (N, H, W) uint8
    prepared/FP12/failures.csv            what could not be prepared, and why

``np.load`` opens all of them. The network sees ``(array - subtract) * multiply`` where a case's line gives these two (a
number a channel), else the numbers as they are. With ``prepare.store: npy`` each case is a file of the numbers that the
network sees, in a folder FP12-npy. A case without a line in the manifest does not exist; ``keeper`` writes it last.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medrail.errors import MedrailError, RunError
from medrail.prepare.arrays import HEADER_BYTES, Array, array_digest
from medrail.prepare.manifest import Entry, read_manifest
from medrail.prepare.pipeline import Pipeline, Prepared
from medrail.prepare.sampling import Line
from medrail.types import Applied, Geometry, Image
from medrail.workspace import Workspace

_REMEDY = "`medrail prepare` makes it anew."
_DECODING = ("subtract", "multiply")


@dataclass(frozen=True)
class Store:
    """The prepared cases of one pipeline in one workspace, to be read. ``plain``: prepare.store is npy."""

    workspace: Workspace
    pipeline: Pipeline
    plain: bool = False

    @property
    def folder(self) -> Path:
        return self.workspace.prepared / (self.pipeline.fingerprint[:12] + ("-npy" if self.plain else ""))

    @property
    def cases(self) -> Path:
        return self.folder / "cases"

    @property
    def manifest_file(self) -> Path:
        return self.folder / "manifest.jsonl"

    @property
    def failures_file(self) -> Path:
        return self.folder / "failures.csv"

    @property
    def entries(self) -> Mapping[str, Entry]:
        """Case -> its line of the manifest."""
        return read_manifest(self.manifest_file)

    def ids(self) -> tuple[str, ...]:
        """The ids of all prepared cases, sorted."""
        return tuple(sorted(self.entries))

    def load(self, case_id: str) -> tuple[Image, Image | None]:
        """The prepared image as the network sees it, with its history, and its mask of class indices or None.

        The mask is uint8 (1, D, H, W). Errors as ``stored``.
        """
        prepared, mask = self.stored(case_id)
        return prepared.decoded(), mask

    def stored(self, case_id: str, *, mapped: bool = False) -> tuple[Prepared, Image | None]:
        """As ``load``, in the compact type.

        The numbers are compared with the digest that was taken of them when they were written.

        Parameters
        ----------
        mapped:
            The arrays are read-only and stay in their file until they are needed, else they are in memory.

        Raises
        ------
        RunError
            If the case is not prepared, or its arrays are broken, incomplete or of another pipeline.
        """
        entry = self._entry(case_id)
        try:
            affine = entry["affine_ras_mm"]
            geometry = None if affine is None else Geometry(np.array(affine))
            history = tuple(Applied(step["step"], step["params"]) for step in entry["history"])
            voxels = self._array(case_id, entry["image"], mapped=mapped)
            image = Image(voxels, geometry, entry["unit"], entry["source"], history)
            pairs = zip(entry.get("subtract", ()), entry.get("multiply", ()), strict=True)
            lines = tuple(Line(*pair) for pair in pairs)
            if entry["mask"] is None:
                return Prepared(image, lines), None
            labels = self._array(case_id, entry["mask"], mapped=mapped)
            return Prepared(image, lines), Image(labels, geometry, "label", entry["source"])
        except RunError:
            raise
        except (KeyError, TypeError, ValueError, MedrailError):
            raise self._broken(case_id, "its line of the manifest is incomplete") from None

    def source_fingerprint(self, case_id: str) -> str | None:
        """What the case was made from, or None if it is not prepared, or its line or files are broken."""
        entry = self.entries.get(case_id)
        if entry is None or case_id in self.found_broken():
            return None
        return _source(entry, self.pipeline.fingerprint[:12], self._size)

    def sources(self) -> dict[str, str]:
        """``source_fingerprint`` of all prepared cases, in one pass over the manifest and the folders."""
        pipeline, size = self.pipeline.fingerprint[:12], self._sizes().__getitem__
        found = {case_id: _source(entry, pipeline, size) for case_id, entry in self.entries.items()}
        broken = self.found_broken()
        return {case: source for case, source in found.items() if source is not None and case not in broken}

    def found_broken(self) -> frozenset[str]:
        """Cases of which somebody who loaded them found that their numbers had changed: they are made again."""
        try:
            return frozenset(path.name for path in self._broken_folder.iterdir())
        except OSError:
            return frozenset()

    def forget_broken(self, case_id: str) -> None:
        """It is made again."""
        (self._broken_folder / case_id).unlink(missing_ok=True)

    def _remember_broken(self, case_id: str) -> None:
        with suppress(OSError):  # a store that cannot be written stays as it is
            self._broken_folder.mkdir(exist_ok=True)
            (self._broken_folder / case_id).touch()

    @property
    def _broken_folder(self) -> Path:
        return self.folder / "broken"

    def fingerprint(self, case_ids: Iterable[str]) -> str:
        """SHA-256 (hex) over the pipeline and what each of the cases was made from, whatever their order.

        Raises
        ------
        RunError
            If one of them is not prepared.
        """
        made_from = [[case_id, self._entry(case_id)["made_from"]] for case_id in sorted(case_ids)]
        return hashlib.sha256(json.dumps([self.pipeline.fingerprint, made_from]).encode()).hexdigest()

    def numbers_fingerprint(self, case_ids: Iterable[str]) -> str:
        """SHA-256 (hex) over the prepared numbers of each of the cases: what the network sees, whatever made it.

        Raises
        ------
        RunError
            If one of them is not prepared.
        """
        entries = {case_id: self._entry(case_id) for case_id in sorted(case_ids)}
        numbers = [
            [case_id, entry["image"]["digest"], (entry["mask"] or {}).get("digest"), *map(entry.get, _DECODING)]
            for case_id, entry in entries.items()
        ]
        return hashlib.sha256(json.dumps(numbers).encode()).hexdigest()

    def _entry(self, case_id: str) -> Entry:
        entry = self.entries.get(case_id)
        if entry is None:
            raise RunError(f"case {case_id} is not prepared", where=str(self.folder), remedy=_REMEDY)
        if entry.get("pipeline") != self.pipeline.fingerprint[:12]:
            raise self._broken(case_id, "it was made by another pipeline")
        return entry

    def _size(self, file: str) -> int:
        return (self.folder / file).stat().st_size

    def _sizes(self) -> dict[str, int]:
        """Every file as the manifest names it, with its size."""
        sizes: dict[str, int] = {}
        for folder, before in ((self.folder, ""), (self.cases, f"{self.cases.name}/")):
            with suppress(FileNotFoundError), os.scandir(folder) as files:
                sizes.update((f"{before}{file.name}", file.stat().st_size) for file in files if file.is_file())
        return sizes

    def _array(self, case_id: str, described: Entry, *, mapped: bool) -> Array:
        path = self.folder / described["file"]
        try:
            status = path.stat()
            array = _opened(str(path), status.st_size, status.st_mtime_ns)
            if "row" in described:
                array = array[described["row"]]
        except (OSError, ValueError, EOFError, IndexError) as error:
            self._remember_broken(case_id)
            raise self._broken(case_id, f"{described['file']} cannot be read ({type(error).__name__})") from None
        found = {"shape": list(array.shape), "dtype": array.dtype.name}
        if any(described[key] != value for key, value in found.items()):
            raise self._broken(case_id, f"{described['file']} holds {found}, the manifest says {described}")
        if array_digest(array) != described["digest"]:
            self._remember_broken(case_id)
            raise self._broken(case_id, f"the numbers in {described['file']} are not those that were written")
        if not mapped:
            array = np.array(array)
        if array.ndim == 2:  # a row of masks
            return array[None, None]
        return array[:, None] if array.ndim == 3 else array

    def _broken(self, case_id: str, reason: str) -> RunError:
        return RunError(f"case {case_id}: {reason}", where=str(self.folder), remedy=_REMEDY)


def _source(entry: Entry, pipeline: str, size: Callable[[str], int]) -> str | None:
    """What an entry was made from, if it is of this pipeline and its files are as long as they were."""
    try:
        whole = entry["pipeline"] == pipeline and all(
            _is_there(described, size) for described in (entry["image"], entry["mask"]) if described is not None
        )
        return str(entry["made_from"]) if whole else None
    except (OSError, KeyError, TypeError):
        return None


def _is_there(described: Entry, size: Callable[[str], int]) -> bool:
    """Whether the file is as long as it was; of rows, whose ``bytes`` do not count the header, long enough."""
    there = size(described["file"])
    return bool(there - HEADER_BYTES >= described["bytes"] if "row" in described else there == described["bytes"])


@functools.lru_cache(maxsize=2)
def _opened(path: str, size: int, mtime_ns: int) -> Array:
    """An .npy, mapped; the file of the pictures is opened once for all of them."""
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
