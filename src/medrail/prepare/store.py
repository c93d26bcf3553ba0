"""Store: where prepared cases lie, one set of arrays a pipeline.

::

    prepared/FP12/pipeline.json           the steps, for a person to read, and their whole fingerprint
    prepared/FP12/cases/ID.image.npy      (C, D, H, W), float32 or the image's integers: np.load opens it
    prepared/FP12/cases/ID.mask.npy       (1, D, H, W) uint8 class indices; segmentation only
    prepared/FP12/cases/ID.json           geometry, unit, history, and the fingerprint of the source files
    prepared/FP12/failures.csv            what could not be prepared, and why

``ID.json`` is written last and removed first: a case without it does not exist, so a kill at any moment leaves no half
case behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medrail.errors import MedrailError, RunError
from medrail.prepare.pipeline import Pipeline
from medrail.types import Applied, Geometry, Image, Voxels
from medrail.workspace import Workspace, read_json, write_json

_REMEDY = "`medrail prepare` makes it anew."


@dataclass(frozen=True)
class Store:
    """The prepared cases of one pipeline in one workspace. Nothing is created until something is written."""

    workspace: Workspace
    pipeline: Pipeline

    @property
    def folder(self) -> Path:
        return self.workspace.prepared / self.pipeline.fingerprint[:12]

    @property
    def cases(self) -> Path:
        return self.folder / "cases"

    @property
    def failures_file(self) -> Path:
        return self.folder / "failures.csv"

    def ids(self) -> tuple[str, ...]:
        """The ids of all prepared cases, sorted."""
        return tuple(sorted(path.name.removesuffix(".json") for path in self.cases.glob("*.json")))

    def load(self, case_id: str) -> tuple[Image, Image | None]:
        """The prepared image with its history, and its mask of class indices, uint8 (1, D, H, W), or None.

        Raises
        ------
        RunError
            If the case is not prepared, or its files are broken, incomplete or of another pipeline.
        """
        entry = self._entry(case_id)
        try:
            geometry = None if entry["geometry"] is None else Geometry(np.array(entry["geometry"]))
            history = tuple(Applied(step["step"], step["params"]) for step in entry["history"])
            voxels = self._array(case_id, "image", entry["image"])
            image = Image(voxels, geometry, entry["unit"], entry["source"], history)
            if entry["mask"] is None:
                return image, None
            mask = Image(self._array(case_id, "mask", entry["mask"]), geometry, "label", entry["source"])
        except RunError:
            raise
        except (KeyError, TypeError, ValueError, MedrailError):
            raise self._broken(case_id, "its record is incomplete") from None
        return image, mask

    def source_fingerprint(self, case_id: str) -> str | None:
        """What the case was made from, or None if it is not prepared or its record or arrays are broken."""
        try:
            entry = self._entry(case_id)
            for kind in ("image", "mask"):
                if entry[kind] is not None and self._file(case_id, kind).stat().st_size != entry[kind]["bytes"]:
                    return None
            return str(entry["source_fingerprint"])
        except (RunError, OSError, KeyError, TypeError):
            return None

    def fingerprint(self, case_ids: Iterable[str]) -> str:
        """SHA-256 (hex) over the pipeline and what each of the cases was made from, whatever their order.

        Raises
        ------
        RunError
            If one of them is not prepared.
        """
        made_from = [[case_id, self._entry(case_id)["source_fingerprint"]] for case_id in sorted(case_ids)]
        return hashlib.sha256(json.dumps([self.pipeline.fingerprint, made_from]).encode()).hexdigest()

    def begin(self) -> None:
        """Create the folder and write down the pipeline.

        Raises
        ------
        RunError
            If the folder holds another pipeline (two fingerprints that begin alike).
        """
        record = self.folder / "pipeline.json"
        steps = {"fingerprint": self.pipeline.fingerprint, "steps": self.pipeline.to_dict()}
        if record.is_file() and read_json(record) != steps:
            raise RunError(
                "holds another pipeline", where=str(record), remedy="Delete the folder; it is made again when needed."
            )
        self.cases.mkdir(parents=True, exist_ok=True)
        if not record.is_file():
            write_json(record, steps)

    def write(self, case_id: str, image: Image, mask: Image | None, source_fingerprint: str) -> None:
        """Store one case, whole or not at all; the mask holds class indices below 256."""
        self.remove(case_id)
        mask_voxels = None if mask is None else mask.voxels.astype(np.uint8)
        image_saved = self._save(case_id, "image", image.voxels)
        mask_saved = None if mask_voxels is None else self._save(case_id, "mask", mask_voxels)
        entry = {
            "case": case_id,
            "pipeline": self.pipeline.fingerprint,
            "source_fingerprint": source_fingerprint,
            "source": image.source,
            "unit": image.unit,
            "image": image_saved,
            "mask": mask_saved,
            "geometry": image.geometry.affine_ras_mm.tolist() if image.geometry else None,
            "history": [{"step": applied.step, "params": dict(applied.params)} for applied in image.history],
        }
        write_json(self._record(case_id), entry)

    def remove(self, case_id: str) -> None:
        """Forget a case, if it is there."""
        for path in (self._record(case_id), self._file(case_id, "image"), self._file(case_id, "mask")):
            path.unlink(missing_ok=True)

    def _record(self, case_id: str) -> Path:
        return self.cases / f"{case_id}.json"

    def _file(self, case_id: str, kind: str) -> Path:
        return self.cases / f"{case_id}.{kind}.npy"

    def _entry(self, case_id: str) -> dict[str, Any]:
        path = self._record(case_id)
        if not path.is_file():
            raise RunError(f"case {case_id} is not prepared", where=str(self.folder), remedy=_REMEDY)
        entry = read_json(path)
        if not isinstance(entry, dict) or entry.get("pipeline") != self.pipeline.fingerprint:
            raise self._broken(case_id, "it was made by another pipeline")
        return entry

    def _array(self, case_id: str, kind: str, described: dict[str, Any]) -> Voxels:
        try:
            voxels: Voxels = np.load(self._file(case_id, kind), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._broken(case_id, f"its {kind} cannot be read ({type(error).__name__})") from None
        found = {"shape": list(voxels.shape), "dtype": voxels.dtype.str}
        if any(described[key] != value for key, value in found.items()):
            raise self._broken(case_id, f"its {kind} is {found}, its record says {described}")
        return voxels

    def _save(self, case_id: str, kind: str, voxels: Voxels) -> dict[str, Any]:
        path = self._file(case_id, kind)
        handle, name = tempfile.mkstemp(dir=self.cases, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                np.save(file, np.ascontiguousarray(voxels), allow_pickle=False)
            temporary.chmod(0o644)
            described = {
                "shape": list(voxels.shape),
                "dtype": voxels.dtype.str,
                "bytes": temporary.stat().st_size,
            }
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return described

    def _broken(self, case_id: str, reason: str) -> RunError:
        return RunError(f"case {case_id}: {reason}", where=str(self.folder), remedy=_REMEDY)
