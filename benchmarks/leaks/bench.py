"""The leak scan on real pictures with planted duplicates: recall and precision of each kind, and throughput.

Usage: bench.py [FOLDER]. FOLDER has pictures (png, jpeg) in subfolders, each taken as one set; default: the shared data
beside the checkout, else the pictures among pydicom's test files. Of each set only every second picture (the held-out
half, from the second) is used: the thresholds were chosen on the other half. Volumes: all there are (``volumes.py``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import record
import volumes
from shares import share

from medrail.cases.look.burned_in import text_in
from medrail.cases.near.pairs import near_pairs, signature_of
from medrail.errors import MedrailError
from medrail.read import read
from medrail.types import Image

Pixels = npt.NDArray[np.uint8]
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = ("chestxray", "nuclei/images", "wbc/dataset1/images", "wbc/dataset2/images")
SEED, THROUGHPUT_N, ROUNDS = 20261122, 10_000, 3
TEXTS = ("DOE^JANE 1961-03-04", "ID 4483920", "12:44:05 W400 L40")


def encoded(picture: Pixels, quality: int) -> Pixels:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def resized(picture: Pixels, factor: float) -> Pixels:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=way), np.uint8)


def cropped(picture: Pixels, top: float, bottom: float, left: float, right: float) -> Pixels:
    h, w = picture.shape[:2]
    return picture[round(h * top) : h - round(h * bottom), round(w * left) : w - round(w * right)]


def random_crop(picture: Pixels, draw: np.random.Generator) -> Pixels:
    return cropped(picture, *(draw.uniform(0, 0.06, 4)))


def gamma(picture: Pixels, power: float) -> Pixels:
    return np.rint(255 * (picture / 255.0) ** power).astype(np.uint8)


def equalised(picture: Pixels) -> Pixels:
    grey = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def letterboxed(picture: Pixels) -> Pixels:
    """In the middle of a black square, a quarter wider than the shorter side or as wide as the longer one."""
    h, w = picture.shape[:2]
    side = max(h, w, round(min(h, w) * 1.25))
    top, left = (side - h) // 2, (side - w) // 2
    return np.pad(picture, ((top, side - h - top), (left, side - w - left), (0, 0)))


def turned(picture: Pixels, degrees: float) -> Pixels:
    h, w = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(picture, matrix, (w, h)), np.uint8)


def kinds(draw: np.random.Generator) -> dict[str, Callable[[Pixels], Pixels]]:
    return {
        "copied": lambda p: p.copy(),
        "jpeg60": lambda p: encoded(p, 60),
        "jpeg95": lambda p: encoded(p, 95),
        "half": lambda p: resized(p, 0.5),
        "double": lambda p: resized(p, 2.0),
        "mirrored": lambda p: p[:, ::-1],
        "rotated90": lambda p: np.rot90(p),
        "rotated180": lambda p: np.rot90(p, 2),
        "rotated270": lambda p: np.rot90(p, 3),
        "cropped5_all_sides": lambda p: cropped(p, 0.05, 0.05, 0.05, 0.05),
        "cropped5_one_side": lambda p: cropped(p, 0, 0, 0.05, 0),
        "cropped0to6_each_side": lambda p: random_crop(p, draw),
        "brighter": lambda p: (p * 0.9 + 20).clip(0, 255).astype(np.uint8),
        "gamma0.5": lambda p: gamma(p, 0.5),
        "gamma2": lambda p: gamma(p, 2.0),
        "equalised": lambda p: equalised(p),
        "letterboxed": lambda p: letterboxed(p),
        "letterboxed_224_jpeg85": lambda p: encoded(
            np.asarray(cv2.resize(letterboxed(p), (224, 224), interpolation=cv2.INTER_AREA), np.uint8), 85
        ),
        "cropped10_all_sides": lambda p: cropped(p, 0.1, 0.1, 0.1, 0.1),
        "turned5degrees": lambda p: turned(p, 5),
        "negative": lambda p: 255 - p,
        "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2),
        "all_at_once": lambda p: encoded(
            resized(np.ascontiguousarray(np.rot90(random_crop(p, draw), int(draw.integers(4)))), draw.uniform(0.5, 2)),
            int(draw.integers(60, 96)),
        ),
    }


def as_image(picture: Pixels) -> Image:
    return Image(np.ascontiguousarray(np.moveaxis(picture[..., ::-1], -1, 0)[:, None]), unit="uint8")


def tiny(folder: Path) -> list[record.Measure]:
    """The pairs of the 28 x 28 pictures themselves: each is a false alarm, but for those that are one picture twice."""
    measures = []
    for file in sorted((folder / "pneumonia28").glob("*.npz")):
        with np.load(file) as arrays:
            stacks = [arrays[name].reshape(-1, 28, 28) for name in arrays.files if name.endswith("images")]
        pictures = np.concatenate(stacks)[1::2]
        made = {str(n): signature_of(Image(one[None, None], unit="uint8")) for n, one in enumerate(pictures)}
        pairs = near_pairs({name: one for name, one in made.items() if one is not None})
        equal = sum(bool((pictures[int(pair.a)] == pictures[int(pair.b)]).all()) for pair in pairs)
        told = f"of them {equal} of equal pixels, {sum(pair.sure for pair in pairs)} sure"
        measures.append(share(f"leaks/own/{file.stem}", len(pairs), len(pictures), told))
    return measures


def load(folder: Path) -> dict[str, list[Pixels]]:
    names = [name for name in SETS if (folder / name).is_dir()] or sorted(
        path.name for path in folder.iterdir() if path.is_dir()
    )
    sets = {}
    for name in names:
        files = [
            file for file in sorted((folder / name).rglob("*")) if file.suffix.lower() in (".png", ".jpg", ".jpeg")
        ]
        pictures = [cv2.imread(str(file), cv2.IMREAD_COLOR) for file in files]
        sets[name.removesuffix("/images")] = [np.asarray(one, np.uint8) for one in pictures if one is not None][1::2]
    return {name: pictures for name, pictures in sets.items() if len(pictures) > 9}


def shipped() -> dict[str, list[Pixels]]:
    """Middle planes of the pictures among pydicom's test files, as another machine has them too."""
    from pydicom.data import get_testdata_files

    pictures: dict[bytes, Pixels] = {}
    for file in get_testdata_files("*.dcm"):
        try:
            voxels = read(file).voxels
        except MedrailError:
            continue
        plane = voxels[:, voxels.shape[1] // 2].astype(np.float32)
        plane = (plane - plane.min()) * (255 / max(float(np.ptp(plane)), 1e-6))
        if min(plane.shape[1:]) >= 48 and plane.std() > 5:
            picture = np.repeat(plane[:1], 3, axis=0).transpose(1, 2, 0).astype(np.uint8)
            pictures[cv2.resize(picture, (16, 16)).tobytes()] = picture
    return {"pydicom": list(pictures.values())}


def planted(sets: dict[str, list[Pixels]]) -> tuple[list[record.Measure], list[str]]:
    draw = np.random.default_rng(SEED)
    counts: dict[str, list[int]] = {}
    lowest: dict[str, list[float]] = {}
    measures: list[record.Measure] = []
    own: list[str] = []
    for set_name, pictures in sets.items():
        originals = {f"o{n}": signature_of(as_image(one)) for n, one in enumerate(pictures)}
        known = {name: one for name, one in originals.items() if one is not None}
        # Pairs that the set itself has; what they and their copies make with each other is not counted as wrong.
        real = {frozenset((pair.a[1:], pair.b[1:])) for pair in near_pairs(known)}
        own.append(f"{set_name}: {len(pictures)} pictures, {len(real)} pairs of its own")
        measures.append(share(f"leaks/own/{set_name}", len(real), len(pictures), "pairs before anything is planted"))
        for kind, change in kinds(draw).items():
            copies = {f"c{n}": signature_of(as_image(change(one))) for n, one in enumerate(pictures)}
            pairs = near_pairs({**known, **{name: one for name, one in copies.items() if one is not None}})
            right = [pair for pair in pairs if pair.a[1:] == pair.b[1:]]
            lowest.setdefault(kind, []).extend(pair.score for pair in right)
            wrong = [pair for pair in pairs if len({pair.a[1:], pair.b[1:]}) == 2]
            wrong = [pair for pair in wrong if frozenset((pair.a[1:], pair.b[1:])) not in real]
            numbers = counts.setdefault(kind, [0, 0, 0, 0, 0])
            for at, number in enumerate(
                (len(pictures), len(right), sum(p.sure for p in right), len(wrong), sum(p.sure for p in wrong))
            ):
                numbers[at] += number
    for kind, (n, right, sure, wrong, sure_wrong) in counts.items():
        measures.append(
            share(f"leaks/{kind}/recall", right, n, f"{sure} of {n} sure; lowest {min(lowest[kind], default=0.0):.3f}")
        )
        if right + wrong:
            told = f"{wrong} wrong pairs, {sure_wrong} of them sure"
            measures.append(share(f"leaks/{kind}/precision", right, right + wrong, told))
    return measures, own


def throughput(sets: dict[str, list[Pixels]]) -> list[record.Measure]:
    """Random parts of the pictures, so that many are alike: harder than a set of that many patients."""
    draw = np.random.default_rng(SEED)
    pictures = [picture for one in sets.values() for picture in one]
    images = []
    for n in range(THROUGHPUT_N):
        picture = pictures[n % len(pictures)]
        zoom = draw.uniform(0.55, 0.85, 2)
        h, w = (int(side * part) for side, part in zip(picture.shape[:2], zoom, strict=True))
        y, x = (int(draw.integers(0, side - part + 1)) for side, part in zip(picture.shape[:2], (h, w), strict=True))
        images.append(as_image(picture[y : y + h, x : x + w]))
    signing, searching = [], []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        made = {str(n): signature_of(image) for n, image in enumerate(images)}
        signing.append((time.perf_counter() - begin) * 1000 / len(images))
        begin = time.perf_counter()
        near_pairs({name: one for name, one in made.items() if one is not None})
        searching.append(time.perf_counter() - begin)
    return [
        record.Measure.of("leaks/signature_ms", signing, "ms", "an image, after it has been read"),
        record.Measure.of(
            f"leaks/search_{THROUGHPUT_N}_s", searching, "s", "all pairs in 8 orientations, cropped or not"
        ),
    ]


def burned(sets: dict[str, list[Pixels]]) -> list[record.Measure]:
    """Text drawn into the corners of real pictures, in several heights; false alarms on the same pictures without."""
    draw = np.random.default_rng(SEED)
    measures = []
    clean = {name: [one for one in pictures if not text_in(as_image(one))] for name, pictures in sets.items()}
    for name, pictures in sets.items():
        alarms = len(pictures) - len(clean[name])
        measures.append(share(f"text/false_alarms/{name}", alarms, len(pictures), "real pictures as they are"))
    for size in (10, 12, 16, 20, 28, 40):
        hits = n = 0
        for pictures in clean.values():
            for picture in pictures[:: max(1, len(pictures) // 40)]:
                drawn = with_text(picture.copy(), size, draw)
                if drawn is not None:
                    n, hits = n + 1, hits + bool(text_in(as_image(drawn)))
        if n:
            measures.append(share(f"text/recall/{size}px", hits, n, "half of them JPEG of quality 80"))
    return measures


def with_text(picture: Pixels, size_px: int, draw: np.random.Generator) -> Pixels | None:
    """Drawn at a corner, in white or black, whichever stands out; None where it would not fit."""
    text, thick = TEXTS[int(draw.integers(len(TEXTS)))], max(1, round(size_px / 16))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size_px / 22, thick)
    h, w = picture.shape[:2]
    if width + 8 > w or height + 12 > h:
        return None
    x, y = (4, w - width - 4)[int(draw.integers(2))], (height + 4, h - 8)[int(draw.integers(2))]
    value = 255 if picture[y - height : y, x : x + width].mean() < 128 else 0
    colour = (value, value, value)
    cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size_px / 22, colour, thick, cv2.LINE_AA)
    return encoded(picture, 80) if draw.random() < 0.5 else picture


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED
    sets = load(folder) if folder.is_dir() else shipped()
    measures, own = planted(sets)
    notes = [
        "Shares have Wilson intervals of 95 %. Precision counts a pair of two different pictures as wrong unless the "
        "set has it before anything is planted.",
        "Held-out halves: " + "; ".join(own) + ".",
    ]
    of_volumes, told = volumes.planted(folder)
    record.write("leaks", [*measures, *tiny(folder), *of_volumes, *burned(sets), *throughput(sets)], [*notes, told])


if __name__ == "__main__":
    main()
