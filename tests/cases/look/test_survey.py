"""Looking at all cases: in parallel as alone, never stopped by one of them, and nothing is read twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medrail.cases import FileHashes
from medrail.cases.listing import Finding
from medrail.cases.look import examine, survey
from medrail.cases.look.examine import Facts, look
from medrail.config import Config
from medrail.types import Case

Write = Callable[..., Path]


@pytest.fixture
def config(configure: Callable[..., Config]) -> Config:
    return configure("classification", {"kind": "csv", "path": "x"})


@pytest.fixture
def cases(tmp_path: Path, picture: Write) -> list[Case]:
    paths = [picture(tmp_path / f"{n}.png", n) for n in range(7)]
    paths[3].write_bytes(b"\x89PNG\r\n\x1a\n")
    return [Case(f"c{n}", f"p{n}", (str(path),), "A") for n, path in enumerate(paths)]


def look_or_die(case: Case, config: Config) -> Facts:
    """Stands for a case that needs more memory than there is."""
    if case.id in ("c1", "c5"):
        os.kill(os.getpid(), signal.SIGKILL)
    return look(case, config)


def looked(cases: list[Case], config: Config, **how: object) -> dict[str, Facts]:
    found: dict[str, Facts] = {}
    survey.look_at_all(cases, config, found.__setitem__, **how)  # type: ignore[arg-type]
    return {case.id: found[case.id] for case in cases}


@pytest.mark.slow
def test_processes_find_what_one_process_finds(cases: list[Case], config: Config) -> None:
    alone = looked(cases, config, workers=1)
    assert looked(cases, config, workers=2) == alone
    assert [one.findings != () for one in alone.values()] == [n == 3 for n in range(7)]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.25, 10.0])
def test_a_killed_process_costs_its_own_case_only(
    seconds: float, cases: list[Case], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "_JOB_S", seconds)
    found: dict[str, Facts] = {}
    from collections import deque

    survey._in_processes(deque(cases), config, found.__setitem__, look_or_die, (2, 1 if seconds < 1 else 3))
    killed = {case_id for case_id, one in found.items() if [f.defect for f in one.findings] == ["too_much_memory"]}
    assert killed == {"c1", "c5"}
    assert set(found) == {case.id for case in cases}
    assert found["c0"] == look(cases[0], config)


@pytest.mark.slow
def test_where_no_process_can_start_it_is_done_all_the_same(tmp_path: Path, cases: list[Case]) -> None:
    """A script without the guard that spawned processes need."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from medrail.cases.look import survey\n"
        "from medrail.config import parse\n"
        "from medrail.types import Case\n"
        "config = parse({'task': 'classification', 'data': {'kind': 'csv', 'path': 'x'},"
        " 'model': {'name': 'tiny_cnn', 'dims': 2}})\n"
        "cases = [Case(f'c{n}', 'p', (f'{sys.argv[1]}/{n}.png',), 'A') for n in (0, 1, 2, 4, 5)]\n"
        "found = []\n"
        "survey.look_at_all(cases, config, lambda name, facts: found.append((name, facts.shape)), workers=2)\n"
        "print(sorted(found)[2], len(found))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip().splitlines()[-1] == "('c2', (1, 1, 7, 11)) 5", done.stderr


def test_an_unexpected_error_is_a_finding_without_its_text(
    cases: list[Case], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("PatientName Smith")

    monkeypatch.setattr(examine, "read", broken)
    (finding,) = look(cases[0], config).findings
    assert "unexpected ValueError in test_survey.py" in finding.what
    assert "Smith" not in str(finding)


def test_a_second_time_nothing_is_read(
    tmp_path: Path, cases: list[Case], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medrail.cases import fingerprint

    now = fingerprint.time.time()
    monkeypatch.setattr(fingerprint.time, "time", lambda: now + 60)
    count = 0
    read = examine.read

    def counting(*arguments: object) -> object:
        nonlocal count
        count += 1
        return read(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(examine, "read", counting)
    found = []
    for _ in range(2):
        with FileHashes(tmp_path / "hashes.db") as hashes:
            found.append(survey.survey(cases, config, hashes))
    assert count == len(cases) + 1  # the broken one is looked at again: it may have been the machine's fault
    assert found[0] == found[1]
    assert found[1]["c0"].thumbnail


facts = st.builds(
    Facts,
    pixels=st.text(),
    blank=st.booleans(),
    classes=st.lists(st.integers(0, 255)).map(tuple),
    shape=st.lists(st.integers(1, 5000), min_size=4, max_size=4).map(tuple),
    spacing_mm=st.lists(st.floats(0.001, 1e4), max_size=3).map(tuple),
    unit=st.sampled_from(["HU", "uint8", "arbitrary"]),
    low=st.floats(allow_nan=False, allow_infinity=False),
    high=st.floats(allow_nan=False, allow_infinity=False),
    signature=st.text(),
    text=st.text(),
    thumbnail=st.binary(),
    defects=st.lists(st.text()).map(tuple),
    evidence=st.lists(st.text()).map(tuple),
)


@given(facts)
def test_facts_come_back_as_they_were_kept(one: Facts) -> None:
    assert Facts.from_text(one.to_text()) == one


def test_padding_around_a_ct_is_no_part_of_its_range() -> None:
    values = np.full((1, 4, 64, 64), -3024, np.int16)
    values[..., 8:40, 8:40] = np.arange(-1000, 1000, 2000 / 1024).reshape(32, 32)
    low, high = examine._low_high(values, -1024.0)
    assert -1000 <= low <= -980
    assert 980 <= high <= 1000
    assert examine._low_high(values)[0] == -3024
    assert examine._low_high(np.full((1, 1, 4, 4), -3024, np.int16), -1024.0) == (-3024, -3024)


def test_percentiles_of_a_large_image_are_near_those_of_all_values() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(1, 40, 256, 256)).astype(np.float32)
    low, high = examine._low_high(values)
    assert np.allclose([low, high], np.percentile(values, (0.5, 99.5)), rtol=0.03)


def test_a_finding_is_never_remembered(tmp_path: Path, config: Config) -> None:
    with FileHashes(tmp_path / "hashes.db") as hashes:
        examine.keep("key", Facts(findings=(Finding("unreadable", "a", "b"),)), hashes)
        assert hashes.fact("key") is None
