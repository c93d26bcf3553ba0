"""Run every benchmark (each in its own process) and generate docs/benchmarks.md. Names as arguments choose some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import make_page

HERE = Path(__file__).parent


def main() -> None:
    chosen = sys.argv[1:] or sorted(script.parent.name for script in HERE.glob("*/bench.py"))
    for name in chosen:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(HERE / name / "bench.py")], check=True)
    make_page.main()


if __name__ == "__main__":
    main()
