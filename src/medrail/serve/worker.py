"""One of several processes of the service: ``python -m medrail.serve.worker FD``, started by the supervisor.

It reads a line of JSON, loads the models, says "loaded", waits for "go", answers at the socket that it inherited, says
"ready", and drains when it gets SIGTERM, or when its standard input ends because the supervisor is no more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medrail.errors import MedrailError
from medrail.serve.registry import Registry
from medrail.serve.server import answer_at
from medrail.serve.settings import Settings

FAILED = 3
LOADED, GO, READY = "loaded", "go", "ready"


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 after a drain, ``FAILED`` with a line about the error where it did not start."""
    listener = socket.socket(fileno=int(arguments[0]))
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    settings = Settings.model_validate(order["settings"])
    try:
        registry = Registry.load([Path(folder) for folder in order["bundles"]], settings)
        _say(LOADED)
        if sys.stdin.readline().strip() != GO:
            return 0
        threading.Thread(target=_end_with_the_supervisor, daemon=True).start()
        answer_at(listener, registry, settings, lambda url: _say(READY))
    except MedrailError as error:
        _say(json.dumps(told(error)))
        return FAILED
    return 0


def told(error: MedrailError) -> dict[str, str]:
    """What the supervisor needs to raise the same error."""
    parts = {name: str(getattr(error, name, "")) for name in ("found", "needed", "where", "remedy")}
    return {"kind": type(error).__name__, **parts}


def _say(line: str) -> None:
    print(line, flush=True)  # to the supervisor, through the pipe that is this process's standard output


def _end_with_the_supervisor() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
