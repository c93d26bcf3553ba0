"""Remedies in the words of the verb that was typed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import medrail
from medrail.errors import GeometryError
from medrail.read.dicom.defects import _NEEDED, refusal
from medrail.types import Defect
from medrail.wording import CONVERT, PREDICT, SERVE, Words, in_words, reworded

_SOURCES = [path.read_text("utf-8") for path in (Path(medrail.__file__).parent / "read").rglob("*.py")]
_REMEDIES = sorted(
    {text for source in _SOURCES for text in re.findall(r'remedy\s*=\s*f?"([^"]+)"', source)}
    | {refusal([Defect(name, "evidence")]).remedy for name in _NEEDED}
)
# Keys of a project that have no option, and are right to be named: slides are read with a project's settings.
_KEYS_OF_PROJECTS = ("data.slide", "data.labels", "data.kind")


@pytest.mark.parametrize("words", [CONVERT, PREDICT, SERVE], ids=["convert", "predict", "serve"])
def test_no_remedy_of_a_reader_keeps_a_word_that_the_verb_does_not_know(words: Words) -> None:
    assert any("as the item" in remedy for remedy in _REMEDIES), "the library's own words"
    for remedy in _REMEDIES:
        said = in_words(remedy, words)
        for key in _KEYS_OF_PROJECTS:
            said = said.replace(key, "")
        if words is PREDICT or words is SERVE:
            said = said.replace("a model whose project says data.on_defect", "")
        if words is not SERVE:  # nobody sends a place of a slide
            assert not re.search(r"\bitem\b", said), remedy
        assert "data." not in said, remedy


def test_the_rest_of_an_error_stays() -> None:
    error = reworded(GeometryError("found", needed="one", where="x", remedy="Name one of them as the item."), CONVERT)
    assert str(error).startswith("x: found; needed: one. Name one of them with --series; `medrail inspect` says where")
