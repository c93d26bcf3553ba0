"""The fingerprint follows the content of a case's files and nothing else, and is not computed twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medrail.cases import FileHashes, fingerprint, source_fingerprint
from medrail.errors import CaseError
from medrail.types import Case
from medrail.workspace import Workspace

Write = Callable[..., Path]


def make_old(*paths: Path) -> None:
    """As if written an hour ago, so that time stamps are believed (the change time cannot be set, the clock can)."""
    for path in paths:
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(fingerprint.time, "time", lambda: now + 60)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for name in ("image", "mask", "roi"):
        (tmp_path / name).write_bytes(name.encode())
    return Case("a", "p", (str(tmp_path / "image"),), str(tmp_path / "mask"), roi=str(tmp_path / "roi"))


@pytest.mark.parametrize("name", ["image", "mask", "roi"])
def test_every_file_counts(name: str, case: Case, tmp_path: Path) -> None:
    before = source_fingerprint(case)
    (tmp_path / name).write_bytes(b"else")
    assert source_fingerprint(case) != before


def test_item_and_class_count_but_not_split_or_patient(case: Case) -> None:
    before = source_fingerprint(case)
    assert source_fingerprint(replace(case, item="1")) != before
    assert source_fingerprint(replace(case, target="A")) != source_fingerprint(replace(case, target="B"))
    assert source_fingerprint(replace(case, roi=None)) != before
    assert source_fingerprint(replace(case, split="test", patient="q", id="b")) == before


def test_roles_are_not_exchangeable(case: Case) -> None:
    exchanged = replace(case, target=case.roi, roi=case.target)
    assert source_fingerprint(exchanged) != source_fingerprint(case)


def test_a_moved_folder_is_the_same_data(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "sub").mkdir(parents=True)
    (old / "1").write_bytes(b"one")
    (old / "sub" / "2").write_bytes(b"two")
    before = source_fingerprint(Case("a", "p", (str(old),)))
    old.rename(tmp_path / "new")
    (tmp_path / "new" / "1").rename(tmp_path / "new" / "other name")
    assert source_fingerprint(Case("a", "p", (str(tmp_path / "new"),))) == before
    (tmp_path / "new" / "3").write_bytes(b"three")
    assert source_fingerprint(Case("a", "p", (str(tmp_path / "new"),))) != before


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="gone: cannot be read"):
        source_fingerprint(Case("a", "p", (str(tmp_path / "gone"),)))


def test_a_second_run_reads_nothing(
    case: Case, workspace: Workspace, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileHashes.of(workspace) as hashes:
        before = source_fingerprint(case, hashes)
    assert before == source_fingerprint(case)
    monkeypatch.setattr(fingerprint, "_file_content", lambda state: pytest.fail(f"read {state} again"))
    with FileHashes.of(workspace) as hashes:
        assert source_fingerprint(case, hashes) == before


def test_a_changed_file_is_read_again(case: Case, workspace: Workspace, later: None, tmp_path: Path) -> None:
    with FileHashes.of(workspace) as hashes:
        before = source_fingerprint(case, hashes)
    (tmp_path / "image").write_bytes(b"IMAGE")  # the same size
    make_old(tmp_path / "image")  # an older time stamp, as a restored copy has
    with FileHashes.of(workspace) as hashes:
        assert source_fingerprint(case, hashes) != before


def test_what_is_too_new_is_not_believed(case: Case, workspace: Workspace, tmp_path: Path) -> None:
    """A file written twice within the clock's step keeps its time stamp, so new files are not remembered."""
    with FileHashes.of(workspace) as hashes:
        source_fingerprint(case, hashes)
    with FileHashes.of(workspace) as hashes:
        assert not hashes._hashes


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_broken_memory_is_worked_without(content: bytes, case: Case, workspace: Workspace, later: None) -> None:
    workspace.root.mkdir(parents=True)
    workspace.file_hashes.write_bytes(content)
    with FileHashes.of(workspace) as hashes:
        first = source_fingerprint(case, hashes)
    with FileHashes.of(workspace) as hashes:
        assert hashes._hashes
        assert source_fingerprint(case, hashes) == first


def test_a_folder_that_cannot_be_written_is_no_error(case: Case, tmp_path: Path, later: None) -> None:
    (tmp_path / "file").touch()
    with FileHashes(tmp_path / "file" / "hashes.db") as hashes:
        assert source_fingerprint(case, hashes) == source_fingerprint(case)


def test_facts_are_kept(workspace: Workspace) -> None:
    with FileHashes.of(workspace) as hashes:
        assert hashes.fact("key") is None
        hashes.keep("key", "value")
    with FileHashes.of(workspace) as hashes:
        assert hashes.fact("key") == "value"


def test_a_folder_counts_the_files_that_reading_meets(tmp_path: Path) -> None:
    """Hidden ones not, those behind links do, and one that cannot be read does not stop: reading decides about it."""
    folder, elsewhere = tmp_path / "p1", tmp_path / "elsewhere"
    for place in (folder, elsewhere, folder / ".trash"):
        place.mkdir()
    (folder / "1").write_bytes(b"one")
    case = Case("a", "p", (str(folder),))
    seen = [source_fingerprint(case)]
    (folder / ".trash" / "2").write_bytes(b"two")
    (folder / ".hidden").write_bytes(b"three")
    assert source_fingerprint(case) == seen[0]
    (elsewhere / "3").write_bytes(b"three")
    (folder / "link").symlink_to(elsewhere)
    seen.append(source_fingerprint(case))
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    seen.append(source_fingerprint(case))
    (tmp_path / "nowhere").write_bytes(b"there after all")
    seen.append(source_fingerprint(case))
    assert len(set(seen)) == 4
