"""A network compiled by OpenVINO in a process of its own, where a crash takes nothing with it.

OpenVINO 2026.2 dies of a segmentation fault while it compiles some quantised networks (a DenseNet-121, whose layers are
put together by concatenation). A service, or a judgement of hours, must survive such a file.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys

from medrail.errors import BundleError

_LIMIT_S = 300
_survived: set[str] = set()


def try_apart(content: bytes, precision: str, threads: int) -> None:
    """Compile the network once in another process, once in this process's life.

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
            command, input=content, capture_output=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise _refused(f"takes more than {_LIMIT_S} s to compile") from None
    if done.returncode < 0:
        raise _refused(f"crashes while it compiles ({signal.Signals(-done.returncode).name})")
    _survived.add(of_this)  # an error of another kind is told by the process itself, when it compiles


def _refused(what: str) -> BundleError:
    return BundleError(
        f"OpenVINO {what} this network",
        needed="a network that it can compile; it was tried in a process of its own",
        remedy="Choose ONNX Runtime as serve.engine, or leave the choice to auto.",
    )


def main() -> None:
    """In the other process: PRECISION THREADS, the ONNX file on standard input."""
    from medrail.bundle.openvino_backend import compile_for_all_sizes

    precision, threads = sys.argv[1:]
    compile_for_all_sizes(sys.stdin.buffer.read(), precision, int(threads))
