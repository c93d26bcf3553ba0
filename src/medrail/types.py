"""The nouns that travel between rooms: Geometry, Image, Applied, Defect, Case, Prediction. Frozen; numpy only.

Arrays have the axis order (C, D, H, W). Physical space is RAS+ in millimetres (x to the patient's Right, y to Anterior,
z to Superior); the LPS frame of DICOM and ITK exists only inside readers and writers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from medrail.errors import GeometryError

FloatArray = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any]

Unit = Literal["HU", "SUV", "Bq/ml", "uint8", "uint16", "arbitrary", "label"]
OnDefect = Literal["refuse", "resample", "accept"]
FourD = Literal["separate", "channels"]
VoiLut = Literal["ignore", "apply"]
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Groups = tuple[tuple[str, str], ...]
"""(name, value) of each group that a case belongs to, as ("sex", "female"): never what names a person."""


class Progress(Protocol):
    """What long work calls after each item; the command line draws a bar, the library's default does nothing."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a voxel grid lies in the patient.

    ``affine_ras_mm`` is a (4, 4) float64 matrix that takes the homogeneous voxel index ``(d, h, w, 1)``, in the array's
    own axis order, to the position of that voxel's *centre* in RAS+ millimetres.

    Raises
    ------
    GeometryError
        If the matrix is not (4, 4), not finite, not affine or not invertible.
    """

    affine_ras_mm: FloatArray

    def __post_init__(self) -> None:
        affine = np.array(self.affine_ras_mm, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError(f"an affine of shape {affine.shape} or with non-finite entries", needed="finite (4, 4)")
        if not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise GeometryError(f"the affine's last row is {affine[3].tolist()}", needed="[0, 0, 0, 1]")
        columns_mm = np.linalg.norm(affine[:3, :3], axis=0)
        if (columns_mm == 0).any() or abs(np.linalg.det(affine[:3, :3] / columns_mm)) < 1e-6:
            raise GeometryError("the affine cannot be inverted", needed="three independent, non-zero axes")
        affine.setflags(write=False)
        object.__setattr__(self, "affine_ras_mm", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance in mm of neighbouring voxel centres along the array axes (D, H, W)."""
        d, h, w = np.linalg.norm(self.affine_ras_mm[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """RAS+ position in mm of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine_ras_mm[:3, 3]
        return float(x), float(y), float(z)

    @property
    def direction(self) -> FloatArray:
        """(3, 3); column *a* is the unit vector in RAS+ along array axis *a*."""
        direction: FloatArray = self.affine_ras_mm[:3, :3] / np.array(self.spacing_mm)
        return direction

    @property
    def axis_codes(self) -> tuple[str, str, str]:
        """For each array axis (D, H, W) the anatomical direction in which its index grows, one of R L A P S I.

        Axes are matched to anatomical axes one to one, the best aligned first, so that no letter pair occurs twice.
        """
        cosines = np.abs(self.direction)
        codes = ["", "", ""]
        for _ in range(3):
            world, axis = np.unravel_index(int(np.argmax(cosines)), (3, 3))
            positive = self.affine_ras_mm[world, axis] > 0
            codes[axis] = ("LR", "PA", "IS")[world][int(positive)]
            cosines[world, :] = -1
            cosines[:, axis] = -1
        return codes[0], codes[1], codes[2]

    def is_close(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both affines agree within ``tolerance_mm`` (translation) and 1e-4 of a spacing (axes)."""
        mine, theirs = self.affine_ras_mm, other.affine_ras_mm
        axes_close = np.allclose(mine[:3, :3], theirs[:3, :3], atol=1e-4 * max(self.spacing_mm))
        return bool(axes_close and np.allclose(mine[:3, 3], theirs[:3, 3], atol=tolerance_mm))

    @staticmethod
    def from_spacing(spacing_mm: tuple[float, float, float]) -> Geometry:
        """Axes (D, H, W) along S, A, R from the origin; for grids that declare a spacing and no orientation."""
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
        affine[3, 3] = 1
        return Geometry(affine)


@dataclass(frozen=True)
class Applied:
    """One preprocessing step as it was applied: its kind and the parameters drawn for this image (JSON values)."""

    step: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with an image, found by name.

    name:
        One of a few fixed words, as "missing_slices" (``medrail.read.dicom.DEFECTS`` lists them).
    evidence:
        What was seen, with numbers and units; never a patient identifier.
    action:
        What was done about it, or would have to be, as "refused" or "2 slices interpolated".
    """

    name: str
    evidence: str
    action: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence}" + (f" ({self.action})" if self.action else "")


@dataclass(frozen=True)
class ReadOptions:
    """What ``read`` shall do where a file leaves a choice; the defaults refuse what could silently be wrong.

    on_defect:
        "refuse": a series with a defect is an error. "resample": it is brought onto an even, orthogonal grid where that
        can be done by interpolation. "accept": it is stacked as it is. Either is recorded in ``Image.defects``.
    four_d:
        Time points, echoes, b-values of one series: "separate" volumes, or "channels" of one.
    voi_lut:
        Whether the window or VOI LUT of an X-ray picture is applied (DICOM PS3.3, C.11.2). Never for CT, MR, PET.
    jpeg_least_px:
        (H, W) of the upright picture: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as neither side gets
        shorter than this. None: at its full size. Masks always are.
    """

    on_defect: OnDefect = "refuse"
    four_d: FourD = "separate"
    voi_lut: VoiLut = "ignore"
    jpeg_least_px: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.jpeg_least_px is not None:  # JSON has lists
            height, width = self.jpeg_least_px
            object.__setattr__(self, "jpeg_least_px", (int(height), int(width)))


READ_AS_STORED = ReadOptions()


@dataclass(frozen=True, eq=False)
class Image:
    """Voxels with their meaning.

    voxels:
        (C, D, H, W); a picture has D = 1; colour is C = 3 in the order red, green, blue.
    geometry:
        Where the grid lies, or None when there is no physical space (a photograph).
    unit:
        "HU" for rescaled CT, "SUV" or "Bq/ml" for PET, "uint8"/"uint16" for stored pictures, "label" for masks,
        "arbitrary" (MR, ...).
    source:
        The path it was read from (never a patient identifier read from inside the file).
    history:
        The preprocessing applied so far, oldest first.
    defects:
        What was wrong with it and was accepted or repaired, because ``ReadOptions`` said so.
    """

    voxels: Voxels
    geometry: Geometry | None = None
    unit: Unit = "arbitrary"
    source: str = ""
    history: tuple[Applied, ...] = ()
    defects: tuple[Defect, ...] = ()

    def __post_init__(self) -> None:
        if self.voxels.ndim != 4 or 0 in self.voxels.shape:
            raise GeometryError(
                f"an array of shape {self.voxels.shape}", needed="(C, D, H, W), none of them 0", where=self.source
            )

    @property
    def channels(self) -> int:
        return int(self.voxels.shape[0])

    @property
    def grid(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        _, d, h, w = self.voxels.shape
        return int(d), int(h), int(w)

    def with_voxels(self, voxels: Voxels, geometry: Geometry | None = None) -> Image:
        """The same image with other voxels, and another geometry where one is given."""
        return replace(self, voxels=voxels, geometry=self.geometry if geometry is None else geometry)


@dataclass(frozen=True)
class Case:
    """One row of the case table.

    id:
        Unique, safe as a file name.
    patient:
        The unit that is never divided between splits.
    paths:
        The image's file, or the folder of its DICOM series.
    target:
        Classification: the class name. Segmentation: the path of the mask. None: unlabelled.
    split:
        "train", "val", "test", or None when not yet assigned.
    item:
        What is meant inside ``paths``: a member of a MedMNIST npz as ``train_images/12``, one DICOM series of a folder
        with several; else "".
    roi:
        The path of a region-of-interest mask on the image's grid, for pipelines that crop to one; else None.
    centre:
        Where it was acquired, for splits that leave one centre out; "" where the data do not say.
    fold:
        0 to k - 1 in a k-fold split; None elsewhere.
    defects:
        Names of the defects that were accepted or repaired when it is read (``Image.defects``), sorted.
    groups:
        What divides the cases for evaluation: sex, age in bands of ten years, scanner, columns of the user's table.
    """

    id: str
    patient: str
    paths: tuple[str, ...]
    target: str | None = None
    split: SplitName | None = None
    item: str = ""
    roi: str | None = None
    centre: str = ""
    fold: int | None = None
    defects: tuple[str, ...] = ()
    groups: Groups = ()


@dataclass(frozen=True, eq=False)
class Evidence:
    """Where in an image a model sees what speaks for a class, and what against it.

    class_name:
        The class that is spoken for (positive values) and against (negative ones).
    values:
        float32 (1, D, H, W) on the *raw* image's grid, in logits; 0 where the model saw nothing.
    exact:
        True: the answer itself, taken apart by place. False: an approximation, which may mislead.
    method:
        How it was made, in words.
    """

    class_name: str
    values: Image
    exact: bool
    method: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's answer for one image.

    probabilities:
        Classification: class name -> probability, summing to 1 except where an image may have several of the classes;
        calibrated, where the bundle has a calibration. Segmentation: empty.
    mask:
        Segmentation: an ``Image`` of unit "label", voxels uint8 (1, D, H, W) on the *raw* image's grid; else None.
    decision:
        The class that a threshold of the bundle's calibration decides for; "" where the most probable one is meant.
    conformal_set:
        The classes that cannot be ruled out at the calibration's level, maybe none; None where that was not calibrated.
    ood_score, unlike_training:
        How far the image is from those of the training (about 1 for such as those), and whether it is too far; None
        where the bundle does not know.
    evidence:
        Where it was asked for and the network has it.
    findings, thresholds:
        Where an image may have several of the classes: those at or above their thresholds, in the order of the classes,
        and class name -> threshold. Elsewhere None, and empty.
    input_statistics:
        ``input_mean`` and ``input_sd`` of the prepared image, by which a service tells drift.
    """

    task: Literal["classification", "segmentation"]
    classes: tuple[str, ...]
    bundle_id: str
    probabilities: Mapping[str, float] = field(default_factory=dict)
    mask: Image | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    decision: str = ""
    conformal_set: tuple[str, ...] | None = None
    ood_score: float | None = None
    unlike_training: bool | None = None
    evidence: Evidence | None = None
    findings: tuple[str, ...] | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    input_statistics: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_name(self) -> str | None:
        """The class decided for (classification): by threshold, else the most probable, the first one on a tie.

        None for segmentation, and where there may be several: see ``findings``.
        """
        if self.decision or not self.probabilities or self.findings is not None:
            return self.decision or None
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float | None:
        """The probability of ``class_name``; None where that is None."""
        name = self.class_name
        return None if name is None else self.probabilities[name]

    @property
    def abstain(self) -> bool:
        """Whether to leave it to a person: unlike the training data, or undecided."""
        return bool(self.unlike_training) or self.undecided

    @property
    def undecided(self) -> bool:
        """Whether the class decided for is not the only one that cannot be ruled out; False if that is not known."""
        return self.conformal_set is not None and self.conformal_set != (self.class_name,)
