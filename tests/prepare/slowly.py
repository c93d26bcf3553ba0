"""A run of prepare whose cases take their time and do what their names say; for tests that disturb it.

    python slowly.py ROOT SECONDS [key=value of prepare ...]

Cases lie in ROOT/raw as NAME.nii.gz, or NAME.png. A name that begins with "hang" never ends, "big" takes 3 GB, "vanish"
deletes its file when it is its turn, "once" kills its process the first time. Spawned workers import this file, so it
holds there, too.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from medrail.config import parse
from medrail.errors import MedrailError
from medrail.prepare import making, prepare
from medrail.types import Case
from medrail.workspace import Workspace

if sys.argv[0].endswith("slowly.py") or "slowly" in __name__ or __name__ == "__mp_main__":
    SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    _open = making.open_image

    def _slowly(path, *more):
        name = Path(path).name
        if name.startswith("hang"):
            time.sleep(3600)
        if name.startswith("big"):
            bytearray(3_000_000_000)
        if name.startswith("vanish"):
            Path(path).unlink(missing_ok=True)
        mark = Path(path).with_suffix(".killed")
        if name.startswith("once") and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(SECONDS)
        return _open(path, *more)

    making.open_image = _slowly


VOLUMES = [{"kind": "orient"}, {"kind": "resample", "spacing_mm": 2}, {"kind": "round"}]
PICTURES = [{"kind": "resize", "size": [6, 7]}, {"kind": "normalise"}]


def main() -> None:
    root = Path(sys.argv[1])
    settings = dict(argument.split("=", 1) for argument in sys.argv[3:])
    limit = int(settings.pop("limit_bytes", 0))
    if limit:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    config = parse(
        {
            "task": "classification",
            "data": {"kind": "csv", "path": "x"},
            "model": {"name": "resnet18", "dims": 3},
            "prepare": {
                "workers": int(settings.pop("workers", 2)),
                "steps": PICTURES if any((root / "raw").glob("*.png")) else VOLUMES,
                "timeout_s": float(settings.pop("timeout_s", 0)),
                **settings,
            },
        }
    )
    files = [path for path in sorted((root / "raw").iterdir()) if path.suffix in (".gz", ".png")]
    names = [path.name.partition(".")[0] for path in files]
    cases = [Case(name, name, (str(path),), "a") for name, path in zip(names, files, strict=True)]
    try:
        report = prepare(config, Workspace(root), cases, lambda done, total, note="": print(done, note, flush=True))
    except MedrailError as error:
        print(json.dumps({"error": str(error), "kind": type(error).__name__}))
        sys.exit(1)
    print(json.dumps(report.to_json()))


if __name__ == "__main__":
    main()
