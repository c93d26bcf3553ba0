"""What this machine, or the container it runs in, has: processors, free memory, and what a process has used.

In: nothing. Out: numbers, in bytes where it is memory; None where the system does not say. ``cgroups`` reads the limits
of the container, ``process`` what a process holds; ``collecting_seldom`` is for what makes many objects.
"""

from __future__ import annotations

from medrail.machine.collector import collecting_seldom
from medrail.machine.free import free_memory_bytes, free_shared_bytes, memory_limits_bytes, processors
from medrail.machine.heap import give_back_memory
from medrail.machine.process import Memory, memory_of, own_limit_bytes, peak_memory_bytes, restart_peak

__all__ = [
    "Memory",
    "collecting_seldom",
    "free_memory_bytes",
    "free_shared_bytes",
    "give_back_memory",
    "memory_limits_bytes",
    "memory_of",
    "own_limit_bytes",
    "peak_memory_bytes",
    "processors",
    "restart_peak",
]
