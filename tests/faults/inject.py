"""The faults. Each takes a good series (slices in order along their normal) and a generator of random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from faults.series import copied


@dataclass(frozen=True)
class Fault:
    """A series with a known fault.

    slices:
        What is to be written, in the good series' order where that still means something.
    defect:
        The name that the intake must give it; "" where nothing is wrong.
    what:
        What was done, with numbers.
    found:
        Where the name must stand: "series" (by headers alone), "refused" (a file set aside), or "reading".
    kept:
        Slices of whose pixels only a share is written.
    volumes:
        How many volumes there are, each of which must be readable by its item.
    """

    slices: list[Dataset]
    defect: str
    what: str
    found: str = "series"
    kept: dict[int, float] = field(default_factory=dict)
    volumes: int = 1
    ending: str = ".dcm"


Inject = Callable[[Sequence[Dataset], np.random.Generator], Fault]


def normal_of(dataset: Dataset) -> np.ndarray:
    axes = np.array(dataset.ImageOrientationPatient, dtype=float)
    return np.cross(axes[:3], axes[3:])


def spacing_of(slices: Sequence[Dataset]) -> float:
    first, last = (np.array(one.ImagePositionPatient, dtype=float) for one in (slices[0], slices[-1]))
    return float((last - first) @ normal_of(slices[0])) / (len(slices) - 1)


def move(dataset: Dataset, by_mm: np.ndarray) -> None:
    position = np.array(dataset.ImagePositionPatient, dtype=float) + by_mm
    dataset.ImagePositionPatient = [round(float(x), 4) for x in position]


def renew(dataset: Dataset) -> None:
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()


def missing_slices(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """One or two blocks of slices from inside the stack."""
    broken, lost = copied(slices), set()
    for _ in range(int(rng.integers(1, 3))):
        start, length = int(rng.integers(1, len(slices) - 3)), int(rng.integers(1, 3))
        lost |= set(range(start, min(start + length, len(slices) - 3)))
    return Fault([one for i, one in enumerate(broken) if i not in lost], "missing_slices", f"without {sorted(lost)}")


def duplicate_identical(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Whole files copied under another name."""
    chosen = sorted(rng.choice(len(slices), int(rng.integers(1, 4)), replace=False).tolist())
    return Fault([*copied(slices), *copied([slices[i] for i in chosen])], "duplicate_slices", f"{chosen} twice")


def duplicate_renumbered(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The same pictures sent again with identifiers, numbers and times of their own."""
    fault = duplicate_identical(slices, rng)
    for number, dataset in enumerate(fault.slices[len(slices) :]):
        renew(dataset)
        dataset.InstanceNumber, dataset.ContentTime = 100 + number, f"1300{number:02d}"
    return fault


def duplicate_different(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Other pixels at a position that has a slice already."""
    fault = duplicate_renumbered(slices, rng)
    for dataset in fault.slices[len(slices) :]:
        dataset.PixelData = rng.integers(0, 2000, dataset.Rows * dataset.Columns, dtype="<i2").tobytes()
    return fault


def uneven_moved(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """One slice out of its place along the normal by 0.3 to 0.45 of the spacing."""
    broken, index = copied(slices), int(rng.integers(1, len(slices) - 1))
    share = float(rng.uniform(0.3, 0.45)) * float(rng.choice([-1, 1]))
    move(broken[index], share * spacing_of(slices) * normal_of(slices[0]))
    return Fault(broken, "uneven_spacing", f"slice {index} moved by {share:.2f} of the spacing")


def uneven_regions(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The second part of the stack scanned with twice the spacing, from both parts at least four slices."""
    broken, start = copied(slices), int(rng.integers(4, len(slices) - 3))
    for index in range(start, len(slices)):
        move(broken[index], (index - start + 1) * spacing_of(slices) * normal_of(slices[0]))
    if rng.random() < 0.5:
        broken.reverse()
    return Fault(broken, "uneven_spacing", f"twice the spacing from slice {start} on")


def gantry_tilt(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Each slice moved sideways in proportion to its distance: 2 to 30 degrees, along H, W or both.

    The last one by at least 0.5 mm: less, over the whole stack, cannot be told from rounding.
    """
    broken, turn = copied(slices), float(rng.uniform(0, 2 * np.pi))
    least = np.degrees(np.arctan(0.5 / (spacing_of(slices) * (len(slices) - 1))))
    degrees = float(rng.uniform(max(2, least), 30))
    axes = np.array(slices[0].ImageOrientationPatient, dtype=float)
    sideways = np.cos(turn) * axes[3:] + np.sin(turn) * axes[:3]
    for index, dataset in enumerate(broken):
        move(dataset, index * spacing_of(slices) * np.tan(np.radians(degrees)) * sideways)
    return Fault(broken, "gantry_tilt", f"{degrees:.1f} degrees")


def shifted_slice(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """One slice moved in its own plane by 1 to 20 mm."""
    broken, index, mm = copied(slices), int(rng.integers(0, len(slices))), float(rng.uniform(1, 20))
    move(broken[index], mm * np.array(slices[0].ImageOrientationPatient[:3], dtype=float))
    return Fault(broken, "shifted_slices", f"slice {index} by {mm:.1f} mm")


def mixed_orientation(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The last one to three slices turned about their row axis by 5 to 90 degrees."""
    broken, count, angle = copied(slices), int(rng.integers(1, 4)), float(np.radians(rng.uniform(5, 90)))
    axes, normal = np.array(slices[0].ImageOrientationPatient, dtype=float), normal_of(slices[0])
    turned = [*axes[:3], *(np.cos(angle) * axes[3:] + np.sin(angle) * normal)]
    for dataset in broken[-count:]:
        dataset.ImageOrientationPatient = [round(float(x), 6) for x in turned]
    return Fault(broken, "mixed_orientation", f"{count} turned by {np.degrees(angle):.0f} degrees", volumes=2)


def mixed_size(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The last one to three slices with other numbers of rows and columns."""
    broken, count = copied(slices), int(rng.integers(1, 4))
    for dataset in broken[-count:]:
        dataset.Rows, dataset.Columns = dataset.Rows + 2, dataset.Columns - 1
        dataset.PixelData = bytes(2 * dataset.Rows * dataset.Columns)
    return Fault(broken, "mixed_size", f"{count} of another size", volumes=2)


def mixed_spacing(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The last one to three slices with pixels of another size."""
    broken, count = copied(slices), int(rng.integers(1, 4))
    for dataset in broken[-count:]:
        dataset.PixelSpacing = [round(float(size) * 1.5, 4) for size in dataset.PixelSpacing]
    return Fault(broken, "mixed_size", f"{count} with other pixels", volumes=2)


def _some(slices: Sequence[Dataset], rng: np.random.Generator) -> list[int]:
    """Every second slice, one to three at the end, or one anywhere."""
    count, last = len(slices), len(slices) - int(rng.integers(1, 4))
    ways = [list(range(1, count, 2)), list(range(last, count)), [int(rng.integers(0, count))]]
    return ways[int(rng.integers(0, len(ways)))]


def mixed_patients(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Some slices of another patient and study, or of another study, or of another patient."""
    broken, chosen, way = copied(slices), _some(slices, rng), int(rng.integers(0, 3))
    study = generate_uid()
    for index in chosen:
        if way < 2:
            broken[index].StudyInstanceUID = study
        if way != 1:
            broken[index].PatientID, broken[index].PatientName = "PID-0815", "Secretive^Sam"
    return Fault(broken, "mixed_patients", f"{chosen}, way {way}", volumes=2)


def mixed_image_type(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Some slices derived, or of another object class."""
    broken, chosen, derived = copied(slices), _some(slices, rng), rng.random() < 0.7
    for index in chosen:
        if derived:
            broken[index].ImageType = ["DERIVED", "SECONDARY", *list(slices[0].ImageType)[2:]]
        else:
            kind = "1.2.840.10008.5.1.4.1.1.7"
            broken[index].SOPClassUID = broken[index].file_meta.MediaStorageSOPClassUID = kind
    return Fault(broken, "mixed_image_type", f"{chosen}", volumes=2)


def mixed_frame(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Some slices on another frame of reference."""
    broken, chosen, frame = copied(slices), _some(slices, rng), generate_uid()
    for index in chosen:
        broken[index].FrameOfReferenceUID = frame
    return Fault(broken, "mixed_frame", f"{chosen}", volumes=2)


def mixed_values(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Some slices with another Rescale Type, with other signs, or (where there is one) without rescaling."""
    broken, chosen = copied(slices), _some(slices, rng)
    way = str(rng.choice(["type", "sign", *(["none"] if "RescaleSlope" in slices[0] else [])]))
    for dataset in (broken[index] for index in chosen):
        if way == "type":
            dataset.RescaleType = "US"
        elif way == "sign":
            dataset.PixelRepresentation = 1 - dataset.PixelRepresentation
        else:
            del dataset.RescaleSlope, dataset.RescaleIntercept
    return Fault(broken, "mixed_values", f"{chosen}, {way}", volumes=2)


def mixed_reconstruction(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Two reconstructions slice by slice in turn, under one Series Instance UID."""
    broken = copied(slices)
    keyword, values = [("ConvolutionKernel", "B20f B70f"), ("KVP", "80 140"), ("SeriesNumber", "3 4")][
        int(rng.integers(0, 3))
    ]
    for index, dataset in enumerate(broken):
        setattr(dataset, keyword, values.split()[index % 2])
    return Fault(broken, "mixed_reconstruction", keyword)


def resent_series(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The whole series a second time, an hour later, with identifiers of its own."""
    first, again = copied(slices), copied(slices)
    for index, (dataset, other) in enumerate(zip(first, again, strict=True)):
        dataset.ContentTime, other.ContentTime = f"1000{index:02d}", f"1100{index:02d}"
        renew(other)
    return Fault([*first, *again], "phases_by_time_only", "all slices again")


def cine_phases(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Three phases at each table position, acquired one position after another, beginning with any phase."""
    phases = []
    for number in range(3):
        for index, dataset in enumerate(copied(slices)):
            renew(dataset)
            dataset.pop("TriggerTime", None)
            dataset.AcquisitionTime = dataset.ContentTime = f"12{index:02d}{number:02d}"
            values = np.frombuffer(dataset.PixelData, "<i2") + 100 * ((number + index) % 3)
            dataset.PixelData = values.astype("<i2").tobytes()
            phases.append(dataset)
    return Fault(phases, "phases_by_time_only", "three phases")


def duplicate_beside(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Copies whose position went through another rounding: up to 3 % of the spacing beside, 0.1 mm at most."""
    fault = duplicate_identical(slices, rng)
    for dataset in fault.slices[len(slices) :]:
        renew(dataset)
        move(dataset, min(0.03 * spacing_of(slices), 0.1) * float(rng.uniform(-1, 1)) * normal_of(slices[0]))
    return fault


def every_second(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Every second slice lost, where the header says how far apart they were."""
    broken = copied(slices)
    for dataset in broken:
        dataset.SpacingBetweenSlices = dataset.SliceThickness = round(spacing_of(slices), 4)
    return Fault(broken[::2], "sparse_slices", "every second slice")


def localiser(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """One or two scouts of another size, at right angles, under the volume's Series Instance UID."""
    scouts = copied(slices[: int(rng.integers(1, 3))])
    axes, normal = np.array(slices[0].ImageOrientationPatient, dtype=float), normal_of(slices[0])
    for index, dataset in enumerate(scouts):
        renew(dataset)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        dataset.ImageOrientationPatient = [round(float(x), 6) for x in (*axes[3:], *normal)]
        dataset.Rows, dataset.Columns = 13, 15
        dataset.PixelData = bytes(2 * 13 * 15)
        move(dataset, 7.0 * index * axes[:3])
    return Fault([*copied(slices), *scouts], "localiser_in_series", f"{len(scouts)} scouts", volumes=2)


def truncated(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Files that end within their pixels."""
    chosen = rng.choice(len(slices), int(rng.integers(1, 3)), replace=False).tolist()
    kept = {int(index): float(rng.uniform(0, 0.999)) for index in chosen}
    return Fault(copied(slices), "truncated_pixel_data", f"shares kept: {kept}", kept=kept)


def undecodable(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Compressed pixels whose stream is noise."""
    broken, index = copied(slices), int(rng.integers(0, len(slices)))
    syntax = [RLELossless, JPEG2000Lossless, JPEGLSLossless][int(rng.integers(0, 3))]
    broken[index].file_meta.TransferSyntaxUID = syntax
    broken[index].PixelData = encapsulate([b"\xff\xff" + rng.bytes(2 * int(rng.integers(40, 100)))])
    broken[index]["PixelData"].is_undefined_length = True
    return Fault(broken, "undecodable_pixel_data", f"slice {index}, {syntax.name}", found="reading")


def not_an_image(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """A structured report, presentation state or registration among the slices."""
    kinds = ["1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66.1"]
    other = copied(slices[:1])[0]
    renew(other)
    for keyword in ("Rows", "Columns", "PixelData", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(other, keyword)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = str(rng.choice(kinds))
    return Fault([*copied(slices), other], "not_an_image", "one object without picture", found="refused")


def shuffled_names(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Names that say nothing of the order: what ``write_files`` does anyway."""
    return Fault(copied(slices), "", "names shuffled")


def shuffled_numbers(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Instance numbers in any order, some twice, some missing."""
    broken = copied(slices)
    for dataset in broken:
        dataset.InstanceNumber = int(rng.integers(1, 8))
        if rng.random() < 0.3:
            del dataset.InstanceNumber
    return Fault(broken, "", "instance numbers at random")


def without_extension(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Files without ending."""
    return Fault(copied(slices), "", "no extension", ending="")


def slice_words(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Words of Image Type and acquisition numbers that change from slice to slice, as scanners write them."""
    broken = copied(slices)
    for index, dataset in enumerate(broken):
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", str(rng.choice(["CT_SOM5 SEQ", "CT_SOM5 SPI", "NORM"]))]
        dataset.AcquisitionNumber = 1 + index // 2
    return Fault(broken, "", "per-slice words")


def unsaid(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Frame of reference, study or Patient ID missing in some slices, as tools that edit files leave them."""
    broken, keyword = copied(slices), str(rng.choice(["FrameOfReferenceUID", "StudyInstanceUID", "PatientID"]))
    for index in rng.choice(len(slices), int(rng.integers(1, len(slices))), replace=False).tolist():
        setattr(broken[index], keyword, "")
    return Fault(broken, "", f"{keyword} missing in some")


def two_voltages(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """The base of the skull with another tube voltage than the rest, as sequential head CT is scanned."""
    broken, start = copied(slices), int(rng.integers(1, len(slices)))
    for index, dataset in enumerate(broken):
        dataset.KVP = "140" if index < start else "120"
    return Fault(broken, "", f"two tube voltages, from slice {start} on")


def rounded(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Positions rounded to 0.1 mm, where slices are not nearer than 0.6 mm."""
    broken = copied(slices)
    for dataset in broken:
        dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]
    return Fault(broken, "", "positions rounded to 0.1 mm")


def _twice(slices: Sequence[Dataset], change: Callable[[Dataset, int], None]) -> list[Dataset]:
    both = []
    for number in (1, 2):
        for index, dataset in enumerate(copied(slices)):
            renew(dataset)
            values = np.frombuffer(dataset.PixelData, "<i2") + 5000 * (number - 1)
            dataset.PixelData = values.astype("<i2").tobytes()
            dataset.InstanceNumber = 2 * index + number
            change(dataset, number)
            both.append(dataset)
    return both


def two_echoes(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Two echoes of one MR series, the second 5000 brighter."""

    def change(dataset: Dataset, number: int) -> None:
        dataset.Modality, dataset.EchoNumbers, dataset.EchoTime = "MR", number, 4.6 * number

    return Fault(_twice(slices, change), "", "two echoes", volumes=2)


def time_points(slices: Sequence[Dataset], rng: np.random.Generator) -> Fault:
    """Two time points of one series, told apart by what the scanner writes, the second 5000 brighter."""
    way = str(rng.choice(["TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "AcquisitionTime"]))

    def change(dataset: Dataset, number: int) -> None:
        if way == "AcquisitionTime":
            dataset.AcquisitionTime = f"12{10 + number}{int(rng.integers(0, 59)):02d}.25"
        elif way == "TriggerTime":
            dataset.TriggerTime = round(400.0 * number + float(rng.uniform(0, 9)), 1)
        else:
            setattr(dataset, way, number)

    return Fault(_twice(slices, change), "", f"two time points by {way}", volumes=2)


FAULTS: Mapping[str, Inject] = {
    inject.__name__: inject
    for inject in (
        missing_slices,
        duplicate_identical,
        duplicate_renumbered,
        duplicate_different,
        uneven_moved,
        uneven_regions,
        gantry_tilt,
        shifted_slice,
        mixed_orientation,
        mixed_size,
        mixed_spacing,
        mixed_patients,
        mixed_image_type,
        mixed_frame,
        mixed_values,
        mixed_reconstruction,
        resent_series,
        cine_phases,
        duplicate_beside,
        every_second,
        localiser,
        truncated,
        undecodable,
        not_an_image,
    )
}
HARMLESS: Mapping[str, Inject] = {
    inject.__name__: inject
    for inject in (
        shuffled_names,
        shuffled_numbers,
        without_extension,
        slice_words,
        rounded,
        unsaid,
        two_voltages,
    )
}
SEVERAL: Mapping[str, Inject] = {inject.__name__: inject for inject in (two_echoes, time_points)}
