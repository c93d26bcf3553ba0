"""The reference pages are made from the code, and say everything that the code takes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from medrail.arguments import build_parser
from medrail.config import Config
from medrail.plan import DRAWINGS
from medrail.prepare import STEPS

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_reference"] = module
    spec.loader.exec_module(module)
    return module


def keys(model: type[BaseModel], at: str = "") -> list[tuple[str, Any]]:
    """Every key of the configuration that holds a value, dotted, with its field."""
    found = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        inside = isinstance(kind, type) and issubclass(kind, BaseModel)
        found += keys(kind, f"{at}{name}.") if inside else [(f"{at}{name}", field)]
    return found


def test_no_page_is_stale(make_reference: ModuleType) -> None:
    assert make_reference.stale() == [], "run `make docs`"


def test_a_stale_page_would_be_noticed(make_reference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_reference, "PAGES", {"reference/configuration.md": lambda: "something else\n"})
    assert make_reference.stale() == ["reference/configuration.md"]


@pytest.mark.parametrize(("key", "field"), keys(Config), ids=lambda value: value if isinstance(value, str) else "")
def test_every_key_stands_there_with_a_description(key: str, field: Any) -> None:
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert field.description, f"{key} has no description in config.py"
    rows = [line for line in page.splitlines() if line.startswith(f"| `{key}` |")]
    assert len(rows) == 1
    assert rows[0].endswith(f"| {field.description.replace('|', chr(92) + '|')} |")


@pytest.mark.parametrize("kind", STEPS)
def test_every_step_stands_there_with_its_parameters(kind: str) -> None:
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    section = page.split(f"\n### {kind}\n", 1)[1].split("\n### ", 1)[0]
    for name in STEPS[kind].model_fields:
        assert name == "kind" or f"| `{name}` |" in section


def test_every_verb_and_option_stands_there() -> None:
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    verbs = next(action for action in build_parser()._actions if isinstance(action.choices, dict))
    for name, verb in verbs.choices.items():
        section = page.split(f"\n## medrail {name}\n", 1)[1].split("\n## ", 1)[0]
        assert f"medrail {name}" in section
        for option in verb._option_string_actions:
            assert option in ("-h", "--help") or f"{option}" in section


def test_types_are_words_and_not_python(make_reference: ModuleType) -> None:
    page = make_reference.configuration()
    cells = [line.split(" | ")[1] for line in page.splitlines() if line.startswith("| `")]
    assert not [cell for cell in cells if re.search(r"typing|class |\bNone\b|annotated|tuple|\bstr\b|\bint\b", cell)]


def test_the_how_to_draws_every_layout() -> None:
    page = (DOCS / "how-to" / "bring-your-own-data.md").read_text(encoding="utf-8")
    for drawing in DRAWINGS.values():
        assert drawing.text in page


def test_the_how_tos_settings_are_understood() -> None:
    page = (DOCS / "how-to" / "bring-your-own-data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```yaml\n(.*?)^ *```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    for indent, block in blocks:
        values = YAML(typ="safe", pure=True).load(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE))
        plain = {"task": "segmentation", "model": {"name": "unet", "dims": 2}, **values}
        data = {"kind": "csv", "path": "t.csv", "classes": ["background", "x"], **values.get("data", {})}
        config = Config.model_validate({**plain, "data": data})
        if config.data.patient_pattern:
            found = re.search(config.data.patient_pattern, "train/person12_a.png")
            assert found is not None
            assert found.group(1) == "person12"
