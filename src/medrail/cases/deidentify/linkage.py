"""The linkage file: who each new name is, and the secret that made it. Kept apart from the copies."""

from __future__ import annotations

import csv
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from medrail.cases.deidentify.keys import Keys
from medrail.errors import ConfigError

_COLUMNS = ("kind", "original", "new")
_SECRET = re.compile(r"[0-9a-f]{64}")


@dataclass
class Linkage:
    """Rows (kind, original, new): secret, patient, days, study, series, file. ``path`` None: nothing is written."""

    path: Path | None
    keys: Keys = field(default_factory=Keys, repr=False)
    rows: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def note(self, kind: str, original: str, new: str) -> None:
        if self.path is not None:
            self.rows[kind, original] = new

    def write(self) -> None:
        """Write the file whole, readable by its owner alone."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".linkage-")  # mode 0600
        try:
            with os.fdopen(handle, "w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(_COLUMNS)
                table.writerow(("secret", "", self.keys.secret))
                for patient, new in self.keys.patients.items():
                    table.writerow(("patient", patient, new))
                table.writerows((kind, original, new) for (kind, original), new in self.rows.items())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def open_linkage(path: Path | None, out: Path) -> Linkage:
    """The linkage of an earlier batch, or a new one.

    Raises
    ------
    ConfigError
        If it would lie inside of ``out``, or is no linkage file.
    """
    if path is None:
        return Linkage(None)
    if path.resolve().is_relative_to(out.resolve()):
        raise ConfigError(
            "the linkage file would lie among the copies", where=str(path), needed="a place that is never passed on"
        )
    if not path.exists():
        return Linkage(path)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [tuple(row) for row in csv.reader(file)]
        secret = next(new for kind, _, new in rows if kind == "secret")
        if header != _COLUMNS or not _SECRET.fullmatch(secret):
            raise ValueError("not a linkage file")
        patients = {original: new for kind, original, new in rows if kind == "patient"}
        others = {(kind, original): new for kind, original, new in rows if kind not in ("secret", "patient")}
    except (OSError, ValueError, StopIteration, csv.Error):
        raise ConfigError(
            "is no linkage file", where=str(path), needed="one written by `medrail deidentify`, or a new name"
        ) from None
    return Linkage(path, Keys(secret, patients), others)
