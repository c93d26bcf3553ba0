"""A network at which OpenVINO dies takes no process of ours with it."""

from __future__ import annotations

import ctypes.util
import platform
import signal
from collections.abc import Callable

import pytest

from medrail.bundle import openvino_trial
from medrail.bundle.openvino_backend import openvino_backend
from medrail.bundle.openvino_trial import try_apart
from medrail.errors import BundleError

pytest.importorskip("openvino")


@pytest.fixture
def compiled_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Another process than the one that compiles, which does so and so."""

    run = openvino_trial.subprocess.run  # the real one, also where it is replaced twice

    def replaced(code: str) -> None:
        def other(command: list[str], **told: object) -> object:
            return run([command[0], "-c", code], **told)  # type: ignore[call-overload]

        monkeypatch.setattr(openvino_trial.subprocess, "run", other)

    return replaced


def test_a_crash_is_an_error_that_says_what_to_do(compiled_by: Callable[[str], None]) -> None:
    compiled_by(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    with pytest.raises(BundleError, match=r"crashes when it compiles and runs \(SIGSEGV\)") as caught:
        try_apart(b"one", "int8", 1)
    assert "ONNX Runtime" in caught.value.remedy
    with pytest.raises(BundleError, match="crashes"):
        try_apart(b"one", "int8", 1)


GLIBC = platform.libc_ver()[0] == "glibc" and ctypes.util.find_library("c_malloc_debug")


@pytest.mark.skipif(not GLIBC, reason="only glibc checks its memory")
def test_what_writes_past_its_memory_is_found_when_the_memory_is_freed(compiled_by: Callable[[str], None]) -> None:
    """A hundred bytes too many."""
    compiled_by(
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p;"
        "blocks = [ctypes.c_void_p(libc.malloc(4000)) for _ in range(50)]; ctypes.memset(blocks[3], 255, 4100);"
        "[libc.free(block) for block in blocks]"
    )
    with pytest.raises(BundleError, match="writes over memory that is not its own"):
        try_apart(b"four", "int8", 1)


def test_what_does_not_end_is_left(compiled_by: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_by("import time; time.sleep(60)")
    monkeypatch.setattr(openvino_trial, "_LIMIT_S", 0.2)
    with pytest.raises(BundleError, match="to compile"):
        try_apart(b"two", "int8", 1)


def test_what_survived_is_not_tried_again(compiled_by: Callable[[str], None]) -> None:
    compiled_by("pass")
    try_apart(b"three", "int8", 1)
    compiled_by(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    try_apart(b"three", "int8", 1)
    with pytest.raises(BundleError, match="crashes"):
        try_apart(b"another", "int8", 1)


def test_rubbish_is_told_by_the_process_itself() -> None:
    """It ends with an error there, which is no crash."""
    try_apart(b"no network", "int8", 1)
    with pytest.raises(BundleError, match="not a network that OpenVINO can load"):
        openvino_backend(b"no network", "int8", 1)
