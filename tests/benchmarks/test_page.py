"""The page and the READMEs say what the results say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_page() -> ModuleType:
    return module_at(ROOT / "benchmarks" / "make_page.py")


def test_page_is_of_the_results(make_page: ModuleType) -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == make_page.page()


def test_results_on_real_data_are_of_the_results(make_page: ModuleType) -> None:
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == make_page.results()


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_table_of_the_readme_is_of_the_results(make_page: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert make_page.with_speed(name, text) == text


def test_table_of_coverage_is_of_the_results(make_page: ModuleType) -> None:
    text = make_page.STATISTICS.read_text(encoding="utf-8")
    assert make_page.with_coverage(text) == text


def test_what_slimming_reached_is_of_the_results() -> None:
    table = module_at(ROOT / "benchmarks" / "slim" / "table.py")
    text = table.PAGE.read_text(encoding="utf-8")
    assert table.with_table(text) == text
