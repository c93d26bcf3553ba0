"""Several processes give what one gives; which GPU is taken, with a made-up CUDA."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from medrail.config import TrainConfig
from medrail.errors import ConfigError, RunError
from medrail.train import load_model, processes, train
from medrail.train.checkpoint import load
from medrail.train.device import choose
from medrail.workspace import Run, read_json

GB = 2**30


def last_network(run: Run) -> torch.nn.Module:
    network = load_model(run)
    network.load_state_dict(load(run.last)["average"])
    return network


def agree(first: Run, second: Run, another: Run) -> None:
    """Answers within what adding in another order gives, far nearer than those of ``another`` seed.

    Single weights may differ: a bias before a normalisation has no gradient but rounding, which AdamW makes large.
    """
    images = torch.randn(4, 1, 16, 24, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        one, same, other = (last_network(run)(images) for run in (first, second, another))
    assert (one - same).abs().max() < 0.02 * (one - other).abs().max()


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(volumes: Any) -> None:
    """U-Net without batch normalisation, cross entropy without a view of the whole batch; uneven shares, too."""
    small = volumes.with_settings(epochs=2, loss="cross_entropy", batch_size=5, accumulate=1, precision="32-true")
    alone = train(small.config, small.workspace, small.cases, run_name="alone")
    both = small.with_settings(devices=2)
    together = train(both.config, both.workspace, both.cases, run_name="together")
    other = small.with_settings(seed=1)
    agree(alone, together, train(other.config, other.workspace, other.cases, run_name="other"))
    for one, other in zip(lines(alone), lines(together), strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=1e-3)
        assert other["val_dice"] == pytest.approx(one["val_dice"], abs=0.02)
    assert read_json(together.passport)["machine"]["processes"] == 2
    assert read_json(together.passport)["fingerprint"] == read_json(alone.passport)["fingerprint"]
    assert not torch.distributed.is_initialized()
    again = train(both.config, both.workspace, both.cases, run_name="together")
    assert again == together, "a finished run is known to all processes"


@pytest.mark.slow
def test_torchrun_starts_the_processes(volumes: Any) -> None:
    small = volumes.with_settings(epochs=1, loss="cross_entropy", batch_size=6, precision="32-true")
    alone = train(small.config, small.workspace, small.cases, run_name="alone")
    script = Path(__file__).with_name("processes_script.py")
    started = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = [json.dumps(small.config.to_dict()), str(small.workspace.root), "torchrun"]
    done = subprocess.run([*started, *arguments], capture_output=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr.decode()
    run = small.workspace.run("torchrun")
    assert read_json(run.passport)["finished"]
    assert read_json(run.passport)["machine"]["processes"] == 2
    other = small.with_settings(seed=1)
    agree(alone, run, train(other.config, other.workspace, other.cases, run_name="other"))


@pytest.mark.slow
def test_an_error_of_the_first_process_is_the_error_of_all(volumes: Any) -> None:
    both = volumes.with_settings(epochs=1, devices=2)
    taken = volumes.workspace.run("taken")
    taken.folder.mkdir(parents=True)
    taken.passport.write_text('{"fingerprint": "another"}')
    with pytest.raises(RunError, match="another configuration"):
        train(both.config, both.workspace, both.cases, run_name="taken")


def test_more_processes_than_samples_a_step_are_refused(volumes: Any) -> None:
    many = volumes.with_settings(devices=8, batch_size=2)
    with pytest.raises(ConfigError, match="2 samples a step for 8 processes"):
        train(many.config, many.workspace, many.cases)


def test_several_machines_are_told_how_to_begin(volumes: Any) -> None:
    many = volumes.with_settings(nodes=2)
    with pytest.raises(ConfigError, match="torchrun --nnodes"):
        train(many.config, many.workspace, many.cases)


def test_who_follows_is_told_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not processes.launched()
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for rank in (0, 3):
        monkeypatch.setenv("RANK", str(rank))
        assert processes.launched()
        assert processes.is_follower() == (rank > 0)
        assert (processes.world_size(TrainConfig()), processes.nodes_of(TrainConfig())) == (4, 2)


# --- processes that end


def started(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """The other processes run ``code`` instead of training."""
    monkeypatch.setattr(processes, "_start", lambda *_: subprocess.Popen([sys.executable, "-c", code]))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
        ("raise SystemExit(3)", "ended with 3"),
    ],
)
def test_a_process_that_ended_is_named_and_not_the_connection(
    monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    started(monkeypatch, code)
    with (
        pytest.raises(RunError, match=f"one of the 2 processes {said}") as error,
        processes.companions(TrainConfig(devices=2), None),
    ):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:12345")
    assert ("memory" in str(error.value)) == ("SIGKILL" in said)


def test_an_error_while_all_processes_live_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_NOTICED_S", 0.1)
    started(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(RuntimeError, match="sizes do not match"), processes.companions(TrainConfig(devices=2), None):
        raise RuntimeError("sizes do not match")


@pytest.mark.slow
def test_a_killed_process_is_told_as_such_by_a_real_training(volumes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = processes._start, []

    def remembered(*arguments: Any) -> Any:
        others.append(real(*arguments))
        return others[-1]

    monkeypatch.setattr(processes, "_start", remembered)
    both = volumes.with_settings(epochs=50, devices=2)
    with pytest.raises(RunError, match="was ended by SIGKILL"):
        train(both.config, both.workspace, both.cases, on_epoch=lambda history: others[0].kill())


@pytest.mark.parametrize(
    "environment",
    [{"WORLD_SIZE": "2", "RANK": "1"}, {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0"}],
)
def test_what_makes_several_trainings_is_refused_as_one_of_several_processes(
    volumes: Any, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.stages import Project, reproduce_run, train_group
    from medrail.tune import tune

    processes.refuse_several("alone this is fine")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    several: list[Any] = [
        lambda: train_group(Project(volumes.config, volumes.workspace), "seeds", 2),
        lambda: tune(volumes.config, volumes.workspace, volumes.cases),
        lambda: reproduce_run(volumes.workspace.root),
    ]
    for one in several:
        with pytest.raises(ConfigError, match=r"one of 2 processes(.|\n)*train\.devices works"):
            one()
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    processes.refuse_several("one process is fine")


# --- which GPU


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Three GPUs with 10, 70 and 40 GB free; change the numbers to change the machine."""
    free = {0: 10 * GB, 1: 70 * GB, 2: 40 * GB}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free[number], 80 * GB))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU model {number}")
    return free


def test_auto_takes_the_gpu_with_most_free_memory_and_says_so(gpus: dict[int, int]) -> None:
    machine = choose(TrainConfig(), "segmentation", 2)
    assert (machine.device, machine.numbers, machine.precision) == ("cuda", (1,), "bf16-mixed")
    assert machine.note == "GPU 1 of 3 (GPU model 1), with most free memory (GB free: 0: 10.0, 1: 70.0, 2: 40.0)"
    assert machine.device_names == "GPU model 1"
    two = choose(TrainConfig(devices=2), "segmentation", 2)
    assert (two.numbers, two.processes) == ((1, 2), 2)


def test_of_equal_gpus_the_first_is_taken(gpus: dict[int, int]) -> None:
    gpus.update({0: 40 * GB, 1: 40 * GB})
    assert choose(TrainConfig(), "segmentation", 2).numbers == (0,)


def test_the_only_gpu_is_named_with_its_free_memory(gpus: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        del gpus[number]
    machine = choose(TrainConfig(), "classification", 2)
    assert (machine.numbers, machine.note) == ((0,), "GPU 0 of 1 (GPU model 0), 10.0 GB free")

    def in_use(number: int) -> Any:
        raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "mem_get_info", in_use)
    assert choose(TrainConfig(), "classification", 2).note == "GPU 0 of 1 (GPU model 0)"


def test_one_of_several_processes_asks_no_gpu_for_its_memory(
    gpus: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take some of each."""
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "0")
    machine = choose(TrainConfig(), "classification", 2)
    assert machine.numbers == (0, 1, 2)
    assert machine.note.startswith("GPU 0 and 1 and 2 of 3")


def test_the_passport_has_number_name_and_note_of_the_gpu(gpus: dict[int, int], tmp_path: Path) -> None:
    from medrail.train.passport import circumstances
    from medrail.workspace import Workspace

    machine = circumstances(Workspace(tmp_path), choose(TrainConfig(device="cuda:2"), "classification", 2))["machine"]
    assert (machine["device_numbers"], machine["device_name"]) == ([2], "GPU model 2")
    assert machine["device_chosen"] == "GPU 2 of 3 (GPU model 2), 40.0 GB free"


def test_a_gpu_can_be_named(gpus: dict[int, int]) -> None:
    assert choose(TrainConfig(device="cuda:2"), "classification", 2).numbers == (2,)
    with pytest.raises(ConfigError, match="at most 3"):
        choose(TrainConfig(device="cuda:3"), "classification", 2)
    with pytest.raises(ConfigError, match=r"train\.devices"):
        choose(TrainConfig(devices=4), "classification", 2)


@pytest.mark.parametrize("name", ["cuda:x", "cpu:1", "tpu", "cuda:-1"])
def test_a_device_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        choose(TrainConfig(device=name), "classification", 2)


def test_what_was_chosen_stands_in_the_passport(pictures: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from medrail.train import loop

    real = choose
    note = "GPU 1 of 3, with most free memory (GB free: ...)"
    monkeypatch.setattr(loop, "choose", lambda *asked: replace(real(*asked), note=note))
    run = train(pictures.config, pictures.workspace, pictures.cases)
    assert note in read_json(run.passport)["result"]["notes"]
    assert read_json(run.passport)["machine"]["device_chosen"] == note
