"""The record of a run: whom it was trained on, and who may therefore not be judged with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from medrail.cases import Leak, Record, read_record, write_record
from medrail.errors import LeakError, RunError
from medrail.types import SPLITS, Case
from medrail.workspace import Run, Workspace


@pytest.fixture
def cases(tmp_path: Path) -> tuple[Case, ...]:
    """Six pictures of six patients, two of each split."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(6):
        path = tmp_path / "raw" / f"c{number}.png"
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (5, 7), dtype=np.uint8)).save(path)
        made.append(Case(f"c{number}", f"p{number}", (str(path),), "a", SPLITS[number // 2]))
    return tuple(made)


@pytest.fixture
def record(tmp_path: Path, cases: tuple[Case, ...]) -> Record:
    run = Workspace(tmp_path).run("r")
    write_record(run, cases)
    return read_record(run)


def test_a_record_reads_back_and_is_not_written_twice(record: Record, cases: tuple[Case, ...]) -> None:
    assert tuple(record.cases.values()) == cases
    before = record.run.case_table.stat().st_mtime_ns
    write_record(record.run, cases)
    assert record.run.case_table.stat().st_mtime_ns == before
    write_record(record.run, cases[1:])
    assert read_record(record.run).cases.keys() == {case.id for case in cases[1:]}


def test_splits_and_patients_are_those_of_the_training(record: Record, cases: tuple[Case, ...]) -> None:
    now = [replace(case, split="test", patient="other") for case in cases[1:]]
    added = replace(cases[0], id="new", split="test")
    assert record.known([*now, added]) == cases[1:]
    told = record.differences([*now[:-1], added], "test")
    assert told[0].startswith("1 case was added")
    assert told[1] == "1 of the run's test cases is no longer in the data"
    assert record.differences(cases, "test") == ()


@pytest.mark.parametrize(("split", "seen"), [("test", {"train", "val"}), ("val", {"train"}), ("train", set())])
@pytest.mark.parametrize("by", ["patient", "image"])
def test_what_the_network_has_seen_is_not_judged(
    record: Record, cases: tuple[Case, ...], split: str, seen: set[str], by: str
) -> None:
    record.refuse_leaks(cases, split)
    judged = next(case for case in cases if case.split == split)
    for other in cases:
        if other.split == split:
            continue
        if by == "patient":
            now = [replace(case, patient=other.patient) if case is judged else case for case in cases]
        else:
            now = list(cases)
            original = Path(judged.paths[0]).read_bytes()
            Path(judged.paths[0]).write_bytes(Path(other.paths[0]).read_bytes())
        if other.split in seen:
            with pytest.raises(LeakError, match=rf"1 of 2 cases .*{judged.id} \(its {by}"):
                record.refuse_leaks(now, split)
        else:
            record.refuse_leaks(now, split)
        if by == "image":
            Path(judged.paths[0]).write_bytes(original)


def test_what_the_images_show_counts_only_between_what_was_learned_and_what_is_judged(
    record: Record, cases: tuple[Case, ...]
) -> None:
    place = [case.paths[0] for case in cases]  # 0 1 train, 2 3 val, 4 5 test
    found = [
        Leak("near", (place[0], place[4], place[5]), ("train", "test")),
        Leak("exact", (place[0], place[2]), ("train", "val")),
        Leak("near", (place[1], place[5]), ("train", "test"), sure=False),
    ]
    leaked = record.leaked(cases, "test", found)
    assert leaked.reasons == {name: {"near": "its image is nearly that of c0"} for name in ("c4", "c5")}
    assert leaked.counts == {"exact": 0, "near": 1, "patient": 0, "cases": 2, "judged": 2}
    assert leaked.kinds("c4") == "near"
    assert leaked.kinds("c0") == ""
    with pytest.raises(LeakError, match=r"2 of 2 cases .*c4 \(its image is nearly that of c0\)") as caught:
        record.refuse_leaks(cases, "test", found)
    assert "--accept-leak" in str(caught.value)
    assert record.leaked(cases, "val", found).counts["exact"] == 1
    assert not record.leaked(cases, "train", found)
    both = [replace(case, patient="p0") if case.id == "c4" else case for case in cases]
    assert record.leaked(both, "test", found).kinds("c4") == "near patient"


def test_blank_images_are_no_leak(tmp_path: Path, cases: tuple[Case, ...]) -> None:
    for case in (cases[0], cases[5]):
        PIL.Image.new("L", (7, 5), 3).save(case.paths[0])
    run = Workspace(tmp_path).run("r")
    write_record(run, cases)
    read_record(run).refuse_leaks(cases, "test")


def test_a_run_without_a_record_or_with_a_broken_one_is_refused(tmp_path: Path, record: Record) -> None:
    with pytest.raises(RunError, match="medrail train"):
        read_record(Run(tmp_path / "runs" / "old"))
    record.run.images.write_text('{"sha256": 3}')
    with pytest.raises(RunError, match="broken"):
        read_record(record.run)
