"""When a PET tracer was injected, and to which time its activity is corrected for decay.

Times of one header are compared with their offset from UTC, or all without one; never one with and one without.

Sources: DICOM PS3.3 C.8.9.1.1.4 and C.8.9.2 (times of PET), C.12.1.1.8 (Timezone Offset From UTC), PS3.5 6.2 (DA, TM,
DT); the rule for the reference time follows QIBA's "SUV vendor-neutral pseudo-code".
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pydicom

from medrail.errors import CorruptFile
from medrail.read.dicom.elements import read_text

# Six half-lives leave a sixty-fourth of the dose: nobody scans later, and a wrong day shows itself.
MOST_HALF_LIVES = 6
# Some scanners write times in whole seconds.
CLOCK_S = 1.0
_DAY_S = 86_400.0
_GE_PETD, _GE_SCAN = (0x0009, "GEMS_PETD_01"), 0x0D
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})\Z")
_FURTHEST_OFFSET = timedelta(hours=14)


class NotInHeader(Exception):
    """What lacks for an SUV; never leaves the readers of PET headers."""


def seconds_since_injection(dataset: Any, isotope: Any, half_life_s: float) -> float:
    """From the injection to the time to which START corrects.

    Raises
    ------
    NotInHeader
        If a time is missing, two of them contradict each other, or the day cannot be known.
    """
    scan, zone = reference(dataset), _zone(dataset)
    injected = _moment(read_text(isotope, "RadiopharmaceuticalStartDateTime"), zone)
    day = f"{scan.astimezone(zone) if zone else scan:%Y%m%d}"
    by_clock = _moment(day + read_text(isotope, "RadiopharmaceuticalStartTime"), zone, time_needed=True)
    known = [moment for moment in (scan, injected, by_clock) if moment is not None]
    if len({moment.tzinfo is None for moment in known}) > 1:
        raise NotInHeader("only some of the times of injection and scan have an offset from UTC")
    if injected is not None:
        if by_clock is not None and _apart_s(injected, by_clock) > CLOCK_S:
            raise NotInHeader("the two times of injection contradict each other")
        elapsed_s = (scan - injected).total_seconds()
    elif by_clock is not None:
        elapsed_s = (scan - by_clock).total_seconds()
        elapsed_s += _DAY_S if elapsed_s < 0 else 0  # injected before midnight
        if elapsed_s + _DAY_S <= MOST_HALF_LIVES * half_life_s:
            raise NotInHeader("the day of injection is missing, and the tracer lives for days")
    else:
        raise NotInHeader("the time of injection is missing")
    if not 0 <= elapsed_s <= MOST_HALF_LIVES * half_life_s:
        raise NotInHeader("the time of injection does not fit the time of the scan")
    return elapsed_s


def reference(dataset: Any) -> datetime:
    """The time to which START corrects: that of the series, unless the series was made later from another one.

    Raises
    ------
    NotInHeader
        If it is not known.
    """
    zone = _zone(dataset)
    enhanced = _moment(read_text(dataset, "DecayCorrectionDateTime"), zone)
    if enhanced is not None:
        return enhanced
    series, acquired = _of_series(dataset, zone), acquisition(dataset)
    if series is not None and acquired is not None and (series - acquired).total_seconds() <= CLOCK_S:
        return series
    scan = _scanners_own(dataset, zone)
    if scan is None:
        lack = "is missing" if series is None or acquired is None else "is later than its acquisition"
        raise NotInHeader(f"the time of the series {lack}, so that the time of decay correction is unknown")
    return scan


def acquisition(dataset: Any) -> datetime | None:
    """When the acquisition of this file's frames began, as far as the header says it."""
    text = read_text(dataset, "AcquisitionDate") + read_text(dataset, "AcquisitionTime")
    return _moment(text, _zone(dataset), time_needed=True)


def is_made_later(dataset: Any) -> bool:
    """Whether the time of the series is no reference, so that only the scanner's own, a private one, can be."""
    try:
        series, acquired = _of_series(dataset, _zone(dataset)), acquisition(dataset)
    except (NotInHeader, CorruptFile):
        return False
    return series is not None and acquired is not None and (series - acquired).total_seconds() > CLOCK_S


def _of_series(dataset: Any, zone: timezone | None) -> datetime | None:
    return _moment(read_text(dataset, "SeriesDate") + read_text(dataset, "SeriesTime"), zone, time_needed=True)


def _scanners_own(dataset: Any, zone: timezone | None) -> datetime | None:
    return _moment(str(private_value(dataset, _GE_PETD, _GE_SCAN) or ""), zone, time_needed=True)


def _apart_s(one: datetime, other: datetime) -> float:
    """How far two clocks are apart, whatever the day."""
    seconds = abs((one - other).total_seconds()) % _DAY_S
    return min(seconds, _DAY_S - seconds)


def _zone(dataset: Any) -> timezone | None:
    """The offset from UTC of all times of the header that have none of their own."""
    text = read_text(dataset, "TimezoneOffsetFromUTC")
    found = _zone_of(text)
    if text and found is None:
        raise NotInHeader("the offset from UTC cannot be read")
    return found


def _zone_of(text: str) -> timezone | None:
    found = _OFFSET.match(text)
    if not found:
        return None
    sign, hours, minutes = found.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset) if offset <= _FURTHEST_OFFSET else None


def _moment(text: str, zone: timezone | None, *, time_needed: bool = False) -> datetime | None:
    """YYYYMMDDHHMMSS.FFFFFF of DA + TM, or DT with its own offset or that of the header; None where it is none."""
    clock, own = re.fullmatch(r"([^+-]*)([+-].*)?", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    if own is not None:
        zone = _zone_of(own)
        if zone is None:
            return None
    digits, _, fraction = clock.replace(":", "").strip().partition(".")
    if len(digits) < (10 if time_needed else 14) or not (digits.isascii() and digits.isdigit()) or len(digits) > 14:
        return None
    try:
        whole = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=zone)
        return whole + timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0)
    except ValueError:
        return None


def private_value(dataset: Any, block: tuple[int, str], element: int) -> Any:
    """A private element's value, bytes as text; None where there is none, or an index left it out."""
    if not isinstance(dataset, pydicom.Dataset):
        return None
    try:
        value = dataset.private_block(*block)[element].value
    except Exception:  # noqa: BLE001  (absent, or a broken element, which raises anything)
        return None
    return value.decode("ascii", "replace").strip("\0 ") if isinstance(value, bytes) else value
