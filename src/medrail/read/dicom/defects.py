"""The defects of DICOM series: their names are words that people and programs may count on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medrail.errors import CorruptFile, GeometryError, MedrailError
from medrail.types import Defect

DEFECTS: Mapping[str, str] = {
    "missing_slices": "positions along the normal at which a slice should be and none is",
    "duplicate_slices": "several slices at one position",
    "uneven_spacing": "slices that do not lie on an even grid",
    "gantry_tilt": "slices shifted sideways, the stack leans",
    "shifted_slices": "slices beside the line of the others",
    "mixed_orientation": "slices of several orientations in one series",
    "mixed_size": "slices of several sizes or pixel spacings in one series",
    "mixed_patients": "slices of several patients or studies under one series",
    "mixed_image_type": "a volume whose slices are of several kinds (original, derived, object class)",
    "mixed_frame": "a volume whose slices lie on several frames of reference",
    "mixed_values": "a volume whose slices have values of several units, rescalings or bit depths",
    "mixed_reconstruction": "slices of several kernels, tube voltages or series numbers that alternate",
    "phases_by_time_only": "several slices at each position that only times tell apart, not volume by volume",
    "sparse_slices": "slices farther apart than their headers say; read, and said",
    "localiser_in_series": "a localiser (scout) stored with the volume",
    "truncated_pixel_data": "a file that ends before its pixels do",
    "undecodable_pixel_data": "pixels that their decoder refuses",
    "unplaced_frames": "frames of a volume without position, orientation or spacing",
    "incomplete_time_point": "time points or echoes of one series that do not lie on the same grid",
    "unordered_time_points": "time points of one series that nothing in their headers puts in an order",
    "not_an_image": "a DICOM object that holds no picture",
    "unreadable_header": "a header that cannot be parsed or lacks what is needed",
}

# What would have been right, and what a person can do.
_NEEDED: Mapping[str, tuple[str, str]] = {
    "missing_slices": ("a slice at every position", "Copy the missing files from the archive"),
    "duplicate_slices": (
        "one slice a position",
        "Remove copies, or separate the phases, echoes or time points into folders",
    ),
    "uneven_spacing": ("slices on an even grid", "Export the series again"),
    "gantry_tilt": ("slices stacked along their normal", "Let it be resampled"),
    "shifted_slices": ("slices stacked along one line", "Export the series again"),
    "mixed_orientation": ("slices of one orientation", "Name one of the parts as the item"),
    "mixed_size": ("slices of one size and pixel spacing", "Name one of the parts as the item"),
    "mixed_patients": ("slices of one patient and study", "Give the files of each study a folder of their own"),
    "mixed_image_type": ("slices of one kind", "Export the series again, or sort its parts into folders"),
    "mixed_frame": ("slices on one frame of reference", "Export the series again, or sort its parts into folders"),
    "mixed_values": ("values of one meaning in all slices", "Export the series again, or sort its parts into folders"),
    "mixed_reconstruction": ("slices of one reconstruction", "Export each reconstruction as a series of its own"),
    "phases_by_time_only": (
        "temporal positions or trigger times, or one whole volume after another",
        "Remove copies, or separate the phases into folders",
    ),
    "localiser_in_series": ("the volume without its localiser", "Name the volume as the item"),
    "truncated_pixel_data": ("the whole file", "Copy it again from the archive"),
    "undecodable_pixel_data": ("pixels that can be decoded", "Copy or export it again"),
    "unplaced_frames": (
        "plane position, plane orientation and pixel measures of each frame",
        "Convert it to NIfTI with a converter that knows the scanner",
    ),
    "incomplete_time_point": ("every time point on one grid", "Read them separately (data.four_d: separate)"),
    "unordered_time_points": (
        "times, acquisition or instance numbers that differ",
        "Read them separately (data.four_d: separate)",
    ),
    "unreadable_header": ("every file of the series", "Copy it again, or move it out of the folder"),
}
_RESAMPLED = frozenset(
    [
        "missing_slices",
        "duplicate_slices",
        "phases_by_time_only",
        "uneven_spacing",
        "gantry_tilt",
        "shifted_slices",
        "truncated_pixel_data",
        "undecodable_pixel_data",
        "unreadable_header",
    ]
)
_CORRUPT = frozenset({"truncated_pixel_data", "undecodable_pixel_data", "unreadable_header"})
_OF_CHANNELS = ("incomplete_time_point", "unordered_time_points")
REFUSED = "refused"


def in_words(name: str) -> str:
    """A defect's name for people: "missing_slices" is "missing slices"."""
    return name.replace("_", " ")


def refusal(defects: Sequence[Defect], where: str = "", *, repairable: bool = True) -> MedrailError:
    """The error of a series that is refused: the first defect leads, the others are named with it."""
    first = defects[0]
    others = "".join(f"; {in_words(other.name)}: {other.evidence}" for other in defects[1:])
    needed, remedy = _NEEDED[first.name]
    resampled = all(defect.name in _RESAMPLED for defect in defects)
    choice = "data.on_defect: resample (or accept)" if resampled else "data.on_defect: accept"
    apart = first.name in ("mixed_orientation", "mixed_size", "localiser_in_series", *_OF_CHANNELS)
    error = CorruptFile if first.name in _CORRUPT else GeometryError
    return error(
        f"{in_words(first.name)}: {first.evidence}{others}",
        needed=needed,
        where=where,
        remedy=f"{remedy}." if apart or not repairable else f"{remedy}; or set {choice}, which is recorded.",
    )
