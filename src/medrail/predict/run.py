"""One input after another: predicted and written, or taken over from an earlier call, or named with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medrail import __version__, dicom_out
from medrail.bundle import Predictor
from medrail.dicom_out import ClassCodes
from medrail.errors import ConfigError, MedrailError
from medrail.lock import Busy, locked
from medrail.predict.answer import Answer, deciding
from medrail.predict.files import Wanted, write_answer
from medrail.predict.inputs import Input, unique_names
from medrail.predict.journal import Journal
from medrail.predict.table import Table
from medrail.types import Progress
from medrail.wording import PREDICT, in_words

DISCLAIMER = "Not a medical device: for research and education only."

_UNFINISHED = ".unfinished"  # files of the image that is worked on; they move out when all of them are whole


def predict_files(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    *,
    roi: Path | None = None,
    overlays: bool = True,
    dicom: bool = True,
    codes: Mapping[str, ClassCodes] | None = None,
    progress: Progress | None = None,
) -> list[Answer]:
    """``predict_each`` to its end: all answers, in the order of the inputs."""
    wanted = Wanted(roi, overlays, dicom, codes or {})
    return list(predict_each(predictor, inputs, out, wanted, progress))


def predict_each(
    predictor: Predictor,
    inputs: Sequence[Input],
    out: Path,
    wanted: Wanted = Wanted(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> Iterator[Answer]:
    """Predict each input and write its files: one image in memory, an answer as soon as it is known.

    Writes ``out/predictions.csv`` (a row an input), ``out/predictions.jsonl`` (what is done), masks
    (``NAME_mask.nii.gz``), overlays (``NAME.png``, ``NAME_evidence.png``), and of DICOM ``NAME_seg.dcm`` and
    ``NAME_sr.dcm``. What is done of the same content with the same bundle and wishes, and whose files are there, is
    not done again. No file is ever half written.

    Raises
    ------
    ConfigError
        If another process writes into ``out`` or it cannot be written, or there are codes of a class that the network
        has not. What is wrong with one input stands in its ``Answer.reason``.
    """
    unknown = sorted(set(wanted.codes) - set(predictor.spec.classes))
    if unknown:
        raise ConfigError(
            f"codes of {', '.join(map(repr, unknown))}", needed=f"of the classes {', '.join(predictor.spec.classes)}"
        )
    _check_writable(out)
    try:
        with locked(out / ".lock"):
            yield from _each(predictor, inputs, out, wanted, progress)
    except Busy:
        raise ConfigError(
            "another `medrail predict` writes into this folder",
            needed="one at a time",
            where=str(out),
            remedy="Wait for it, or name another folder with -o.",
        ) from None


def _check_writable(out: Path) -> None:
    """Make the folder, and try, before hours of work."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ConfigError(
            f"nothing can be written there ({error.strerror or type(error).__name__})",
            needed="a folder for the answers",
            where=str(out),
            remedy="Name another one: -o OUT.",
        ) from None


def _each(
    predictor: Predictor, inputs: Sequence[Input], out: Path, wanted: Wanted, progress: Progress | None
) -> Iterator[Answer]:
    try:
        with Journal(out) as journal, Table(out / "predictions.csv", predictor) as table:
            decided_by = deciding(predictor)
            session = _Session(predictor, out, wanted, journal, _question(predictor, wanted), progress)
            for number, (one, name) in enumerate(zip(inputs, unique_names(inputs), strict=True), 1):
                answer = replace(session.answer(one, name), thresholds=decided_by)
                table.add(answer)
                if progress:
                    progress(number, len(inputs), name)
                yield answer
    finally:
        shutil.rmtree(out / _UNFINISHED, ignore_errors=True)


def _question(predictor: Predictor, wanted: Wanted) -> str:
    """A SHA-256 (hex) over everything but the image that an answer and its files depend on."""
    calibration = predictor.calibration.to_dict() if predictor.calibration else None
    roi = Input(wanted.roi).fingerprint() if wanted.roi else ""
    model = [predictor.bundle_id, predictor.spec.to_dict(), calibration]
    return _digest([__version__, model, roi, wanted.overlays])


def _key(asked: str, one: Input, wanted: Wanted) -> str:
    """As ``_question``, with the image."""
    # A package that was missing is there now: then DICOM inputs, and only these, are done again.
    dicom = [dicom_out.installed(), repr(wanted.codes)] if wanted.dicom and one.may_be_dicom else []
    return _digest([asked, one.fingerprint(), dicom])


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Session:
    """What is the same for all inputs of one call."""

    predictor: Predictor
    out: Path
    wanted: Wanted
    journal: Journal
    asked: str
    progress: Progress | None

    def answer(self, one: Input, name: str) -> Answer:
        """An earlier call's answer, a new one whose files are in their place, or a reason."""
        try:
            key = _key(self.asked, one, self.wanted)
            known = self.journal.recall(one, name, key)
            return known if known is not None else self._new(one, name, key)
        except (MedrailError, OSError, MemoryError) as error:
            return Answer(one, name, reason=_reason(error, one))
        except Exception as error:
            if os.environ.get("MEDRAIL_DEBUG"):
                raise
            return Answer(one, name, reason=f"a fault in medrail itself ({type(error).__name__}); please report it")

    def _new(self, one: Input, name: str, key: str) -> Answer:
        self.journal.forget(name)
        work = self.out / _UNFINISHED
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        found = write_answer(self.predictor, one, name, work, self.wanted, self.progress)
        for path in found.files:
            path.replace(self.out / path.name)
        answer = replace(found, files=tuple(self.out / path.name for path in found.files))
        self.journal.add(answer, key)
        return answer


def _reason(error: MedrailError | OSError | MemoryError, one: Input) -> str:
    """The error without the input's own path, which stands before it in the table and on the terminal."""
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = in_words(str(error), PREDICT)
    return text.removeprefix(f"{one.path}: ")
