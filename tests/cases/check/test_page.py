"""The page of the check: whole, safe whatever files are called, bounded, and with the pictures that belong together."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import medrail
from medrail.cases import check_data
from medrail.cases.check import page as page_module
from medrail.cases.check.charts import bars, histogram
from medrail.cases.check.page import page, safe
from medrail.cases.check.report import CheckReport, Examined
from medrail.cases.check.summary import summarise
from medrail.cases.check.words import DEFECTS, MEASURES, WORDS
from medrail.cases.listing import Finding
from medrail.cases.look.examine import Facts
from medrail.config import Config
from medrail.read.dicom.defects import DEFECTS as DICOM_DEFECTS
from medrail.types import Case
from medrail.workspace import Workspace

Write = Callable[..., Path]
VOID = {"meta", "input", "img", "br"}


class Reader(HTMLParser):
    """Every element, its attributes, and whether all that is opened is closed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def report_of(cases: list[Case], findings: list[Finding], thumbnail: bytes = b"") -> CheckReport:
    facts = {case.id: Facts("x", shape=(1, 1, 7, 11), unit="uint8", thumbnail=thumbnail) for case in cases}
    return CheckReport(
        cases=len(cases),
        patients=len(cases),
        splits={"train": len(cases), "val": 0, "test": 0},
        classes={},
        table=(("split", "cases", "usable", "patients"), ("train", *[str(len(cases))] * 3)),
        leaks=(),
        findings=tuple(findings),
        summary=summarise(cases, facts, {}),
        examined=Examined(tuple(cases), facts),
    )


HOSTILE = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-->]]>", "a\u202eb", "\x00\x1b[31m", "</style>"]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=60)
@given(HOSTILE, HOSTILE, HOSTILE)
@example("<script>alert(1)</script>", "</title><script>x", '" onmouseover="x')
def test_no_name_becomes_markup(name: str, label: str, what: str) -> None:
    """The same elements and attributes stand in the page whatever the file, the class and the message are called."""

    def shape(name: str, label: str, what: str) -> list[tuple[str, list[str]]]:
        case = Case("id", "p", (f"/data/{name}",), label, "train")
        finding = Finding("unreadable", f"/data/{name}", what, "Do it.", "warn")
        html = page(report_of([case], [finding]), name)
        return [(tag, sorted(attributes)) for tag, attributes in read(html).elements]

    assert shape(name.replace("/", "."), f"L{label.replace('/', '.')}", what) == shape("a.png", "L", "b")


@given(st.text(max_size=60))
def test_safe_text_has_no_markup_and_nothing_unseen(text: str) -> None:
    shown = safe(text)
    assert not set("<>\"'") & set(shown)
    assert shown.isprintable()
    shown.encode()


def test_lone_surrogates_and_direction_marks_are_shown() -> None:
    assert safe("a\udcff\u202eb\n") == "a\\udcff\\u202eb\\u000a"


def test_the_page_asks_no_network_and_needs_no_script(tmp_path: Path) -> None:
    html = page(report_of([Case("a", "p", ("/data/a.png",), "A", "train")], []), "data")
    reader = read(html)
    for tag, attributes in reader.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html
    text = " ".join(reader.text)
    assert "Not a medical device" in text
    assert "非医疗器械" in text


def test_a_leak_shows_its_images_side_by_side(
    tmp_path: Path, picture: Write, configure: Callable[..., Config], workspace: Workspace
) -> None:
    for n, split in enumerate(("train", "train", "val", "test")):
        picture(tmp_path / "data" / split / "A" / f"{n}.png", n)
    shutil.copy(tmp_path / "data/train/A/0.png", tmp_path / "data/test/A/copy.png")
    data = {"kind": "class_folders", "path": str(tmp_path / "data"), "patient_pattern": r"/(\w+)\.png"}
    report = check_data(configure("classification", data, split={"by": "given"}), workspace)
    html = page(report, "data")
    read(html)
    (finding,) = re.findall(r'<div class="finding".*?remedy|<div class="finding".*?</div></div>', html, re.S)
    assert finding.count("<img") == 2
    assert ">train</span>" in finding
    assert ">test</span>" in finding
    assert html.index("exact_leak") < html.index("What they look like")


def test_the_page_is_bounded_and_says_so() -> None:
    cases = [Case(f"c{n}", f"p{n}", (f"/data/{n}.png",), f"L{n % 40}", "train") for n in range(3000)]
    findings = [Finding("unreadable", case.paths[0], "broken", "Copy it.", "warn") for case in cases]
    noise = np.random.default_rng(0).bytes(30_000)
    html = page(report_of(cases, findings, noise), "data")
    assert len(html.encode()) < 5_500_000
    assert "kept below 5 MB" in html
    assert "2,776 more of this kind" in html


def test_pictures_that_fit_are_all_shown() -> None:
    cases = [Case(f"c{n}", f"p{n}", (f"/data/{n}.png",), "A", "train") for n in range(12)]
    html = page(report_of(cases, [], b"abc"), "data")
    assert html.count("<img") == 12
    assert "kept below 5 MB" not in html


def test_every_word_is_in_both_languages() -> None:
    for english, chinese in (*WORDS.values(), *DEFECTS.values(), *MEASURES.values()):
        assert chinese
        assert english or chinese.startswith("以下")


@pytest.mark.parametrize("name", ["a <b>", "x" * 99, "病"])
def test_drawings_are_whole(name: str) -> None:
    reader = read(bars({name: {"A & B": 3, "C": 0}, "b": {"A & B": 0}}, "t"))
    assert ("svg", "img") in [(tag, attributes.get("role")) for tag, attributes in reader.elements]
    read(histogram([1.0, 2.0, 2.0, 1e9], (name, name), " mm"))
    read(histogram([5.0, 5.0], (name, name)))
    read(bars({}, "none"))


def test_many_alike_findings_are_one_line_for_a_person() -> None:
    findings = [Finding("unreadable", f"/data/{n}.png", "broken", "Copy it.", "warn") for n in range(200)]
    report = report_of([], [*findings, Finding("empty_split", "split test", "none")])
    assert report.lines("stop") == ("empty_split: split test: none",)
    (line,) = report.lines("warn")
    assert line.startswith("200 x unreadable: /data/0.png: broken. Copy it.")
    assert "1.png, 2.png and 197 more" in line
    assert len(report.to_json()["findings"]) == 201


def test_an_item_in_a_file_is_named_whole() -> None:
    findings = [Finding("blank", f"/data/p/set.npz [train/{n}]", "empty", "", "warn") for n in range(5)]
    (line,) = report_of([], findings).lines("warn")
    assert line.endswith("The same kind: set.npz [train/1], set.npz [train/2] and 2 more")


def test_every_kind_of_finding_has_a_title_in_both_languages() -> None:
    """Findings are made by name all over the package: each name that is written there is in the table."""
    package = Path(medrail.__file__).parent
    text = "".join(path.read_text(encoding="utf-8") for path in package.rglob("*.py"))
    made = set(re.findall(r'(?:Finding|finding_of)\(\s*"([a-z_]+)"', text)) | set(DICOM_DEFECTS)
    made |= set(re.findall(r'self\._(?:add|file)\(row, (?:"[a-z]+", )?"([a-z_]+)"', text))
    assert len(made) > 40
    assert made - set(DEFECTS) == set()


def test_a_long_label_is_cut_where_its_room_ends() -> None:
    scanner, chinese = "GE Medical Systems Optima CT660", "西门子医疗系统有限公司的扫描仪型号"
    labels = re.findall(
        r'text-anchor="end">([^<]*)<', bars({scanner: {"": 1}, chinese: {"": 1}, "short": {"": 1}}, "t")
    )
    assert labels[0].startswith("GE Medical Systems")
    assert labels[0].endswith("…")
    assert labels[1].endswith("…")
    assert len(labels[1]) <= 15
    assert labels[2] == "short"


def test_the_budget_is_for_what_stands_in_the_page() -> None:
    assert page_module._PICTURE_BYTES <= 4_500_000
