"""Faults injected on purpose: kills, hangs, no memory, a full disk, files that vanish, two runs at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Pillow

from medrail.prepare import Pipeline, Store
from medrail.workspace import Workspace

SCRIPT = Path(__file__).with_name("slowly.py")
STEPS = [{"kind": "orient"}, {"kind": "resample", "spacing_mm": 2}, {"kind": "round"}]
PICTURES = [{"kind": "resize", "size": [6, 7]}, {"kind": "normalise"}]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def make(root: Path, names: list[str]) -> Path:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        voxels = np.random.default_rng(number).normal(40, 20, (20, 16, 12)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.1, 1.2, 2.5, 1])), root / "raw" / f"{name}.nii.gz")
    return root


def make_pictures(root: Path, names: list[str]) -> Path:
    (root / "raw").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (12, 9, 3), np.uint8)
        Pillow.fromarray(pixels).save(root / "raw" / f"{name}.png")
    return root


def start(root: Path, seconds: float, *settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(root), str(seconds), *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 120) -> dict:
    """Its last line of output."""
    out, err = process.communicate(timeout=timeout_s)
    assert out, err
    return json.loads(out.splitlines()[-1])


def store_of(root: Path) -> Store:
    pictures = any((root / "raw").glob("*.png"))
    return Store(Workspace(root), Pipeline.from_dict(PICTURES if pictures else STEPS))


def content(root: Path) -> dict[str, object]:
    """All that is in a store, case by case."""
    store = store_of(root)
    found = {}
    for case in store.ids():
        prepared, _ = store.stored(case)
        image = prepared.image
        history = [(step.step, json.dumps(dict(step.params))) for step in image.history]
        found[case] = (image.voxels.tobytes(), image.voxels.dtype.name, history, store.source_fingerprint(case))
    return found


def children_of(pid: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(place.name))
    return found


def workers_of(pid: int) -> list[int]:
    """Its worker processes, not the tracker of shared resources."""
    found = []
    for child in children_of(pid):
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


def wait_until_gone(pids: list[int], within_s: float = 5.0) -> None:
    last_s = time.monotonic() + within_s
    while any(Path(f"/proc/{pid}").exists() and _state(pid) != "Z" for pid in pids):
        assert time.monotonic() < last_s, "a worker outlived its parent"
        time.sleep(0.02)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@LINUX
@pytest.mark.parametrize(
    ("kind", "count", "runs"),
    [
        pytest.param(make, 8, 4, marks=pytest.mark.slow),
        pytest.param(make_pictures, 24, 4, marks=pytest.mark.slow),
        pytest.param(make, 8, 20, marks=pytest.mark.nightly),
        pytest.param(make_pictures, 24, 12, marks=pytest.mark.nightly),
    ],
)
def test_kills_at_random_times_lose_nothing_for_good(tmp_path, kind, count, runs):
    """The final store is that of an undisturbed run: volumes in files of their own, pictures in rows."""
    names = [f"p{number:02}" for number in range(count)]
    undisturbed = kind(tmp_path / "undisturbed", names)
    report = finish(start(undisturbed, 0, "workers=1"))
    assert report["succeeded"] == len(names)
    expected, draw = content(undisturbed), random.Random(0)
    for run in range(runs):
        root = kind(tmp_path / f"run{run}", names)
        shutil.copytree(undisturbed / "raw", root / "raw", dirs_exist_ok=True)
        process = start(root, 0.8 / count)
        time.sleep(draw.uniform(0.3, 2.2))
        workers = workers_of(process.pid)
        if run % 2 and workers and process.poll() is None:
            os.kill(draw.choice(workers), signal.SIGKILL)
            report = finish(process)
            assert report["succeeded"] == len(names), report
        else:
            process.kill()
            process.communicate()
            wait_until_gone(workers)
            before = set(store_of(root).ids())
            report = finish(start(root, 0))
            assert report["skipped"] == len(before)
        assert content(root) == expected
        assert (store_of(root).folder / "pictures.npy").exists() == (kind is make_pictures)
        assert not [path for path in store_of(root).cases.iterdir() if path.name.startswith(".")]
        shutil.rmtree(root)


@pytest.mark.slow
def test_a_case_that_hangs_is_given_up(tmp_path):
    root = make(tmp_path, ["a", "hang", "b"])
    report = finish(start(root, 0, "timeout_s=2"))
    assert (report["succeeded"], [one["case"] for one in report["failed"]]) == (2, ["hang"])
    assert "did not end in time" in report["failed"][0]["reason"]
    assert "timeout_s" in report["failed"][0]["reason"]


@LINUX
@pytest.mark.slow
def test_a_case_without_enough_memory_is_tried_alone_and_named(tmp_path):
    root = make(tmp_path, ["a", "b", "big", "c"])
    report = finish(start(root, 0, f"limit_bytes={2_500_000_000}"))
    assert (report["succeeded"], [one["case"] for one in report["failed"]]) == (3, ["big"])
    assert "also when it ran alone" in report["failed"][0]["reason"]
    assert any(note.startswith("big: ") and note.endswith("retried alone") for note in report["notes"])


@pytest.mark.slow
def test_a_case_whose_process_was_killed_once_is_made_in_the_end(tmp_path):
    root = make(tmp_path, ["a", "once", "b"])
    report = finish(start(root, 0))
    assert report["succeeded"] == 3
    assert any("once" in note and "retried alone" in note for note in report["notes"])


@pytest.mark.slow
def test_a_file_that_vanishes_costs_its_case_only(tmp_path):
    root = make(tmp_path, ["a", "vanish", "b"])
    report = finish(start(root, 0))
    assert (report["succeeded"], [one["case"] for one in report["failed"]]) == (2, ["vanish"])
    assert "vanish.nii.gz" in report["failed"][0]["reason"]


@LINUX
@pytest.mark.slow
def test_ctrl_c_ends_it_at_once_and_it_goes_on(tmp_path):
    root = make(tmp_path, [f"p{number}" for number in range(8)])
    process = start(root, 0.4)
    while process.stdout.readline() and not store_of(root).ids():
        pass
    workers = workers_of(process.pid)
    begin = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - begin < 5, "a second, and what a busy machine takes"
    assert err.count("Traceback") <= 1, "of this script alone; the command line prints none"
    wait_until_gone(workers)
    done = store_of(root).ids()
    assert 0 < len(done) < 8
    report = finish(start(root, 0))
    assert (report["skipped"], report["succeeded"]) == (len(done), 8 - len(done))


@pytest.mark.slow
def test_two_runs_on_one_store(tmp_path):
    root = make(tmp_path, [f"p{number}" for number in range(4)])
    first = start(root, 4)
    while first.stdout.readline() and not store_of(root).ids():
        pass
    second = finish(start(root, 0))
    assert second["kind"] == "RunError"
    assert "another `medrail prepare`" in second["error"]
    assert finish(first)["succeeded"] == 4
    assert len(content(root)) == 4


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MB; skips where this user may not mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["workers=1", "workers=2"])
def test_a_full_disk_stops_with_what_is_done_kept(tmp_path, small_disk, workers):
    names = [f"p{number}" for number in range(6)]
    source = tmp_path / "source" / "raw"
    source.mkdir(parents=True)
    for number, name in enumerate(names):
        voxels = np.random.default_rng(number).normal(40, 20, (160, 96, 40)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2, 2, 2, 1])), source / f"{name}.nii.gz")
    (small_disk / "raw").symlink_to(source)
    stopped = finish(start(small_disk, 0, workers))
    assert stopped["kind"] == "PrepareError", stopped
    assert "no room is left on the disk" in stopped["error"]
    done = store_of(small_disk).ids()
    assert 0 < len(done) < 6
    assert set(content(small_disk)) == set(done)
    assert not [path for path in store_of(small_disk).cases.iterdir() if path.name.startswith(".")]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    report = finish(start(small_disk, 0, workers))
    assert (report["skipped"], report["succeeded"]) == (len(done), 6 - len(done))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_cluster_of_which_one_worker_dies(tmp_path):
    distributed = pytest.importorskip("distributed")
    names = [f"p{number:02}" for number in range(30)]
    root = make(tmp_path, names)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        process = start(root, 0, f"scheduler={cluster.scheduler_address}")
        while not store_of(root).ids() and process.poll() is None:
            time.sleep(0.01)
        victim = next(iter(cluster.workers.values())).pid
        os.kill(victim, signal.SIGKILL)
        report = finish(process)
    assert (report["succeeded"], report["failed"]) == (30, [])
    lines = store_of(root).manifest_file.read_text().splitlines()
    assert sorted(json.loads(line)["case"] for line in lines) == names, "nothing lost, nothing twice"
    local = make(tmp_path / "local", names)
    shutil.copytree(root / "raw", local / "raw", dirs_exist_ok=True)
    finish(start(local, 0, "workers=1"))
    assert content(local).keys() == content(root).keys()
    assert {case: found[0] for case, found in content(local).items()} == {
        case: found[0] for case, found in content(root).items()
    }
