"""The commands of docs/how-to/ask-the-service.md are run as they stand, in their order, by curl."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ask-the-service.md"
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "service.md"
OF_FORMS = {"200", "400", "403", "404", "406", "408", "413", "415", "422", "429"}
OF_LAYERS = {"401", "403", "429", "431", "503", "507"}
ADDRESS = "http://127.0.0.1:8000"


def fenced(language: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def served(
    start_once,
    classifier,
    other_classifier,
    picture_segmenter,
    volume_segmenter,
    other_volume_segmenter,
    ct_segmenter,
) -> Any:
    models = (classifier, other_classifier, picture_segmenter, volume_segmenter, other_volume_segmenter, ct_segmenter)
    return start_once(*models)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_of_the_page(served, blob_png, head_nifti, make_dicom, tmp_path) -> None:
    (tmp_path / "image.png").write_bytes(blob_png)
    (tmp_path / "scan.nii.gz").write_bytes(head_nifti.read_bytes())
    (tmp_path / "slice.dcm").write_bytes(Path(get_testdata_file("CT_small.dcm")).read_bytes())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            uid = f"1.2.3.{number + 1}"
            place = {"ImagePositionPatient": [0, 0, 5.0 * number], "FrameOfReferenceUID": "1.2.4"}
            archive.writestr(f"{number}.dcm", make_dicom(SOPInstanceUID=uid, **place))
    (tmp_path / "series.zip").write_bytes(buffer.getvalue())
    job, seen = "", []
    for line in fenced("console").splitlines():
        if not line.startswith("curl "):
            continue
        command = shlex.split(line.replace(ADDRESS, str(served.client.base_url)).replace("JOB", job))
        if "/result" in line:
            _wait(served, job)
        more = ["-sS", "--noproxy", "*", "-w", "\n%{http_code}"]
        done = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
        body, _, status = done.stdout.rpartition("\n")
        assert status in ("200", "202", "204"), f"{line}: {status} {body[:500]}"
        job = json.loads(body)["job_id"] if status == "202" else job
        seen.append(line)
    assert len(seen) > 20
    assert {"mask.png", "mask.nii.gz", "segmentation.dcm", "report.dcm"} <= {path.name for path in tmp_path.iterdir()}
    subprocess.run([sys.executable, "-W", "ignore::ResourceWarning", "-c", fenced("python")], cwd=tmp_path, check=True)


def _wait(served: Any, job: str) -> None:
    while served.client.get(f"/v1/jobs/{job}").json()["status"] in ("queued", "running"):
        pass


def test_page_and_reference_name_every_route_and_status(served) -> None:
    paths = served.client.get("/openapi.json").json()["paths"]
    page, reference = PAGE.read_text(encoding="utf-8"), REFERENCE.read_text(encoding="utf-8")
    for path, methods in paths.items():
        if path.startswith(("/v1/admin", "/v1/pacs", "/v2", "/metrics")):  # these have pages of their own
            continue
        assert path in reference, path
        pattern = re.sub(r"\\{\w+\\}", r"[\\w.]+", re.escape(path))
        assert re.search(rf"8000{pattern}(?=[?\s'])", page), path
        for method, operation in methods.items():
            rows = [line for line in reference.splitlines() if f"`{path}" in line or f"{method.upper()} {path}" in line]
            said = {status for row in rows for status in re.findall(r"\b\d{3}\b", row)}
            said |= OF_FORMS if any("the same" in row for row in rows) else set()
            assert set(operation["responses"]) - OF_LAYERS <= said | {"500"}, path
