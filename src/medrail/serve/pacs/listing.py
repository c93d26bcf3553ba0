"""From QIDO-RS entries to what clients are shown: UIDs, what kind, how many. No name, no number of a patient."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medrail.bundle import NetworkSpec
from medrail.serve.pacs import attributes as at
from medrail.serve.pacs.client import Entry, Pacs
from medrail.serve.pacs.schemas import PacsSeries, PacsSeriesList, PacsStudy, PacsStudyList
from medrail.serve.pacs.takes import why_not, why_not_so_many
from medrail.serve.problems import Refusal

_CODE = re.compile(r"[A-Z0-9_ ]{1,16}")  # CS, PS3.5, table 6.2-1
_DAY = re.compile(r"[0-9]{8}")
# One parameter each: Orthanc 1.10 takes no list with commas, though the standard has it (PS3.18, 8.3.4.3).
_STUDY_FIELDS = (at.MODALITIES, at.STUDY_SERIES, at.STUDY_IMAGES)
_SERIES_FIELDS = (at.SERIES_IMAGES, at.BODY_PART, at.SERIES_NUMBER)


@dataclass(frozen=True)
class Found:
    """One series as the PACS describes it."""

    uid: str
    modality: str
    images: int | None
    frames: int | None
    entry: Entry

    def why_not(self, spec: NetworkSpec, most: int) -> str:
        """Why the model cannot take it, "" where it may."""
        return why_not(spec, self.modality) or why_not_so_many(spec, self.images, self.frames, most)


def list_studies(pacs: Pacs, spec: NetworkSpec, query: Mapping[str, str], limit: int, offset: int) -> PacsStudyList:
    """Studies that match; those without a usable UID are left out."""
    fields = {"limit": str(limit), "offset": str(offset), "includefield": _STUDY_FIELDS}
    entries = pacs.studies({**query, **fields})
    studies = [_study(entry, spec) for entry in entries if at.is_uid(at.text(entry, at.STUDY_UID))]
    return PacsStudyList(studies=studies[:limit], offset=offset, more=len(entries) >= limit)


def _study(entry: Entry, spec: NetworkSpec) -> PacsStudy:
    modalities = [code for value in at.values(entry, at.MODALITIES) if (code := _code(str(value)))]
    return PacsStudy(
        study_uid=at.text(entry, at.STUDY_UID),
        date=_date(at.text(entry, at.STUDY_DATE)),
        modalities=modalities,
        series=at.count(entry, at.STUDY_SERIES),
        images=at.count(entry, at.STUDY_IMAGES),
        takes=not modalities or not all(why_not(spec, modality) for modality in modalities),
    )


def list_series(pacs: Pacs, spec: NetworkSpec, study_uid: str) -> PacsSeriesList:
    """The series of a study, each with whether the model takes it.

    Raises
    ------
    Refusal
        "pacs-not-found" where there is no such study: most servers answer with an empty list.
    """
    most = pacs.config.max_listed
    entries = pacs.series(study_uid, {"includefield": _SERIES_FIELDS, "limit": str(most)})
    if not entries:
        raise Refusal("pacs-not-found")
    found = [_with_frames(pacs, study_uid, one, spec) for one in _series(entries[:most])]
    listed = [_shown(one, spec, pacs) for one in found]
    return PacsSeriesList(study_uid=study_uid, series=listed, more=len(entries) >= most)


def one_series(pacs: Pacs, spec: NetworkSpec, study_uid: str, series_uid: str) -> Found:
    """Raises Refusal "pacs-not-found"."""
    entries = pacs.series(study_uid, {at.SERIES_UID: series_uid, "includefield": _SERIES_FIELDS})
    found = next((one for one in _series(entries) if one.uid == series_uid), None)
    if found is None:
        raise Refusal("pacs-not-found")
    return _with_frames(pacs, study_uid, found, spec)


def _series(entries: list[Entry]) -> Iterator[Found]:
    for entry in entries:
        uid = at.text(entry, at.SERIES_UID)
        if at.is_uid(uid):
            yield Found(uid, _code(at.text(entry, at.MODALITY)), at.count(entry, at.SERIES_IMAGES), None, entry)


def _with_frames(pacs: Pacs, study_uid: str, found: Found, spec: NetworkSpec) -> Found:
    """One object may be one picture or a whole volume; where that matters, the PACS is asked for its frames."""
    if found.images != 1 or spec.input_kind.picture is None or why_not(spec, found.modality):
        return found
    instance = pacs.first_instance(study_uid, found.uid, at.FRAMES)
    return Found(found.uid, found.modality, 1, at.count(instance, at.FRAMES), found.entry)


def _shown(found: Found, spec: NetworkSpec, pacs: Pacs) -> PacsSeries:
    reason = found.why_not(spec, pacs.config.max_series_files)
    number = at.text(found.entry, at.SERIES_NUMBER)
    return PacsSeries(
        series_uid=found.uid,
        number=int(number) if re.fullmatch(r"-?[0-9]{1,9}", number) else None,
        modality=found.modality,
        body_part=_code(at.text(found.entry, at.BODY_PART)) or None,
        images=found.images,
        description=at.text(found.entry, at.DESCRIPTION) or None if pacs.config.descriptions else None,
        takes=not reason,
        why_not=reason or None,
    )


def _code(said: str) -> str:
    """A coded string, "" where it is none: then it may be anything."""
    said = said.strip()
    return said if _CODE.fullmatch(said) else ""


def _date(said: str) -> str | None:
    return f"{said[:4]}-{said[4:6]}-{said[6:]}" if _DAY.fullmatch(said) else None
