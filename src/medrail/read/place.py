"""Place: which part of a whole slide is meant, at which physical resolution, as an item's text.

``x=1024,y=2048,px=256,um=0.5`` is a tile of 256 x 256 pixels of 0.5 um whose upper left corner is at column 1024 and
row 2048 of the slide's finest level; ``px=256x128`` has another height. ``um=8`` is the whole slide at 8 um a pixel.
``scan=0.25`` behind either says that a pixel of the finest level is 0.25 um wide, where the file does not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from medrail.errors import ReadError

_NUMBER = r"\d{1,6}(?:\.\d{1,9})?"
_FORM = re.compile(
    rf"(?:x=(?P<x>\d{{1,9}}),y=(?P<y>\d{{1,9}}),px=(?P<w>\d{{1,5}})(?:x(?P<h>\d{{1,5}}))?,)?"
    rf"um=(?P<um>{_NUMBER})(?:,scan=(?P<scan>{_NUMBER}))?",
    re.ASCII,
)
_FORMS = "x=1024,y=2048,px=256,um=0.5 (a tile) or um=8 (the whole slide)"
LARGEST_TILE_PX = 16_384


@dataclass(frozen=True)
class Place:
    """A rectangle of a slide, or the whole of it.

    um_per_px:
        Micrometres a pixel of what is read.
    x, y:
        Upper left corner, in pixels of the finest level.
    size_px:
        (width, height) of what is read; None: the whole slide.
    scan_um_per_px:
        Micrometres a pixel of the finest level, instead of what the file says; None: as the file says.
    """

    um_per_px: float
    x: int = 0
    y: int = 0
    size_px: tuple[int, int] | None = None
    scan_um_per_px: float | None = None

    def __str__(self) -> str:
        """The item's text; ``Place.parse`` of it is this place again."""
        text = f"um={_plain(self.um_per_px)}"
        if self.scan_um_per_px is not None:
            text += f",scan={_plain(self.scan_um_per_px)}"
        if self.size_px is None:
            return text
        width, height = self.size_px
        size = f"{width}" if width == height else f"{width}x{height}"
        return f"x={self.x},y={self.y},px={size},{text}"

    @staticmethod
    def parse(text: str) -> Place:
        """The inverse of ``str``.

        Raises
        ------
        ReadError
            For any other text, a resolution of 0, and more than 16,384 pixels a side.
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ReadError(f"has no item {text[:64]!r}", needed=_FORMS, remedy="Write the item so.")
        um, scan = float(found["um"]), float(found["scan"]) if found["scan"] else None
        size = (int(found["w"]), int(found["h"] or found["w"])) if found["w"] else None
        if um <= 0 or scan == 0 or (size and not 0 < min(size) <= max(size) <= LARGEST_TILE_PX):
            raise ReadError(
                f"cannot be read at {text!r}",
                needed=f"a resolution above 0 and 1 to {LARGEST_TILE_PX:,} pixels a side",
                remedy="Correct the item.",
            )
        return Place(um, int(found["x"] or 0), int(found["y"] or 0), size, scan)


def _plain(number: float) -> str:
    """Up to nine decimals, without an exponent: 0.5, 8, 0.2525."""
    return f"{number:.9f}".rstrip("0").rstrip(".")
