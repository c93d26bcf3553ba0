"""A CSV as people and spreadsheets write it: any of three delimiters, a BOM or none, quoted cells, line numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medrail.cases.listing import counted, shown
from medrail.config import did_you_mean
from medrail.errors import CaseError

# What people call the columns, the likeliest first.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": (
        *("path", "image", "image_path", "filepath", "file_path", "filename", "file_name", "file", "img", "img_path"),
        *("image_file", "image_name", "image_filename", "image_id", "image_index", "images", "scan", "volume"),
        *("slide", "slide_path", "slide_file", "slide_name", "slide_id", "wsi"),
    ),
    "label": (
        *("label", "class", "class_name", "class_label", "target", "diagnosis", "category", "labels", "finding"),
        *("findings", "finding_labels"),
    ),
    "mask": (
        *("mask", "mask_path", "segmentation", "seg", "annotation", "mask_file", "mask_name", "label_path", "labelmap"),
        *("label", "target"),
    ),
    "patient": ("patient", "patient_id", "patientid", "subject", "subject_id", "participant", "participant_id"),
    "split": ("split", "subset", "partition", "set", "fold_name"),
    "fold": ("fold", "folds", "fold_id", "kfold", "cv_fold"),
    "centre": ("centre", "center", "site", "institution", "hospital", "centre_id", "center_id", "site_id"),
    "sex": ("sex", "gender", "patient_sex", "patient_gender"),
    "age": ("age", "patient_age", "age_years", "age_at_scan", "age_at_study", "age_group", "age_band"),
    "scanner": ("scanner", "scanner_model", "manufacturer_model", "manufacturer", "vendor", "device"),
    "item": ("item", "series", "series_id"),
    "annotation": ("annotation", "annotations", "annotation_path", "geojson", "mask", "mask_path", "segmentation"),
    "um_per_px": ("um_per_px", "mpp", "microns_per_pixel", "um_per_pixel"),
    "roi": ("roi", "roi_path", "roi_mask"),
    "id": ("id", "case", "case_id"),
}


@dataclass(frozen=True)
class Row:
    """One row: its cells by column name, and the line of the file it begins on."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Sheet:
    """A CSV: the header as it stands there, and the rows."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, meaning: str) -> str:
        """The header of the column that means "path", "label", ... (see COLUMNS), or ""."""
        by_name = {_plain(name): name for name in reversed(self.header)}
        return next((by_name[name] for name in COLUMNS[meaning] if name in by_name), "")

    def need(self, meaning: str) -> str:
        """As ``column``, but it must be there.

        Raises
        ------
        CaseError
            With the columns that were found and the names that would do.
        """
        found = self.column(meaning)
        if not found:
            near = next((text for name in self.header if (text := _near(name, meaning))), "")
            raise CaseError(
                f"no column for the {meaning}; the columns are {shown(map(repr, self.header), 12)}",
                needed=f"one called {meaning} (or {shown(COLUMNS[meaning][1:], 4)})",
                where=f"{self.path}, line 1",
                remedy=near or "Rename the column that holds it.",
            )
        return found

    def cell(self, row: Row, column: str) -> str:
        """The stripped text of a cell; "" where the table has no such column."""
        return row.cells.get(column, "").strip() if column else ""

    def where(self, row: Row) -> str:
        return f"{self.path}, line {row.line}"


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]+", "_", name.strip().lower())


def _near(name: str, meaning: str) -> str:
    suggestion = did_you_mean(_plain(name), COLUMNS[meaning], or_else=False)
    return f"Is {name!r} meant? {suggestion}" if suggestion else ""


def read_sheet(path: Path) -> Sheet:
    """Read a CSV with a header line; the delimiter (comma, semicolon or tab) is the one the header has most of.

    Raises
    ------
    CaseError
        If the file is missing, not text, empty, or has rows of more cells than the header.
    """
    text = _text(path)
    lines = text.split("\n", 1)
    if not lines[0].strip():
        raise CaseError("the table is empty", where=str(path), needed="a header line with column names")
    delimiter = max(",;\t", key=lines[0].count)
    header, rows = _parse(path, text, delimiter)
    return Sheet(path, header, tuple(rows))


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CaseError("there is no such file", where=str(path), remedy="Correct the path in medrail.yaml.") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CaseError(f"cannot be read ({reason})", where=str(path), needed="a CSV file") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise CaseError(
            "the table is not UTF-8 text",
            where=f"{path}, line {line}",
            needed="UTF-8, so that names with accents or Chinese characters are not mistaken",
            remedy='Save it again as "CSV UTF-8".',
        ) from None
    if "\0" in text:
        raise CaseError("the file is binary, not a table", where=str(path), needed="a CSV file")
    return text


def _parse(path: Path, text: str, delimiter: str) -> tuple[tuple[str, ...], list[Row]]:
    rows: list[Row] = []
    wrong: list[str] = []
    header: tuple[str, ...] = ()
    for line, cells in _numbered(path, text, delimiter):
        if not header:
            header = tuple(cell.strip() for cell in cells)
            _refuse_doubles(path, header)
        elif len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
            wrong.append(f"\n  - {path}, line {line}: {len(cells)} cells for {counted(len(header), 'column')}")
        elif any(cell.strip() for cell in cells):
            rows.append(Row(line, dict(zip(header, cells, strict=False))))
    if wrong:
        count = "1 row does" if len(wrong) == 1 else f"{len(wrong)} rows do"
        remedy = f"Put cells that contain {delimiter!r} in double quotes."
        raise CaseError(f"{count} not fit the header:{''.join(wrong)}", remedy=remedy)
    return header, rows


def _numbered(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line each begins on; a quoted cell may go over several lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        where = f"{path}, line {line}"
        raise CaseError(f"not a CSV row: {error}", where=where, remedy="Look for an unclosed quote.") from None


def _refuse_doubles(path: Path, header: Sequence[str]) -> None:
    doubles = sorted({name for name in header if name and header.count(name) > 1})
    if doubles:
        raise CaseError(f"two columns are called {shown(map(repr, doubles))}", where=f"{path}, line 1")
