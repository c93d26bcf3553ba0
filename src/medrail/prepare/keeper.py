"""Keeper: the one process that writes a store, while it holds the store's lock.

Workers make a case in any process (``write_case``): small pictures come back as arrays, everything else as a file under
a name of no meaning. The keeper puts them where they belong, and then writes the case's line. So a worker that is late,
or does a case that another one has done meanwhile, can change nothing that a line describes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from medrail.errors import PrepareError, RunError
from medrail.lock import Busy, locked
from medrail.prepare.arrays import TEMPORARY_PREFIX, Array, RowsFile, array_digest, save_array, save_temporary
from medrail.prepare.manifest import Entry, ManifestWriter
from medrail.prepare.pipeline import Prepared
from medrail.prepare.store import Store
from medrail.types import Image
from medrail.workspace import read_json, write_json

# Fewer pictures than this are files of their own; so are those of more sizes than these, and large ones.
_WORTH_A_FILE, _MOST_GROUPS, _MOST_ROW_BYTES = 16, 4, 4_000_000
_WAIT_S = 1.0


@dataclass(frozen=True)
class Place:
    """Where one case goes. ``in_rows``: pictures are handed back, to become rows of one array."""

    store: Store
    case_id: str
    in_rows: bool = False


@dataclass(frozen=True, eq=False)
class Written:
    """A case as a worker hands it back.

    entry:
        Its line for the manifest, without the names of files.
    image, mask:
        A picture (C, H, W) and its mask (H, W), to become rows; or the names of the files that hold the arrays.
    """

    entry: Entry
    image: Array | str
    mask: Array | str | None


@dataclass
class _Group:
    """Pictures of one shape and type in one array, with their masks where they have any."""

    images: RowsFile
    masks: RowsFile | None
    next_row: int = 0
    room: int = 0

    def suits(self, image: Array, mask: Array | None) -> bool:
        return self.images.fits(image) and (self.masks is None) == (mask is None)

    @property
    def files(self) -> list[RowsFile]:
        return [self.images] if self.masks is None else [self.images, self.masks]

    def rows_there(self) -> int:
        return min(file.rows_there() for file in self.files)

    def make_room(self, rows: int) -> None:
        self.room = rows
        for file in self.files:
            file.make_room(rows)


class Keeper:
    """Writes a store; use as a context manager.

    Parameters
    ----------
    expected:
        How many cases will be kept, at most.

    Raises
    ------
    RunError
        If another process writes this store, or its folder holds another pipeline.
    """

    def __init__(self, store: Store, expected: int) -> None:
        self.store = store
        self.after_death = False
        """Whether the last one who wrote this store was killed."""
        self._expected = expected
        self._stack = ExitStack()
        self._groups: list[_Group] = []

    def __enter__(self) -> Keeper:
        with ExitStack() as stack:
            lock = self.store.folder / ".lock"
            self.after_death = lock.is_file()  # who ends by himself takes it away
            stack.enter_context(_alone(self.store))
            _begin(self.store)
            self._manifest = stack.enter_context(ManifestWriter(self.store.manifest_file))
            self._entries = dict(self.store.entries)
            self._find_groups()
            for case_id in self.store.found_broken():
                self.remove(case_id)
                self.store.forget_broken(case_id)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._cut()
        finally:
            self._stack.close()

    def place(self, case_id: str) -> Place:
        """Where to write a case. What is there of it stays until it is kept or removed."""
        in_rows = not self.store.plain and (bool(self._groups) or self._expected >= _WORTH_A_FILE)
        return Place(self.store, case_id, in_rows)

    def made_from(self, case_id: str) -> str | None:
        """What a case that is there was made from."""
        entry = self._entries.get(case_id)
        return None if entry is None else str(entry.get("made_from"))

    def keep(self, case_id: str, written: Written) -> Entry:
        """Take over what a worker has written -> the line of the manifest.

        Raises
        ------
        OSError
            If the disk is full, or the worker's files are gone.
        """
        self.remove(case_id)
        if isinstance(written.image, str):
            image, mask = self._moved(case_id, written)
        else:
            image, mask = self._rows(case_id, written)
        entry = {
            **written.entry,
            "image": {**written.entry["image"], **image},
            "mask": None if mask is None else {**written.entry["mask"], **mask},
        }
        self._manifest.add(entry)
        self._entries[case_id] = entry
        return entry

    def remove(self, case_id: str) -> None:
        """Forget a case, if it is there."""
        entry = self._entries.pop(case_id, None)
        if entry is None:
            return
        self._manifest.remove(case_id)
        for path in (image_path(self.store, case_id), mask_path(self.store, case_id)):
            path.unlink(missing_ok=True)

    def remove_others(self, case_ids: Iterable[str]) -> int:
        """Forget all cases but these; how many there were."""
        others = set(self._entries) - set(case_ids)
        for case_id in sorted(others):
            self.remove(case_id)
        return len(others)

    def _moved(self, case_id: str, written: Written) -> tuple[Entry, Entry | None]:
        image = _named(self.store, str(written.image), image_path(self.store, case_id))
        if written.mask is None:
            return image, None
        return image, _named(self.store, str(written.mask), mask_path(self.store, case_id))

    def _rows(self, case_id: str, written: Written) -> tuple[Entry, Entry | None]:
        picture, labels = written.image, written.mask
        assert not isinstance(picture, str) and not isinstance(labels, str)  # noqa: S101, PT018  both are arrays
        group = self._group(picture, labels)
        if group is None:
            own = _saved(image_path(self.store, case_id), picture[:, None])
            return own, None if labels is None else _saved(mask_path(self.store, case_id), labels[None, None])
        row = group.next_row
        if row >= group.room:
            group.make_room(max(2 * row, self._expected))
        group.next_row += 1
        group.images.write(row, picture)
        if group.masks is None or labels is None:
            return _row(group.images, row), None
        group.masks.write(row, labels)
        return _row(group.images, row), _row(group.masks, row)

    def _group(self, picture: Array, labels: Array | None) -> _Group | None:
        """The one that suits a picture, a new one, or none any more."""
        for group in self._groups:
            if group.suits(picture, labels):
                return group
        if len(self._groups) >= _MOST_GROUPS:
            return None
        names = {group.images.path.name for group in self._groups}
        number = next(n for n in range(1, _MOST_GROUPS + 1) if _rows_name(n) not in names)
        masks = None if labels is None else _rows_file(self.store, _rows_name(number, "mask"), labels.shape, "uint8")
        images = _rows_file(self.store, _rows_name(number), picture.shape, picture.dtype.name)
        for file in filter(None, (images, masks)):
            file.path.unlink(missing_ok=True)  # of a run that was killed before a line named a row
        self._groups.append(_Group(images, masks))
        return self._groups[-1]

    def _find_groups(self) -> None:
        """The arrays whose rows lines name. Lines of rows that are not there go."""
        by_file: dict[str, list[Entry]] = {}
        for entry in self._entries.values():
            if "row" in entry["image"]:
                by_file.setdefault(entry["image"]["file"], []).append(entry)
        for name, entries in sorted(by_file.items()):
            image, mask = entries[0]["image"], entries[0]["mask"]
            masks = None if mask is None else _rows_file(self.store, mask["file"], mask["shape"], mask["dtype"])
            group = _Group(_rows_file(self.store, name, image["shape"], image["dtype"]), masks)
            there = group.rows_there()
            for entry in entries:
                if entry["image"]["row"] >= there:
                    self.remove(entry["case"])
            group.next_row = (
                max((entry["image"]["row"] for entry in entries if entry["image"]["row"] < there), default=-1) + 1
            )
            group.make_room(group.next_row)
            self._groups.append(group)

    def _cut(self) -> None:
        """No rows at the end that no case has, and no array without any."""
        used: dict[str, int] = {}
        for entry in self._entries.values():
            if "row" in entry["image"]:
                used[entry["image"]["file"]] = max(used.get(entry["image"]["file"], -1), entry["image"]["row"])
        for group in self._groups:
            rows = used.get(group.images.path.name, -1) + 1
            for file in group.files:
                if not rows:
                    file.path.unlink(missing_ok=True)
                elif file.path.is_file():
                    file.cut(rows)


def write_case(place: Place, prepared: Prepared, mask: Image | None, made_from: str) -> Written:
    """Write a case's arrays, or hand them back, for ``Keeper.keep``.

    Raises
    ------
    PrepareError
        If there are numbers that are not finite.
    OSError
        If the disk is full, or the like.
    """
    if place.store.plain:
        prepared = Prepared(prepared.decoded())
    image = prepared.image
    _check_finite(image)
    labels = None if mask is None else mask.voxels.astype(np.uint8)
    entry = _entry(place, prepared, made_from)
    json.dumps(entry, allow_nan=False)  # what cannot be written down is this case's failure, not the keeper's
    small = image.voxels.shape[1] == 1 and image.voxels.nbytes <= _MOST_ROW_BYTES
    if place.in_rows and small and (labels is None or labels.shape[1] == 1):
        picture, flat = np.ascontiguousarray(image.voxels[:, 0]), None if labels is None else labels[0, 0]
        entry |= {"image": _described(picture), "mask": None if flat is None else _described(flat)}
        return Written(entry, picture, flat)
    entry |= {"image": _described(image.voxels), "mask": None if labels is None else _described(labels)}
    folder = place.store.cases
    return Written(
        entry, save_temporary(folder, image.voxels), None if labels is None else save_temporary(folder, labels)
    )


def put(store: Store, case_id: str, prepared: Prepared, mask: Image | None, made_from: str) -> None:
    """Keep one case that was made in this process. Errors as ``Keeper`` and ``write_case``."""
    with Keeper(store, 1) as keeper:
        keeper.keep(case_id, write_case(keeper.place(case_id), prepared, mask, made_from))


def image_path(store: Store, case_id: str) -> Path:
    """The file of a case that has one of its own."""
    return store.cases / f"{case_id}.image.npy"


def mask_path(store: Store, case_id: str) -> Path:
    """The file of its mask."""
    return store.cases / f"{case_id}.mask.npy"


def _entry(place: Place, prepared: Prepared, made_from: str) -> Entry:
    image = prepared.image
    entry: Entry = {"case": place.case_id, "image": None, "mask": None}
    if prepared.lines:
        entry["subtract"] = [line.subtract for line in prepared.lines]
        entry["multiply"] = [line.multiply for line in prepared.lines]
    return entry | {
        "unit": image.unit,
        "affine_ras_mm": image.geometry.affine_ras_mm.tolist() if image.geometry else None,
        "source": image.source,
        "made_from": made_from,
        "pipeline": place.store.pipeline.fingerprint[:12],
        "history": [{"step": applied.step, "params": dict(applied.params)} for applied in image.history],
    }


def _check_finite(image: Image) -> None:
    """Of float32 alone: what was rounded to halves was compared with what they hold."""
    voxels = image.voxels
    if voxels.dtype == np.float32 and not all(np.isfinite(plane).all() for volume in voxels for plane in volume):
        raise PrepareError(
            "numbers that are not finite after preparation",
            where=image.source,
            remedy="Clip its values first ({kind: clip_percentile}), or leave the case out.",
        )


def _described(array: Array) -> Entry:
    return {"shape": list(array.shape), "dtype": array.dtype.name, "digest": array_digest(array)}


def _named(store: Store, temporary: str, path: Path) -> Entry:
    """A worker's file under its own name."""
    found = store.cases / temporary
    size = found.stat().st_size
    os.replace(found, path)  # noqa: PTH105  as Path.replace, and said as such
    return {"file": f"{path.parent.name}/{path.name}", "bytes": size}


def _saved(path: Path, array: Array) -> Entry:
    """A picture that has no place among the rows."""
    return {"file": f"{path.parent.name}/{path.name}", "bytes": save_array(path, array), "shape": list(array.shape)}


def _row(file: RowsFile, row: int) -> Entry:
    return {"file": file.path.name, "row": row, "bytes": (row + 1) * file.row_bytes}


def _rows_name(number: int, kind: str = "") -> str:
    """pictures.npy, pictures-2.npy, ...; with masks pictures.mask.npy."""
    return f"pictures{f'-{number}' if number > 1 else ''}{f'.{kind}' if kind else ''}.npy"


def _rows_file(store: Store, name: str, shape: Sequence[int], dtype: str) -> RowsFile:
    return RowsFile(store.folder / name, tuple(shape), dtype)


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


def _alone(store: Store) -> AbstractContextManager[object]:
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
