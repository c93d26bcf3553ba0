"""Mutated real files for every reader: no crash, no hang, bounded memory, and every failure an error of medrail.

`python benchmarks/fuzz/bench.py [--inputs 20000] [--seed 0]`; exit code 1 when a promise is broken. The readers run in
processes of their own, so that one that dies or hangs is seen, named and replaced. Input *i* of a seed is the same on
every machine with the same packages: `--only I` reads one again in this process, with its traceback.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 10.0
LIMIT_MB = 2048.0
WORKERS = 2
LARGEST_SEED = 400_000
EDGES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\0",
    b"\xfe\xff",
    b"9" * 12,
)


def seeds() -> list[tuple[str, bytes]]:
    """(file name, content): pydicom's test files, and one small file of every other format and kind."""
    from pydicom.data import get_testdata_files

    found = {Path(path).name: Path(path) for path in map(str, get_testdata_files())}
    files = [(name, path) for name, path in sorted(found.items()) if path.is_file()]
    dicom = [(name, path.read_bytes()) for name, path in files if path.stat().st_size <= LARGEST_SEED]
    return [*dicom, *_made(), *_zips(dicom)]


def _made() -> Iterator[tuple[str, bytes]]:
    import cv2
    import nibabel
    import nrrd
    import numpy as np
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    volume = rng.integers(0, 2000, (11, 7, 5)).astype(np.int16)
    affine = np.diag([0.9, 0.7, 5.0, 1.0])
    for kind, name in ((nibabel.Nifti1Image, "one.nii"), (nibabel.Nifti2Image, "two.nii")):
        content = kind(volume, affine).to_bytes()
        yield name, content
        yield f"{name}.gz", gzip.compress(content, mtime=0)
    header = "ObjectType = Image\nNDims = 3\nDimSize = 11 7 5\nElementSpacing = 0.9 0.7 5\nElementType = MET_SHORT\n"
    yield "a.mha", f"{header}ElementDataFile = LOCAL\n".encode() + volume.tobytes(order="F")
    with tempfile.TemporaryDirectory() as folder:
        for encoding in ("raw", "gzip", "bzip2", "ascii"):
            path = Path(folder) / f"{encoding}.nrrd"
            nrrd.write(str(path), volume, {"encoding": encoding, "space directions": affine[:3, :3]})
            yield path.name, path.read_bytes()
    grey8, grey16 = (rng.integers(0, most, (23, 37)).astype(kind) for most, kind in ((256, "u1"), (65536, "u2")))
    colour = rng.integers(0, 256, (23, 37, 3), dtype=np.uint8)
    for name, picture in (("grey", Image.fromarray(grey8)), ("colour", Image.fromarray(colour))):
        for ending in ("png", "jpg", "bmp", "tif"):
            stream = io.BytesIO()
            picture.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper()))
            yield f"{name}.{ending}", stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(colour).quantize(16).save(stream, "PNG")
    yield "palette.png", stream.getvalue()
    yield "deep.png", bytes(cv2.imencode(".png", np.stack([grey16] * 3, -1))[1])
    for name, array, options in (
        ("deep.tif", grey16, {"compression": "lzw"}),
        ("tiled.tif", np.tile(grey8, (4, 4)), {"tile": (16, 16), "compression": "jpeg"}),
        ("stack.tif", np.stack([grey16] * 4), {"compression": "zlib", "photometric": "minisblack"}),
        ("double.tif", colour.astype(np.float64), {"photometric": "rgb"}),
    ):
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, **options)
        yield name, stream.getvalue()
    stream = io.BytesIO()
    np.savez_compressed(stream, train_images=np.stack([grey8] * 3), train_labels=np.zeros((3, 1), np.uint8))
    yield "medmnist.npz", stream.getvalue()


def _zips(dicom: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    few = [(name, content) for name, content in dicom if name in ("CT_small.dcm", "MR_small.dcm", "DICOMDIR")]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in few:
                archive.writestr(f"study/{name}", content)
        yield f"study{method}.zip", stream.getvalue()


def mutated(index: int, seed: int, files: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Input ``index``: a seed file with one to eight changes; of a gzip stream half the time what is inside it."""
    rng = random.Random(f"{seed}/{index}")
    name, content = files[rng.randrange(len(files))]
    inside = name.endswith(".gz") and rng.random() < 0.5
    data = bytearray(gzip.decompress(content) if inside else content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        _change(data, rng, files)
    return name, gzip.compress(bytes(data), 1, mtime=0) if inside else bytes(data)


def _change(data: bytearray, rng: random.Random, files: list[tuple[str, bytes]]) -> None:
    # Most of what can go wrong stands in the first kilobyte; all bytes have their chance.
    end = len(data) if rng.random() < 0.4 else min(len(data), 1200)
    at = rng.randrange(max(end, 1))
    kind = rng.choice((0, 0, 0, 0, 1, 1, 1, 2, 3, 4, 5, 6, 7))
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1 and data:
        data[at % len(data)] = rng.randrange(256)
    elif kind in (2, 3):
        edge = rng.choice(EDGES)
        data[at : at + len(edge)] = edge
    elif kind == 4:
        del data[at:]
    elif kind == 5:
        del data[at : at + rng.choice((1, 2, 4, 64, 1024))]
    elif kind == 6:
        piece = data[at : at + rng.choice((2, 8, 128, 2048))]
        data[at:at] = piece * rng.choice((1, 1, 2, 50))
    else:
        other = files[rng.randrange(len(files))][1]
        start = rng.randrange(max(len(other), 1))
        data[at : at + 64] = other[start : start + 64]


def outcome(folder: Path, name: str, content: bytes) -> str:
    """Read the file, and its folder as a DICOM series; "read", the kind of medrail's error, or a foreign exception."""
    from medrail.errors import MedrailError
    from medrail.read import read, series_in

    path = folder / name
    path.write_bytes(content)
    item = "train_images/1" if name.endswith(".npz") else ""
    said = []
    try:
        for action in (lambda: read(path, item), lambda: series_in(folder)):
            try:
                action()
                said.append("read")
            except MedrailError as error:
                said.append(type(error).__name__)
        return said[0]
    except BaseException:  # noqa: BLE001  (also the panics of decoders in Rust)
        return "foreign: " + traceback.format_exc()
    finally:
        path.unlink()


def work(start: int, step: int, end: int, seed: int) -> None:
    """In a process of its own: a line before and a line after each input."""
    files = seeds()
    with tempfile.TemporaryDirectory() as folder:
        for index in range(start, end, step):
            name, content = mutated(index, seed, files)
            print(json.dumps({"index": index, "name": name}), flush=True)
            begin = time.perf_counter()
            said = outcome(Path(folder), name, content)
            seconds = time.perf_counter() - begin
            peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps({"index": index, "said": said, "s": seconds, "mb": peak_mb}), flush=True)


@dataclass
class Reader:
    """One process that reads inputs ``start, start + WORKERS, ...``, started again behind an input that ended it."""

    start: int
    end: int
    seed: int
    now: int = -1
    since: float = 0.0
    name: str = ""
    pending: bytes = b""
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        values = map(str, (self.start, WORKERS, self.end, self.seed))
        command = [sys.executable, __file__, "--work", *values]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, bufsize=0
        )
        self.since = time.perf_counter()

    def lines(self) -> list[dict[str, object]]:
        """What it has said since; nothing at its end."""
        assert self.process.stdout is not None
        *lines, self.pending = (self.pending + self.process.stdout.read(1 << 16)).split(b"\n")
        return [json.loads(line) for line in lines]


@dataclass
class Report:
    """What became of all inputs."""

    said: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""
    peak_mb: float = 0.0

    def take(self, reader: Reader, line: dict[str, object]) -> None:
        if "said" not in line:
            reader.now, reader.name, reader.since = int(str(line["index"])), str(line["name"]), time.perf_counter()
            return
        said, seconds, peak_mb = str(line["said"]), float(str(line["s"])), float(str(line["mb"]))
        what = f"input {reader.now} ({reader.name})"
        self.said[said.split(":")[0]] += 1
        if said.startswith("foreign"):
            self.broken.append(f"{what}: {said}")
        if seconds > LIMIT_S:
            self.broken.append(f"{what}: took {seconds:.1f} s")
        if peak_mb > LIMIT_MB >= self.peak_mb:
            self.broken.append(f"{what}: {peak_mb:.0f} MB")
        self.peak_mb = max(self.peak_mb, peak_mb)
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = seconds, what
        reader.now = -1


def run(inputs: int, seed: int, show: bool) -> Report:
    """Read inputs 0 to ``inputs`` - 1 in ``WORKERS`` processes."""
    report = Report()
    readers = [Reader(start, inputs, seed) for start in range(WORKERS)]
    shown = time.perf_counter()
    while readers:
        ready, _, _ = select.select([reader.process.stdout for reader in readers], [], [], 1.0)
        for reader in tuple(readers):
            lines = reader.lines() if reader.process.stdout in ready else []
            for line in lines:
                report.take(reader, line)
            ended = reader.process.stdout in ready and not lines and reader.process.poll() is not None
            hangs = reader.now >= 0 and time.perf_counter() - reader.since > 3 * LIMIT_S
            if ended or hangs:
                readers.remove(reader)
                readers += _after(reader, report, hangs)
        if show and time.perf_counter() - shown > 10:
            shown = time.perf_counter()
            print(f"{sum(report.said.values())} of {inputs}, {len(report.broken)} promises broken", file=sys.stderr)
    return report


def _after(reader: Reader, report: Report, hangs: bool) -> list[Reader]:
    reader.process.kill()
    code = reader.process.wait()
    if reader.now < 0:
        if code:
            report.broken.append(f"a reader ended with {code} outside of any input")
        return []
    report.said["hang" if hangs else "crash"] += 1
    report.broken.append(f"input {reader.now} ({reader.name}): {'hangs' if hangs else f'crash, exit code {code}'}")
    following = reader.now + WORKERS
    return [Reader(following, reader.end, reader.seed)] if following < reader.end else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="I", help="one input, in this process")
    parser.add_argument("--no-record", action="store_true", help="do not write benchmarks/results/fuzz.json")
    parser.add_argument("--work", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        start, step, end, seed = arguments.work
        work(start, step, end, seed)
        return 0
    if arguments.only is not None:
        name, content = mutated(arguments.only, arguments.seed, seeds())
        Path(name).write_bytes(content) if arguments.no_record else None
        with tempfile.TemporaryDirectory() as folder:
            print(name, len(content), "bytes:", outcome(Path(folder), name, content))
        return 0
    begin = time.perf_counter()
    report = run(arguments.inputs, arguments.seed, show=True)
    seconds = time.perf_counter() - begin
    print(dict(report.said.most_common()), f"slowest {report.slowest_s:.2f} s: {report.slowest}")
    for broken in report.broken:
        print(broken)
    if not arguments.no_record:
        _record(report, arguments, seconds)
    return 1 if report.broken else 0


def _record(report: Report, arguments: argparse.Namespace, seconds: float) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import record

    total = sum(report.said.values())
    refused = total - report.said["read"] - report.said["foreign"] - report.said["crash"] - report.said["hang"]

    def one(name: str, value: float, unit: str, promise: str) -> record.Measure:
        return record.Measure(f"fuzz/{name}", round(value, 3), round(value, 3), round(value, 3), unit, total, promise)

    measures = [
        one("read", report.said["read"], "inputs", "mutated files that are still images"),
        one("refused", refused, "inputs", "each with an error of medrail"),
        one("foreign_exceptions", report.said["foreign"], "inputs", "none is the promise"),
        one("crashes", report.said["crash"], "inputs", "none is the promise"),
        one("hangs", report.said["hang"], "inputs", "none is the promise"),
        one("slowest_s", report.slowest_s, "s", f"at most {LIMIT_S:g} s is the promise"),
        one("peak_rss_mb", report.peak_mb, "MB", f"at most {LIMIT_MB:g} MB is the promise"),
    ]
    note = f"Seed {arguments.seed}, {total:,} inputs in {seconds:.0f} s, {WORKERS} processes."
    record.write("fuzz", measures, [note])


if __name__ == "__main__":
    sys.exit(main())
