"""What a folder holds, in one pass, and remembered: order, hidden files, links, and a cache that tells nothing."""

from __future__ import annotations

import os
import sqlite3
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom import cache as cache_module
from medrail.read.dicom import headers as headers_module
from medrail.read.dicom.cache import HeaderCache, outcome_from, outcome_to, own_key, sealed, unsealed
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Foreign, Refused, headers_in, look, look_at, outcomes_in
from medrail.read.dicom.walk import find_files
from medrail.types import Defect

IDENTIFIERS = (b"Secretive", b"Sally", b"4711", b"1.2.826.0.1")


@pytest.fixture(autouse=True)
def own_cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user")))


def settle(folder: Path) -> None:
    """Only files that have not changed for a while are remembered."""
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED_S", -10.0)


def test_files_are_found_once_in_order_and_hidden_ones_not_at_all(tmp_path):
    for name in ("b/2", "b/10", "a", ".hidden", "__MACOSX/a", "b/.DS_Store", "c/d/e.dcm", "a.b/f"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)]
    assert found == ["a", "a.b/f", "b/10", "b/2", "c/d/e.dcm"]


def test_a_link_that_leads_back_ends_the_walk_and_others_are_followed(tmp_path):
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").touch()
    (tmp_path / "data" / "y").touch()
    (tmp_path / "data" / "deep" / "back").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "dangling").symlink_to(tmp_path / "nothing")
    found = [path.relative_to(tmp_path / "data").as_posix() for path in find_files(tmp_path / "data")]
    assert found == ["dangling", "y", "link/x"]


def test_a_folder_of_many_files_is_walked_whole(tmp_path):
    for number in range(3000):
        (tmp_path / f"{number:05}").touch()
    assert [path.name for path in find_files(tmp_path)] == [f"{number:05}" for number in range(3000)]


def test_who_is_concerned_and_who_is_not(slices, save_slices):
    folder = save_slices(slices)
    (folder / "notes.txt").write_text("text")
    (folder / "broken.dcm").write_text("text")
    (folder / "lost").touch()
    found = list(headers_in(folder))
    assert sum(isinstance(one, Header) for one in found) == 5
    refused = {one.path.name: one for one in found if isinstance(one, Refused)}
    assert set(refused) == {"broken.dcm", "lost"}
    assert "looks like a text file" in refused["broken.dcm"].error.found
    assert refused["lost"].defect == Defect("unreadable_header", "is empty (0 bytes)", "refused")
    foreign = [one for one in outcomes_in(folder) if isinstance(one, Foreign)]
    assert [one.path.name for one in foreign] == ["notes.txt"]


def test_an_empty_file_without_images_concerns_nobody(tmp_path):
    (tmp_path / "empty").touch()
    assert list(headers_in(tmp_path)) == []


def test_progress_reaches_the_number_of_files(slices, save_slices):
    told = []
    list(headers_in(save_slices(slices), progress=lambda done, total, note="": told.append((done, total))))
    assert told[-1] == (5, 5)


numbers = st.floats(-1e5, 1e5)
texts = st.text(max_size=8)


def made(kind: object) -> st.SearchStrategy:
    """Values of a field's annotation, told from its text."""
    return st.none() | numbers if "None" in str(kind) else numbers


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_header_comes_back_from_json_equal(data, header):
    simple = {
        one.name: data.draw({"str": texts, "int": st.integers(0, 9999), "bool": st.booleans()}[str(one.type)])
        for one in fields(Header)
        if str(one.type) in ("str", "int", "bool")
    }
    plane = replace(
        header.planes[0],
        position_lps_mm=data.draw(st.none() | st.tuples(numbers, numbers, numbers)),
        slope=data.draw(numbers),
    )
    count = data.draw(st.integers(0, 3))
    changed = replace(header, **simple, planes=(plane,) * count, thickness_mm=data.draw(st.none() | numbers))
    assert outcome_from(outcome_to(changed), header.path) == changed


@pytest.fixture(scope="module")
def header(tmp_path_factory) -> Header:
    from pydicom.data import get_testdata_file

    found = look(Path(get_testdata_file("CT_small.dcm")))
    assert isinstance(found, Header)
    return found


@pytest.mark.parametrize(
    "outcome",
    [
        Refused(Path("a"), Defect("unreadable_header", "x", "refused"), CorruptFile("x", needed="y", where="a")),
        Foreign(Path("a"), "nifti"),
        Foreign(Path("a"), "", UnsupportedFormat("looks like a text file", where="a", remedy="r")),
    ],
)
def test_what_is_no_header_comes_back_too(outcome):
    back = outcome_from(outcome_to(outcome), outcome.path)
    assert type(back) is type(outcome)
    assert str(back.error) == str(outcome.error)
    assert type(back.error) is type(outcome.error)


@given(content=st.binary(max_size=300), key=st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens_with_its_key_only(content, key):
    closed = sealed(key, content)
    assert unsealed(key, closed) == content
    assert unsealed(key[:-1] + bytes([key[-1] ^ 1]), closed) is None
    for at in range(0, len(closed), 7):
        broken = bytearray(closed)
        broken[at] ^= 1
        assert unsealed(key, bytes(broken)) is None


def count_reads(monkeypatch) -> list[Path]:
    seen: list[Path] = []

    def counting(path: Path):
        seen.append(path)
        return look(path)

    monkeypatch.setattr(headers_module, "look", counting)
    return seen


def test_the_second_call_reads_nothing_and_finds_the_same(slices, save_slices, tmp_path, monkeypatch, settled):
    folder = save_slices(slices)
    (folder / "notes.txt").write_text("text")
    database = tmp_path / "project" / "headers.db"
    with HeaderCache(database) as cache:
        first = list(headers_in(folder, cache))
    seen = count_reads(monkeypatch)
    with HeaderCache(database) as cache:
        assert list(headers_in(folder, cache)) == first == list(headers_in(folder))
    assert len(seen) == 6  # by the last call, which had no cache


def test_a_changed_file_is_read_again_and_only_that(slices, save_slices, tmp_path, monkeypatch, settled):
    folder = save_slices(slices)
    with HeaderCache(tmp_path / "headers.db") as cache:
        list(headers_in(folder, cache))
    changed = sorted(folder.iterdir())[3]
    slices[0].Rows, slices[0].Columns = 11, 7
    slices[0].save_as(changed, enforce_file_format=True)
    seen = count_reads(monkeypatch)
    with HeaderCache(tmp_path / "headers.db") as cache:
        headers = list(headers_in(folder, cache))
    assert seen == [changed]
    assert [header.rows for header in headers].count(11) == 1


def test_a_file_that_has_just_changed_is_not_remembered(slices, save_slices, tmp_path, monkeypatch):
    folder = save_slices(slices)
    with HeaderCache(tmp_path / "headers.db") as cache:
        list(headers_in(folder, cache))
    seen = count_reads(monkeypatch)
    with HeaderCache(tmp_path / "headers.db") as cache:
        list(headers_in(folder, cache))
    assert len(seen) == 5


def test_a_killed_index_goes_on_where_it_was(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setattr(cache_module, "_WRITE_EVERY", 2)
    folder = save_slices(slices)
    cache = HeaderCache(tmp_path / "headers.db").__enter__()
    indexing = headers_in(folder, cache)
    for _ in range(5):
        next(indexing)
    del indexing, cache  # never left properly
    seen = count_reads(monkeypatch)
    with HeaderCache(tmp_path / "headers.db") as cache:
        list(headers_in(folder, cache))
    assert len(seen) == 1


def test_the_database_tells_nothing_of_patients_paths_or_uids(slices, save_slices, tmp_path, settled):
    folder = save_slices(slices, name="Secretive_Sally")
    with HeaderCache(tmp_path / "headers.db") as cache:
        headers = list(headers_in(folder, cache))
    content = (tmp_path / "headers.db").read_bytes()
    assert len(content) > 1000
    header = headers[0]
    for secret in (*IDENTIFIERS, header.series_uid.encode(), header.patient_key.encode(), b"IM00", b"series"):
        assert secret not in content


def test_the_key_is_random_private_and_outside_the_workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    key = own_key(tmp_path / "project")
    path = tmp_path / "user" / "medrail" / "headers.key"
    assert key == path.read_bytes() == own_key(tmp_path / "project")
    assert len(set(key)) > 8
    if os.name == "posix":
        assert path.stat().st_mode & 0o077 == 0
    assert own_key(tmp_path) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert own_key(tmp_path / "project") != key


def broken_database(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def other_tables(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE headers (path TEXT, value TEXT)")


def folder_instead(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("spoil", [broken_database, other_tables, folder_instead])
def test_a_spoilt_database_is_worked_without(spoil, slices, save_slices, tmp_path):
    spoil(tmp_path / "headers.db")
    folder = save_slices(slices)
    with HeaderCache(tmp_path / "headers.db") as cache:
        assert list(headers_in(folder, cache)) == list(headers_in(folder))


def test_a_locked_database_is_worked_without(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setattr(cache_module, "_BUSY_TIMEOUT_S", 0.05)
    folder = save_slices(slices)
    with HeaderCache(tmp_path / "headers.db"):
        pass
    other = sqlite3.connect(tmp_path / "headers.db")
    other.execute("BEGIN EXCLUSIVE")
    begin = time.monotonic()
    with HeaderCache(tmp_path / "headers.db") as cache:
        assert list(headers_in(folder, cache)) == list(headers_in(folder))
    assert time.monotonic() - begin < 5
    other.close()


def test_without_a_key_nothing_is_written(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no" / "file"))
    (tmp_path / "no").write_text("in the way")
    with HeaderCache(tmp_path / "project" / "headers.db") as cache:
        assert len(list(look_at(sorted(save_slices(slices).iterdir()), cache))) == 5
    assert not (tmp_path / "project").exists()
