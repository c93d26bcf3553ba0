"""Who trains beside medrail: a loop as one writes it oneself, MONAI's recipe for the CPU, Lightning's Trainer.

All train the same ResNet-18 with AdamW and a cosine learning rate on the same prepared pictures (PNG of the network's
size), varied by the same largest amounts, one picture at a time, and judge the validation pictures after each epoch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch.nn import functional

ROTATE_DEG, SCALE, SHIFT, INTENSITY, NOISE = 10, 0.1, 0.05, 0.1, 0.05
LR = 1e-3


@dataclass(frozen=True)
class Pictures:
    """Files and their classes, to train on and to validate on."""

    train: Sequence[tuple[Path, int]]
    val: Sequence[tuple[Path, int]]
    side: int
    batch: int


class PlainPictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """A file a picture, opened, normalised and varied when it is asked for."""

    def __init__(self, items: Sequence[tuple[Path, int]], *, varied: bool) -> None:
        self.items, self.varied = items, varied

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self.items[index]
        with PIL.Image.open(path) as file:
            image = torch.from_numpy(np.array(file, dtype=np.float32))[None]
        image = (image - image.mean()) / image.std()
        return (_varied(image) if self.varied else image), label


def _varied(image: torch.Tensor) -> torch.Tensor:
    for axis in (1, 2):
        if torch.rand(()) < 0.5:
            image = image.flip(axis)
    turn, zoom, contrast, brightness, noise, *shift = (2 * torch.rand(7) - 1).tolist()
    angle, factor = math.radians(ROTATE_DEG * turn), (1 + SCALE) ** -zoom
    cosine, sine = factor * math.cos(angle), factor * math.sin(angle)
    matrix = torch.tensor([[[cosine, -sine, 2 * SHIFT * shift[0]], [sine, cosine, 2 * SHIFT * shift[1]]]])
    grid = functional.affine_grid(matrix, [1, *image.shape], align_corners=False)
    image = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
    image = image * (1 + INTENSITY * contrast) + INTENSITY * brightness
    return image + torch.randn(image.shape) * (NOISE * abs(noise))


def plain(pictures: Pictures, network: torch.nn.Module, *, tuned: bool = False) -> float:
    """Images a second of one epoch with its validation, after one batch to warm up; ``tuned``: bfloat16, channels last
    and the fused optimizer.
    """
    loader = _loader(PlainPictures(pictures.train, varied=True), pictures.batch, shuffle=True)
    val = _loader(PlainPictures(pictures.val, varied=False), pictures.batch, shuffle=False)
    return _epochs(pictures, network, loader, val, tuned=tuned)


def monai(pictures: Pictures, network: torch.nn.Module, cached: tuple[Any, Any]) -> float:
    """The same loop on MONAI's CacheDataset and ThreadDataLoader."""
    from monai.data import ThreadDataLoader

    loaders = [
        ThreadDataLoader(dataset, batch_size=pictures.batch, shuffle=shuffle, num_workers=0, buffer_size=2)
        for dataset, shuffle in zip(cached, (True, False), strict=True)
    ]
    return _epochs(pictures, network, *loaders)


def monai_cached(pictures: Pictures) -> tuple[Any, Any]:
    """Training and validation pictures, read and normalised once; not counted."""
    from monai.data import CacheDataset, set_track_meta
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        RandAffined,
        RandFlipd,
        RandGaussianNoised,
        RandScaleIntensityd,
        ToTensord,
    )

    set_track_meta(False)
    reading = [
        LoadImaged("image", reader="PILReader", image_only=True),
        EnsureChannelFirstd("image", channel_dim="no_channel"),
        NormalizeIntensityd("image"),
        ToTensord("image", dtype=torch.float32, track_meta=False),
    ]
    varying = [
        RandFlipd("image", prob=0.5, spatial_axis=0),
        RandFlipd("image", prob=0.5, spatial_axis=1),
        RandAffined(
            "image",
            prob=1,
            rotate_range=math.radians(ROTATE_DEG),
            scale_range=(SCALE, SCALE),
            translate_range=(SHIFT * pictures.side,) * 2,
            padding_mode="border",
            cache_grid=True,
            spatial_size=(pictures.side, pictures.side),
        ),
        RandScaleIntensityd("image", factors=INTENSITY, prob=1),
        RandGaussianNoised("image", prob=1, std=NOISE),
    ]

    def cached(items: Sequence[tuple[Path, int]], transforms: list[Any]) -> Any:
        data = [{"image": str(path), "label": label} for path, label in items]
        return CacheDataset(data, Compose(transforms), num_workers=0, progress=False)

    return cached(pictures.train, [*reading, *varying]), cached(pictures.val, reading)


def lightning(pictures: Pictures, network: torch.nn.Module, root: Path) -> float:
    """Lightning's Trainer with the plain data set: the second of two epochs, from its begin to the next one's."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.ends = network, [0.0]

        def training_step(self, batch: Any, number: int) -> Any:
            images, labels = batch
            return functional.cross_entropy(self.network(images), labels)

        def validation_step(self, batch: Any, number: int) -> None:
            images, labels = batch
            self.log("val_accuracy", (self.network(images).argmax(1) == labels).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.network.parameters(), lr=LR)

        def on_train_epoch_end(self) -> None:
            self.ends.append(time.perf_counter())

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=root,
        callbacks=[lightning.pytorch.callbacks.ModelCheckpoint(root / "lightning", monitor="val_accuracy", mode="max")],
    )
    loader = _loader(PlainPictures(pictures.train, varied=True), pictures.batch, shuffle=True)
    val = _loader(PlainPictures(pictures.val, varied=False), pictures.batch, shuffle=False)
    trainer.fit(module, loader, val)
    return len(pictures.train) / (module.ends[-1] - module.ends[-2])


def _epochs(
    pictures: Pictures, network: torch.nn.Module, loader: Iterable[Any], val: Iterable[Any], *, tuned: bool = False
) -> float:
    if tuned:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, fused=tuned)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    network.train()
    for number, batch in enumerate(loader):
        if number:
            break
        _train(network, optimizer, batch, tuned=tuned)
    begin = time.perf_counter()
    running, seen = 0.0, 0
    network.train()
    for batch in loader:
        running += _train(network, optimizer, batch, tuned=tuned).item()
        seen += len(batch[0] if isinstance(batch, (list, tuple)) else batch["image"])
    schedule.step()
    network.eval()
    right = 0
    with torch.no_grad():
        for batch in val:
            images, labels = _pair(batch)
            right += int((network(images).argmax(1) == labels).sum())
    torch.save(network.state_dict(), pictures.train[0][0].with_name("best.pt"))
    taken = time.perf_counter() - begin
    if seen != len(pictures.train):
        raise SystemExit(f"{seen} of {len(pictures.train)} pictures in an epoch")
    return seen / taken


def _train(network: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Any, *, tuned: bool) -> torch.Tensor:
    images, labels = _pair(batch)
    if tuned:
        images = images.contiguous(memory_format=torch.channels_last)
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
        loss = functional.cross_entropy(network(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def _pair(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(batch, dict):
        return batch["image"], batch["label"]
    images, labels = batch
    return images, labels


def _loader(dataset: Any, batch: int, *, shuffle: bool) -> Iterable[Any]:
    loader: Iterable[Any] = torch.utils.data.DataLoader(dataset, batch_size=batch, shuffle=shuffle)
    return loader
