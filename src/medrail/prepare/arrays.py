"""The files that hold prepared voxels: one .npy a case, or one for all pictures of a size, a row a case.

Both open with ``np.load``. A case's own file appears whole or not at all; a row counts once the manifest names it, and
one process writes rows.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.read.digests import digest_of

Array = npt.NDArray[Any]

TEMPORARY_PREFIX = ".writing-"
# Room for a header of any number of rows, so that rows can be added without moving the others.
HEADER_BYTES = 256


@dataclass(frozen=True)
class RowsFile:
    """One .npy of equal arrays: (rows, *shape) of ``dtype``; more rows may be there than are used."""

    path: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    def fits(self, array: Array) -> bool:
        """Whether an array can be a row."""
        return array.shape == self.shape and array.dtype == np.dtype(self.dtype)

    def make_room(self, rows: int) -> None:
        """At least so many rows; what is there already stays. Takes no room on the disk until rows are written."""
        number = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            self._resize(number, max(rows, self._rows_in(os.fstat(number).st_size)))
        finally:
            os.close(number)

    def rows_there(self) -> int:
        """How many rows are in the file, whole."""
        try:
            return self._rows_in(self.path.stat().st_size)
        except FileNotFoundError:
            return 0

    def _rows_in(self, size: int) -> int:
        return max(0, size - HEADER_BYTES) // self.row_bytes

    def cut(self, rows: int) -> None:
        """No more than so many rows."""
        number = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            self._resize(number, rows)
        finally:
            os.close(number)

    def _resize(self, number: int, rows: int) -> None:
        """The header counts no row that is not there: it is written last when growing, first when shrinking."""
        size = HEADER_BYTES + rows * self.row_bytes
        if size < os.fstat(number).st_size:
            _write_at(number, self._header(rows), 0)
            os.ftruncate(number, size)
        else:
            os.ftruncate(number, size)
            _write_at(number, self._header(rows), 0)

    def write(self, row: int, array: Array) -> None:
        """One row, in place."""
        number = os.open(self.path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
        try:
            _write_at(number, _bytes_of(array), HEADER_BYTES + row * self.row_bytes)
        finally:
            os.close(number)

    def _header(self, rows: int) -> bytes:
        """Of the format's version 1.0 (numpy.lib.format), padded to a fixed length."""
        written = {"descr": np.dtype(self.dtype).str, "fortran_order": False, "shape": (rows, *self.shape)}
        text = repr(written).encode("latin1")
        magic = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        return magic + text.ljust(HEADER_BYTES - len(magic) - 1) + b"\n"


def _write_at(number: int, content: bytes | memoryview, offset: int) -> None:
    view = memoryview(content)
    while view:
        if hasattr(os, "pwrite"):
            count = os.pwrite(number, view, offset)
        else:
            os.lseek(number, offset, os.SEEK_SET)
            count = os.write(number, view)
        view, offset = view[count:], offset + count


def save_array(path: Path, array: Array) -> int:
    """Write an .npy whole or not at all; its bytes."""
    temporary = path.parent / save_temporary(path.parent, array)
    size = temporary.stat().st_size
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


def save_temporary(folder: Path, array: Array) -> str:
    """Write an .npy under a new name, whole or not at all; the name."""
    head = BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    handle, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for part in (head.getvalue(), _bytes_of(array)):
                view = memoryview(part)
                while view:
                    view = view[file.write(view) :]
        temporary.chmod(0o644)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary.name


def array_digest(array: Array) -> str:
    """Of its numbers, whatever file they lie in."""
    return digest_of(_bytes_of(array))


def _bytes_of(array: Array) -> memoryview:
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
