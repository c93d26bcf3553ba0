"""Which files lie below a folder: one pass, in a fixed order, whatever the number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_LEFT_OVER = "__MACOSX"  # what archives of one system leave behind; its files only look like the images


def find_files(root: Path) -> Iterator[Path]:
    """Every file below a folder, sorted by name within each folder, files before folders; links are followed.

    Hidden files and folders (a name that begins with ".") are left out. A link that leads back into a folder that is
    being walked, and a folder that may not be opened, are passed over. A file given as ``root`` is itself.
    """
    if not root.is_dir():
        yield root
        return
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(root), frozenset())]
    while waiting:
        folder, above = waiting.pop()
        files, folders, here = _content(folder, above)
        yield from map(Path, files)
        # The first folder is walked first, with all that is below it.
        waiting.extend((name, here) for name in reversed(folders))


def _content(folder: str, above: frozenset[tuple[int, int]]) -> tuple[list[str], list[str], frozenset[tuple[int, int]]]:
    """The files and the folders directly in a folder, sorted; nothing where it is one of those above it."""
    try:
        status = Path(folder).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above and status.st_ino:
            return [], [], above
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(), entry.path) for entry in entries if not _is_hidden(entry.name))
    except OSError:
        return [], [], above
    files = [path for _, is_folder, path in found if not is_folder]
    return files, [path for _, is_folder, path in found if is_folder], above | {identity}


def _is_hidden(name: str) -> bool:
    return name.startswith((".", _LEFT_OVER))
