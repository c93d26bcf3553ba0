"""Leaks and duplicates from what is known of each case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cases.conftest import make_config
from cases.near.test_near import image, scene
from medrail.cases.check.judge import leak_finding
from medrail.cases.leaks import doubtful_leaks, duplicates, find_leaks, near_of
from medrail.cases.near.pairs import NearPair, signature_of
from medrail.types import Case, SplitName


@dataclass(frozen=True)
class Known:
    pixels: str
    signature: str
    blank: bool = False
    classes: tuple[int, ...] = ()


def known(picture: np.ndarray) -> Known:
    signature = signature_of(image(picture))
    return Known(str(hash(picture.tobytes())), signature.to_text() if signature else "", signature is None)


def case(name: str, split: SplitName, target: str = "A", patient: str = "") -> Case:
    return Case(name, patient or name, (f"{name}.png",), target, split)


def test_each_kind_of_leak_is_found_and_named() -> None:
    one, two, three = scene(1), scene(2), scene(3)
    pictures = {"a": one, "b": one, "c": two, "d": np.rot90(two).copy(), "e": three, "f": scene(4), "g": scene(5)}
    splits: dict[str, SplitName] = {**dict.fromkeys("aceg", "train"), **dict.fromkeys("bf", "test"), "d": "val"}
    cases = [case(name, splits[name], patient="P" if name in "ef" else "") for name in pictures]
    facts = {name: known(picture) for name, picture in pictures.items()}
    leaks = {leak.kind: leak for leak in find_leaks(cases, facts)}
    assert leaks["exact"].group == ("a.png", "b.png")
    assert leaks["exact"].splits == ("train", "test")
    assert leaks["near"].group == ("c.png", "d.png")
    assert leaks["near"].splits == ("train", "val")
    assert "rotated by 90 degrees" in leaks["near"].how
    assert leaks["patient"].group == ("e.png", "f.png")
    assert duplicates(cases, facts) == []


def test_blank_images_leak_nothing() -> None:
    blank = np.zeros((40, 40), np.uint8)
    facts = {"a": known(blank), "b": known(blank)}
    assert find_leaks([case("a", "train"), case("b", "test")], facts) == ()


def test_copies_within_a_split_and_contradicting_labels() -> None:
    one, two = scene(1), scene(2)
    facts = {"a": known(one), "b": known(one), "c": known(two), "d": known(two[::-1].copy())}
    cases = [case("a", "train"), case("b", "train", "B"), case("c", "test"), case("d", "test", "B")]
    found = [(finding.defect, finding.where, finding.severity) for finding in duplicates(cases, facts)]
    assert found == [
        ("duplicate", "a.png", "warn"),
        ("contradicting_labels", "a.png", "warn"),
        ("near_duplicate", "c.png", "warn"),
        ("contradicting_labels", "c.png", "warn"),
    ]
    assert find_leaks(cases, facts) == ()


def test_what_is_doubtful_stops_nothing_and_is_shown() -> None:
    facts = {name: known(scene(seed)) for seed, name in enumerate("abc")}
    cases = [case("a", "train"), case("b", "test"), case("c", "test")]
    pairs = [NearPair("a", "b", "same orientation", 0.94, sure=False)]
    assert find_leaks(cases, facts, pairs) == ()
    (leak,) = doubtful_leaks(cases, facts, pairs)
    assert (leak.kind, leak.group, leak.sure) == ("near", ("a.png", "b.png"), False)


def test_a_chain_of_copies_is_one_group() -> None:
    picture = scene(1, 240, 300)
    pictures = {"a": picture, "b": picture[:, ::-1].copy(), "c": picture[8:, 8:].copy(), "d": scene(9)}
    facts = {name: known(one) for name, one in pictures.items()}
    cases = [case("a", "train"), case("b", "train"), case("c", "test"), case("d", "test")]
    (leak,) = find_leaks(cases, facts)
    assert leak.group == ("a.png", "b.png", "c.png")
    assert "as a.png" in leak.evidence[1]
    assert "mirror" in leak.evidence[1] or "flip" in leak.evidence[1]
    assert "crop" in leak.evidence[2]


def test_each_member_of_a_chain_has_its_own_evidence() -> None:
    picture = scene(1, 240, 300)
    facts = {"a": known(picture), "b": known(picture), "c": known(picture[:, ::-1].copy())}
    cases = [case("a", "train"), case("b", "test"), case("c", "test")]
    near = next(leak for leak in find_leaks(cases, facts) if leak.kind == "near")
    assert near.evidence[:2] == ("the same pixels as b.png", "the same pixels as a.png")
    assert "correlation" in near.evidence[2]
    told = leak_finding(near, make_config("classification", {"kind": "class_folders", "path": "."})).what
    assert "b.png (the same pixels as a.png), c.png (as a.png, " in told
    assert len(near_of(cases, facts)) >= 2
