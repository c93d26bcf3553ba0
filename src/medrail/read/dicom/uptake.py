"""PET headers -> the same headers, with one meaning of the numbers for all files of a series."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from medrail.read.dicom.header import Header
from medrail.read.dicom.values import Activity, activity_of_series


def settled(headers: Iterable[Header]) -> list[Header]:
    """In the same order. What is no PET, and what is settled already, stays as it is."""
    found = list(headers)
    series: dict[Hashable, list[Activity]] = {}
    for header in found:
        if header.activity:
            series.setdefault(_series_of(header), []).append(header.activity)
    decided = {key: activity_of_series(files) for key, files in series.items()}
    return [
        header if header.activity is None else replace(header, activity=decided[_series_of(header)]) for header in found
    ]


def _series_of(header: Header) -> Hashable:
    """Files with other units are told apart by ``group``; without a Series UID a folder is one series."""
    return header.series_uid or str(header.path.parent), header.activity and header.activity.declared
