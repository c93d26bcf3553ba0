"""What is said of cases that were read in spite of something."""

from __future__ import annotations

import pytest

from medrail.cases.check.judge import defect_findings
from medrail.cases.look.examine import Facts
from medrail.config import Config
from medrail.types import Case


@pytest.mark.parametrize(
    ("on_defect", "said"),
    [("refuse", "Read without what is set apart."), ("resample", "because data.on_defect is resample")],
)
def test_a_defect_that_is_no_choice_is_not_told_as_one(on_defect, said):
    case = Case("a", "p", ("a.dcm",), "x")
    facts = {"a": Facts(defects=("localiser_in_series",), evidence=("1 localiser slice",))}
    data = {"kind": "class_folders", "path": "x", "on_defect": on_defect}
    model = {"name": "tiny_cnn", "dims": 2}
    config = Config.model_validate({"name": "n", "task": "classification", "data": data, "model": model})
    (finding,) = defect_findings([case], facts, {}, config)
    assert said in finding.remedy
    assert "is refuse" not in finding.remedy
