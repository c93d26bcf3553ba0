"""How long it takes from raw files to stored arrays, beside the usual scripts, and beside the limit that is the disk.

Every contender runs in a fresh process of its own, in turn, with the files in the file cache; imports and a warm-up are
not counted, but for medrail's worker processes: its time is that of one whole call of ``prepare``. The data are made
from the head that medrail ships (``sets.py``); ``--data`` keeps them for the next time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import compressed
import ct
import nifti
import pictures
import record
import sets
import slide

ROUNDS, SERIES, PICTURES, VOLUMES = 5, 8, 2000, 12
TASKS = ("ct128", "ct1mm", "cold", "compressed", "jpeg", "png", "nifti", "slide")
Found = tuple[list[record.Measure], list[str]]

NOTES = (
    "Each contender: a fresh process, in turn; imports and a warm-up (one case; two where there are two "
    f"processes; pictures: 16 for Pillow, {pictures.WARM} for medrail, whose kernels are compiled then) not "
    "counted; files in the file cache. medrail is charged for more than its peers: its time is that of one call "
    "of prepare() into a new workspace, with the search for files, content hashes, the manifest, and the start and "
    "the imports of its worker processes where it has any. Seconds are divided by the number of cases.",
    "`medrail` chooses by itself (prepare.workers: 0): 8 plain series are done in the calling process, as two "
    "processes would not have started before they are done; `medrail_two` is told to take two.",
    f"`one_more`: what another series takes with two workers: the difference between a call with the series {ct.MORE} "
    "times (links to the same folders) and one with them once, so without the start. That is what large sets see.",
    f"CT: series of {sets.SLICES} x {sets.SIDE} x {sets.SIDE} int16 of 1 x 0.742 x 0.742 mm. All window first "
    "(centre 50, width 400) and then interpolate linearly, without antialias, onto the same grid (128^3: borders "
    "in place; 1 mm: first voxel in place). Peers store float32 .npy, medrail float16 (11 bits). `antialias`: "
    "medrail's default when shrinking, which the peers do not do: more work for another, better result.",
    "The usual script: SimpleITK in ThreadPoolExecutor(4), with SimpleITK's own threads inside, all series. "
    "`one_process`: SimpleITK and MONAI with the threads that they start themselves, medrail with none. "
    f"SimpleITK takes 2 series there, and 4 in two processes; MONAI and TorchIO {ct.SLOW_CASES} in "
    f"{ct.SLOW_ROUNDS} rounds, MONAI in two processes 2 in one round: all ratios are of seconds a series. MONAI "
    "reads with PydicomReader (ITKReader needs another package).",
    "Reading bytes: the same files read into one buffer, and files of the size of medrail's output written anew, "
    "no work on them. Nobody flushes to the disk.",
    "Cold: the series' own files leave the file cache (posix_fadvise) before each run; what runs the machine may "
    "hold them still. Programs and directories stay in memory.",
    "Memory: VmHWM of the largest single process of each, looked at every 50 ms. SimpleITK with four threads "
    "holds four series in that process; a worker of medrail or MONAI one.",
    "Compressed: one series to 128^3 with antialias (all slices count); medrail in the calling process, as "
    "prepare() does for a single case, with all that is not decoding. The decoders have the codestreams in "
    "memory, one thread, and do nothing else. medrail takes RLE apart by itself: imagecodecs' DICOM RLE decoder "
    "can crash on broken streams (docs/reference/dicom.md).",
    "Pictures: Pillow opens, converts, resizes (bilinear, antialiased), float32 / 255, a .npy each, in 4 threads, "
    f"{pictures.PEER_CASES} of the pictures. medrail: all, two workers, uint8 in one array with the normalisation "
    "as a line beside it; JPEGs are decoded at a reduced size by default, as by Pillow's draft; `full_decode` "
    "without that.",
    "NIfTI: 200 x 256 x 256 int16 .nii.gz to 128^3. Slide: a made TIFF of JPEG tiles; tiles of 256 px of the "
    f"finest level, OpenSlide in 4 threads with one handle, Pillow's PNG ({slide.PNG_ROWS} rows of tiles) or npy; "
    "medrail two workers, uint8 in one array.",
    "What holds medrail back here. Start: a worker process takes more than a second (imports), which small sets "
    "see. Memory: two workers share the machine's bandwidth and do not double the speed; 1 mm output is 87 MB a "
    "series, whose new page-cache pages cost the kernel 0.02 to 0.2 s. Reading and computing of one series do not "
    "overlap. JPEGs of about 1000 px at quality 90: taking the bits apart is most of the work, and half size is "
    "the smallest that keeps twice the wanted pixels. PNG: inflating. RLE: reading, digests and resampling take "
    "about as long as the decoding.",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder where the data are kept; a temporary one if not given")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(TASKS), help=",".join(TASKS))
    parser.add_argument("--series", type=int, default=SERIES)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each format")
    arguments = parser.parse_args()
    if unknown := set(arguments.only) - set(TASKS):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(TASKS)}")
    measures: list[record.Measure] = []
    notes = list(NOTES)
    if not ct.has_torchio():
        notes.append("TorchIO is not installed here, and was not measured.")
    with tempfile.TemporaryDirectory(prefix="medrail-bench-") as name:
        for task in arguments.only:
            print(f"{time.strftime('%H:%M:%S')} {task}", flush=True)
            for found, said in _run(task, arguments, arguments.data or Path(name) / "data", Path(name)):
                measures += found
                notes += said
    measures += [record.Measure("prepare/peak_rss/vs_monai", *_values(one)) for one in measures if one.name == _PEAK]
    kept, said = _kept(measures, arguments.only)
    record.write("prepare", [*measures, *kept], [*notes, *said])


def _kept(measures: list[record.Measure], only: list[str]) -> Found:
    """With --only: what an earlier run has measured of the other tasks, and a word about that."""
    file = record.RESULTS / "prepare.json"
    if set(only) == set(TASKS) or not file.is_file():
        return [], []
    before = json.loads(file.read_text(encoding="utf-8"))
    names = {measure.name for measure in measures}
    kept = [record.Measure(**one) for one in before["measures"] if one["name"] not in names]
    return kept, [f"{', '.join(only)}: of this commit; all other tasks were measured at {before['commit']}."]


_PEAK = "prepare/ct128/peak_rss/vs_monai"


def _values(one: record.Measure) -> tuple[float, float, float, str, int, str]:
    return one.value, one.low, one.high, one.unit, one.n, one.baseline


def _run(task: str, arguments: argparse.Namespace, data: Path, work: Path) -> list[Found]:
    rounds = arguments.rounds
    if task in ct.TARGETS:
        return [ct.measure(ct.TARGETS[task], sets.ct_set(data / "ct", arguments.series), work, rounds)]
    if task == "cold":
        return [ct.measure_cold(sets.ct_set(data / "ct", arguments.series), work, rounds)]
    if task == "compressed":
        return [compressed.measure(syntax, data / "ct", work, rounds) for syntax in compressed.SYNTAXES]
    if task in ("jpeg", "png"):
        ending = "jpg" if task == "jpeg" else task
        paths = sets.picture_set(data / task, arguments.pictures, ending)
        return [pictures.measure(ending, paths, work, rounds)]
    if task == "nifti":
        return [nifti.measure(sets.nifti_set(data / "nifti", VOLUMES), work, rounds)]
    return [slide.measure(sets.slide_file(data / "slide"), work, rounds)]


if __name__ == "__main__":
    main()
