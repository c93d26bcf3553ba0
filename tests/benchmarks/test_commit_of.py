"""What a benchmark's results say about the code that was measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_tree_that_is_not_clean_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    monkeypatch.delitem(sys.modules, "record", raising=False)
    import record  # type: ignore[import-not-found, unused-ignore]

    def git(*arguments: str) -> None:
        settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "--no-verify", "-m", "first")
    clean = record.commit_of(tmp_path)
    assert len(clean) == 12
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "leaks.json").write_text("{}", encoding="utf-8")
    assert record.commit_of(tmp_path) == clean
    (tmp_path / "code.py").write_text("2", encoding="utf-8")
    assert record.commit_of(tmp_path) == f"{clean}+dirty"
