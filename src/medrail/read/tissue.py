"""Where on a slide there is tissue: stained, not glass, not ink or the edge of the scanned field.

Otsu's threshold (IEEE Trans. SMC 9, 1979) on the saturation of a coarse picture of the slide: glass is grey or white
whatever the light, stained tissue has a colour. Ink of a coloured pen has one, too, and counts as tissue.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import ReadError
from medrail.read.place import Place
from medrail.read.slide import MAX_WHOLE_PIXELS, RGB, SlideFacts, read_slide

Mask = npt.NDArray[np.bool_]

FINEST_UM = 8.0
# Otsu finds a threshold in any picture. Below the lower one there is only the noise of glass; tissue that is nothing
# but tissue would be divided above the upper one. Saturation 0 to 1, as (max - min) / max of R, G, B.
_THRESHOLDS = (0.05, 0.20)
_DARK = 50  # black ink and the black around the scanned field: the brightest channel is below this, of 255


@dataclass(frozen=True, eq=False)
class Tissue:
    """A mask over the whole slide.

    mask:
        (H, W) bool.
    um_per_px:
        Of the mask's pixels.
    """

    mask: Mask
    um_per_px: float

    @property
    def area_mm2(self) -> float:
        return float(self.mask.sum()) * self.um_per_px**2 / 1e6

    def shares(
        self, left_um: npt.NDArray[Any], top_um: npt.NDArray[Any], size_um: tuple[float, float]
    ) -> npt.NDArray[np.float64]:
        """Share of tissue, 0 to 1, of rectangles of one size by their upper left corners; outside is no tissue."""
        sums = np.zeros((self.mask.shape[0] + 1, self.mask.shape[1] + 1), np.int64)
        sums[1:, 1:] = self.mask.cumsum(axis=0).cumsum(axis=1)
        x0, y0 = (np.rint(np.asarray(edge) / self.um_per_px).astype(np.int64) for edge in (left_um, top_um))
        wide, high = (max(1, round(edge / self.um_per_px)) for edge in size_um)
        rows, columns = self.mask.shape
        x0, x1 = x0.clip(0, columns), (x0 + wide).clip(0, columns)
        y0, y1 = y0.clip(0, rows), (y0 + high).clip(0, rows)
        counts = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return np.asarray(counts / (wide * high), dtype=np.float64)


def find_tissue(
    path: Path, facts: SlideFacts, tile_um: float, scan_um_per_px: float | None = None, least_um2: float = 10_000.0
) -> Tissue:
    """The tissue of a slide, from a picture of at most 8 um a pixel, or finer where tiles are small.

    Parameters
    ----------
    tile_um:
        Side of the tiles that it is for; a tile is at least 16 pixels of the mask wide.
    least_um2:
        Smaller fragments, and smaller holes, count as what is around them.

    Raises
    ------
    ReadError
        As ``read_slide``.
    """
    um = max(overview_um(facts, scan_um_per_px, tile_um), *facts.um(scan_um_per_px))
    picture = read_slide(path, str(Place(um, scan_um_per_px=scan_um_per_px)))
    return Tissue(tissue_mask(np.moveaxis(picture.voxels[:, 0], 0, -1), least_um2 / um**2), um)


def overview_um(facts: SlideFacts, scan_um_per_px: float | None, tile_um: float) -> float:
    """Micrometres a pixel at which a slide is looked at as a whole, rounded to what an item's text keeps.

    Raises
    ------
    ReadError
        If the slide is too large for any.
    """
    um = min(FINEST_UM, tile_um / 16)
    for _ in range(16):
        width, height = facts.size_at(um, scan_um_per_px)
        if width * height <= MAX_WHOLE_PIXELS:
            return round(um, 6)
        um *= 2
    raise ReadError("is too large to be looked at", needed=f"at most {MAX_WHOLE_PIXELS:,} pixels of 1 mm")


def tissue_mask(rgb: RGB, least_px: float = 0.0) -> Mask:
    """(H, W, 3) uint8 -> (H, W) bool; fragments and holes of fewer than ``least_px`` pixels are filled up."""
    import cv2

    smooth = cv2.GaussianBlur(np.ascontiguousarray(rgb), (3, 3), 0)
    high = smooth.max(axis=-1)
    low = smooth.min(axis=-1)
    lit = high >= _DARK
    saturation = np.zeros(high.shape, np.uint8)
    saturation[lit] = ((high - low)[lit].astype(np.uint16) * 255 // high[lit]).astype(np.uint8)
    mask = lit & (saturation > _otsu(saturation[lit]))
    mask = _without_small(mask, least_px)
    return ~_without_small(~mask, least_px)


def _otsu(saturation: npt.NDArray[np.uint8]) -> float:
    import cv2

    least, most = (255 * share for share in _THRESHOLDS)
    if saturation.size == 0:
        return most
    threshold, _ = cv2.threshold(saturation.reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(min(max(threshold, least), most))


def _without_small(mask: Mask, least_px: float) -> Mask:
    """The mask without its connected pieces (over edges, not corners) of fewer pixels."""
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    large = statistics[:, cv2.CC_STAT_AREA] >= least_px
    large[0] = False
    kept: Mask = large[labels]
    return kept
