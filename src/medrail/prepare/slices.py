"""The step ``slices``: a volume becomes the stack of its planes, for networks that see pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator

from medrail.errors import PrepareError
from medrail.prepare.grids import Params, back, centred, check_grid, drawn_fill, record, take_box
from medrail.prepare.parameters import Fill, Parameters, Plane, PlaneSize
from medrail.prepare.spatial import Orient
from medrail.types import Image, Voxels

# In a volume oriented to LPS (D, H, W = Superior, Posterior, Left): the order that puts the plane's normal first.
# Coronal and sagittal planes are flipped so that the head is up, as a radiologist looks at them.
_ORDER: dict[str, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


def _planes_once(planes: tuple[Plane, ...]) -> tuple[Plane, ...]:
    if not planes or len(set(planes)) != len(planes):
        raise ValueError(f"found {list(planes)}, needed at least one of axial, coronal, sagittal, each once")
    return planes


class Slices(Parameters):
    """(C, D, H, W) volume -> (C, N, H, W): the slices of all named ``planes`` one after the other, without geometry.

    Planes are found from the geometry, whatever the array's orientation, and always lie as a radiologist looks at them:
    axial slices from inferior to superior with rows to Posterior and columns to Left, coronal ones from anterior to
    posterior with rows to Inferior and columns to Left, sagittal ones from right to left with rows to Inferior and
    columns to Posterior. Each is centred into ``size`` [H, W] by padding with ``pad_value`` and cropping.

    The inverse averages what the planes say of each voxel (probabilities), counting only the planes that saw it, or
    takes the majority (labels; the smaller label on a tie). What no plane saw is 0.
    """

    kind: Literal["slices"] = "slices"
    planes: Annotated[tuple[Plane, ...], AfterValidator(_planes_once)] = ("axial",)
    size: PlaneSize
    pad_value: Fill = 0.0
    spatial: ClassVar[bool] = True

    def params(self, image: Image, roi: Image | None = None) -> dict[str, Any]:
        if image.geometry is None:
            raise PrepareError(
                "the image has no geometry, so its anatomical planes are unknown",
                needed="a volume with a geometry (DICOM, NIfTI, MetaImage, NRRD)",
                remedy="Leave `slices` out for pictures: they are planes already.",
            )
        turned = Orient(axes="LPS").params(image)
        counts = [turned["size"][_ORDER[plane][0]] for plane in self.planes]
        fill = drawn_fill(self.pad_value, image)
        size = [sum(counts), *self.size]
        return record(image, size, order=turned["order"], flip=turned["flip"], fill=fill)

    def apply(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        turned = Orient(axes="LPS").apply(image, params).voxels
        fill = 0 if labels else params["fill"]
        stacks = []
        for plane in self.planes:
            stack = _as_stack(turned, plane)
            shape = stack.shape[1:]
            size = (shape[0], *self.size)
            stacks.append(take_box(stack, centred(shape, size), size, fill))
        return replace(image, voxels=np.concatenate(stacks, axis=1), geometry=None)

    def invert(self, image: Image, params: Params, *, labels: bool = False) -> Image:
        check_grid(image, params["size"])
        merged = self._majority(image.voxels, params) if labels else self._average(image.voxels, params)
        turned_size = [params["grid"][a] for a in params["order"]]
        turned = Orient(axes="LPS").invert(image.with_voxels(merged), {**params, "size": turned_size})
        return back(image, turned.voxels, params)

    def _average(self, voxels: Voxels, params: Params) -> Voxels:
        grid = [params["grid"][a] for a in params["order"]]
        total = np.zeros((voxels.shape[0], *grid), np.float32)
        seen_by = np.zeros(grid, np.float32)
        for part, seen in self._unstacked(voxels, grid):
            total += part
            seen_by += seen
        total /= np.maximum(seen_by, 1)
        return total

    def _majority(self, voxels: Voxels, params: Params) -> Voxels:
        grid = [params["grid"][a] for a in params["order"]]
        parts = list(self._unstacked(voxels, grid))
        if len(parts) == 1:
            return parts[0][0]
        best = np.zeros((voxels.shape[0], *grid), voxels.dtype)
        votes = np.zeros(best.shape, np.uint8)
        for label in np.unique(voxels):
            own = np.zeros(best.shape, np.uint8)
            for part, seen in parts:
                own += (part == label) & seen
            best[own > votes] = label
            np.maximum(votes, own, out=votes)
        return best

    def _unstacked(self, voxels: Voxels, grid: list[int]) -> Iterator[tuple[Voxels, Voxels]]:
        """Each plane's slices as a volume on the LPS grid, and which voxels of it the plane saw (D, H, W)."""
        begin = 0
        for plane in self.planes:
            shape = [grid[a] for a in _ORDER[plane]]
            stack = voxels[:, begin : begin + shape[0]]
            begin += shape[0]
            start = [-s for s in centred(shape, (shape[0], *self.size))]
            seen = take_box(np.ones((1, *stack.shape[1:]), bool), start, shape)
            yield _as_volume(take_box(stack, start, shape), plane), _as_volume(seen, plane)[0]


def _as_stack(volume: Voxels, plane: str) -> Voxels:
    stack = volume.transpose(0, *(a + 1 for a in _ORDER[plane]))
    return stack if plane == "axial" else stack[:, :, ::-1]


def _as_volume(stack: Voxels, plane: str) -> Voxels:
    upright = stack if plane == "axial" else stack[:, :, ::-1]
    return upright.transpose(0, *(int(a) + 1 for a in np.argsort(_ORDER[plane])))
