"""The defects of DICOM series: their names are words that people and programs may count on."""

from __future__ import annotations

from collections.abc import Mapping

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
    "not_an_image": "a DICOM object that holds no picture",
    "unreadable_header": "a header that cannot be parsed or lacks what is needed",
}
