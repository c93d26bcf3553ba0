"""Lookup tables of a header: modality LUT and VOI LUT (DICOM PS3.3 C.11.1, C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import read_values

Array = npt.NDArray[Any]

_WHOLE_RANGE = 1 << 16


@dataclass(frozen=True, eq=False)
class Table:
    """``entries[value - first]``; values below and above the table take its first and last entry (C.11.1.1.1).

    bits:
        Depth of the entries as the table declares it, 8 to 16.
    """

    entries: Array
    first: int
    bits: int

    def __call__(self, values: Array) -> Array:
        """Looked up, of the entries' type and the values' shape."""
        index = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        looked_up: Array = self.entries[index]
        return looked_up


def table_of(item: Any, *, signed: bool, big: bool = False) -> Table:
    """An item of a Modality or VOI LUT Sequence.

    signed:
        Whether its first mapped value is a signed number, as the values that it is for.
    big:
        Whether the file is in big endian.

    Raises
    ------
    CorruptFile
        If the descriptor is broken, or there are fewer entries than it declares.
    """
    try:
        count, first, bits = (int(number) for number in read_values(item, "LUTDescriptor"))
    except ValueError:
        raise CorruptFile("a lookup table without descriptor", needed="3 numbers", remedy="Export it again.") from None
    count = count % _WHOLE_RANGE or _WHOLE_RANGE  # 0 stands for 65,536, which 16 bits cannot say
    first %= _WHOLE_RANGE
    if signed and first >= _WHOLE_RANGE // 2:
        first -= _WHOLE_RANGE
    data = item.get("LUTData")
    if isinstance(data, (bytes, bytearray)):
        # 8-bit entries may stand two in a word, or one in each.
        packed = bits <= 8 and len(data) < 2 * count
        entries = np.frombuffer(data, np.uint8 if packed else f"{'>' if big else '<'}u2")
    else:
        entries = np.asarray(read_values(item, "LUTData"), dtype=np.int64)
    if not 8 <= bits <= 16 or len(entries) < count:
        raise CorruptFile(
            f"a lookup table that declares {count} entries of {bits} bits and has {len(entries)}",
            needed="all its entries, of 8 to 16 bits",
            remedy="Export it again.",
        )
    return Table(entries[:count].astype(np.uint8 if bits <= 8 else np.uint16), first, bits)
