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
    "localiser_in_series": "a localiser (scout) stored with the volume",
    "truncated_pixel_data": "a file that ends before its pixels do",
    "undecodable_pixel_data": "pixels that their decoder refuses",
    "unplaced_frames": "frames of a volume without position, orientation or spacing",
    "incomplete_time_point": "time points or echoes of one series that do not lie on the same grid",
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
    "localiser_in_series": ("the volume without its localiser", "Name the volume as the item"),
    "truncated_pixel_data": ("the whole file", "Copy it again from the archive"),
    "undecodable_pixel_data": ("pixels that can be decoded", "Copy or export it again"),
    "unplaced_frames": (
        "plane position, plane orientation and pixel measures of each frame",
        "Convert it to NIfTI with a converter that knows the scanner",
    ),
    "incomplete_time_point": ("every time point on one grid", "Read them separately (data.four_d: separate)"),
    "unreadable_header": ("every file of the series", "Copy it again, or move it out of the folder"),
}
_RESAMPLED = frozenset(
    [
        "missing_slices",
        "duplicate_slices",
        "uneven_spacing",
        "gantry_tilt",
        "shifted_slices",
        "truncated_pixel_data",
        "undecodable_pixel_data",
        "unreadable_header",
    ]
)
_CORRUPT = frozenset({"truncated_pixel_data", "undecodable_pixel_data", "unreadable_header"})
REFUSED = "refused"


def in_words(name: str) -> str:
    return name.replace("_", " ")


def refusal(defects: Sequence[Defect], where: str = "", *, repairable: bool = True) -> MedrailError:
    """The error of a series that is refused: the first defect leads, the others are named with it."""
    first = defects[0]
    others = "".join(f"; {in_words(other.name)}: {other.evidence}" for other in defects[1:])
    needed, remedy = _NEEDED[first.name]
    resampled = all(defect.name in _RESAMPLED for defect in defects)
    choice = "data.on_defect: resample (or accept)" if resampled else "data.on_defect: accept"
    apart = first.name in ("mixed_orientation", "mixed_size", "localiser_in_series", "incomplete_time_point")
    error = CorruptFile if first.name in _CORRUPT else GeometryError
    return error(
        f"{in_words(first.name)}: {first.evidence}{others}",
        needed=needed,
        where=where,
        remedy=f"{remedy}." if apart or not repairable else f"{remedy}; or set {choice}, which is recorded.",
    )
