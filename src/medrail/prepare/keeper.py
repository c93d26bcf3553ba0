"""Keeper: the one process that writes a store. It says where each case goes, and writes its line when it is there.

The arrays are written by whoever made them (``write_case``, in any process). A case that is made again loses its line
first, so that no line ever describes an array that is being replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from medrail.errors import RunError
from medrail.lock import Busy, locked
from medrail.prepare.arrays import TEMPORARY_PREFIX, Array, RowsFile, array_digest, save_array
from medrail.prepare.manifest import Entry, ManifestWriter
from medrail.prepare.pipeline import Prepared
from medrail.prepare.store import Store
from medrail.types import Image
from medrail.workspace import read_json, write_json

_PICTURES, _MASKS = "pictures.npy", "pictures.mask.npy"
# Fewer pictures than this are files of their own.
_WORTH_A_FILE = 16
_WAIT_S = 1.0


@dataclass(frozen=True)
class Rows:
    """The file of the pictures, and of their masks where there are any."""

    images: RowsFile
    masks: RowsFile | None


@dataclass(frozen=True)
class Place:
    """Where one case goes: to a row where it fits, else into files of its own."""

    store: Store
    case_id: str
    rows: Rows | None = None
    row: int = -1


class Keeper:
    """Writes a store's manifest; use as a context manager.

    Parameters
    ----------
    expected:
        How many cases will be asked places for, at most.

    Raises
    ------
    RunError
        If another process writes this store, or its folder holds another pipeline.
    """

    def __init__(self, store: Store, expected: int) -> None:
        self.store = store
        self._expected = expected
        self._stack = ExitStack()
        self._rows: Rows | None = None
        self._free: list[int] = []
        self._next = 0
        self._room = 0

    def __enter__(self) -> Keeper:
        with ExitStack() as stack:
            stack.enter_context(_alone(self.store))
            _begin(self.store)
            self._manifest = stack.enter_context(ManifestWriter(self.store.manifest_file))
            self._entries = dict(self.store.entries)
            self._find_rows()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._cut_rows()
        finally:
            self._stack.close()

    @property
    def wants_example(self) -> bool:
        """Whether the first picture would tell how all of them are kept."""
        return self._rows is None and self._expected >= _WORTH_A_FILE and not self.store.plain

    def place(self, case_id: str) -> Place:
        """Where to write a case; what was there of it is no more."""
        self.remove(case_id)
        if self._rows is None:
            return Place(self.store, case_id)
        if not self._free:
            self._free = [self._next]
            self._next += 1
            if self._next > self._room:
                self._make_room(max(self._next, self._expected))
        return Place(self.store, case_id, self._rows, self._free.pop())

    def keep(self, place: Place, entry: Entry) -> None:
        """The line of a case whose arrays are written.

        Raises
        ------
        OSError
            If the disk is full.
        """
        if self.wants_example:
            entry = self._first_row(place, entry)
        self._manifest.add(entry)
        self._entries[place.case_id] = entry
        if place.row >= 0 and entry["image"].get("row") != place.row:
            self._free.append(place.row)

    def give_back(self, place: Place) -> None:
        """A place that was not used, since the case failed."""
        if place.row >= 0:
            self._free.append(place.row)

    def remove(self, case_id: str) -> None:
        """Forget a case, if it is there."""
        entry = self._entries.pop(case_id, None)
        if entry is None:
            return
        self._manifest.remove(case_id)
        row = entry["image"].get("row")
        if row is not None:
            self._free.append(row)
        for path in (image_path(self.store, case_id), mask_path(self.store, case_id)):
            path.unlink(missing_ok=True)

    def _find_rows(self) -> None:
        """The rows that lines name, after whatever happened; all others are free. Lines of rows that are lost go."""
        used = [entry["image"] for entry in self._entries.values() if "row" in entry["image"]]
        if not used:
            return
        masked = next(entry for entry in self._entries.values() if "row" in entry["image"])["mask"] is not None
        self._set_rows(used[0]["shape"], used[0]["dtype"], masked=masked)
        there = self._rows_there()
        lost = [case for case, entry in self._entries.items() if entry["image"].get("row", -1) >= there]
        for case in lost:
            self.remove(case)
        taken = {described["row"] for described in used if described["row"] < there}
        self._next = max(taken, default=-1) + 1
        self._free = [row for row in range(self._next) if row not in taken]
        self._make_room(self._next)

    def _rows_there(self) -> int:
        """How many rows are in the file, or in both of them."""
        assert self._rows is not None  # noqa: S101  the caller knows
        files = [file for file in (self._rows.images, self._rows.masks) if file is not None]
        return min(file.rows_there() for file in files)

    def _set_rows(self, shape: Sequence[int], dtype: str, *, masked: bool) -> None:
        images = RowsFile(self.store.folder / _PICTURES, tuple(shape), dtype)
        masks = RowsFile(self.store.folder / _MASKS, tuple(shape)[1:], "uint8") if masked else None
        self._rows = Rows(images, masks)

    def _first_row(self, place: Place, entry: Entry) -> Entry:
        """A first picture says what the rows look like, and becomes one."""
        shape = entry["image"]["shape"]
        if len(shape) != 4 or shape[1] != 1:
            return entry
        self._set_rows([shape[0], *shape[2:]], entry["image"]["dtype"], masked=entry["mask"] is not None)
        self._next = 1
        self._make_room(self._expected)
        voxels = np.load(image_path(self.store, place.case_id))
        labels = np.load(mask_path(self.store, place.case_id)) if entry["mask"] is not None else None
        rows = write_arrays(replace(place, rows=self._rows, row=0), voxels, labels)
        for path in (image_path(self.store, place.case_id), mask_path(self.store, place.case_id)):
            path.unlink(missing_ok=True)
        return {**entry, **rows}

    def _make_room(self, rows: int) -> None:
        self._room = rows
        if self._rows is not None:
            for file in (self._rows.images, self._rows.masks):
                if file is not None:
                    file.make_room(rows)

    def _cut_rows(self) -> None:
        """No rows at the end that no case has."""
        if self._rows is None:
            return
        used = [entry["image"]["row"] for entry in self._entries.values() if "row" in entry["image"]]
        for file in (self._rows.images, self._rows.masks):
            if file is not None and file.path.is_file():
                file.cut(max(used, default=-1) + 1)


def put(store: Store, case_id: str, prepared: Prepared, mask: Image | None, made_from: str) -> None:
    """Keep one case that was made in this process. Errors as ``Keeper`` and ``write_case``."""
    with Keeper(store, 1) as keeper:
        place = keeper.place(case_id)
        keeper.keep(place, write_case(place, prepared, mask, made_from))


def write_case(place: Place, prepared: Prepared, mask: Image | None, made_from: str) -> Entry:
    """Write a case's arrays -> its line for the manifest.

    Raises
    ------
    OSError
        If the disk is full, or the like.
    """
    if place.store.plain:
        prepared = Prepared(prepared.decoded())
    image = prepared.image
    labels = None if mask is None else mask.voxels.astype(np.uint8)
    lines = {}
    if prepared.lines:
        lines["subtract"] = [line.subtract for line in prepared.lines]
        lines["multiply"] = [line.multiply for line in prepared.lines]
    return {
        "case": place.case_id,
        **write_arrays(place, image.voxels, labels),
        **lines,
        "unit": image.unit,
        "affine_ras_mm": image.geometry.affine_ras_mm.tolist() if image.geometry else None,
        "source": image.source,
        "made_from": made_from,
        "pipeline": place.store.pipeline.fingerprint[:12],
        "history": [{"step": applied.step, "params": dict(applied.params)} for applied in image.history],
    }


def write_arrays(place: Place, voxels: Array, labels: Array | None) -> Entry:
    """Write image (C, D, H, W) and mask (1, D, H, W) -> what the manifest says of them."""
    rows = place.rows
    picture, flat = voxels[:, 0], None if labels is None else labels[0, 0]
    if rows is not None and voxels.shape[1] == 1 and rows.images.fits(picture):
        if flat is None and rows.masks is None:
            return {"image": _row(rows.images, place.row, picture), "mask": None}
        if flat is not None and rows.masks is not None:
            described = _row(rows.images, place.row, picture)
            return {"image": described, "mask": _row(rows.masks, place.row, flat)}
    described = _own(image_path(place.store, place.case_id), voxels)
    return {
        "image": described,
        "mask": None if labels is None else _own(mask_path(place.store, place.case_id), labels),
    }


def image_path(store: Store, case_id: str) -> Path:
    """The file of a case that has one of its own."""
    return store.cases / f"{case_id}.image.npy"


def mask_path(store: Store, case_id: str) -> Path:
    """The file of its mask."""
    return store.cases / f"{case_id}.mask.npy"


def _row(file: RowsFile, row: int, array: Array) -> Entry:
    file.write(row, array)
    return {"file": file.path.name, "row": row, "bytes": (row + 1) * file.row_bytes, **_described(array)}


def _own(path: Path, array: Array) -> Entry:
    size = save_array(path, array)
    return {"file": f"{path.parent.name}/{path.name}", "bytes": size, **_described(array)}


def _described(array: Array) -> Entry:
    return {"shape": list(array.shape), "dtype": array.dtype.name, "digest": array_digest(array)}


def _begin(store: Store) -> None:
    """The folder, with the pipeline written down, and without what a killed process was writing."""
    record = store.folder / "pipeline.json"
    steps = {"fingerprint": store.pipeline.fingerprint, "steps": store.pipeline.to_dict()}
    if record.is_file() and read_json(record) != steps:
        raise RunError(
            "holds another pipeline", where=str(record), remedy="Delete the folder; it is made again when needed."
        )
    store.cases.mkdir(parents=True, exist_ok=True)
    for left_over in store.cases.glob(f"{TEMPORARY_PREFIX}*"):
        left_over.unlink(missing_ok=True)
    if not record.is_file():
        write_json(record, steps)


def _alone(store: Store) -> ExitStack:
    """The right to write the store.

    Raises
    ------
    RunError
        If another process has it, and does not end within a second.
    """
    stack = ExitStack()
    try:
        stack.enter_context(locked(store.folder / ".lock", wait_s=_WAIT_S))
    except Busy as busy:
        process = busy.note.get("process", "unknown")
        raise RunError(
            f"another `medrail prepare` (process {process}) is writing it",
            where=str(store.folder),
            remedy="Wait until it has ended, and repeat: what it has done is kept.",
        ) from None
    return stack
