"""The bytes of the voxels behind a header: exactly as many as declared, from a plain or a compressed stream.

Nothing is allocated that the file cannot hold, and a compressed stream is followed to its checksum.
"""

from __future__ import annotations

import bz2
import os
import zlib
from io import BufferedReader
from typing import Literal

from medrail.errors import CorruptFile
from medrail.read.inflate import inflate_whole, may_inflate_to

Encoding = Literal["raw", "deflate", "bzip2"]

_CHUNK = 1 << 20
_MAX_DEFLATE_GROWTH = 1.01  # of what cannot be compressed; a larger file holds more than is asked for
_ANY_ZLIB_OR_GZIP_HEADER = zlib.MAX_WBITS | 32


def read_payload(file: BufferedReader, size: int, encoding: Encoding = "raw", skip: int = 0) -> bytearray:
    """The next ``size`` bytes of the (decoded) stream, after ``skip`` (decoded) bytes.

    Raises
    ------
    CorruptFile
        If the stream is shorter or its checksum is wrong.
    """
    if encoding == "raw":
        return _plain(file, size, skip)
    if encoding == "bzip2":
        return _bzip2(file, size, skip)
    data = _inflate(file, size + skip)
    del data[:skip]
    return data


def _left(file: BufferedReader) -> int:
    here = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(here)
    return end - here


def _truncated(found: int, needed: int) -> CorruptFile:
    return CorruptFile(
        f"truncated: holds {max(found, 0):,} bytes of voxels",
        needed=f"the {needed:,} bytes that its header declares",
        remedy="Copy or export it again.",
    )


def _plain(file: BufferedReader, size: int, skip: int) -> bytearray:
    left = _left(file) - skip
    if left < size:
        raise _truncated(left, size)
    file.seek(skip, os.SEEK_CUR)
    data = bytearray(size)
    if file.readinto(data) != size:
        raise _truncated(0, size)
    return data


def _bzip2(file: BufferedReader, size: int, skip: int) -> bytearray:
    with bz2.BZ2File(file) as stream:
        stream.seek(skip)
        data = bytearray(stream.read(size))
        stream.read(1)  # drives the decoder to its checksum
    if len(data) != size:
        raise _truncated(len(data), size)
    return data


def _inflate(file: BufferedReader, size: int) -> bytearray:
    """zlib or gzip (of one or more members, as pigz and bgzip write) -> the first ``size`` bytes, checksum included."""
    left = _left(file)
    if not may_inflate_to(left, size):
        raise _truncated(left, size)
    if left <= size * _MAX_DEFLATE_GROWTH + _CHUNK:
        begin = file.tell()
        whole = inflate_whole(file.read(), size)
        if whole is not None:
            return whole
        file.seek(begin)
    return _inflate_piecewise(file, size)


def _inflate_piecewise(file: BufferedReader, size: int) -> bytearray:
    """Several members, a stream that goes on, and what is broken: all of it by zlib."""
    data = bytearray(size)
    filled = 0
    engine = zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
    pending = b""
    while True:
        pending = pending or file.read(_CHUNK)
        if engine.eof and filled == size:
            return data
        if not pending:
            raise _truncated(filled, size)
        if engine.eof:
            engine = zlib.decompressobj(_ANY_ZLIB_OR_GZIP_HEADER)
        # One byte more than is needed drives the engine to the checksum; a longer stream is not our concern.
        piece = engine.decompress(pending, min(_CHUNK * 4, size - filled + 1))
        if len(piece) > size - filled:
            data[filled:] = piece[: size - filled]
            return data
        data[filled : filled + len(piece)] = piece
        filled += len(piece)
        pending = engine.unused_data if engine.eof else engine.unconsumed_tail
