"""How long it takes to learn which series a folder holds: headers only, beside SimpleITK (GDCM).

5,000 files in one folder: 20 CT series of 250 slices of 128 x 128, 16 bit, with 98 elements of header as scanners write
them (private blocks, sequences, UIDs), explicit VR. SimpleITK's ``GetGDCMSeriesIDs`` reads every file once, and
``GetGDCMSeriesFileNames`` reads the whole folder once more for each series, to sort it. Where every series has a folder
of its own already, that is two passes in all: SimpleITK's best case is a measure of its own.
50,000 tiny files in one folder show whether time grows with the number of files, and memory does not run away.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import record

ROUNDS = 5
SERIES, SLICES = 20, 250
MANY = 50_000
SIDE, SMALL_SIDE = 128, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only-scan", metavar="FOLDER", help="for the child process that measures time and memory")
    arguments = parser.parse_args()
    if arguments.only_scan:
        _report_scan(Path(arguments.only_scan))
        return
    with tempfile.TemporaryDirectory(prefix="medrail-bench-") as name:
        root = Path(name)
        measures = [*_against_simpleitk(root, arguments.rounds), *_many(root, arguments.rounds)]
    record.write("index", measures, NOTES)


NOTES = (
    "Headers of 5,000 CT slices of 128 x 128 pixels (about 37 KiB a file), warm files, one thread each side. "
    "The rounds alternate; the ratio is taken in each round.",
    "SimpleITK's GetGDCMSeriesFileNames sorts by position; medrail sorts too and judges each series by its headers.",
    "A warm cache asks each file for its size and times only; it is held against medrail without a cache. With the "
    "files in memory that saves the least: on a disk or a network it saves the opening and reading of every file.",
)


def _against_simpleitk(root: Path, rounds: int) -> list[record.Measure]:
    folders = [root / "apart" / f"series{number:02}" for number in range(SERIES)]
    for number, folder in enumerate(folders):
        write_series(folder, number, SLICES, SIDE)
    together = [root / "together"]
    together[0].mkdir()
    for number, folder in enumerate(folders):
        for file in folder.iterdir():
            os.link(file, together[0] / f"{number:02}{file.name}")
    cache = root / "cache" / "headers.db"
    contenders: dict[str, Callable[[], float]] = {}
    for layout, places in (("", together), ("folder_a_series/", folders)):
        contenders |= {
            f"{layout}simpleitk": partial(_timed, _simpleitk, places),
            f"{layout}medrail": partial(_timed, _medrail, places),
            f"{layout}warm": partial(_timed, partial(_medrail, cache=cache), places),
        }
    record.rounds_in_turn(contenders, 1)  # warm files, modules, and the cache
    measured = record.rounds_in_turn(contenders, rounds)
    peer = "SimpleITK ImageSeriesReader.GetGDCMSeriesIDs + GetGDCMSeriesFileNames"
    measures = []
    for layout, where in (("", f"{SERIES} series in one folder"), ("folder_a_series/", "a folder for each series")):
        theirs, ours, warm = (measured[f"{layout}{name}"] for name in ("simpleitk", "medrail", "warm"))
        without = f"medrail without a cache, {where}: {statistics.median(ours):.3f} s"
        against = f"{peer}, {where}: {statistics.median(theirs):.2f} s"
        measures += [
            record.Measure.of(f"index/5000/{layout}vs_simpleitk", _ratios(theirs, ours), "times faster", against),
            record.Measure.of(
                f"index/5000/{layout}warm_cache/vs_no_cache", _ratios(ours, warm), "times faster", without
            ),
            record.Measure.of(
                f"index/5000/{layout}warm_cache/vs_simpleitk", _ratios(theirs, warm), "times faster", against
            ),
        ]
    return measures


def _ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(slower, faster, strict=True)]


def _many(root: Path, rounds: int) -> list[record.Measure]:
    small, large = root / "small", root / "large"
    write_series(small, 90, SERIES * SLICES, SMALL_SIDE)
    write_series(large, 91, MANY, SMALL_SIDE)
    contenders = {"small": lambda: _child(small), "large": lambda: _child(large)}
    per_round = [{name: child() for name, child in contenders.items()} for _ in range(rounds + 1)][1:]
    few = SERIES * SLICES
    rates = [MANY / one["large"][0] for one in per_round]
    memory = [one["large"][1] for one in per_round]
    linear = [(one["large"][0] / MANY) / (one["small"][0] / few) for one in per_round]
    alike = "one folder of tiny files, one process that scans it and ends"
    return [
        record.Measure.of("index/50000/files_per_s", rates, "files/s", alike),
        record.Measure.of("index/50000/peak_rss_mb", memory, "MB", f"{alike}; {_import_rss_mb():.0f} MB before"),
        record.Measure.of("index/50000/vs_5000_per_file", linear, "times the time a file", "1 is linear"),
    ]


def _timed(work: Callable[[Path], int], places: Sequence[Path]) -> float:
    begin = time.perf_counter()
    found = sum(map(work, places))
    taken = time.perf_counter() - begin
    if found != SERIES:
        raise SystemExit(f"found {found} series, needed {SERIES}")
    return taken


def _simpleitk(folder: Path) -> int:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    names = reader.GetGDCMSeriesIDs(str(folder))
    for name in names:
        if not reader.GetGDCMSeriesFileNames(str(folder), name):
            raise SystemExit("SimpleITK found no files")
    return len(names)


def _medrail(folder: Path, cache: Path | None = None) -> int:
    from medrail.read import series_in
    from medrail.read.dicom.cache import HeaderCache

    if cache is None:
        return len(series_in(folder))
    with HeaderCache(cache) as headers:
        return len(series_in(folder, cache=headers))


def _child(folder: Path) -> tuple[float, float]:
    command = [sys.executable, __file__, "--only-scan", str(folder)]
    seconds, megabytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(megabytes)


def _report_scan(folder: Path) -> None:
    from medrail.read import series_in

    begin = time.perf_counter()
    if folder.is_dir():
        series_in(folder)
    print(time.perf_counter() - begin, _peak_rss_kb() / 1024)


def _peak_rss_kb() -> int:
    """Of this process alone: on Linux, ``getrusage`` gives a child its parent's peak where that was higher."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    own = next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if own is None else own


def _import_rss_mb() -> float:
    return _child(Path(__file__))[1]


def write_series(folder: Path, number: int, slices: int, side: int) -> None:
    """CT slices 1 mm apart with the header of a scanner; names that say nothing about their order."""
    folder.mkdir(parents=True)
    from pydicom.filebase import DicomBytesIO

    template = header(number, side)
    buffer = DicomBytesIO()
    template.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    # The parts that differ have one length in all files: written once, they are replaced in place.
    parts = [whole.index(text) for text in (b"9.1000000", b"-10000.00", b"90000000")]
    uid_again = whole.index(b"9.1000000", parts[0] + 1)
    for index in range(slices):
        place = (index * 7919) % slices
        content = bytearray(whole)
        for at in (parts[0], uid_again):
            content[at : at + 9] = f"9.{1_000_000 + place:07}".encode()
        content[parts[1] : parts[1] + 9] = f"{place - 10_000:.2f}".ljust(9).encode()
        content[parts[2] : parts[2] + 8] = f"{90_000_001 + place}".encode()
        (folder / f"IM{index:06}").write_bytes(content)


def header(number: int, side: int) -> object:
    """A CT slice's data set: the modules of PS3.3 table A.3-1 as scanners fill them, private blocks, pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    root = "1.2.826.0.1.3680043.8.498"
    slice_uid = f"{root}.{number + 1}.9.1000000"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = slice_uid
    texts = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"],
        "StudyDate": "20200102",
        "SeriesDate": "20200102",
        "AcquisitionDate": "20200102",
        "ContentDate": "20200102",
        "StudyTime": "101500.000",
        "SeriesTime": "101600.000",
        "AcquisitionTime": "101700.125",
        "ContentTime": "101700.250",
        "AccessionNumber": "A0000001",
        "Modality": "CT",
        "Manufacturer": "A maker",
        "InstitutionName": "A hospital",
        "ReferringPhysicianName": "Doctor^Who",
        "StationName": "CT01",
        "StudyDescription": "Thorax and abdomen with contrast",
        "SeriesDescription": f"Axial 1.0 B31f {number}",
        "ManufacturerModelName": "Scanner 64",
        "PatientName": "Made^Up",
        "PatientID": f"P{number:05}",
        "PatientBirthDate": "19600101",
        "PatientSex": "O",
        "PatientAge": "060Y",
        "ContrastBolusAgent": "agent",
        "BodyPartExamined": "CHEST",
        "SliceThickness": "1",
        "KVP": "120",
        "DataCollectionDiameter": "500",
        "SoftwareVersions": "1.0",
        "ProtocolName": "ThoraxRoutine",
        "ReconstructionDiameter": "380",
        "DistanceSourceToDetector": "1040",
        "DistanceSourceToPatient": "570",
        "GantryDetectorTilt": "0",
        "TableHeight": "150",
        "RotationDirection": "CW",
        "ExposureTime": "500",
        "XRayTubeCurrent": "200",
        "Exposure": "100",
        "FilterType": "0",
        "GeneratorPower": "40",
        "FocalSpots": "1.2",
        "ConvolutionKernel": "B31f",
        "PatientPosition": "HFS",
        "StudyInstanceUID": f"{root}.{number + 1}.1",
        "SeriesInstanceUID": f"{root}.{number + 1}.2",
        "StudyID": "1",
        "SeriesNumber": str(number),
        "AcquisitionNumber": "2",
        "InstanceNumber": "90000000",
        "ImagePositionPatient": ["-190.0", "-190.0", "-10000.00"],
        "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        "FrameOfReferenceUID": f"{root}.{number + 1}.3",
        "PositionReferenceIndicator": "",
        "SliceLocation": "-10000.5",
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelSpacing": ["0.7421875", "0.7421875"],
        "WindowCenter": ["40", "-600"],
        "WindowWidth": ["400", "1200"],
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "RescaleType": "HU",
        "RequestedProcedureDescription": "CT thorax",
        "PerformedProcedureStepID": "0001",
        "PerformedProcedureStepDescription": "CT thorax",
    }
    for keyword, value in texts.items():
        setattr(data, keyword, value)
    numbers = {"SamplesPerPixel": 1, "Rows": side, "Columns": side, "BitsAllocated": 16}
    numbers |= {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0}
    for keyword, value in numbers.items():
        setattr(data, keyword, value)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, f"{root}.7.7"
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113691", "DCM", "IEC Body Dosimetry Phantom"
    data.ReferencedImageSequence, data.CTDIPhantomTypeCodeSequence = [item], [code]
    data.ProcedureCodeSequence = [code]
    block = data.private_block(0x0019, "A MAKER CT BLOCK", create=True)
    for element in range(0x10, 0x20):
        block.add_new(element, "DS", "1.25")
    block = data.private_block(0x0021, "A MAKER CSA", create=True)
    block.add_new(0x10, "OB", bytes(4096))
    data.PixelData = bytes(side * side * 2)
    return data


if __name__ == "__main__":
    main()
