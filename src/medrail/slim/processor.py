"""The processor's name, and those of its flags that decide how fast low precision is."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path

_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimddp", "bf16")
_CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """As the system tells it."""
    found = dict(_facts()).get("model name", "")
    return found or platform.processor() or platform.machine()


def flags() -> tuple[str, ...]:
    """Those that this processor has: avx512_vnni, avx_vnni and amx_int8 for whole numbers, *bf16 for bfloat16."""
    facts = dict(_facts())
    had = set((facts.get("flags") or facts.get("Features") or "").split())
    return tuple(name for name in _TELLING if name in had)


def _facts() -> Iterator[tuple[str, str]]:
    """Of the first processor."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.partition("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()
