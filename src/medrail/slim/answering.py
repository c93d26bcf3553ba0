"""Answering: what a candidate says of the validation cases, by the predictor as it is served, on the raw files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.bundle import load_network
from medrail.config import Config
from medrail.errors import BundleError, RunError
from medrail.evaluate.answers import Answers, read_answers
from medrail.evaluate.case_table import case_table
from medrail.evaluate.evaluation import NOTHING_LEAKED, evaluation_fingerprint
from medrail.evaluate.scored import Scored, reason_of, score_case
from medrail.types import Case, Progress
from medrail.workspace import Run, read_json, write_json, write_text

SPLIT = "val"


@dataclass(frozen=True)
class Answered:
    """Answers on the cases that could be judged, and case -> why another could not."""

    answers: Answers
    failed: dict[str, str]


def answers_on_validation(
    run: Run, config: Config, cases: Sequence[Case], place: Path, progress: Progress | None = None
) -> Answered:
    """The answers of a run's network on the validation cases; those that lie there are taken if nothing has changed.

    Parameters
    ----------
    cases:
        With the splits of the run's record.
    place:
        NAME.csv to keep them in, with NAME.json beside it.

    Raises
    ------
    RunError
        If no case is in the split, or none could be judged.
    BundleError, RunError
        If the run's network is missing or unusable.
    """
    chosen = sorted((case for case in cases if case.split == SPLIT), key=lambda case: case.id)
    if not chosen:
        raise RunError(
            "there are no validation cases to judge candidates on",
            needed="some patients in the val split",
            where=str(run.folder),
            remedy="Raise split.val in medrail.yaml and train again.",
        )
    fingerprint = evaluation_fingerprint(run, config, cases, SPLIT)
    beside = place.with_suffix(".json")
    if place.is_file() and beside.is_file():
        known = read_json(beside)
        if known.get("fingerprint") == fingerprint and known.get("sha256") == _sha256(place):
            return Answered(_read(place, known), dict(known["failed"]))
    predictor = load_network(run.folder, threads=config.serve.threads)
    scored: list[Scored] = []
    failed: dict[str, str] = {}
    for index, case in enumerate(chosen):
        if progress:
            progress(index, len(chosen), case.id)
        try:
            scored.append(score_case(run, config, predictor, case, keep_mask=False))
        except BundleError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever one case does must not stop the others
            failed[case.id] = reason_of(error)
    if progress:
        progress(len(chosen), len(chosen), "")
    if not scored:
        case_id, reason = next(iter(failed.items()))
        raise RunError(f"none of the {len(chosen)} validation cases could be judged", where=case_id, remedy=reason)
    write_text(place, case_table(scored, predictor, NOTHING_LEAKED))
    known = {
        "fingerprint": fingerprint,
        "sha256": _sha256(place),
        "metrics": sorted({name for one in scored for name in one.scores}),
        "multi_label": predictor.spec.multi_label,
        "failed": failed,
    }
    write_json(beside, known)
    return Answered(_read(place, known), failed)


def _read(place: Path, known: dict[str, object]) -> Answers:
    metrics = known["metrics"]
    assert isinstance(metrics, list)  # noqa: S101 - as it was written
    return read_answers(place, metrics, multi_label=bool(known["multi_label"]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
