"""How fast training gets its input: from prepared pictures to augmented batches, beside MONAI and a plain DataLoader.

Every contender reads the same made pictures (uint8) and gives float32 batches of them, each picture mirrored, turned,
zoomed and shifted (one linear interpolation), with its intensity and noise varied, by the same largest amounts. Reading
into memory is not counted for those who hold the pictures there (MONAI's CacheDataset, medrail); the plain data set
reads a file a picture, warm. Last, how many pictures a ResNet-18 consumes when it is trained on this machine.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_NUM_THREADS", str(os.cpu_count() or 1)
)  # two threads must be possible where one is asked for

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

from medrail.config import AugmentConfig, ModelConfig, TrainConfig
from medrail.data import Needs, Samples, batches, load_samples
from medrail.models import build_model
from medrail.prepare import Pipeline, Store
from medrail.prepare.keeper import Keeper, write_case
from medrail.prepare.pipeline import Prepared
from medrail.train.device import choose
from medrail.types import Case, Image
from medrail.workspace import Workspace

ROUNDS = 5
LEAST_S = 0.3
ROTATE_DEG, SCALE, SHIFT, INTENSITY, NOISE = 10, 0.1, 0.05, 0.1, 0.05
TYPICAL = AugmentConfig(
    flip=("H", "W"), rotate_deg=ROTATE_DEG, scale=SCALE, shift=SHIFT, intensity=INTENSITY, noise=NOISE
)


@dataclass(frozen=True)
class Setting:
    """One kind of picture; ``step``: batch of the training step that consumes them."""

    name: str
    side: int
    channels: int
    count: int
    batch: int
    step: int


SETTINGS = (
    Setting("64", 64, 1, 512, 64, 64),
    Setting("224", 224, 1, 128, 32, 8),
    Setting("224_colour", 224, 3, 64, 32, 8),
)
NOTES = (
    "Made pictures, uint8: 64 px grey in batches of 64, 224 px grey and in colour in batches of 32. Every contender "
    f"mirrors along both axes, turns by up to {ROTATE_DEG} degrees, zooms by {SCALE:.0%}, shifts by {SHIFT:.0%}, "
    f"varies the intensity by {INTENSITY:.0%} and adds noise of up to {NOISE:.0%} of the SD, each picture each time.",
    "One thread: torch.set_num_threads(1) and no workers. Two cores: MONAI and the plain data set with two worker "
    "processes, MONAI also with its ThreadDataLoader, the fastest form of each round; medrail with one thread.",
    "MONAI: CacheDataset, RandFlip, RandAffine, RandScaleIntensity, RandGaussianNoise a picture, without MetaTensor "
    "tracking. It varies no brightness, which medrail does. Plain: np.load a file and the same operations in torch.",
    "ResNet-18 is medrail's own, trained as `medrail train` does it: precision by the machine's flags, channels last.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=[setting.name for setting in SETTINGS])
    arguments = parser.parse_args()
    measures = []
    for setting in SETTINGS:
        if arguments.only in (None, setting.name):
            with tempfile.TemporaryDirectory(prefix="medrail-bench-") as name:
                measures += _measures(setting, Path(name), arguments.rounds)
    record.write("input", measures, NOTES)


def _measures(setting: Setting, root: Path, rounds: int) -> list[record.Measure]:
    files, samples = make(setting, root)
    contenders = _contenders(setting, files, samples)
    record.rounds_in_turn(contenders, 1)
    measured = record.rounds_in_turn(contenders, rounds)
    two_cores = {
        "monai": _fastest(measured, "monai_workers", "monai_thread"),
        "plain": measured["plain_workers"],
    }
    where = f"input/{setting.name}"
    rates = [
        record.Measure.of(f"{where}/{name}/images_per_s", measured[key], "images/s", told)
        for name, key, told in (
            ("medrail", "medrail", "one thread, all variations"),
            ("medrail_plain", "medrail_plain", "one thread, no variation"),
            ("medrail_elastic", "medrail_elastic", "one thread, all variations and elastic deformation"),
            ("resnet18_step", "step", "one thread: what training consumes"),
            ("two_cores/resnet18_step", "step_two", "two threads: what training consumes"),
        )
    ]
    ratios = []
    for peer, told in (("monai", "MONAI CacheDataset + a transform a picture"), ("plain", "np.load a picture")):
        ratios += [
            _ratio(f"{where}/vs_{peer}_items", measured["medrail"], measured[peer], f"{told}, one thread"),
            _ratio(f"{where}/two_cores/vs_{peer}_items", measured["medrail"], two_cores[peer], f"{told}, on two cores"),
        ]
    return [
        *ratios,
        _ratio(f"{where}/vs_resnet18_step", measured["medrail"], measured["step"], "a ResNet-18 step, one thread"),
        _ratio(
            f"{where}/two_cores/vs_resnet18_step", measured["medrail"], measured["step_two"], "the same, two threads"
        ),
        *rates,
    ]


def _ratio(name: str, ours: Sequence[float], theirs: Sequence[float], peer: str) -> record.Measure:
    against = f"{peer}: {statistics.median(theirs):,.0f} images/s"
    return record.Measure.of(name, [a / b for a, b in zip(ours, theirs, strict=True)], "times as many", against)


def _fastest(measured: dict[str, list[float]], *names: str) -> list[float]:
    return [max(one) for one in zip(*(measured[name] for name in names), strict=True)]


def _contenders(setting: Setting, files: Sequence[Path], samples: Samples) -> dict[str, Callable[[], float]]:
    """Each gives pictures a second."""
    monai = _monai(setting, files)
    plain = PlainPictures(files)
    loaders: dict[str, Iterable[Any]] = {
        "monai": _loader(monai, setting.batch, 0),
        "monai_workers": _loader(monai, setting.batch, 2),
        "monai_thread": _threaded(monai, setting.batch),
        "plain": _loader(plain, setting.batch, 0),
        "plain_workers": _loader(plain, setting.batch, 2),
    }
    contenders: dict[str, Callable[[], float]] = {
        name: partial(_rate, setting, lambda _, loader=loader: loader) for name, loader in loaders.items()
    }
    for name, augment in (
        ("medrail", TYPICAL),
        ("medrail_plain", AugmentConfig()),
        ("medrail_elastic", TYPICAL.model_copy(update={"elastic": 0.03})),
    ):
        settings = TrainConfig(batch_size=setting.batch, augment=augment)
        contenders[name] = partial(_rate, setting, partial(batches, samples, settings))
    step = TrainingStep(setting)
    return contenders | {"step": partial(step.rate, 1), "step_two": partial(step.rate, 2)}


def _rate(setting: Setting, epoch_of: Callable[[int], Iterable[Any]]) -> float:
    """Whole epochs until they took long enough to be measured."""
    torch.set_num_threads(1)
    found, epoch, begin = 0, 0, time.perf_counter()
    while True:
        for batch in epoch_of(epoch):
            images = batch[0] if isinstance(batch, (tuple, list)) else batch
            found += len(images)
        epoch += 1
        taken = time.perf_counter() - begin
        if taken > LEAST_S:
            break
    if found != epoch * setting.count or images.dtype != torch.float32:
        raise SystemExit(f"{found} images of {images.dtype} in {epoch} epochs")
    return found / taken


def make(setting: Setting, root: Path) -> tuple[list[Path], Samples]:
    """Smooth made pictures: a ``.npy`` each, and a medrail store of the same."""
    rng, files, cases = np.random.default_rng(0), [], []
    store = Store(Workspace(root), Pipeline.from_dict([]))
    cells = setting.side // 16
    with Keeper(store, setting.count) as keeper:
        for number in range(setting.count):
            coarse = rng.integers(0, 256, (setting.channels, cells, cells)).repeat(16, axis=1).repeat(16, axis=2)
            pixels = np.clip(coarse + rng.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8)
            file = root / f"{number:05}.npy"
            np.save(file, pixels)
            files.append(file)
            place = keeper.place(f"c{number:05}")
            keeper.keep(place, write_case(place, Prepared(Image(pixels[:, None])), None, str(number)))
            cases.append(Case(f"c{number:05}", f"p{number}", (str(file),), ("a", "b")[number % 2], "train"))
    needs = Needs("classification", ("a", "b"), "resnet18", dims=2, channels=setting.channels)
    return files, load_samples(store, cases, needs)


# --- MONAI, a picture at a time


def _monai(setting: Setting, files: Sequence[Path]) -> Any:
    from monai.data import CacheDataset, set_track_meta
    from monai.transforms import (
        Compose,
        RandAffine,
        RandFlip,
        RandGaussianNoise,
        RandScaleIntensity,
        ToTensor,
    )

    set_track_meta(False)
    sd = float(np.mean([np.load(file).std() for file in files[:32]]))
    transforms = [
        np.load,
        ToTensor(dtype=torch.float32, track_meta=False),
        RandFlip(prob=0.5, spatial_axis=0),
        RandFlip(prob=0.5, spatial_axis=1),
        RandAffine(
            prob=1,
            rotate_range=math.radians(ROTATE_DEG),
            scale_range=(SCALE, SCALE),
            translate_range=(SHIFT * setting.side,) * 2,
            padding_mode="border",
            cache_grid=True,
            spatial_size=(setting.side, setting.side),
        ),
        RandScaleIntensity(factors=INTENSITY, prob=1),
        RandGaussianNoise(prob=1, std=NOISE * sd),
    ]
    return CacheDataset([str(file) for file in files], Compose(transforms), num_workers=0, progress=False)


def _threaded(dataset: Any, batch: int) -> Iterable[Any]:
    from monai.data import ThreadDataLoader

    loader: Iterable[Any] = ThreadDataLoader(dataset, batch_size=batch, shuffle=True, num_workers=0, buffer_size=2)
    return loader


def _loader(dataset: Any, batch: int, workers: int) -> Iterable[Any]:
    from monai.data import DataLoader

    loader: Iterable[Any] = DataLoader(
        dataset, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    return loader


# --- a plain data set


class PlainPictures(torch.utils.data.Dataset[torch.Tensor]):
    """A file a picture, varied one at a time in torch."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = torch.from_numpy(np.load(self.files[index])).float()
        for axis in (1, 2):
            if torch.rand(()) < 0.5:
                image = image.flip(axis)
        turn, zoom, contrast, brightness, noise, *shift = (2 * torch.rand(7) - 1).tolist()
        angle, factor = math.radians(ROTATE_DEG * turn), (1 + SCALE) ** -zoom
        cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
        matrix = torch.tensor([[[cosine, -sine, 2 * SHIFT * shift[0]], [sine, cosine, 2 * SHIFT * shift[1]]]])
        grid = torch.nn.functional.affine_grid(matrix, [1, *image.shape], align_corners=False)
        image = torch.nn.functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
        mean, sd = image.mean(), image.std()
        image = (image - mean) * (1 + INTENSITY * contrast) + (mean + sd * INTENSITY * brightness)
        return image + torch.randn(image.shape) * (sd * NOISE * abs(noise))


# --- who consumes it


class TrainingStep:
    """Pictures a second that a ResNet-18 is trained on, as ``medrail train`` does it, on a batch that is ready."""

    def __init__(self, setting: Setting) -> None:
        model = ModelConfig(name="resnet18", dims=2, channels=setting.channels)
        self.network = build_model(model, "classification", 2, (setting.side, setting.side))
        self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)
        shape = (setting.step, setting.channels, setting.side, setting.side)
        self.images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
        self.targets = torch.arange(setting.step) % 2
        self.bfloat16 = choose(TrainConfig(device="cpu"), "classification", 2).precision == "bf16-mixed"

    def rate(self, threads: int) -> float:
        torch.set_num_threads(threads)
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            loss = torch.nn.functional.cross_entropy(self.network(self.images), self.targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return len(self.images) / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
