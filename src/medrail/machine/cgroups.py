"""The control groups that this process is in: its own and all above it, as each of them may set a limit.

Version 2 has one tree, version 1 one a controller, and a machine may have both (cgroups(7); the kernel's
``Documentation/admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``). In a container, the path in
``/proc/self/cgroup`` may be the host's: what counts is the part of it below what is mounted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class MemoryGroup:
    """One group with a limit: ``limit_bytes``, and ``used_bytes`` without the file cache that is given up first."""

    limit_bytes: int
    used_bytes: int


def memory_groups(root: Path = Path("/")) -> list[MemoryGroup]:
    """Every group from this process's own upward that limits memory; ``root`` is where /proc and /sys lie."""
    found = []
    for folder, version in _folders("memory", root):
        if version == 2:
            limits = [_number(folder / name) for name in ("memory.max", "memory.high")]
            used, cache = _number(folder / "memory.current"), "inactive_file"
        else:
            limits = [_number(folder / "memory.limit_in_bytes")]
            used, cache = _number(folder / "memory.usage_in_bytes"), "total_inactive_file"
        known = [limit for limit in limits if limit is not None]
        if known and used is not None:
            found.append(MemoryGroup(min(known), max(0, used - _stat(folder / "memory.stat", cache))))
    return found


def processor_quotas(root: Path = Path("/")) -> list[float]:
    """How many processors each group from this process's own upward allows, where it says."""
    found = []
    for folder, version in _folders("cpu", root):
        if version == 2:
            quota, period = [*_words(folder / "cpu.max"), "", ""][:2]
        else:
            quota, period = ("".join(_words(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1 are no limit
            found.append(int(quota) / int(period))
    return found


def _folders(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Folder and version of each group with this controller, from the process's own up to what is mounted."""
    mounts = list(_mounts(root))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        version = 1 if controllers else 2
        if controllers and controller not in controllers.split(","):
            continue
        for mounted_path, mount, options in mounts:
            if options == "2" if version == 2 else controller in options.split(","):
                yield from ((folder, version) for folder in _upward(path, mounted_path, root / mount.lstrip("/")))
                break


def _mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Path inside the tree of groups, where it is mounted, and "2" or the controllers of version 1."""
    for line in _lines(root / "proc/self/mountinfo"):
        fields, _, kind = (part.split() for part in line.partition(" - "))
        if len(fields) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            yield fields[3], fields[4], "2" if kind[0] == "cgroup2" else kind[2]


def _upward(path: str, mounted_path: str, mount: Path) -> Iterator[Path]:
    try:
        inside = PurePosixPath(path).relative_to(mounted_path)
    except ValueError:  # the process is not below what is mounted here: what is, is the container's own
        inside = PurePosixPath()
    if ".." not in inside.parts:
        while inside.parts:
            yield mount / inside
            inside = inside.parent
    yield mount


def _number(path: Path) -> int | None:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _stat(path: Path, name: str) -> int:
    for line in _lines(path):
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
