"""A lock: one holder at a time, and none where its process died."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medrail.lock import Busy, locked, read_note


def test_a_lock_is_exclusive_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock"
    with locked(path, {"what": "first"}):
        assert read_note(path) == {"process": os.getpid(), "what": "first"}
        with pytest.raises(Busy) as busy, locked(path, wait_s=0.05):
            pass
        assert busy.value.note["what"] == "first"
    assert not path.exists()
    path.write_text("of a process that died")
    with locked(path):
        assert read_note(path) == {"process": os.getpid()}
