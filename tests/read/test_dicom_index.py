"""What a folder holds, in one pass, and remembered: order, hidden files, links, and a cache that tells nothing."""

from __future__ import annotations

import itertools
import os
import sqlite3
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.errors import CorruptFile, UnsupportedFormat
from medrail.read.dicom import cache as cache_module
from medrail.read.dicom import headers as headers_module
from medrail.read.dicom.cache import HeaderCache, cache_folder
from medrail.read.dicom.header import Header
from medrail.read.dicom.headers import Foreign, Refused, headers_in, look, look_at, outcomes_in
from medrail.read.dicom.rows import outcome_from, row_of
from medrail.read.dicom.walk import find_files
from medrail.read.sniff import sniff
from medrail.types import Defect


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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipes_are_passed_over_and_links_that_lead_nowhere_are_not(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"x")
    assert [path.name for path in find_files(tmp_path)] == ["file", "lost"]
    with pytest.raises(UnsupportedFormat, match="pipe"):
        sniff(tmp_path / "pipe")


def test_a_ladder_of_links_is_walked_once(tmp_path):
    """Two links a step would double the files at each of the steps."""
    steps = [tmp_path / f"step{number:02}" for number in range(40)]
    for step, following in itertools.zip_longest(steps, steps[1:]):
        step.mkdir()
        (step / "slice.dcm").write_bytes(b"x")
        for name in ("a", "b") if following else ():
            (step / name).symlink_to(following)
    assert len(list(find_files(steps[0]))) == 40


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
    assert outcome_from(row_of(changed), header.path) == changed


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
    back = outcome_from(row_of(outcome), outcome.path)
    assert type(back) is type(outcome)
    assert str(back.error) == str(outcome.error)
    assert type(back.error) is type(outcome.error)


def count_reads(monkeypatch) -> list[Path]:
    seen: list[Path] = []

    def counting(path: Path, alike=None):
        seen.append(path)
        return look(path, alike)

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
    monkeypatch.setattr(cache_module, "_BATCH", 2)
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


def test_the_cache_of_the_user_lies_outside_every_project(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDRAIL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.setenv("MEDRAIL_CACHE", "")
    assert cache_folder() is None
    monkeypatch.delenv("MEDRAIL_CACHE")
    for platform, variable, below in (
        ("linux", "XDG_CACHE_HOME", "medrail"),
        ("win32", "LOCALAPPDATA", "medrail"),
        ("darwin", "HOME", "Library/Caches/medrail"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv(variable, str(tmp_path / platform))
        assert cache_folder() == tmp_path / platform / below
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    assert cache_folder() == Path.home() / ".cache" / "medrail"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_only_this_user_may_read_the_cache(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setenv("MEDRAIL_CACHE", str(tmp_path / "deep" / "own"))
    with HeaderCache.of_user() as cache:
        list(headers_in(save_slices(slices), cache))
    (database,) = (tmp_path / "deep" / "own").iterdir()
    assert database.stat().st_mode & 0o777 == 0o600
    assert database.parent.stat().st_mode & 0o777 == 0o700
    database.chmod(0o644)
    with HeaderCache.of_user():
        assert database.stat().st_mode & 0o777 == 0o600


def test_names_of_patients_are_not_in_the_cache(slices, save_slices, tmp_path, settled):
    slices[0].PatientName, slices[0].PatientBirthDate = "Secretive^Sally", "19110203"
    with HeaderCache(tmp_path / "headers.db") as cache:
        headers = list(headers_in(save_slices(slices), cache))
    content = (tmp_path / "headers.db").read_bytes()
    assert headers[0].series_uid.encode() in content
    for secret in (b"Secretive", b"Sally", b"19110203", *(one.PatientID.encode() for one in slices if one.PatientID)):
        assert secret not in content


def test_the_oldest_rows_are_dropped(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setattr(cache_module, "_BATCH", 2)
    monkeypatch.setattr(cache_module, "_MOST_BYTES", 0)
    folder = save_slices(slices)
    with HeaderCache(tmp_path / "headers.db") as cache:
        assert len(list(headers_in(folder, cache))) == 5
    with sqlite3.connect(tmp_path / "headers.db") as connection:
        kept = [Path(os.fsdecode(row[0])) for row in connection.execute("SELECT file FROM headers")]
    assert sorted(folder.iterdir())[-1] in kept
    assert len(kept) < 5


def test_a_cache_that_is_switched_off_writes_nothing(slices, save_slices, tmp_path, monkeypatch, settled):
    monkeypatch.setenv("MEDRAIL_CACHE", "")
    monkeypatch.chdir(tmp_path)
    folder = save_slices(slices)
    before = sorted(tmp_path.rglob("*"))
    with HeaderCache.of_user() as cache:
        assert list(headers_in(folder, cache)) == list(headers_in(folder))
    assert sorted(tmp_path.rglob("*")) == before


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


def test_where_there_can_be_no_folder_it_works_without(slices, save_slices, tmp_path, settled):
    (tmp_path / "no").write_text("in the way")
    with HeaderCache(tmp_path / "no" / "headers.db") as cache:
        assert len(list(look_at(sorted(save_slices(slices).iterdir()), cache))) == 5


def test_names_that_are_no_text_are_remembered_too(slices, save_slices, tmp_path, monkeypatch, settled):
    folder = save_slices(slices)
    try:
        (folder / "IM\udcff").write_bytes(sorted(folder.iterdir())[0].read_bytes())
    except (OSError, UnicodeError):
        pytest.skip("a file system that takes text only")
    with HeaderCache(tmp_path / "headers.db") as cache:
        first = list(headers_in(folder, cache))
    seen = count_reads(monkeypatch)
    with HeaderCache(tmp_path / "headers.db") as cache:
        assert list(headers_in(folder, cache)) == first
    assert not seen
