"""Ids are unique, file-name safe and independent of the order."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.cases.layouts.ids import LONGEST, is_safe_id, safe_id, unique_ids

NAMES = st.lists(
    st.text(st.one_of(st.sampled_from("aAbB./-_ :éß"), st.characters(exclude_categories=["Cs"])), max_size=200),
    unique=True,
    max_size=20,
)


@given(NAMES)
@settings(deadline=None)
def test_ids_are_unique_and_safe(names: list[str]) -> None:
    ids = unique_ids(names)
    assert len({unicodedata.normalize("NFC", text.casefold()) for text in ids}) == len(names)
    for text in ids:
        assert is_safe_id(text)
        assert not set(text) & set('/\\:*?"<>| \0')
        assert text[0] not in ".-"
        assert len(text.encode()) <= LONGEST + 40


@given(NAMES.filter(bool), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_does_not_matter(names: list[str], shuffler: object) -> None:
    backwards = names[::-1]
    assert dict(zip(names, unique_ids(names), strict=True)) == dict(zip(backwards, unique_ids(backwards), strict=True))


def test_what_a_person_sees() -> None:
    assert unique_ids(["train/NORMAL/IM 01.jpeg", "b/1.nii.gz"]) == ["train-NORMAL-IM-01", "b-1"]
    assert safe_id("nul") == "case-nul"
    assert safe_id("../..") == "case"
    one, two = unique_ids(["a.png", "A.jpg"])
    assert one.startswith("a-")
    assert two.startswith("A-")
