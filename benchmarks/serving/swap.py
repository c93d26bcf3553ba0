"""No request lost in a version swap under load: 0 of 5,000.

``python benchmarks/serving/swap.py BUNDLE [REQUESTS] [--processes N]``: BUNDLE is copied as versions 1, 2, 3 ... into a
models folder while eight clients ask; after each two takeovers the last one is rolled back and unpinned. Writes
benchmarks/results/serving-swap.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
import closed_loop as load
import record

from medrail.bundle import Manifest

USERS, SWAPS = 8, 10


def put(bundle: Path, models: Path, version: str) -> None:
    """The bundle as another version, copied as a person would: file by file, in its place."""
    manifest = Manifest.read(bundle)
    folder = models / "bundles" / manifest.name / version
    folder.mkdir(parents=True)
    for name in manifest.files:
        shutil.copy(bundle / name, folder)
    replace(manifest, version=version).write(folder, list(manifest.files))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("requests", type=int, nargs="?", default=5000)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    name = Manifest.read(asked.bundle).name
    bodies = [load.form_of(load.picture(pixels, pixels)) for pixels in (224, 300, 400, 500)]
    orders = []
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        put(asked.bundle, models, "1")
        with load.service(models, [f"serve.processes={asked.processes}"]) as (port, _):
            begin = time.monotonic()
            seen, clients = load.closed_loop(
                port, USERS, asked.requests, lambda connection, n: load.predict(connection, bodies[n % len(bodies)])
            )
            for swap in range(1, SWAPS + 1):
                while seen.total < asked.requests * swap // (SWAPS + 1) and clients.is_alive():
                    time.sleep(0.02)
                put(asked.bundle, models, str(swap + 1))
                if swap % 2 == 0:
                    time.sleep(3)  # until it has taken over
                    orders.append(load.order(port, f"/v1/admin/models/{name}/rollback")[0])
                    orders.append(load.order(port, f"/v1/admin/models/{name}/pin", version="latest")[0])
            clients.join()
            seconds = time.monotonic() - begin
    found = {
        "requests": seen.total,
        "lost": seen.lost,
        "statuses": dict(seen.statuses),
        "versions": dict(seen.versions),
        "orders": orders,
        "seconds": round(seconds, 1),
    }
    measure = record.Measure("serve/swap_lost", seen.lost, seen.lost, seen.lost, "requests", seen.total, "the aim is 0")
    command = f"python benchmarks/serving/swap.py BUNDLE {asked.requests} --processes {asked.processes}"
    record.write("serving-swap", [measure], [json.dumps(found)], command)
    return 0 if seen.lost == 0 and set(seen.statuses) == {"200"} and len(seen.versions) > 2 else 1


if __name__ == "__main__":
    sys.exit(main())
