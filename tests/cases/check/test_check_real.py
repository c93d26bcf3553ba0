"""The check on real data: chest X-ray as it was published, and a CT series with a fault in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medrail.cases import check_data
from medrail.cases.check.page import page
from medrail.config import Config
from medrail.plan.patients import propose
from medrail.workspace import Workspace

Configure = Callable[..., Config]
pytestmark = pytest.mark.shared


def test_the_published_chest_x_ray_split_divides_patients(
    shared_data: Path, tmp_path: Path, configure: Configure
) -> None:
    """Kermany et al. 2018: the file names carry the patient, and the folders do not keep patients together."""
    data = {"kind": "class_folders", "path": str(shared_data / "chestxray")}
    workspace = Workspace(tmp_path)
    report = check_data(configure("classification", data, split={"by": "given"}), workspace, propose=propose)
    assert report.cases == 360
    assert report.pattern is not None
    assert (report.pattern.patients, report.pattern.divided) == (340, 7)
    (unknown,) = (finding for finding in report.findings if finding.defect == "patient_unknown")
    assert unknown.severity == "stop"
    assert "7 of these patients stand in more than one split" in unknown.what
    data["patient_pattern"] = report.pattern.pattern
    confirmed = check_data(configure("classification", data, split={"by": "given"}), workspace, propose=propose)
    assert confirmed.defects["patient_leak"] == 7
    assert "patient_unknown" not in confirmed.defects
    assert confirmed.verdict == "stop"
    html = page(confirmed, "chestxray")
    assert html.count("person347_bacteria_1595.jpeg</figcaption>") >= 2, "side by side"
    assert len(html) < 1_000_000
    drawn = check_data(configure("classification", data, split={"by": "patient"}), workspace)
    assert drawn.verdict != "stop"


def test_a_missing_slice_is_called_by_its_name(shared_data: Path, tmp_path: Path, configure: Configure) -> None:
    source = shared_data / "dicom" / "ct_ge_17"
    rows = ["patient,label"]
    for n in range(4):
        shutil.copytree(source, tmp_path / "data" / f"p{n}")
        rows.append(f"p{n},{'ab'[n % 2]}")
    inner = sorted(path for path in (tmp_path / "data" / "p3").rglob("*") if path.is_file())[8]
    inner.unlink()
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    data = {"kind": "dicom_folders", "path": str(tmp_path / "data"), "labels": str(tmp_path / "labels.csv")}
    refused = check_data(configure("classification", data), Workspace(tmp_path / "project"))
    found = [finding for finding in refused.findings if "p3" in finding.where and finding.defect != "duplicate"]
    assert [finding.defect for finding in found] == ["missing_slices"], refused.findings
    assert refused.summary.scanners
    accepted = check_data(
        configure("classification", {**data, "on_defect": "resample"}), Workspace(tmp_path / "project")
    )
    (finding,) = (finding for finding in accepted.findings if finding.defect == "missing_slices")
    assert "on_defect is resample" in finding.remedy
    assert sum(count for count, _, _ in accepted.summary.intensities.values()) == 4
