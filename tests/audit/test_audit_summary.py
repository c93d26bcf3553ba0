"""The audit log read back: every line counted once, whatever lies between them."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medrail.audit import Span, find_logs, records, summarise, write_summary
from medrail.audit.logs import Found
from medrail.audit.summary import percentile
from medrail.cli import main
from medrail.errors import ConfigError, DataError

BEGIN = datetime(2026, 11, 27, 22, 0, tzinfo=UTC)


def line(minutes: float = 0, **values: Any) -> str:
    usual = {
        "time": (BEGIN + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": "request",
        "request_id": "x",
        "key_id": None,
        "route": "/v1/predict/image",
        "status": 200,
        "total_ms": 10.0,
        "model": "chest",
        "version": "1",
    }
    return json.dumps(usual | values)


def answer(minutes: float, name: str, **more: Any) -> str:
    timings = {"decode": 1.0 + minutes, "model": 5.0, "unknown": 3.0}
    return line(minutes, timings_ms=timings, result={"class_name": name, "abstain": name == "yes"}, **more)


def folder_of(path: Path, *lines: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "audit.jsonl").write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
    return path


def read(*paths: Path, since: str = "", until: str = ""):
    found = Found()
    return summarise(records(find_logs(paths), Span.of(since, until), found)), found


def test_every_table_adds_up_to_the_requests(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    lines = [
        line(
            float(rng.integers(0, 3000)),
            route=str(rng.choice(["/v1/predict/image", "/v1/models"])),
            status=int(rng.choice([200, 413, 500])),
            key_id=[None, "k1", "k2"][rng.integers(0, 3)],
            version=str(rng.integers(1, 3)),
        )
        for _ in range(300)
    ]
    summary, found = read(folder_of(tmp_path, *lines))
    assert (summary.requests, found.lines, found.broken) == (300, 300, 0)
    for table in (summary.by_day, summary.by_route, summary.by_model, summary.keys):
        assert sum(sum(row.values()) for row in table.values()) == 300
        for status, count in summary.by_status.items():
            assert sum(row.get(status, 0) for row in table.values()) == count
    assert len(summary.by_day) == 3


def test_answers_times_and_refusals(tmp_path: Path) -> None:
    lines = [answer(minute, "yes" if minute < 5 else "no") for minute in range(25)]
    lines += [line(30, status=415, problem="unsupported-format", timings_ms={"decode": 999.0})]
    lines += [line(31, result=[{"class_name": "no"}, {"findings": ["mass", "nodule"]}, {"findings": []}])]
    lines += [line(32, result={"volumes_ml": {"brain": 1200.0}}, process_peak_mb=321.5)]
    summary, _ = read(folder_of(tmp_path, *lines))
    assert summary.answers == {"chest/1": {"(none)": 1, "mass": 1, "no": 21, "nodule": 1, "yes": 5}}
    assert (summary.answered, summary.abstained) == ({"chest/1": 29}, {"chest/1": 5})
    assert summary.problems == {"unsupported-format": 1}
    assert summary.latency_ms["decode"] == {"n": 25, "p50": 13.0, "p95": 24.0, "p99": None}
    assert "unknown" not in summary.latency_ms
    assert summary.peak_mb == 321.5


def test_long_work_counts_once_where_it_was_done(tmp_path: Path) -> None:
    done = {"job_id": "j", "result": {"class_name": "no"}, "timings_ms": {"model": 900.0}}
    lines = [
        line(0, status=202, job_id="j"),
        line(5, event="job", job_status="done", status=None, **done),
        line(6, route="/v1/jobs/{job_id}/result", **done),
        line(7, route="/v1/jobs/{job_id}/result", **done),
        line(8, event="job", job_status="failed", problem="corrupt-file"),
        line(9, route="/v1/jobs/{job_id}/result", status=422, problem="corrupt-file"),
        line(10, event="job"),
    ]
    summary, found = read(folder_of(tmp_path, *lines))
    assert (summary.requests, found.broken) == (4, 1)
    assert summary.jobs == {"done": 1, "failed": 1}
    assert summary.answers == {"chest/1": {"no": 1}}
    assert summary.latency_ms["model"]["n"] == 1
    assert summary.problems == {"corrupt-file": 1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1e6), max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], share: float) -> None:
    ranked = sorted(values)
    found = percentile(ranked, share)
    if len(ranked) * (1 - share) < 1 - 1e-9:
        assert found is None
        return
    assert found is not None
    assert sum(value <= found for value in ranked) >= share * len(ranked) - 1e-6
    assert sum(value < found for value in ranked) < share * len(ranked)


def test_rotated_and_compressed_files_count_as_one_log(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "project" / "logs", line(0), line(1))
    (folder / "audit.jsonl.1").write_text(line(2) + "\n", encoding="utf-8")
    (folder / "audit.jsonl.2.gz").write_bytes(gzip.compress((line(3) + "\n").encode()))
    (folder / ".audit.jsonl.lock").write_text("")
    (folder / "service.jsonl").write_text(line(4) + "\n", encoding="utf-8")
    for paths in ((folder,), (tmp_path / "project",), (folder, folder / "audit.jsonl.1")):
        summary, found = read(*paths)
        assert (summary.requests, found.files) == (4, 3)


def test_what_is_broken_is_counted_and_the_rest_read(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"{line(n)}\n" for n in range(2000)).encode(), mtime=0)
    broken = ['{"time": "2026-11-27T22:', "[]", "", '{"event": "request"}', "[" * 5000, line(0, status="200")]
    broken += [line(0, time="yesterday"), "null", "\x00\x00"]
    gap = json.dumps({"time": "2026-11-27T22:00:01Z", "event": "gap", "lost": 7})
    folder = folder_of(tmp_path, line(0), *broken, gap, line(1))
    (folder / "audit.jsonl.1.gz").write_bytes(whole[: len(whole) // 2])
    summary, found = read(folder)
    assert found.broken in (len(broken) + 1, len(broken) + 2)  # the end of the cut file, maybe within a line
    assert found.lost == 7
    assert 2 <= summary.requests < 2002
    assert found.lines == summary.requests + found.broken + 1


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("", "", 4),
        ("2026-11-27", "2026-11-27", 2),
        ("2026-11-28", "", 2),
        ("", "2026-11-27T22:30", 1),
        ("2026-11-27T22:30:00", "2026-11-28T00:00:00+00:00", 1),
        ("2026-11-28T00:00+02:00", "", 4),
        ("2027-01-01", "", 0),
    ],
)
def test_a_span_takes_its_beginning_and_not_its_end(tmp_path: Path, since: str, until: str, expected: int) -> None:
    folder = folder_of(tmp_path, line(0), line(30), line(120), line(24 * 60))
    assert read(folder, since=since, until=until)[0].requests == expected


@pytest.mark.parametrize("text", ["tomorrow", "2026-13-01", "27.11.2026", "9999-12-31"])
def test_a_time_that_is_none_is_wrong_usage(text: str) -> None:
    with pytest.raises(ConfigError, match="2026-11-27"):
        Span.of(until=text)
    with pytest.raises(ConfigError):
        Span.of("2026-11-28", "2026-11-27")


def test_a_path_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"audit\.jsonl"):
        find_logs([tmp_path])
    with pytest.raises(ConfigError, match="no such"):
        find_logs([tmp_path / "nowhere"])


class Page(HTMLParser):
    """Tags that were opened and closed, and where a page would ask something of the network."""

    VOID = frozenset({"meta", "input", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asks: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.asks += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_holds_everything_itself_whatever_the_log_says(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>\u202e\x00"
    lines = [answer(minute, nasty, route=nasty, key_id=nasty, model=nasty, problem=nasty) for minute in range(120)]
    summary, found = read(folder_of(tmp_path / "logs", *lines))
    page, result = write_summary(summary, found, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    parsed = Page()
    parsed.feed(text)
    assert (parsed.open, parsed.asks, parsed.scripts) == ([], [], 1)
    assert "\u202e" not in text
    assert json.loads(result.read_text(encoding="utf-8"))["requests"] == 120
    empty, _ = write_summary(summarise([]), Found(), tmp_path / "empty")
    assert "No request in this time" in empty.read_text(encoding="utf-8")


def test_the_verb_tells_and_writes(tmp_path: Path, capsys) -> None:
    folder = folder_of(tmp_path / "logs", *[answer(minute, "no", key_id="ward") for minute in range(25)], "broken")
    assert main(["audit", "summary", str(folder), "-o", str(tmp_path / "out"), "--since", "2026-11-27T22:05"]) == 0
    told = capsys.readouterr().out
    assert "20 requests from 2026-11-27 22:05 to 2026-11-27 22:24" in told
    for word in ("ward", "decode", "/v1/predict/image", "1 lines that cannot be read", "audit.html"):
        assert word in told
    assert main(["audit", "summary", str(folder), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["requests"], values["broken"], values["keys"]) == (25, 1, {"ward": {"200": 25}})
    assert math.isclose(values["latency_ms"]["total"]["p50"], 10.0)
    assert main(["audit", "summary", str(tmp_path / "nowhere")]) == 2
