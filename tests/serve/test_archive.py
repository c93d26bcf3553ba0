"""Zips of DICOM from strangers: what is good comes out whole, what is not writes nothing outside its folder."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from medrail.read import read
from medrail.serve.archive import ArchiveLimits, unpacked
from medrail.serve.problems import PROBLEMS, Refusal
from medrail.serve.screen import screen_slices

SMALL = ArchiveLimits(files=20, total_bytes=200_000, ratio=100, ratio_from_bytes=50_000)


@pytest.fixture
def slices(make_dicom) -> list[bytes]:
    return [
        make_dicom(SOPInstanceUID=f"1.2.826.0.1.3680043.8.498.9.{index}", ImagePositionPatient=[0, 0, 5 * index])
        for index in range(4)
    ]


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def taken_apart(tmp_path: Path, content: bytes, limits: ArchiveLimits = SMALL) -> tuple[Path, ...]:
    path, folder = tmp_path / "file", tmp_path / "inside"
    path.write_bytes(content)
    folder.mkdir(exist_ok=True)
    before = {each for each in tmp_path.rglob("*") if not each.is_relative_to(folder)}
    try:
        return unpacked(path, folder, limits)
    finally:
        assert {each for each in tmp_path.rglob("*") if not each.is_relative_to(folder)} == before
        assert all(each.name.isdigit() for each in folder.iterdir())


def refused(tmp_path: Path, content: bytes, limits: ArchiveLimits = SMALL) -> str:
    with pytest.raises(Refusal) as raised:
        taken_apart(tmp_path, content, limits)
    assert PROBLEMS[raised.value.kind].status in (413, 415, 422)
    assert str(tmp_path) not in raised.value.detail
    return raised.value.kind


def test_a_series_comes_out_as_it_went_in(tmp_path, slices) -> None:
    members = [(f"Doe Jane/{index}.dcm", content) for index, content in enumerate(slices)]
    others = [
        ("README.txt", b"hello"),
        ("__MACOSX/._0.dcm", b"\0" * 300),
        (".DS_Store", b"\0"),
        ("run.exe", b"MZ" * 99),
    ]
    files = taken_apart(tmp_path, zipped(*others[:2], *members, *others[2:]))
    assert [path.read_bytes() for path in files] == slices
    assert {path.parent for path in files} == {tmp_path / "inside"}
    assert sorted((tmp_path / "inside").iterdir()) == sorted(files)
    assert read(tmp_path / "inside").grid == (4, 24, 32)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip64_and_data_descriptors_are_fine(tmp_path, slices, method) -> None:
    class Stream(io.RawIOBase):
        """Cannot seek, so that sizes come behind the data."""

        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.content += bytes(data)
            return len(data)

    stream = Stream()
    with zipfile.ZipFile(stream, "w", method) as archive:  # type: ignore[arg-type]
        for index, content in enumerate(slices):
            with archive.open(f"{index}", "w", force_zip64=True) as file:
                file.write(content)
    assert [path.read_bytes() for path in taken_apart(tmp_path, bytes(stream.content))] == slices


@pytest.mark.parametrize(
    "name",
    ["../../escape", "/etc/escape", "a/../../b", "..\\..\\b", "C:\\b", "\\\\host\\b", "a\nb", "n" * 2000, "a/.."],
)
def test_names_that_lead_out(tmp_path, slices, name) -> None:
    assert refused(tmp_path, zipped(("good", slices[0]), (name, slices[1]))) == "unsafe-archive"


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices(tmp_path, slices, kind) -> None:
    member = zipfile.ZipInfo("slice.dcm")
    member.external_attr = (kind | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good", slices[0])
        archive.writestr(member, b"/etc/passwd")
    assert refused(tmp_path, buffer.getvalue()) == "unsafe-archive"


def test_archives_inside(tmp_path, slices) -> None:
    inner = zipped(("x", slices[0]))
    for content in (inner, zipped(), b"7z\xbc\xaf\x27\x1c" + b"\0" * 99, b"\x1f\x8b\x08" + b"\0" * 99, b"Rar!\x1a\x07"):
        assert refused(tmp_path, zipped(("good", slices[0]), ("x.dcm", content))) == "unsafe-archive"
    tar = b"name".ljust(257, b"\0") + b"ustar\x00" + b"00".ljust(300, b"\0")
    assert refused(tmp_path, zipped(("x", tar))) == "unsafe-archive"


def _changed(content: bytes, offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> bytes:
    """With other bytes at an offset of the last entry in the table of contents (or what the signature names)."""
    at = content.rindex(signature) + offset
    return content[:at] + value + content[at + len(value) :]


def test_encrypted_and_odd_methods(tmp_path, slices) -> None:
    content = zipped(("a", slices[0]), ("b", slices[1]))
    assert refused(tmp_path, _changed(content, 8, b"\x01\0")) == "unsafe-archive"
    assert refused(tmp_path, _changed(content, 10, struct.pack("<H", 99))) == "unsafe-archive"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert refused(tmp_path, zipped(("a", slices[0]), method=method)) == "unsafe-archive"


def test_bombs_by_size_count_and_ratio(tmp_path, slices) -> None:
    noise = b"".join(zlib.compress(struct.pack("<I", index)) for index in range(20_000))
    assert refused(tmp_path, zipped(("a", noise))) == "archive-too-large"
    assert refused(tmp_path, zipped(*((str(index), b"x") for index in range(21)))) == "archive-too-large"
    assert refused(tmp_path, zipped(("a", slices[0] + b"\0" * 150_000))) == "archive-too-large"
    many = zipped(*((f"{index}/" + "n" * 900, b"x") for index in range(20)))
    assert refused(tmp_path, many) == "archive-too-large"  # by the length of its table of contents
    declared = _changed(zipped(("a", slices[0])), 12, struct.pack("<I", 2**31), b"PK\x05\x06")
    assert refused(tmp_path, declared) == "archive-too-large"


def test_a_size_that_lies(tmp_path, slices) -> None:
    content = zipped(("a", slices[0] + b"\0" * 40_000))
    for size in (10, len(slices[0]), 45_000):
        assert refused(tmp_path, _changed(content, 24, struct.pack("<I", size))) in ("corrupt-file", "unsafe-archive")


def test_entries_that_share_bytes(tmp_path, slices) -> None:
    """One kernel under many names: how 42 kB become petabytes without an archive inside."""
    content = zipped(("a", slices[0]), ("b", slices[0]))
    assert refused(tmp_path, _changed(content, 42, struct.pack("<I", 0))) in ("unsafe-archive", "corrupt-file")
    same_name = zipped(("b", slices[0]))
    assert len(taken_apart(tmp_path, same_name)) == 1
    entry = same_name[same_name.index(b"PK\x01\x02") : same_name.index(b"PK\x05\x06")]
    end = bytearray(same_name[same_name.index(b"PK\x05\x06") :])
    body = same_name[: same_name.index(b"PK\x01\x02")]
    for count, names in ((3, [b"b", b"b", b"b"]), (2, [b"b", b"c"])):
        entries = b"".join(entry[:46] + name + entry[47:] for name in names)
        struct.pack_into("<HHI", end, 8, count, count, len(entries))
        assert refused(tmp_path, body + entries + bytes(end)) == "unsafe-archive", names


def test_every_cut_and_any_noise(tmp_path, slices) -> None:
    content = zipped(*((str(index), each) for index, each in enumerate(slices)))
    for share in range(1, 20):
        assert refused(tmp_path, content[: len(content) * share // 20]) == "corrupt-file"
    middle = content.index(b"PK\x03\x04", 10) + 300
    assert refused(tmp_path, content[:middle] + b"\xff\0\xff\0\xff" + content[middle + 5 :]) == "corrupt-file"
    assert refused(tmp_path, b"") == "corrupt-file"
    assert refused(tmp_path, content[-22:]) == "corrupt-file"


def test_a_slice_of_nothing_is_not_passed_over(tmp_path, slices) -> None:
    for lost in (b"", b"\0" * len(slices[1])):
        assert refused(tmp_path, zipped(("0", slices[0]), ("1", lost))) == "corrupt-file"


@pytest.mark.parametrize("make", [zipped, lambda: zipped(("a.dcm", b"%PDF-1.7")), lambda: zipped(("folder/", b""))])
def test_no_dicom_inside(tmp_path, make: Callable[[], bytes]) -> None:
    assert refused(tmp_path, make()) == "unsupported-format"


def test_the_table_of_contents_may_not_name_what_is_elsewhere(tmp_path, slices) -> None:
    content = zipped(("a", slices[0]))
    assert refused(tmp_path, _changed(content, 42, struct.pack("<I", 10_000_000))) == "corrupt-file"
    assert refused(tmp_path, content + b"PK\x05\x06" * 9) == "unsafe-archive"


def test_slices_are_looked_at_together_before_decoding(tmp_path, slices, make_dicom) -> None:
    files = taken_apart(tmp_path, zipped(*((str(index), each) for index, each in enumerate(slices))))
    screen_slices(files, 4 * 24 * 32)
    with pytest.raises(Refusal) as raised:
        screen_slices(files, 4 * 24 * 32 - 1)
    assert raised.value.kind == "too-many-voxels"
    files[0].write_bytes(make_dicom(Rows=65_000, Columns=65_000))
    with pytest.raises(Refusal):
        screen_slices(files, 1_000_000)
