"""NIfTI, MetaImage and NRRD: headers with nothing but grid and type; the voxels stay byte for byte."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from io import BytesIO
from math import prod

from medrail.errors import CorruptFile, UnsupportedFormat

# Free text of NIfTI-1 and -2: (offset, length) of data_type, db_name, descrip, aux_file, intent_name.
_TEXT_1 = ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16))
_TEXT_2 = ((240, 80), (320, 24), (508, 16), (525, 15))
_HEADER = {1: 348, 2: 540}

_META_NAMES = """
objecttype ndims binarydata binarydatabyteordermsb elementbyteordermsb compresseddata compresseddatasize transformmatrix
offset position origin orientation rotation centerofrotation anatomicalorientation elementspacing elementsize dimsize
elementnumberofchannels elementtype
"""
_META_KEPT = frozenset(_META_NAMES.split())
_META_TYPES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
_NRRD_NAMES = """
type, block size, dimension, sizes, spacings, axis mins, axismins, axis maxs, axismaxs, centers, centerings, kinds,
space, space dimension, space units, space origin, space directions, measurement frame, endian, encoding, min, max
"""
_NRRD_KEPT = frozenset(name.strip() for name in _NRRD_NAMES.split(","))
_WORDS = re.compile(r"[-\w+.*?()\"', \t%/]*")


def clean_nifti(content: bytes) -> tuple[bytes, bool]:
    """A header without text and extensions, and the voxels; the flag says whether it was and is gzipped.

    The offset of the voxels stays. Of a pair's header (ni1, ni2) only the header remains.
    """
    zipped = content[:2] == b"\x1f\x8b"
    if zipped:
        content = gzip.decompress(content)
    version = 1 if content[344:348] in (b"n+1\0", b"ni1\0") else 2
    size = _HEADER[version]
    order = "<" if struct.unpack_from("<i", content)[0] == size else ">"
    head = bytearray(content[:size])
    for start, length in _TEXT_1 if version == 1 else _TEXT_2:
        head[start : start + length] = bytes(length)
    paired = content[344:347] == b"ni1" or content[4:7] == b"ni2"
    if paired:
        cleaned = bytes(head)
    else:
        voxels, start = _nifti_voxels(content, order, version)
        cleaned = bytes(head) + bytes(start - size) + voxels
    return (_gzipped(cleaned) if zipped else cleaned), zipped


def _nifti_voxels(content: bytes, order: str, version: int) -> tuple[bytes, int]:
    if version == 1:
        dims = struct.unpack_from(order + "8h", content, 40)
        bits = struct.unpack_from(order + "h", content, 72)[0]
        start = int(struct.unpack_from(order + "f", content, 108)[0])
    else:
        dims = struct.unpack_from(order + "8q", content, 16)
        bits = struct.unpack_from(order + "h", content, 14)[0]
        start = struct.unpack_from(order + "q", content, 168)[0]
    count = prod(max(int(extent), 1) for extent in dims[1 : 1 + min(max(dims[0], 0), 7)])
    length = (count * bits + 7) // 8
    if start < _HEADER[version] or length <= 0 or start + length > len(content):
        raise CorruptFile("ends before its voxels do", remedy="Copy it again.")
    return content[start : start + length], start


def clean_metaimage(content: bytes, data: bytes | None = None) -> bytes:
    """One .mha: the header's numbers, then the voxels, also of a file with a separate data file (``data``)."""
    found = re.search(rb"^\s*ElementDataFile\s*=\s*([^\r\n]*)\r?\n?", content, re.MULTILINE | re.IGNORECASE)
    if not found:
        raise CorruptFile("does not say where its voxels are", needed="ElementDataFile")
    local = found.group(1).strip().upper() == b"LOCAL"
    if not local and data is None:
        raise UnsupportedFormat("keeps its voxels in several files", remedy="Save it as one .mha.")
    fields: dict[str, str] = {}
    for line in content[: found.start()].decode("latin-1").splitlines():
        key, sign, value = line.partition("=")
        if sign:
            fields[key.strip().lower()] = f"{key.strip()} = {value.strip()}"
    voxels = content[found.end() :] if local else _behind(data or b"", fields)
    voxels = _meta_voxels(voxels, fields)
    kept = [line for name, line in fields.items() if name in _META_KEPT and _WORDS.fullmatch(line.partition("=")[2])]
    if "compresseddatasize" in fields:
        kept = [line for line in kept if not line.lower().startswith("compresseddatasize")]
        kept.append(f"CompressedDataSize = {len(voxels)}")
    return ("\n".join([*kept, "ElementDataFile = LOCAL"]) + "\n").encode("latin-1") + voxels


def _value(fields: dict[str, str], name: str) -> str:
    return fields.get(name, "").partition("=")[2].strip()


def _behind(data: bytes, fields: dict[str, str]) -> bytes:
    skipped = int(_value(fields, "headersize") or 0)
    return data[skipped:] if skipped >= 0 else data[-_meta_length(fields) :]


def _meta_length(fields: dict[str, str]) -> int:
    kind = _value(fields, "elementtype").upper().removeprefix("MET_").replace("UCHAR", "CHAR").replace("_ARRAY", "")
    if kind.startswith("U"):
        kind = kind[1:]
    if kind not in _META_TYPES:
        raise UnsupportedFormat("has voxels of an unknown type", remedy="Convert it to NIfTI.")
    sizes = [int(part) for part in _value(fields, "dimsize").split()]
    return prod(sizes) * int(_value(fields, "elementnumberofchannels") or 1) * _META_TYPES[kind]


def _meta_voxels(voxels: bytes, fields: dict[str, str]) -> bytes:
    if _value(fields, "binarydata").lower() == "false":
        raise UnsupportedFormat("keeps its voxels as text", remedy="Save it with binary voxels.")
    if _value(fields, "compresseddata").lower() == "true":
        return _one_stream(voxels)
    length = _meta_length(fields)
    if len(voxels) < length:
        raise CorruptFile("ends before its voxels do", remedy="Copy it again.")
    return voxels[:length]


def clean_nrrd(content: bytes, data: bytes | None = None) -> bytes:
    """One .nrrd: the header's numbers, then the voxels, also of a header with a separate data file (``data``)."""
    end = re.search(rb"\r?\n\r?\n", content)
    head = (content[: end.start()] if end else content).decode("latin-1").splitlines()
    fields = [(line.partition(":")[0].strip().lower(), line) for line in head[1:] if re.match(r"[^#=]+:(?!=)", line)]
    names = {name: line.partition(":")[2].strip() for name, line in fields}
    if any(int(names.get(name, "0") or 0) for name in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise UnsupportedFormat("skips bytes before its voxels", remedy="Save it as one .nrrd.")
    if ("data file" in names or "datafile" in names) and data is None:
        raise UnsupportedFormat("keeps its voxels in several files", remedy="Save it as one .nrrd.")
    voxels = data if data is not None else content[end.end() :] if end else b""
    encoding = names.get("encoding", "").lower()
    if encoding in ("gzip", "gz"):
        voxels = _gzipped(gzip.decompress(voxels))
    elif encoding != "raw":
        raise UnsupportedFormat("has voxels that are neither raw nor gzip", remedy="Save it as one .nrrd with gzip.")
    kept = [line for name, line in fields if name in _NRRD_KEPT and _WORDS.fullmatch(line.partition(":")[2])]
    magic = head[0].strip()
    if not re.fullmatch(r"NRRD000\d", magic):
        raise CorruptFile("does not begin as NRRD", remedy="Copy it again.")
    return "\n".join([magic, *kept]).encode("latin-1") + b"\n\n" + voxels


def _gzipped(content: bytes) -> bytes:
    """gzip without a name and a time of day (RFC 1952)."""
    buffer = BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def _one_stream(content: bytes) -> bytes:
    """A zlib stream without what stands behind it."""
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)
    stream.decompress(content)
    if not stream.eof:
        raise CorruptFile("ends before its voxels do", remedy="Copy it again.")
    whole = content[: len(content) - len(stream.unused_data)]
    if whole[:2] == b"\x1f\x8b":
        return _gzipped(gzip.decompress(whole))
    return whole
