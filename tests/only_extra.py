"""medrail as it is where only one extra is installed: what is not in that lock cannot be imported."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# Runs before anything else in the child: what is not in the lock cannot be imported there.
BLOCK = """\
import sys
hidden = set({hidden!r})
class Finder:
    def __init__(self, behind):
        self.behind = behind
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.behind.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.behind, name)
sys.meta_path[:] = [Finder(behind) for behind in sys.meta_path]
from medrail.cli import main
sys.exit(main({arguments!r}))
"""


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(extra: str) -> dict[str, str]:
    text = (REPOSITORY / "requirements" / f"{extra}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}


def hidden_modules(extra: str) -> set[str]:
    """The importable names of installed packages that are not in the lock."""
    packages = importlib.metadata.packages_distributions()
    allowed = {*locked(extra), "medrail", "pip", "setuptools"}
    return {module for module, owners in packages.items() if not {normalised(owner) for owner in owners} & allowed}


def run_with_only(extra: str, arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    code = BLOCK.format(hidden=sorted(hidden_modules(extra)), arguments=arguments)
    environment = {**os.environ, "MEDRAIL_DEBUG": "1"}
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
