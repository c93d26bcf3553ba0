"""The page on DICOM says what the reader does today with each file that pydicom ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.slow
def test_the_dicom_page_is_not_stale() -> None:
    spec = importlib.util.spec_from_file_location("make_dicom_table", DOCS / "make_dicom_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = module.page()
    assert text == (DOCS / "reference" / "dicom.md").read_text(encoding="utf-8"), "run docs/make_dicom_table.py"
    assert str(Path.home()) not in text
    assert "site-packages" not in text
