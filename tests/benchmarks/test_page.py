"""The page and the READMEs say what the results say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def make_page() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_page", ROOT / "benchmarks" / "make_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
