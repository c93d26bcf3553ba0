"""What the machine has: on this one, and as made-up trees of /proc and /sys say."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from medrail.machine import free_memory_bytes, memory_of, peak_memory_bytes, processors, restart_peak
from medrail.machine.cgroups import memory_groups, processor_quotas
from medrail.machine.free import free_shared_bytes

GB = 1_000_000_000
MOUNT_2 = "31 23 0:28 {inside} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
MOUNT_1 = "35 31 0:32 {inside} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def tree(root: Path, group: str, mounts: str, files: dict[str, object], available_gb: int = 64) -> Path:
    texts = {
        "proc/self/cgroup": group,
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts,
        "proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable: {available_gb * GB // 1024} kB\n",
        **{f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in files.items()},
    }
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_every_level_above_the_process_may_limit_it(tmp_path):
    files = {
        "a/memory.max": 8 * GB,
        "a/memory.current": 5 * GB,
        "a/memory.stat": f"anon 1\ninactive_file {1 * GB}\n",
        "a/b/memory.max": "max",
        "a/b/memory.high": 6 * GB,
        "a/b/memory.current": 1 * GB,
        "a/b/c/memory.max": "max",
        "a/b/c/memory.current": 1 * GB,
        "other/memory.max": 1,
        "other/memory.current": 1,
    }
    root = tree(tmp_path, "0::/a/b/c\n", MOUNT_2.format(inside="/"), files)
    assert [(group.limit_bytes, group.used_bytes) for group in memory_groups(root)] == [
        (6 * GB, 1 * GB),
        (8 * GB, 4 * GB),  # file cache that nobody uses is given up first
    ]
    assert free_shared_bytes(root) == 4 * GB


def test_a_container_sees_the_hosts_path_but_its_own_group(tmp_path):
    files = {"memory.max": 2 * GB, "memory.current": 1 * GB}
    root = tree(tmp_path, "0::/docker/abc\n", MOUNT_2.format(inside="/docker/abc"), files)
    assert free_shared_bytes(root) == 1 * GB


@pytest.mark.parametrize("path", ["/", "/../../system.slice/x", "/somewhere/else"])
def test_what_is_mounted_counts_where_the_path_leads_nowhere(tmp_path, path):
    files = {"memory.max": 2 * GB, "memory.current": 1 * GB}
    inside = "/docker/abc" if "else" in path else "/"
    assert free_shared_bytes(tree(tmp_path, f"0::{path}\n", MOUNT_2.format(inside=inside), files)) == 1 * GB


def test_version_1_beside_an_empty_version_2(tmp_path):
    files = {
        "memory/job/memory.limit_in_bytes": 3 * GB,
        "memory/job/memory.usage_in_bytes": 2 * GB,
        "memory/job/memory.stat": f"total_inactive_file {GB // 2}\n",
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": 9 * GB,
    }
    mounts = MOUNT_1.format(inside="/") + MOUNT_2.format(inside="/").replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    root = tree(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/job\n0::/\n", mounts, files)
    assert free_shared_bytes(root) == 3 * GB // 2


def test_without_limits_it_is_what_the_machine_has(tmp_path):
    root = tree(tmp_path, "0::/\n", MOUNT_2.format(inside="/"), {"memory.max": "max", "memory.current": 1}, 4)
    assert free_shared_bytes(root) == 4 * GB // 1024 * 1024


def test_where_nobody_says_it_is_not_known(tmp_path):
    assert free_shared_bytes(tmp_path) is None


def test_processors_of_every_level(tmp_path):
    files = {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}
    root = tree(tmp_path, "0::/a/b\n", MOUNT_2.format(inside="/"), files)
    assert processor_quotas(root) == [1.5]
    mount = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    files = {"cpu/x/cpu.cfs_quota_us": 400_000, "cpu/x/cpu.cfs_period_us": 100_000, "cpu/cpu.cfs_quota_us": -1}
    assert processor_quotas(tree(tmp_path / "1", "4:cpuacct,cpu:/x\n", mount, files)) == [4.0]


def test_what_this_machine_says():
    assert processors() >= 1
    assert free_memory_bytes() is None or free_memory_bytes() > 1_000_000
    assert peak_memory_bytes() is None or peak_memory_bytes() > 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_the_peak_begins_anew():
    held = mmap.mmap(-1, 100_000_000)  # what is closed goes back for certain; a heap may keep what it is given
    held[::4096] = b"x" * len(held[::4096])
    assert peak_memory_bytes() > 100_000_000
    before = memory_of().now_bytes
    held.close()
    restart_peak()
    assert peak_memory_bytes() < before - 50_000_000
    assert memory_of(2**30) is None


@pytest.mark.skipif(sys.platform == "win32", reason="ulimit")
def test_a_limit_of_the_process_counts():
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9));"
    code += "from medrail.machine import free_memory_bytes; print(free_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 10**9
