"""The peers' virtual environments, from peers.txt: one each, made once. ``peers.py FOLDER`` makes all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIST = Path(__file__).with_name("peers.txt")
DONE = ".made-of"
_LIMIT_S = 1_200
_UNWANTED = ("nvidia-cublas", "nvidia-cudnn", "nvidia-cuda-runtime", "triton==")


def wanted() -> dict[str, list[str]]:
    """Environment -> its packages."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    named = (line.split(":", 1) for line in lines if line and not line.startswith("#"))
    return {name: packages.split() for name, packages in named}


def make(name: str, folder: Path) -> str:
    """Make an environment where it is not there; returns why it could not be, or ""."""
    packages, place = wanted()[name], folder / name
    note = place / DONE
    if note.is_file() and note.read_text(encoding="utf-8").split() == packages:
        return ""
    pip = [place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check"]
    first = [package for package in packages if package.startswith("torch==")]
    try:
        subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True, timeout=_LIMIT_S)
        for some in (first, packages):  # torch alone, so that nothing else brings another one
            if some:
                subprocess.run([*pip, *some], check=True, capture_output=True, text=True, timeout=_LIMIT_S)
        there = subprocess.run([pip[0], "freeze"], check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        return f"not installed: {str(error.stderr).strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        return f"not installed within {_LIMIT_S} s"
    unwanted = [line for line in there.splitlines() if line.startswith(_UNWANTED)]
    if unwanted:
        return f"CUDA came with it: {unwanted[0]}"
    note.write_text(" ".join(packages), encoding="utf-8")
    return ""


def version(place: Path, package: str) -> str:
    """The version of a package in an environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([place / "bin" / "python", "-c", code], capture_output=True, text=True).stdout.strip()


def make_all(folder: Path) -> None:
    """Every environment, and a line for each."""
    for name in wanted():
        print(f"{name}: {make(name, folder) or 'ready'}")


def main() -> None:
    make_all(Path(sys.argv[1] if len(sys.argv) > 1 else "/tmp/peers"))


if __name__ == "__main__":
    main()
