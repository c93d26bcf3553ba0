"""Zips. Where the route takes no zip, all of them are of an unsupported format."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

from hostile.dicoms import dicom, uid
from hostile.shared import VOLUME, add, maker, noise

STATUSES = (413, 415, 422)


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _slice(index: int = 0) -> bytes:
    return dicom(instance=("UI", uid(f"1.2.826.0.1.3680043.8.498.7{index}")), position=("DS", b"0\\0\\%d " % index))


def _cut(content: bytes, share: float) -> bytes:
    return content[: int(share * len(content))]


def _link(target: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    member = zipfile.ZipInfo("slice.dcm")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


def _patched(content: bytes, offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> bytes:
    at = content.rindex(signature) + offset
    return content[:at] + value + content[at + len(value) :]


for _number, _name in enumerate(("../../escape", "/etc/escape", "a/../../b", "..\\..\\b", "C:\\b", "n" * 3000)):
    add(f"zip_name_{_number}", lambda name=_name: zipped(("good", _slice()), (name, _slice(1))), STATUSES, VOLUME)
add("zip_with_a_link", lambda: zipped(("good", _slice()), _link(b"/etc/passwd")), STATUSES, VOLUME)
add("zip_with_a_link_to_above", lambda: zipped(_link(b"../../.."), ("slice.dcm/x", _slice())), STATUSES, VOLUME)
add("zip_in_zip", lambda: zipped(("inner.zip", zipped(("x", _slice())))), STATUSES, VOLUME)
add(
    "zip_in_zip_named_as_a_slice", lambda: zipped(("a", _slice()), ("b.dcm", zipped(("x", _slice())))), STATUSES, VOLUME
)
add("zip_of_nothing", zipped, STATUSES, VOLUME)
add("zip_of_a_folder", lambda: zipped(("folder/", b"")), STATUSES, VOLUME)
add("zip_of_text", lambda: zipped(("a.dcm", b"hello" * 99)), STATUSES, VOLUME)
add("zip_of_an_office_document", lambda: zipped(("[Content_Types].xml", b"<x/>"), ("word/a", b"x")), STATUSES, VOLUME)
add("zip_encrypted", lambda: _patched(zipped(("a", _slice())), 8, b"\1\0"), STATUSES, VOLUME)
add("zip_by_bzip2", lambda: zipped(("a", _slice()), method=zipfile.ZIP_BZIP2), STATUSES, VOLUME)
add("zip_by_lzma", lambda: zipped(("a", _slice()), method=zipfile.ZIP_LZMA), STATUSES, VOLUME)
add("zip_by_method_99", lambda: _patched(zipped(("a", _slice())), 10, b"\x63\0"), STATUSES, VOLUME)
add("zip_of_a_bomb", lambda: zipped(("a", _slice() + bytes(70_000_000))), STATUSES, VOLUME)
add("zip_of_very_many", lambda: zipped(*((str(number), b"") for number in range(11_000))), STATUSES, VOLUME)
add(
    "zip_that_shares_its_bytes",
    lambda: _patched(zipped(("a", _slice()), ("b", _slice())), 42, bytes(4)),
    STATUSES,
    VOLUME,
)
add("zip_size_that_lies", lambda: _patched(zipped(("a", _slice())), 24, b"\x0a\0\0\0"), STATUSES, VOLUME)
add(
    "zip_contents_elsewhere",
    lambda: _patched(zipped(("a", _slice())), 16, b"\xff" * 4, b"PK\x05\x06"),
    STATUSES,
    VOLUME,
)
add(
    "zip_contents_without_end",
    lambda: _patched(zipped(("a", _slice())), 12, b"\xfe" * 4, b"PK\x05\x06"),
    STATUSES,
    VOLUME,
)
add("zip_of_a_broken_slice", lambda: zipped(("a", _slice()), ("b", _slice(1)[:-900])), STATUSES, VOLUME)
add("zip_of_an_empty_slice", lambda: zipped(("a", _slice()), ("b", b"")), STATUSES, VOLUME)
add(
    "zip_of_absurd_slices",
    lambda: zipped(("a", dicom(rows=("US", b"\xff\xff"), columns=("US", b"\xff\xff")))),
    STATUSES,
    VOLUME,
)
add("zip_with_noise_inside", lambda: zipped(("a", noise(9000)), ("b", noise(9000, 1))), STATUSES, VOLUME)
for _share in (0.2, 0.6, 0.95):
    add(f"zip_cut_at_{_share}", lambda share=_share: _cut(zipped(("a", _slice())), share), STATUSES, VOLUME)


add("zip_name_with_a_zero", lambda: zipped(("aXb", _slice())).replace(b"aXb", b"a\0b"), (200, *STATUSES), VOLUME)


@maker(*STATUSES, model=VOLUME)
def zip_of_a_file_without_name() -> bytes:
    content = zipped(("a", _slice()))
    entry, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    shorter = content[entry : entry + 28] + b"\0\0" + content[entry + 30 : entry + 46]
    return content[:entry] + shorter + content[end : end + 12] + struct.pack("<I", 46) + content[end + 16 :]


@maker(*STATUSES, model=VOLUME)
def zip_of_the_same_name_twice() -> bytes:
    content = zipped(("a", _slice()), ("b", _slice(1)))
    return content.replace(b"b", b"a")


@maker(*STATUSES, model=VOLUME)
def zip_with_a_larger_end() -> bytes:
    """A zip64 end that says of its table of contents that it is 2**60 bytes long."""
    content = zipped(("a", _slice()))
    at = content.rindex(b"PK\x05\x06")
    end = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2**60, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, at, 1)
    return content[:at] + end + locator + _patched(content[at:], 8, b"\xff" * 12, b"PK\x05\x06")
