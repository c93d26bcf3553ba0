"""A fault injector for DICOM series: a good series in, one that is wrong in a known way out. See README.md."""

from faults.inject import FAULTS, HARMLESS, SEVERAL, Fault
from faults.series import good_series, voxels_of, write_files

__all__ = ["FAULTS", "HARMLESS", "SEVERAL", "Fault", "good_series", "voxels_of", "write_files"]
