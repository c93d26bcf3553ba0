"""The law of the writer: what it writes is read back as the same configuration, comments and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from medrail.config import Config, load
from medrail.plan import Plan, config_text
from medrail.plan.writer import scalar

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(1e-12, 1e12)


def plan_of(config: Config, notes: list[str]) -> Plan:
    facts = [("Images", "\n".join(notes)), ("Kind", "grey"), ("Training", "long")]
    return Plan(config, facts, notes, notes, [], None)


def config_of(**data: Any) -> Config:
    values = {"kind": "csv", "path": "t.csv", **data}
    return Config.model_validate({"task": "classification", "data": values, "model": {"name": "tiny_cnn", "dims": 2}})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=texts,
    pattern=texts,
    classes=st.lists(texts, max_size=4),
    lr=numbers,
    step=st.dictionaries(texts, st.one_of(texts, numbers, st.booleans(), st.none(), st.lists(numbers)), max_size=3),
    notes=st.lists(texts, max_size=3),
)
@example(
    path="C:\\Users\\a b\\#1", pattern="(?<![a-z])\\d+", classes=["no", "1", "null", ""], lr=1e-05, step={}, notes=[]
)
@example(
    path="a: b", pattern="*", classes=["~", "yes", "0x1f", "1e3", "肺"], lr=1.0, step={"a": "- b"}, notes=["a\nb: c"]
)
@example(path="\u2028\x85\x07\U0001f600", pattern="'\"", classes=["<<", "="], lr=1e22, step={}, notes=["\u2028x: 1"])
def test_any_configuration_comes_back(
    tmp_path: Path,
    path: str,
    pattern: str,
    classes: list[str],
    lr: float,
    step: dict[str, Any],
    notes: list[str],
) -> None:
    config = config_of(path=path, pattern=pattern, patient_pattern=pattern, classes=tuple(classes))
    steps = ({"kind": "x", **step},)
    config = config.model_copy(
        update={
            "train": config.train.model_copy(update={"lr": lr}),
            "prepare": config.prepare.model_copy(update={"steps": steps}),
        }
    )
    file = tmp_path / "medrail.yaml"
    file.write_text(config_text(config, plan_of(config, notes)), encoding="utf-8")
    assert load(file) == config


@given(
    st.recursive(st.one_of(texts, numbers, st.integers(), st.booleans(), st.none()), lambda x: st.lists(x, max_size=3))
)
def test_scalars_come_back(value: Any) -> None:
    assert YAML(typ="safe", pure=True).load(f"key: {scalar(value)}") == {"key": value}


def test_every_section_is_explained_and_lines_stay_readable() -> None:
    config = config_of()
    text = config_text(config, plan_of(config, ["a long note " * 30]))
    lines = text.splitlines()
    for section in ("data", "split", "prepare", "model", "train", "evaluate", "slim", "export", "serve"):
        assert lines[lines.index(f"{section}:") - 1].startswith("# ")
    assert max(map(len, lines)) <= 120
    assert "# inferred" in lines
    assert "# unsure: check this" in lines
