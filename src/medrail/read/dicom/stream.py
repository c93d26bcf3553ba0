"""A series of plain slices -> its slices one at a time, each file opened once and read into one buffer.

It gives the same numbers as ``assemble``, without a volume of stored values between them: a slice stays in the
processor's cache from the disk to whoever asked for it. What is not plain (colours, tables, padding to be blackened,
several frames a file, copies at one place, repairs) is left to ``assemble``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medrail.errors import CorruptFile, MedrailError
from medrail.read.dicom.assemble import undecodable
from medrail.read.dicom.decoders import DECODERS, decode_frame
from medrail.read.dicom.fragments import Frames
from medrail.read.dicom.header import Header
from medrail.read.dicom.layout import Layout, values_of
from medrail.read.dicom.plane import Plane
from medrail.read.dicom.volume import Volume
from medrail.read.digests import Digests
from medrail.read.guard import Guard
from medrail.read.unread import Slice, UnreadImage
from medrail.types import Image, ReadOptions

_NATIVE = frozenset({str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)})
_MODALITIES = frozenset({"CT", "MR"})  # quantities: nothing is done to them for display
_MOST_BYTES = 64 << 20  # of one slice's file


def unread(
    volume: Volume, options: ReadOptions, source: str, read: Callable[[], Image], digests: Digests | None
) -> UnreadImage | None:
    """A volume that can be read a slice at a time; None for one that only ``read`` can give."""
    if not _is_plain(volume, options):
        return None
    group, layout = volume.groups[0], volume.layouts[0]
    frames = [group.frames[place[0]] for place in layout.places]
    slices = _Slices(tuple(frame.header for frame in frames), digests)
    _, depth, height, width = volume.series.shape
    return UnreadImage(
        grid=(depth, height, width),
        geometry=layout.geometry,
        unit=volume.series.unit,
        source=source,
        defects=tuple(dict.fromkeys((*volume.series.defects, *layout.defects))),
        slices=slices,
        read=read,
    )


def _is_plain(volume: Volume, options: ReadOptions) -> bool:
    if options.on_defect != "refuse" or volume.error is not None or len(volume.groups) != 1 or not volume.layouts:
        return False
    group, layout = volume.groups[0], volume.layouts[0]
    straight = not layout.shifts_px.any() and np.array_equal(layout.targets_mm, layout.along_mm)
    single = all(len(place) == 1 for place in layout.places)
    return straight and single and all(map(_is_plain_file, group.headers)) and _alike(group.headers)


def _is_plain_file(header: Header) -> bool:
    known = header.pixel_offset >= 0 and not header.pixel_defect and len(header.planes) == 1 and not header.tiles
    grey = header.samples == 1 and header.photometric in ("MONOCHROME1", "MONOCHROME2") and not header.has_lut
    # What the numbers of 8 bits mean is judged by their type once they are scaled: not from the header.
    cells = header.bits_allocated == 16 and 1 <= header.bits_stored <= header.bits_allocated
    bits = cells and header.bits_stored - 1 <= _high_bit(header) < header.bits_allocated
    read = header.syntax in _NATIVE or header.syntax in DECODERS
    quantity = header.modality in _MODALITIES and header.activity is None
    return known and grey and bits and read and quantity and _is_exact(header.planes[0])


def _is_exact(plane: Plane) -> bool:
    """Whether whole values are exact in float32, and as int32 on the way there."""
    return abs(plane.slope) * (1 << 16) + abs(plane.intercept) < 1 << 24


def _high_bit(header: Header) -> int:
    return header.high_bit if header.high_bit >= 0 else header.bits_stored - 1


def _alike(headers: Sequence[Header]) -> bool:
    return len({(one.rows, one.columns, one.bits_allocated, one.bits_stored, one.signed) for one in headers}) == 1


@dataclass(frozen=True)
class _Slices:
    """The files in the order of D. All slopes and intercepts whole: whole numbers stay whole, as in ``rescale``."""

    headers: tuple[Header, ...]
    digests: Digests | None

    def __call__(self, indices: Sequence[int]) -> Iterator[Slice]:
        scales = [(header.planes[0].slope, header.planes[0].intercept) for header in self.headers]
        whole = all(float(number).is_integer() for pair in scales for number in pair)
        buffer = bytearray()
        for index in indices:
            header, (slope, intercept) = self.headers[index], scales[index]
            try:
                content, buffer = self._read(header, buffer)
                values = _values(header, content)
            except Exception as error:  # noqa: BLE001  (decoders raise what they like)
                raise undecodable(header, _named(header, error)) from None
            if not whole:
                yield Slice(index, (values.astype(np.float64) * slope + intercept).astype(np.float32), 0.0)
            elif slope == 1:
                yield Slice(index, values, intercept)
            else:
                yield Slice(index, values.astype(np.int32) * np.int32(slope), intercept)

    def _read(self, header: Header, buffer: bytearray) -> tuple[memoryview, bytearray]:
        """The file's bytes in the buffer, which is made larger where it must."""
        number = os.open(header.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            status = os.fstat(number)
            if status.st_size > _MOST_BYTES:
                raise CorruptFile("is too large for one slice", needed="one slice", remedy="Look at it.")
            if len(buffer) < status.st_size:
                buffer = bytearray(status.st_size)
            content, count = memoryview(buffer)[: status.st_size], 0
            while count < len(content):
                got = _read_some(number, content[count:])
                if not got:
                    raise CorruptFile("became shorter while it was read", remedy="Wait until it is copied, and repeat.")
                count += got
        finally:
            os.close(number)
        if self.digests is not None:
            self.digests.add(header.path, status, content)
        return content, buffer


def _named(header: Header, error: Exception) -> MedrailError:
    """Any exception as one of ours, without its text."""
    try:
        with Guard(header.path, "DICOM"):
            raise error
    except MedrailError as named:
        return named


def _read_some(number: int, into: memoryview) -> int:
    if hasattr(os, "readv"):
        return os.readv(number, [into])
    piece = os.read(number, len(into))
    into[: len(piece)] = piece
    return len(piece)


def _values(header: Header, content: memoryview) -> npt.NDArray[Any]:
    """(H, W) stored values."""
    layout = Layout(
        *(header.rows, header.columns, 1, header.bits_allocated, header.bits_stored, _high_bit(header)),
        signed=header.signed,
        photometric=header.photometric,
        planar=False,
    )
    if header.syntax in _NATIVE:
        return _native(layout, content, header.pixel_offset)
    frames = Frames(bytes(content[header.pixel_offset :]), 1)
    values, _ = decode_frame(frames[0], DECODERS[header.syntax], layout)
    return values[..., 0]


def _native(layout: Layout, content: memoryview, offset: int) -> npt.NDArray[Any]:
    dtype = layout.dtype.newbyteorder("<")
    if len(content) - offset < layout.cells * dtype.itemsize:
        raise CorruptFile("its pixel data end too early", needed="all pixels", remedy="Copy or export it again.")
    cells = np.frombuffer(content, dtype, layout.cells, offset).reshape(layout.rows, layout.columns)
    return values_of(cells if dtype.isnative else cells.astype(layout.dtype), layout)
