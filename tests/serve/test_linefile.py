"""Lines of several processes in one file: whole, none lost, whoever rotates."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medrail.serve import linefile
from medrail.serve.linefile import LineFile

EACH = 400


def opened(path: Path, max_bytes: int = 10_000, files: int = 1000) -> LineFile:
    return LineFile(path, max_bytes, files, lambda lost: f"gap {lost}")


def texts(folder: Path) -> list[str]:
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return [line for path in files for line in path.read_text().splitlines()]


# The module alone: what else the service imports would take longer than the writing.
WRITER = """
import importlib.util, json, pathlib, sys
spec = importlib.util.spec_from_file_location("linefile", sys.argv[1])
linefile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(linefile)
file = linefile.LineFile(pathlib.Path(sys.argv[2]), 10_000, 1000, str)
for number in range(int(sys.argv[4])):
    assert file.write(json.dumps({"who": int(sys.argv[3]), "number": number, "filling": "x" * (number % 97)}))
"""


def test_processes_write_whole_lines_and_lose_none(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, linefile.__file__, str(tmp_path / "log")]
    workers = [subprocess.Popen([*command, str(who), str(EACH)]) for who in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    found = [json.loads(line) for line in texts(tmp_path)]
    assert sorted((line["who"], line["number"]) for line in found) == [(w, n) for w in range(4) for n in range(EACH)]
    assert len(list(tmp_path.glob("log*"))) > 1


def test_no_file_is_larger_than_asked_for(tmp_path: Path) -> None:
    file = opened(tmp_path / "log", 500)
    for number in range(200):
        assert file.write("x" * (number % 97))
    sizes = [path.stat().st_size for path in tmp_path.glob("log*")]
    assert len(sizes) > 5
    assert max(sizes) <= 500


@pytest.mark.parametrize("files", [1, 2, 3])
def test_no_more_files_than_asked_for_are_kept(tmp_path: Path, files: int) -> None:
    file = opened(tmp_path / "log", 50, files)
    for number in range(100):
        assert file.write(f"line {number}")
    assert len(list(tmp_path.glob("log*"))) == files
    assert (tmp_path / "log").read_text().splitlines()[-1] == "line 99"


def test_a_file_that_was_moved_or_removed_is_begun_anew(tmp_path: Path) -> None:
    file = opened(tmp_path / "log")
    file.write("one")
    (tmp_path / "log").rename(tmp_path / "elsewhere")
    file.write("two")
    assert (tmp_path / "elsewhere").read_text() == "one\n"
    assert (tmp_path / "log").read_text() == "two\n"
    (tmp_path / "log").unlink()
    file.write("three")
    assert (tmp_path / "log").read_text() == "three\n"


def test_a_folder_that_vanished_and_came_back(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = opened(folder / "log")
    (folder / "log").unlink()
    folder.rmdir()
    assert not file.write("one")
    assert not file.write("two")
    assert file.lost == 2
    folder.mkdir()
    assert file.write("three")
    assert (folder / "log").read_text() == "gap 2\nthree\n"


def test_a_line_after_a_torn_one_begins_on_a_line_of_its_own(tmp_path: Path, monkeypatch) -> None:
    file = opened(tmp_path / "log")
    real = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
        assert not file.write("first")
    assert file.write("second")
    assert (tmp_path / "log").read_text() == "fir\ngap 1\nsecond\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is there on Linux only")
def test_a_full_disk_costs_the_line_and_nothing_else() -> None:
    file = opened(Path("/dev/full"))
    assert not file.write("one")
    assert not file.write("two")
    assert file.lost == 2
    file.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "other")
    with pytest.raises(OSError, match="symbolic"):
        opened(tmp_path / "log")
    assert not (tmp_path / "other").exists()


def test_nobody_waits_for_a_process_that_stopped_while_rotating(tmp_path: Path) -> None:
    import fcntl

    file = opened(tmp_path / "log", 20, 3)
    file.write("a line of twenty or more")
    with (tmp_path / ".log.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert file.write("another line")
    assert (tmp_path / "log").read_text() == "a line of twenty or more\nanother line\n"
    assert file.write("the third")
    assert (tmp_path / "log").read_text() == "the third\n"
