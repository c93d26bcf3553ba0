"""A network compiled and run by OpenVINO in a process of its own, where a crash takes nothing with it.

OpenVINO (2025.2 to 2026.4) dies of a segmentation fault while it compiles some quantised networks (a DenseNet-121,
whose layers are put together by concatenation); on CPUs with AMX others die at their first answer (openvino issue
37577). At many it writes past the end of memory it was given, which kills the process at some later time, or changes
what is not its own; glibc notices if it checks every block that is freed. A service, or a judgement of hours, must not
run such a file.
"""

from __future__ import annotations

import gc
import hashlib
import os
import signal
import subprocess
import sys

from medrail.errors import BundleError

_LIMIT_S = 300
_survived: set[str] = set()
CHECKED = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3"}
"""Environment in which glibc ends a process that has written past a block of memory; elsewhere without effect."""


def try_apart(content: bytes, precision: str, threads: int) -> None:
    """Compile the network and let it answer in another process, once in this process's life.

    Raises
    ------
    BundleError
        If that process dies, or does not end.
    """
    of_this = f"{hashlib.sha256(content).hexdigest()} {precision}"
    if of_this in _survived:
        return
    command = [sys.executable, "-c", f"from {__name__} import main; main()", precision, str(threads)]
    try:
        done = subprocess.run(  # noqa: S603 - our own words, and the file on standard input
            command, input=content, capture_output=True, timeout=_LIMIT_S, check=False, env={**os.environ, **CHECKED}
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"takes more than {_LIMIT_S} s to compile and run") from None
    if done.returncode == -signal.SIGABRT:
        raise _refused("crashes, or writes over memory that is not its own (SIGABRT), when it compiles and runs")
    if done.returncode < 0:
        raise _refused(f"crashes when it compiles and runs ({signal.Signals(-done.returncode).name})")
    _survived.add(of_this)  # an error of another kind is told by the process itself, when it compiles


def _refused(what: str) -> BundleError:
    return BundleError(
        f"OpenVINO {what} this network",
        needed="a network that it can run; it was tried in a process of its own",
        remedy="Choose ONNX Runtime as serve.engine, or leave the choice to auto.",
    )


def main() -> None:
    """In the other process: PRECISION THREADS, the ONNX file on standard input."""
    from medrail.bundle.openvino_backend import answer_in_all_sizes

    precision, threads = sys.argv[1:]
    answer_in_all_sizes(sys.stdin.buffer.read(), precision, int(threads))
    gc.collect()  # memory is looked at when it is given back
